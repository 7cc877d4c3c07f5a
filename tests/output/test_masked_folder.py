"""A masked folder is attacked as a whole: tables, figures, summary, report and Word together."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

import bayesblina as bb
from bayesblina.classical.comparison import mantel_byar
from bayesblina.classical.curves import numbers_at_risk
from bayesblina.cli.analysis import gates
from bayesblina.core.errors import StorageError
from bayesblina.core.masking import MASK
from bayesblina.core.tables.numbers import OWN
from bayesblina.core.tables.table import to_csv
from bayesblina.output.report import folder as report_folder
from bayesblina.output.report.folder import summary, write_files
from bayesblina.output.report.hiding import without_few
from bayesblina.output.report.page import render_shown
from bayesblina.output.report.results import Results, read_results
from bayesblina.output.report.wording import gate_rows
from bayesblina.patients.cohort import Cohort
from tests.core.attacks import account_of
from tests.output.few import MINIMUM, QUESTION, cohort, guesses, published

ENDS = ("os", "rfs")
COUNTS = (
    "patients",
    "events",
    "events_exposed",
    "events_reference",
    "with_event",
    "observed",
    "observed_reference",
    "at_risk",
    "evaluated",
    "patients_above_limit",
)
PRIVATE = {"fit.nc", "unmasked.json"}


def written(folder: Path, patients: Cohort) -> Results:
    """Write a masked folder as the command does."""
    fit = bb.fit(patients, QUESTION, seed=1, draws=60, tune=100, chains=2, progress=False)
    analysis = bb.analyse(
        patients,
        QUESTION,
        fit=fit,
        landmark=8.0,
        landmarks=[12.0],
        starts=[8.0],
        title="Few",
        minimum_count=MINIMUM,
    )
    return read_results(analysis.write(folder))


# Few events in the phase, few patients in it, and a phase with enough of both.
KINDS = {"few events": (30, 3), "few patients": (3, 2), "enough": (36, 12)}


@pytest.fixture(scope="module", params=KINDS)
def attacked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Results]:
    folder = tmp_path_factory.mktemp("few")
    return request.param, folder, written(folder, cohort(*KINDS[request.param]))


def test_no_small_count_stands_in_any_table(attacked: tuple[str, Path, Results]) -> None:
    _, folder, whole = attacked
    small = 0
    for name, table in published(folder).items():
        for column in set(COUNTS) & set(table):
            cells = [float(cell) for cell in table[column] if cell not in ("", MASK)]
            assert all(cell == 0 or cell >= MINIMUM for cell in cells), (name, column)
            if column in whole.tables[name]:
                small += int(whole.tables[name][column].between(1, MINIMUM - 1).sum())
    assert small > 10


def test_sums_orders_and_numbers_at_risk_leave_all_small_numbers_possible(
    attacked: tuple[str, Path, Results],
) -> None:
    """The adversary's own linear program over account and numbers at risk together."""
    _, folder, whole = attacked
    told = published(folder)
    flow, risk = told["patient_flow"], told["at_risk"]
    names = [f"{i}.{c}" for i in flow.index for c in ("patients", "events") if flow[c][i] != ""]
    names += [f"risk.{i}" for i in risk.index]
    place = {name: index for index, name in enumerate(names)}
    bounds: list[tuple[float, float | None]] = []
    for name in names:
        first, second = name.split(".")
        cell = risk["at_risk"][int(second)] if first == "risk" else flow[second][int(first)]
        # Zero would be shown: what is hidden is at least 1.
        bounds.append((1, None) if cell == MASK else (float(cell), float(cell)))
    equal, less = [], []

    def row(terms: dict[str, float]) -> list[float]:
        values = np.zeros(len(names))
        for name, sign in terms.items():
            values[place[name]] += sign
        return list(values)

    def of(step: str, endpoint: str) -> list[int]:
        return list(flow.index[(flow["step"] == step) & (flow["endpoint"] == endpoint)])

    (read,) = flow.index[flow["step"] == "read"]
    for endpoint in ("os", "rfs"):
        (eligible,) = of("eligible", endpoint)
        inside, left = of("in phase", endpoint), of("left out", endpoint)
        equal.append(
            row(
                {f"{read}.patients": 1, f"{eligible}.patients": -1}
                | {f"{one}.patients": -1.0 for one in left}
            )
        )
        equal.append(row({f"{eligible}.events": 1} | {f"{one}.events": -1.0 for one in inside}))
        for one in inside:
            less.append(row({f"{one}.events": 1, f"{one}.patients": -1}))
            less.append(row({f"{one}.patients": 1, f"{eligible}.patients": -1}))
        own = risk[risk["endpoint"] == endpoint]
        for _, rows in own.groupby(["landmark", "time"]):
            terms = {f"risk.{one}": 1.0 for one in rows.index}
            less.append(row(terms | {f"{eligible}.patients": -1}))
        for index, line in own.iterrows():
            less += [
                row({f"risk.{index}": 1, f"{one}.patients": -1})
                for one in inside
                if flow["phase"][one] == line["group"]
            ]
    # The truth fulfils the adversary's system, or it would prove nothing.
    truth = np.array(
        [
            whole.tables["at_risk"]["at_risk"][int(second)]
            if first == "risk"
            else whole.tables["patient_flow"][second][int(first)]
            for first, second in (name.split(".") for name in names)
        ],
        dtype=float,
    )
    np.testing.assert_allclose(np.array(equal) @ truth, 0)
    assert (np.array(less) @ truth <= 1e-9).all()
    tried = 0
    for index, value in enumerate(truth):
        if not 0 < value < MINIMUM:
            continue
        tried += 1
        ends = []
        for sign in (1.0, -1.0):
            cost = np.zeros(len(names))
            cost[index] = sign
            found = linprog(
                cost,
                A_eq=equal,
                b_eq=np.zeros(len(equal)),
                A_ub=less,
                b_ub=np.zeros(len(less)),
                bounds=bounds,
            )
            ends.append(np.inf if found.fun is None else sign * found.fun)
        assert ends[0] <= 1 + 1e-6, names[index]
        assert abs(ends[1]) >= MINIMUM - 1e-6, names[index]
    assert tried


def test_no_estimate_of_a_withheld_endpoint_is_anywhere(
    attacked: tuple[str, Path, Results],
) -> None:
    """An interval tells its events: in no table, no figure, no sentence does one of them stand."""
    kind, folder, whole = attacked
    withheld = {"few events": {"os"}, "few patients": {"os", "rfs"}, "enough": set()}[kind]
    counts = {"patient_flow", "at_risk", "safety", "diagnostics"}
    for name, table in published(folder).items():
        if name not in counts and "endpoint" in table:
            assert not withheld & set(table["endpoint"]), name
    for endpoint in ("os", "rfs"):
        there = (folder / f"survival_{endpoint}.svg").is_file()
        assert there == (endpoint not in withheld)
    assert (folder / "hazard_ratio.svg").is_file() == (len(withheld) < 2)
    text = (folder / "summary.md").read_text()
    page = (folder / "report.html").read_text(encoding="utf-8")
    # Every hazard ratio, however it is written, as it was computed.
    for row in whole.tables["hazard_ratios"].to_dict("records"):
        words = f"{row['endpoint'].upper()}: hazard ratio"
        assert (words in text) == (row["endpoint"] not in withheld)
        assert (f"/{row['endpoint']}" in page) == (row["endpoint"] not in withheld)
    ladder = published(folder)["bias_ladder"].set_index("method")
    if withheld:
        with pytest.raises(KeyError):
            ladder[ladder["endpoint"] == "os"].loc["time-varying Cox", "estimate"]


def test_steps_of_observed_curves_stand_for_no_few_events(
    attacked: tuple[str, Path, Results],
) -> None:
    """Between two bends of a curve there are none or many events, and many are at risk."""
    kind, folder, whole = attacked
    told = pd.read_csv(folder / "simon_makuch.csv")
    assert set(told["at_risk"]) | set(told["events"]) <= {MASK}
    true = whole.tables["simon_makuch"]
    curves = 0
    for (endpoint, landmark, group), rows in told.groupby(["endpoint", "landmark", "group"]):
        curves += 1
        own = true[
            (true["endpoint"] == endpoint)
            & (true["landmark"] == landmark)
            & (true["group"] == group)
        ].sort_values("time")
        last = rows["time"].max()
        assert own.loc[own["time"] <= last, "at_risk"].min() >= MINIMUM
        shown = own.loc[own["time"] <= last, "events"].sum()
        rest = own["events"].sum() - shown
        assert shown == 0 or shown >= MINIMUM
        assert rest == 0 or rest >= MINIMUM
        # Straight lines between points that are many events apart are all there is: nothing else
        # of the true steps is left.
        times = rows["time"].to_numpy()
        seen = np.searchsorted(own["time"], times, side="right") - 1
        events = own["events"].cumsum().to_numpy()[seen]
        bends = [0]
        for index in range(len(times)):
            if events[index] >= events[bends[-1]] + MINIMUM:
                bends.append(index)
        if events[-1] > events[bends[-1]]:
            bends[-1:] = []
        line = np.interp(times, times[[*bends, -1]], own["survival"].to_numpy()[seen[[*bends, -1]]])
        np.testing.assert_allclose(rows["survival"], line, atol=0.00501)
        np.testing.assert_allclose(rows["survival"], rows["survival"].round(2))
    assert bool(curves) == (kind != "few patients")


def test_figures_show_no_small_number_at_risk(attacked: tuple[str, Path, Results]) -> None:
    _, folder, whole = attacked
    for path in folder.glob("survival_*.svg"):
        # matplotlib writes the texts of a figure as comments beside their outlines.
        words = re.findall(r"<!-- (.*?) -->", path.read_text())
        risk = published(folder)["at_risk"]
        own = (risk["endpoint"] == path.stem[len("survival_") :]) & (risk["landmark"] == "8.0")
        assert words.count(MASK) == (risk[own]["at_risk"] == MASK).sum()
        ticks = {f"{one:g}" for one in whole.tables["at_risk"]["time"].unique()}
        numbers = [one for one in words if re.fullmatch(r"\d+", one) and one not in ticks]
        assert numbers
        assert all(int(one) == 0 or int(one) >= MINIMUM for one in numbers), path.name


def test_no_hash_lets_guesses_be_tried(attacked: tuple[str, Path, Results]) -> None:
    """Whoever knows all but one cell of a table would find it by the table's hash."""
    _, folder, whole = attacked
    record = json.loads((folder / "results.json").read_text())
    known = set(record["sha256"].values()) | {record["cohort_sha256"]}
    for name, table in whole.tables.items():
        digest = hashlib.sha256(to_csv(table).encode()).hexdigest()
        same = (folder / f"{name}.csv").read_text() == to_csv(table)
        assert same or digest not in known, name
    content = (folder / "unmasked.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() not in known
    seal = json.loads(content)["seal"]
    for path in folder.iterdir():
        if path.name in PRIVATE:
            assert path.stat().st_mode & 0o777 == 0o600
        elif path.suffix != ".png":
            assert seal not in path.read_text(encoding="utf-8")
    summary = (folder / "summary.md").read_text()
    assert "Not to be handed on: fit.nc, unmasked.json" in summary


def test_a_folder_is_masked_again_from_what_it_keeps(
    attacked: tuple[str, Path, Results],
) -> None:
    kind, folder, whole = attacked
    if kind != "enough":
        pytest.skip("one kind of folder shows it")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    bb.write_report(folder, minimum_count=20)
    assert (published(folder)["at_risk"]["at_risk"] == MASK).sum() > (
        pd.read_csv(folder / "at_risk.csv").shape[0] // 3
    )
    bb.write_report(folder, minimum_count=1)
    assert not (folder / "unmasked.json").exists()
    shown = read_results(folder)
    for name, table in whole.tables.items():
        pd.testing.assert_frame_equal(shown.tables[name], table)
    bb.write_report(folder, minimum_count=MINIMUM)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) == set(before)
    assert [name for name in before if after[name] != before[name]] == []


def test_what_a_masked_folder_keeps_is_needed_and_checked(
    attacked: tuple[str, Path, Results], tmp_path: Path
) -> None:
    kind, folder, _ = attacked
    if kind != "few patients":
        pytest.skip("one kind of folder shows it")
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    kept = tmp_path / "unmasked.json"
    content = json.loads(kept.read_text())
    content["tables"]["patient_flow"] = content["tables"]["patient_flow"].replace("90", "91")
    kept.write_text(json.dumps(content))
    with pytest.raises(StorageError, match=r"unmasked\.json' was changed after the analysis"):
        read_results(tmp_path)
    kept.write_text("{")
    with pytest.raises(StorageError, match=r"unmasked\.json' is damaged"):
        read_results(tmp_path)
    kept.unlink()
    with pytest.raises(StorageError, match=r"unmasked\.json' is missing, which belongs"):
        read_results(tmp_path)


def test_what_a_machine_is_told_of_the_gate_leaves_out_withheld_endpoints(
    attacked: tuple[str, Path, Results],
) -> None:
    """The sd of a log hazard ratio tells its events: 1 / sd² less the prior's precision."""
    kind, _, whole = attacked
    left = without_few(whole, minimum=MINIMUM)
    told = gates(left)["baseline_gate"]
    withheld = {"few events": {"os"}, "few patients": {"os", "rfs"}, "enough": set()}[kind]
    assert {row["endpoint"] for row in told} == {"os", "rfs"} - withheld


def test_numbers_of_parts_of_an_effect_are_in_no_gate_that_is_handed_on(
    attacked: tuple[str, Path, Results],
) -> None:
    """Of one level or interval 2 may have the event, which its standard deviation would tell."""
    kind, _, whole = attacked
    if kind != "enough":
        pytest.skip("one kind of folder shows it")
    table = whole.fit.gate.table
    parts = table.assign(effect="m, subgroup 55+", sd=7.7771, mean=5.4321, state="failed")
    gate = replace(whole.fit.gate, table=pd.concat([table, parts], ignore_index=True))
    fit = replace(whole.fit, gate=gate)
    left = without_few(replace(whole, fit=fit), minimum=MINIMUM)
    told = pd.DataFrame(gates(left)["baseline_gate"])
    of_parts = told["effect"] != "m"
    assert of_parts.sum() == len(ENDS)
    assert told.loc[of_parts, "state"].tolist() == ["failed"] * len(ENDS)
    assert told.loc[of_parts].select_dtypes("float").isna().all(axis=None)
    assert told.loc[~of_parts, "sd"].notna().all()
    for text in (render_shown(left), summary(left)):
        assert "m, subgroup 55+" in text
        assert not re.search(r"228\.63|sd 7\.78|ratio 5\.43", text)
    assert gates(without_few(replace(whole, fit=fit), minimum=1))["baseline_gate"][-1]["sd"] > 0
    # Of many intervals of which the numbers are hidden one that failed is named.
    states = ["passed", "failed", "told"]
    many = [
        {"endpoint": "os", "effect": f"interval {one}", "state": state, "shift": np.nan}
        for one, state in enumerate(states)
    ]
    rows = gate_rows(table.iloc[[0]].merge(pd.DataFrame(many), how="outer"))
    assert [row["effect"] for row in rows] == ["m", "interval 1, one of 3"]


@pytest.mark.parametrize("events", [1, 2, 3, 4])
def test_the_formula_of_two_methods_finds_no_hidden_count(
    attacked: tuple[str, Path, Results], events: int, tmp_path: Path
) -> None:
    """Whatever stands in a folder for variance, information and ratio: in none that is masked."""
    kind, _, whole = attacked
    if kind != "enough":
        pytest.skip("the same fit does for all numbers of events")
    patients = cohort(36, events, seed=6)
    counted = bb.person_time(patients, QUESTION, cuts=whole.fit.person_time.cuts)
    drawn = whole.tables["bias_ladder"]
    ladder = bb.classical.bias_ladder(patients, QUESTION, landmarks=[8.0])
    tables = {
        **whole.tables,
        "patient_flow": (patients.account() + counted.account()).table,
        "bias_ladder": pd.concat([ladder, drawn[drawn["method"].isin(OWN)]], ignore_index=True),
        "classical": mantel_byar(patients, QUESTION).to_dataframe().reset_index(),
    }
    found = {}
    for minimum in (1, MINIMUM):
        folder = tmp_path / str(minimum)
        folder.mkdir()
        left = without_few(replace(whole, tables=tables), minimum=minimum)
        write_files(folder, left, None, beside=folder, report=False)
        found[minimum] = guesses(folder)
        if minimum > 1:
            page = render_shown(left)
            assert not re.search(r'data-key="[^"]*/os', page)
            assert "OS: hazard ratio" not in page + (folder / "summary.md").read_text()
    assert min(abs(guess - events) for guess in found[1]) < 0.3
    assert found[MINIMUM] == []


@pytest.mark.parametrize("without", [1, 2, 4])
def test_few_who_have_no_event_are_in_no_file(
    attacked: tuple[str, Path, Results], without: int, tmp_path: Path
) -> None:
    """20 less 18 are two patients: from the account and the numbers at risk together."""
    kind, _, whole = attacked
    if kind != "enough":
        pytest.skip("the same fit does for all numbers of events")
    patients = cohort(20, 20 - without, seed=6)
    counted = bb.person_time(patients, QUESTION, cuts=whole.fit.person_time.cuts)
    at_risk = numbers_at_risk(patients, QUESTION, [8.0, 12.0, 16.0], landmark=8.0)
    tables = {
        **whole.tables,
        "patient_flow": (patients.account() + counted.account()).table,
        "at_risk": at_risk.assign(landmark=8.0),
    }
    left = without_few(replace(whole, tables=tables), minimum=MINIMUM)
    write_files(tmp_path, left, None, beside=tmp_path, report=False)
    told = published(tmp_path)
    flow, risk = told["patient_flow"], told["at_risk"]
    flow, risk = flow[flow["endpoint"] == "os"], risk[risk["endpoint"] == "os"]
    (inside,) = flow[flow["phase"].eq("m") & flow["step"].eq("in phase")].to_dict("records")
    (eligible,) = flow[flow["step"] == "eligible"].to_dict("records")
    true = tables["patient_flow"].loc[
        lambda rows: rows["phase"].eq("m") & rows["step"].eq("in phase"), ["patients", "events"]
    ]
    assert (true["patients"] - true["events"]).iloc[0] == without
    assert MASK in (inside["patients"], inside["events"])
    # Whoever is at risk in the phase was in it; and no more than all are.
    most = 90 if eligible["patients"] == MASK else int(eligible["patients"])
    in_m = risk.loc[risk["group"].eq("m") & risk["at_risk"].ne(MASK), "at_risk"].astype(int)
    events = None if inside["events"] == MASK else int(inside["events"])
    number = None if inside["patients"] == MASK else int(inside["patients"])
    least = number or max([events or 1, *in_m])
    possible = {
        all_of_them - having
        for all_of_them in range(least, (number or most) + 1)
        for having in ([events] if events else range(1, all_of_them + 1))
    }
    assert possible >= set(range(1, MINIMUM))


def test_estimates_of_other_counts_are_not_hidden_with_an_account(
    attacked: tuple[str, Path, Results],
) -> None:
    """Starts of a phase that are few have no person-time: none of adverse events goes for them."""
    kind, _, whole = attacked
    if kind != "enough":
        pytest.skip("one kind of folder shows it")
    rows = [
        ("read", "", "", "patients", 90, None),
        ("phase start", "os", "m", "during follow-up", 60, None),
        ("phase start", "os", "m", "after the end of follow-up", 3, None),
        ("eligible", "os", "", "at risk", 90, 33),
        ("in phase", "os", "c", "reference", 90, 21),
        ("in phase", "os", "m", "exposed", 60, 12),
    ]
    adverse = [
        {"phase": name, "patients": 80, "with_event": 50, "events": 70, "person_time": time}
        | {"rate_per_year_median": 1.5, "share": 50 / 80}
        for name, time in (("c", 900.0), ("m", 300.0))
    ]
    tables = {**whole.tables, "patient_flow": account_of(*rows), "safety": pd.DataFrame(adverse)}
    left = without_few(replace(whole, tables=tables), minimum=MINIMUM)
    assert left.flow is not None
    assert left.flow.masking.times >= {2}
    shown = left.results.tables["safety"]
    assert shown["person_time"].tolist() == [900, 300]
    assert shown["rate_per_year_median"].notna().all()
    # Patients of a phase whom one endpoint shows are not hidden for another's.
    other = [(step, "rfs", *rest) for step, _, *rest in rows[-3:]]
    other[-1] = ("in phase", "rfs", "m", "exposed", 88, 20)
    tables["patient_flow"] = account_of(*rows, *other)
    left = without_few(replace(whole, tables=tables), minimum=MINIMUM)
    assert left.flow is not None
    assert left.flow.table["patients"].tolist()[-1] == MASK
    assert left.results.tables["safety"]["patients"].tolist() == [80, 80]
    # And where patients of the phase are hidden, so are its time and what follows from it.
    rows[-1] = ("in phase", "os", "m", "exposed", 3, 0)
    tables["patient_flow"] = account_of(*rows)
    shown = without_few(replace(whole, tables=tables), minimum=MINIMUM).results.tables["safety"]
    assert shown["person_time"].tolist() == [MASK, MASK]


def test_a_folder_that_is_killed_while_it_is_masked_again_stays_whole(
    attacked: tuple[str, Path, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is touched until all is written; what is left over goes with the next."""
    kind, folder, _ = attacked
    if kind != "few patients":
        pytest.skip("one kind of folder shows it")
    place = tmp_path / "results"
    shutil.copytree(folder, place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(report_folder, "write_figure", killed)
        patched.setattr(report_folder, "seal_record", killed)
        for minimum in (1, 20):
            with pytest.raises(KeyboardInterrupt):
                bb.write_report(place, minimum_count=minimum)
            assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    bb.write_report(place, minimum_count=1)
    assert not (place / "unmasked.json").exists()
    assert {path.name for path in place.iterdir() if path.name.startswith(".")} == set()
    assert (read_results(place).tables["at_risk"]["at_risk"] > 0).any()
