"""Patients in a query engine: numbers as in memory, and the same words for what is wrong."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.errors import DataError, EstimandError, SpecError
from bayesblina.inference.companion import partial_posterior
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan, engines, scan_cohort
from bayesblina.person_time.cells import PersonTime, front
from tests.person_time.counts import Case, cases

ibis = pytest.importorskip("ibis", reason="the extra `scale` is not installed")

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
ENDPOINTS = {
    "os": bb.Endpoint(time="os_months", event="died"),
    "rfs": bb.Endpoint(time="rfs_months", event="relapse_or_death", entry="remission_month"),
}
COLUMNS: dict[str, Any] = {
    "patient": "patient_id",
    "unit": "months",
    "endpoints": ENDPOINTS,
    "phases": bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
    "transplant": "transplant_month",
    "covariates": ["age_group", "prior_salvage"],
}


def table_of(cohort: Cohort) -> pd.DataFrame:
    """Write a cohort as one row per patient."""
    columns: dict[str, Any] = {"id": cohort.patients.astype(object)}
    for name, outcome in cohort.endpoints.items():
        columns |= {
            f"{name} time": outcome.time,
            f"{name} event": outcome.event.astype(int),
            f"{name} entry": outcome.entry,
        }
    for index, phase in enumerate(cohort.phases):
        columns |= {
            f"{phase} start": cohort.phase_start[:, index],
            f"{phase} end": cohort.phase_end[:, index],
        }
    if cohort.transplant is not None:
        columns["transplant"] = cohort.transplant
    for name, covariate in cohort.covariates.items():
        columns[name] = (
            np.asarray(covariate.levels, dtype=object)[covariate.values.astype(int)]
            if covariate.kind == "categorical"
            else covariate.values
        )
    return pd.DataFrame(columns)


def scanned(cohort: Cohort, table: Any = None) -> CohortScan:
    return scan_cohort(
        table_of(cohort) if table is None else table,
        patient="id",
        unit=cohort.unit,
        endpoints={
            name: bb.Endpoint(time=f"{name} time", event=f"{name} event", entry=f"{name} entry")
            for name in cohort.endpoints
        },
        phases=bb.Phases.from_dict(
            {
                phase: bb.Phase(
                    start=f"{phase} start",
                    end=f"{phase} end" if cohort.phase_ends_known else None,
                )
                for phase in cohort.phases
            }
        ),
        covariates=list(cohort.covariates),
        transplant=None if cohort.transplant is None else "transplant",
    )


def require_same(one: PersonTime, other: PersonTime) -> None:
    """Events exactly, person-time to 1e-9; compressed sums to 1e-9 of the largest."""
    exact = one.compression is None
    for name in one.table.variables:
        left, right = one.table[name], other.table[name]
        assert left.dims == right.dims
        if left.dtype.kind == "f":
            scale = 1e-9 * float(np.abs(left.values[np.isfinite(left.values)]).max(initial=1.0))
            np.testing.assert_allclose(
                right.values, left.values, rtol=1e-9, atol=1e-12 if exact else scale, err_msg=name
            )
        else:
            assert left.equals(right), name
    assert [(left.endpoint, left.reason, left.size) for left in one.left_out] == [
        (left.endpoint, left.reason, left.size) for left in other.left_out
    ]


def both_ways(
    case: Case, pieces: tuple[int, ...] | None, *, embedded: bool
) -> tuple[PersonTime, PersonTime]:
    """Sum a case in memory, and in DuckDB: embedded, or as any engine."""
    cohort, question = case.cohort(), case.asked()
    # Levels of an engine are sorted; the cohort's come in an order of their own.
    cohort = replace(cohort, covariates={})
    cuts = [case.unit * cut for cut in case.cuts]
    phase_cuts = None if pieces is None else [case.unit * piece for piece in pieces]
    table = table_of(cohort)
    scan = scanned(cohort, table if embedded else ibis.memtable(table))
    assert scan.embedded == embedded
    one = bb.person_time(cohort, question, cuts=cuts, phase_cuts=phase_cuts)
    return one, bb.person_time(scan, question, cuts=cuts, phase_cuts=phase_cuts)


PIECES = st.sampled_from([None, (1,), (1, 3)])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), PIECES)
def test_a_stream_sums_what_memory_sums(case: Case, pieces: tuple[int, ...] | None) -> None:
    """Ties, boundaries and noise of the hypothesis cases of counts, block by block."""
    assume(case.counted.comparable())
    require_same(*both_ways(case, pieces, embedded=True))


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # A query takes long; shrinking would take minutes.
    phases=[Phase.explicit, Phase.generate],
)
@given(cases(), PIECES)
def test_an_engine_sums_what_memory_sums(case: Case, pieces: tuple[int, ...] | None) -> None:
    """The same by expressions, as for engines elsewhere."""
    assume(case.counted.comparable())
    require_same(*both_ways(case, pieces, embedded=False))


def test_phases_may_last_beyond_the_endpoints_asked_about(table: pd.DataFrame) -> None:
    """Single patients are validated with all their endpoints."""
    late = table.copy()
    # Some relapse shortly before maintenance starts.
    before = late["maintenance_month"] - 0.01
    some = before > late[["remission_month", "consolidation_month"]].max(axis=1)
    some &= late.index % 3 == 0
    assert some.sum() > 50
    late.loc[some, "rfs_months"] = before
    question = replace(QUESTION, endpoints=("rfs",))
    one = bb.person_time(bb.read_cohort(late, **COLUMNS), question)
    for source in (late, ibis.memtable(late)):
        require_same(one, bb.person_time(scan_cohort(source, **COLUMNS), question))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return bb.simulate.blinatumomab_table(
        5, n_patients=3000, n_consolidation=960, n_maintenance=400
    )


@pytest.fixture(scope="module")
def cohort(table: pd.DataFrame) -> Cohort:
    return bb.read_cohort(table, **COLUMNS)


@pytest.fixture(scope="module")
def parquet(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patients")
    for index in range(3):
        table.iloc[index::3].to_parquet(folder / f"part{index}.parquet", index=False)
    table.to_csv(folder / "all.csv", index=False)
    return folder


@pytest.mark.parametrize("kind", ["frame", "parquet", "csv", "ibis"])
def test_every_kind_of_table_gives_the_same(
    kind: str, table: pd.DataFrame, cohort: Cohort, parquet: Path
) -> None:
    source: Any = {
        "frame": table,
        "parquet": str(parquet / "part*.parquet"),
        "csv": parquet / "all.csv",
        "ibis": ibis.memtable(table),
    }[kind]
    scan = scan_cohort(source, synthetic=True, **COLUMNS)
    assert scan.size == 3000
    assert "synthetic" in repr(scan)
    one, other = bb.person_time(cohort, QUESTION), bb.person_time(scan, QUESTION)
    require_same(one, other)
    assert repr(one) == repr(other)
    landmark = 8.0
    wanted = bb.person_time(scan, QUESTION, landmarks=[landmark])
    np.testing.assert_array_equal(one.at_risk(landmark), wanted.at_risk(landmark))
    with pytest.raises(EstimandError, match=r"landmarks=\[8\]"):
        other.at_risk(landmark)


def test_continuous_covariates_are_compressed_alike(table: pd.DataFrame) -> None:
    columns = COLUMNS | {"covariates": ["age_group", "marrow_blasts"]}
    one = bb.person_time(bb.read_cohort(table, **columns), QUESTION, compress=True)
    other = bb.person_time(scan_cohort(table, **columns), QUESTION)
    require_same(one, other)
    with pytest.raises(SpecError, match="compress=False"):
        bb.person_time(scan_cohort(table, **columns), QUESTION, compress=False)


def test_sums_are_the_same_whoever_reads(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: the draws of a seed depend on it."""
    whole = bb.person_time(scan_cohort(parquet / "part*.parquet", **COLUMNS), QUESTION).table
    monkeypatch.setattr(engines, "ROWS", 100)
    scan = scan_cohort(parquet / "part*.parquet", **COLUMNS)
    for threads in (1, 4, 4):
        scan.table.get_backend().con.sql(f"SET threads = {threads}")
        found = bb.person_time(scan, QUESTION).table
        for name in ("events", "person_time"):
            np.testing.assert_array_equal(found[name].values, whole[name].values, err_msg=name)


def test_single_patients_are_refused_and_a_sample_is_known(table: pd.DataFrame) -> None:
    scan = scan_cohort(table, **COLUMNS)
    person_time = bb.person_time(scan, QUESTION)
    assert not person_time.complete
    with pytest.raises(EstimandError, match="read_cohort"):
        _ = person_time.people
    sample = person_time.patients()
    assert not sample.complete
    assert sample.people.sizes["patient"] == 960
    with pytest.raises(TypeError, match=r"got CohortScan: call bayesblina\.read_cohort first"):
        bb.mantel_byar(scan, QUESTION)  # type: ignore[arg-type]
    assert "at risk" in repr(person_time.account())
    assert person_time.account().table["patients"].iloc[0] == 2040


def wrong(table: pd.DataFrame, column: str, rows: list[int], value: Any) -> pd.DataFrame:
    damaged = table.head(40).copy()
    if isinstance(value, str):
        damaged[column] = damaged[column].astype(object)
    damaged.loc[damaged.index[rows], column] = value
    return damaged


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("os_months", -1.0),
        ("os_months", 0.0),
        ("os_months", np.inf),
        ("os_months", 5000.0),
        ("os_months", np.nan),
        ("died", 2.0),
        ("remission_month", 900.0),
        ("consolidation_month", 500.0),
        ("consolidation_month", -2.0),
        ("transplant_month", 500.0),
        ("age_group", None),
        ("patient_id", "SYN-0001"),
        ("patient_id", "x" * 300),
    ],
)
def test_what_is_wrong_is_told_as_in_memory(table: pd.DataFrame, column: str, value: Any) -> None:
    damaged = wrong(table, column, [3, 5], value)
    with pytest.raises(DataError) as memory:
        bb.read_cohort(damaged, **COLUMNS)
    with pytest.raises(DataError) as engine:
        scan_cohort(damaged, **COLUMNS)

    def told(error: DataError) -> set[tuple[str, str, int]]:
        return {
            (one.column, one.found.split(" (")[0], one.count or len(one.patients))
            for one in error.problems
        }

    # A repeated id is counted by row in one place and by id in the other.
    if column != "patient_id":
        assert told(engine.value) == told(memory.value)
    for one in engine.value.problems:
        assert one.patients
    assert {one.column for one in engine.value.problems} == {
        one.column for one in memory.value.problems
    }


def test_texts_that_are_no_numbers_are_told(parquet: Path, tmp_path: Path) -> None:
    lines = (parquet / "all.csv").read_text().splitlines()[:40]
    cells = lines[3].split(",")
    cells[1] = "twelve"
    lines[3] = ",".join(cells)
    (tmp_path / "damaged.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"os_months: values that are not numbers \[1 patient"):
        scan_cohort(tmp_path / "damaged.csv", **COLUMNS)


def test_patients_are_named_up_to_ten_and_counted(table: pd.DataFrame) -> None:
    damaged = wrong(table, "os_months", list(range(20)), -1.0)
    with pytest.raises(DataError, match=r"\[20 patients\]") as caught:
        scan_cohort(damaged, **COLUMNS)
    assert re.search(r"20 patients: .* and 10 more", caught.value.words(show_ids=True))


def test_impossible_calls_are_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="os_months: no such column"):
        scan_cohort(table.rename(columns={"os_months": "os_month"}), **COLUMNS)
    with pytest.raises(SpecError, match="no path of this machine"):
        scan_cohort("remote://bucket/part*.parquet", **COLUMNS)
    with pytest.raises(SpecError, match=r"\.parquet or \.csv"):
        scan_cohort(tmp_path / "patients.xpt", **COLUMNS)
    with pytest.raises(DataError, match="cannot be read"):
        scan_cohort(tmp_path / "none*.parquet", **COLUMNS)
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="cannot be read"):
        scan_cohort(tmp_path / "damaged.parquet", **COLUMNS)
    with pytest.raises(SpecError, match="memory_limit"):
        scan_cohort(table, memory_limit="a lot", **COLUMNS)
    with pytest.raises(SpecError, match="patients in memory"):
        bb.fit(scan_cohort(table, **COLUMNS), QUESTION, model="illness_death", seed=1)


def test_a_scan_is_fitted_checked_and_kept(
    table: pd.DataFrame, cohort: Cohort, tmp_path: Path
) -> None:
    scan = scan_cohort(table, synthetic=True, **COLUMNS)
    fit = bb.fit(scan, QUESTION, seed=1, landmarks=[8.0], progress=False)
    same = bb.fit(cohort, QUESTION, seed=1, progress=False)
    assert fit.converged
    over = ("chain", "draw")
    one, other = fit.posterior["log_hazard_ratio"], same.posterior["log_hazard_ratio"]
    # Sums differ in the last bits, so the chains part: both means have Monte-Carlo errors.
    assert float((abs(one.mean(over) - other.mean(over)) / other.std(over)).max()) < 0.1
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(8.0)]
    curves = bb.survival(fit, regimes=regimes, landmark=8.0, times=[12.0])
    wanted = bb.survival(same, regimes=regimes, landmark=8.0, times=[12.0])
    np.testing.assert_allclose(
        curves["survival"].mean(("chain", "draw")),
        wanted["survival"].mean(("chain", "draw")),
        atol=0.01,
    )
    checks = bb.check(fit)
    # Who begins consolidation after a relapse is not at risk of one.
    free = int((table["consolidation_month"] < table["rfs_months"]).sum())
    assert 900 < free < 960
    assert list(checks.loo["patients"]) == [960, free, 960]
    assert "sample" in " ".join(checks.notes)
    bb.save(fit, tmp_path / "fit.nc")
    back = bb.load(tmp_path / "fit.nc")
    assert not back.person_time.complete
    assert back.person_time.table.equals(fit.person_time.table)
    np.testing.assert_array_equal(back.person_time.at_risk(8.0), fit.person_time.at_risk(8.0))


def test_files_of_unlike_kinds_of_numbers_are_read_whole(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    """Whole months in the first file do not round those of the second."""
    unlike = table.copy()
    first = unlike.index < 1000
    unlike.loc[first, "os_months"] = np.ceil(unlike.loc[first, "os_months"])
    whole = unlike[first].astype({"os_months": "int64"})
    whole.to_parquet(tmp_path / "1.parquet", index=False)
    unlike[~first].to_parquet(tmp_path / "2.parquet", index=False)
    one = bb.person_time(bb.read_cohort(unlike, **COLUMNS), QUESTION)
    require_same(one, bb.person_time(scan_cohort(tmp_path / "*.parquet", **COLUMNS), QUESTION))
    # Nobody is untreated because one file lacks the column.
    lacking = unlike[~first].drop(columns="maintenance_month")
    lacking.to_parquet(tmp_path / "2.parquet", index=False)
    with pytest.raises(DataError, match="maintenance_month: no such column"):
        scan_cohort(tmp_path / "*.parquet", **COLUMNS)


def test_columns_of_one_name_are_refused_in_files(table: pd.DataFrame, tmp_path: Path) -> None:
    lines = table.to_csv(index=False).splitlines()
    lines[0] = lines[0].replace("marrow_blasts", "os_months")
    (tmp_path / "twice.csv").write_text("\n".join(lines) + "\n")
    for read in (bb.read_cohort, scan_cohort):
        with pytest.raises(DataError, match="os_months: more than one column has this name"):
            read(tmp_path / "twice.csv", **COLUMNS)


@pytest.mark.parametrize("count", [56, 70])
def test_combinations_beyond_exact_numbers_are_told_apart(
    count: int, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many flags have more combinations than floating-point numbers, or 64 bits, tell apart."""
    some = table.head(400)
    random = np.random.default_rng(count)
    flags = {f"flag{one}": random.choice(["no", "yes"], len(some)) for one in range(count)}
    wide = pd.concat([some, pd.DataFrame(flags, index=some.index)], axis=1)
    columns = COLUMNS | {"covariates": list(flags)}
    cohort = bb.read_cohort(wide, **columns)
    one = bb.person_time(cohort, QUESTION, cuts=[6.0])
    monkeypatch.setattr(front, "MANY", 1)
    require_same(one, bb.person_time(cohort, QUESTION, cuts=[6.0]))
    scan = scan_cohort(wide, **columns)
    if count < 63:
        require_same(one, bb.person_time(scan, QUESTION, cuts=[6.0]))
    else:
        with pytest.raises(SpecError, match="combinations of levels"):
            bb.person_time(scan, QUESTION, cuts=[6.0])


@pytest.mark.parametrize("change", ["written anew", "deleted", "added"])
def test_files_must_stay_as_they_were_checked(
    change: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    """Levels that nobody had would count as the first one."""
    table.head(1500).to_parquet(tmp_path / "1.parquet", index=False)
    table.tail(1500).to_parquet(tmp_path / "2.parquet", index=False)
    scan = scan_cohort(tmp_path / "*.parquet", **COLUMNS)
    bb.person_time(scan, QUESTION)
    if change == "written anew":
        other = table.tail(1500).assign(age_group="another")
        other.to_parquet(tmp_path / "2.parquet", index=False)
    elif change == "deleted":
        (tmp_path / "2.parquet").unlink()
    else:
        table.tail(10).to_parquet(tmp_path / "3.parquet", index=False)
    with pytest.raises(DataError, match="not as it was when it was scanned"):
        bb.person_time(scan, QUESTION)


def test_what_an_engine_cannot_take_is_one_error(table: pd.DataFrame, tmp_path: Path) -> None:
    mixed = table.head(40).astype({"patient_id": object})
    mixed.loc[0, "patient_id"] = 1
    with pytest.raises(DataError, match="the table:\n  - file: it cannot be read"):
        scan_cohort(mixed, **COLUMNS)
    # The second file has no header; found out while the covariates are looked at.
    table.head(40).to_csv(tmp_path / "1.csv", index=False)
    table.tail(40).to_csv(tmp_path / "2.csv", index=False, header=False)
    with pytest.raises(DataError, match="cannot be read"):
        scan_cohort(tmp_path / "*.csv", **COLUMNS)


def test_files_mean_what_stands_in_them(table: pd.DataFrame, tmp_path: Path) -> None:
    """Neither names of folders nor the first lines of a file change what the rest says."""
    folder = tmp_path / "os_months=60" / "age_group=none"
    folder.mkdir(parents=True)
    many = pd.concat([table.iloc[:900]] * 30, ignore_index=True)
    late = many.index >= 25_000
    many["patient_id"] = [f"{'#' if one else 'p'}{row}" for row, one in enumerate(late)]
    many.loc[late, "age_group"] = 'over, or "above"\n60'
    many.to_csv(folder / "all.csv", index=False)
    many.to_parquet(folder / "all.parquet", index=False)
    one = bb.person_time(bb.read_cohort(many, **COLUMNS), QUESTION)
    for kind in ("csv", "parquet"):
        scan = scan_cohort(folder / f"all.{kind}", **COLUMNS)
        assert scan.size == len(many)
        require_same(one, bb.person_time(scan, QUESTION))
    # A line that begins like a comment may be a patient, and is not passed over.
    lines = table.to_csv(index=False).splitlines()
    lines.insert(7, "# a remark")
    (tmp_path / "remark.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError):
        scan_cohort(tmp_path / "remark.csv", **COLUMNS)


def test_companion_of_a_scan(tmp_path: Path) -> None:
    """Sums on short intervals against the risk sets of the same patients in memory."""
    table = bb.simulate.blinatumomab_table(
        3, n_patients=2000, n_consolidation=644, n_maintenance=270
    )
    table.to_parquet(tmp_path / "patients.parquet")
    question = bb.Question(exposed="maintenance", eligible_from="entry", transplant="censor")
    scanned = bb.person_time(bb.scan_cohort(tmp_path / "patients.parquet", **COLUMNS), question)
    held = bb.person_time(bb.read_cohort(table, **COLUMNS), question)
    assert scanned.finer is not None
    for name in ("events", "person_time"):
        opens = np.searchsorted(scanned.finer["interval_start"], scanned.table["interval_start"])
        parts = np.add.reduceat(scanned.finer[name].values, opens, axis=1)
        np.testing.assert_array_equal(parts, scanned.table[name].values)
    for model, roles in (
        ("primary", {}),
        ("stratified", {"stratum": "age_group"}),
        ("by_subgroup", {"subgroup": "age_group"}),
        ("shared_baseline", {}),
    ):
        definition = bb.load_model(model).with_covariates(**roles)
        found, exact = (
            partial_posterior(definition, one, seed=1, draws=20_000) for one in (scanned, held)
        )
        assert found.draws is not None
        assert exact.draws is not None
        one, other = (part.draws["log_hazard_ratio"] for part in (found, exact))  # type: ignore[index]
        moved = np.abs((one.values - other.values).mean(axis=(0, 1)))[:, 0]
        sd = other.std(("chain", "draw")).values[:, 0]
        # The stated error, and that of the draws.
        assert (moved < found.table["error"].to_numpy() + 0.02 * sd).all()
        assert (found.table["error"].to_numpy() < 0.1 * sd).all()
        assert (found.table["error"].to_numpy() > 0.0).all()
        assert (exact.table["error"].to_numpy() < 1e-4 * sd).all()


@pytest.mark.parametrize("digits", [0, 1])
def test_companion_of_a_scan_with_times_by_a_unit(digits: int) -> None:
    """Whole months, or tenths: ends, starts and events share times, which parts end at."""
    table = bb.simulate.blinatumomab_table(
        3, n_patients=4000, n_consolidation=1288, n_maintenance=540
    )
    times = [name for name in map(str, table) if name.endswith(("_month", "_months"))]
    table[times] = table[times].round(digits)
    unit = 10.0**-digits
    table["os_months"] = table["os_months"].clip(lower=unit)
    kept = table["consolidation_month"].isna() | (
        table["maintenance_month"].isna() | (table["maintenance_month"] < table["os_months"])
    )
    table = table[kept]
    columns = COLUMNS | {"endpoints": {"os": ENDPOINTS["os"]}, "covariates": []}
    question = bb.Question(exposed="maintenance", eligible_from="entry", transplant="censor")
    scanned = bb.person_time(scan_cohort(table, **columns), question)
    held = bb.person_time(bb.read_cohort(table, **columns), question)
    found, exact = (
        partial_posterior(bb.load_model("primary"), one, seed=1, draws=20_000)
        for one in (scanned, held)
    )
    assert found.draws is not None
    assert exact.draws is not None
    one, other = (part.draws["log_hazard_ratio"].values for part in (found, exact))  # type: ignore[index]
    assert abs(one.mean() - other.mean()) < 0.02 * other.std()
    if digits == 0:
        # One time in each part: risk sets are exact.
        assert found.table["error"].to_list() == [0.0]
