"""A table of stays beside the patients of a scan: sums, problems and counts as in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan, engines, scan_cohort
from bayesblina.patients.scan import stays as scanned_stays
from bayesblina.patients.scan.reading import column_name
from bayesblina.patients.scan.settling import STAYS, stays_of_lists
from bayesblina.patients.stays import FAR_ENDS
from tests.patients.stays_tables import DECLARED, LEAVE_OUT, courses, tables
from tests.patients.test_scan import require_same

ibis = pytest.importorskip("ibis", reason="the extra `scale` is not installed")

PRIORITY = ("tki", "blina", "chemo")
NAMED = {
    "blina + tki": "both",
    "blina + chemo": "intensive",
    "tki + chemo": "intensive",
    "blina + tki + chemo": "intensive",
}
MEASURES: list[dict[str, Any]] = [
    {"measure": "current"},
    {"measure": "ever", "lag": 0.25},
    {"measure": "since_entry", "steps": (1.5, 4.0)},
    {"measure": "since_end", "steps": (1.0, 3.0)},
    {"measure": "cumulative", "steps": (1.0, 2.5), "amount": "time"},
    {"measure": "cumulative", "steps": (2, 4), "amount": "cycles"},
    {"measure": "episode", "steps": (2, 3)},
]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few patients, whose stays are collected a few at a time."""
    monkeypatch.setattr(engines, "ROWS", 37)
    monkeypatch.setattr(scanned_stays, "COLLECTED", 300)


def both(seed: int, **declared: Any) -> tuple[Cohort, CohortScan]:
    frame, stays = tables(seed)
    read = courses(stays, leave_out=LEAVE_OUT, **declared)
    return (
        bb.read_cohort(frame, phases=read, **DECLARED),
        scan_cohort(frame, phases=read, **DECLARED),
    )


def question(**asked: Any) -> bb.Question:
    return bb.Question(exposed="blina", eligible_from="entry", transplant="censor", **asked)


@pytest.mark.parametrize("asked", MEASURES)
def test_a_scan_sums_what_memory_sums(asked: dict[str, Any]) -> None:
    memory, scan = both(3, overlap=PRIORITY, bridge=0.125, cycle="cycle")
    one = bb.person_time(memory, question(**asked), cuts=[3.0, 9.5])
    assert one.table["events"].values.sum() > 50
    require_same(one, bb.person_time(scan, question(**asked), cuts=[3.0, 9.5]))


@pytest.mark.parametrize("asked", MEASURES)
def test_stays_with_grace_sum_as_in_memory(asked: dict[str, Any]) -> None:
    memory, scan = both(3, overlap=PRIORITY, grace=0.5, cycle="cycle")
    one = bb.person_time(memory, question(**asked), cuts=[3.0, 9.5])
    require_same(one, bb.person_time(scan, question(**asked), cuts=[3.0, 9.5]))
    none = bb.person_time(
        both(3, overlap=PRIORITY, cycle="cycle")[0], question(**asked), cuts=[9.5]
    )
    if asked["measure"] == "current":
        assert (
            one.table["person_time"].sel(phase="blina").sum()
            > none.table["person_time"].sel(phase="blina").sum()
        )


@pytest.mark.parametrize(
    ("asked", "never"),
    [
        ({"measure": "since_end", "steps": (1.0, 300.0)}, "blina ended from 300"),
        ({"measure": "cumulative", "steps": (1.0, 300.0)}, "blina time from 300"),
        (
            {"measure": "cumulative", "steps": (2, 90), "amount": "cycles"},
            "blina 91 cycles and more",
        ),
        ({"measure": "episode", "steps": (2, 90)}, "blina episode 90 and later"),
    ],
)
def test_steps_that_nobody_reaches_are_told(asked: dict[str, Any], never: str) -> None:
    for patients in both(3, overlap=PRIORITY, cycle="cycle"):
        table = bb.person_time(patients, question(**asked), cuts=[9.5]).account().table
        (row,) = table[table["step"] == "steps"].to_dict("records")
        assert (row["phase"], row["what"]) == (never, "nobody has time at risk in it")
        assert row["patients"] == 0
        assert table["step"].iloc[-1] == "steps"


@pytest.mark.parametrize("measure", ["current", "ever", "since_end", "cumulative", "episode"])
def test_a_lag_beyond_all_stays_is_told(measure: str) -> None:
    for patients in both(3, overlap=PRIORITY):
        asked = question(measure=measure, lag=80.0)
        with pytest.raises(DataError) as caught:
            bb.person_time(patients, asked, cuts=[9.5], phase_cuts=None)
        problem = caught.value.problems[0]
        assert problem.found == "no eligible patient has time in blina beyond the lag of 80"
        assert problem.expected.endswith("if there is any: ask for a shorter lag.")


def test_stays_before_the_origin_are_clipped_as_in_memory() -> None:
    frame, stays = tables(5, clean=True)
    stays["to"] = stays["to"].fillna(stays["from"] + 1)
    stays[["from", "to"]] -= 2.0
    read = courses(stays, dose="dose", before_origin="clip", grace=0.25)
    asked = question(measure="cumulative", steps=(1.0, 4.0), amount="dose")
    memory = bb.read_cohort(frame, phases=read, **DECLARED)
    scan = scan_cohort(frame, phases=read, **DECLARED)
    one = bb.person_time(memory, asked, cuts=[9.0])
    require_same(one, bb.person_time(scan, asked, cuts=[9.0]))
    require_same_account(memory, scan)
    told = memory.account().table.query("step == 'repaired'")["patients"]
    assert (told > 20).all()
    assert len(told) == 3


@pytest.mark.parametrize("overlap", [PRIORITY, NAMED])
@pytest.mark.parametrize("transplant", ["phase", "censor", "ignore"])
def test_eligibility_sets_and_default_cuts_are_those_of_memory(
    overlap: Any, transplant: Any
) -> None:
    memory, scan = both(4, overlap=overlap, bridge=0.125)
    assert scan.phases == memory.phases
    assert (scan.recurring, scan.ordered) == (memory.recurring, memory.ordered)
    assert dict(scan.combinations) == dict(memory.combinations)
    if memory.combinations:
        apart = bb.Question(exposed=["blina", "tki"], eligible_from="chemo", measure="current")
        for patients in (memory, scan):
            with pytest.raises(SpecError, match="both, intensive are combinations with it"):
                bb.person_time(patients, apart)
    exposed = ["blina", "tki", *memory.combinations]
    asked = bb.Question(
        exposed=exposed, eligible_from="chemo", measure="current", transplant=transplant
    )
    one, other = bb.person_time(memory, asked), bb.person_time(scan, asked)
    np.testing.assert_array_equal(one.cuts, other.cuts)
    require_same(one, other)
    # All contributors are in the sample: their own times are those of memory.
    people = other.patients().people
    own = one.people.sel(patient=people["patient"].values)
    for name in ("begin", "exit", "event"):
        np.testing.assert_array_equal(people[name].values, own[name].values)


def test_doses_are_shared_out_as_in_memory() -> None:
    frame, stays = tables(5)
    stays["to"] = stays["to"].fillna(stays["from"] + 1)
    read = courses(stays, leave_out=LEAVE_OUT, overlap=PRIORITY, dose="dose")
    asked = question(measure="cumulative", steps=(4.0, 9.0), amount="dose")
    memory = bb.person_time(bb.read_cohort(frame, phases=read, **DECLARED), asked, cuts=[9.0])
    scan = scan_cohort(frame, phases=read, **DECLARED)
    assert scan.doses_known
    require_same(memory, bb.person_time(scan, asked, cuts=[9.0]))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_of_both_tables_are_read_and_watched(tmp_path: Path, suffix: str) -> None:
    frame, stays = tables(6)
    half = len(stays) // 2
    for name, part in (("patients", frame), ("s1", stays[:half]), ("s2", stays[half:])):
        path = tmp_path / f"{name}.{suffix}"
        part.to_csv(path, index=False) if suffix == "csv" else part.to_parquet(path, index=False)
    made: dict[str, Any] = {"leave_out": LEAVE_OUT, "overlap": PRIORITY}
    scan = scan_cohort(
        str(tmp_path / f"patients.{suffix}"),
        phases=courses(str(tmp_path / f"s?.{suffix}"), **made),
        **DECLARED,
    )
    memory = bb.read_cohort(frame, phases=courses(stays, **made), **DECLARED)
    asked = question(measure="current")
    require_same(bb.person_time(memory, asked), bb.person_time(scan, asked))
    assert set(scan.hash_files()) == {f"patients.{suffix}", f"s?.{suffix} (2 files) (stays)"}
    with (tmp_path / f"s2.{suffix}").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(DataError, match="not as it was when it was scanned"):
        bb.person_time(scan, asked)


def test_ids_that_are_numbers_in_one_table_are_texts_in_the_other() -> None:
    frame, stays = tables(7, clean=True)
    frame["id"] = frame["id"].str[1:].astype(int) + 1
    numbers = stays.assign(who=stays["who"].str[1:].astype(int) + 1)
    texts = numbers.assign(who=numbers["who"].astype(str) + " ")
    asked = question(measure="current")
    memory = bb.person_time(
        bb.read_cohort(frame, phases=courses(numbers), **DECLARED), asked, cuts=[9.0]
    )
    for table in (numbers, texts):
        scan = scan_cohort(frame, phases=courses(table), **DECLARED)
        require_same(memory, bb.person_time(scan, asked, cuts=[9.0]))


def require_same_account(memory: Cohort, scan: CohortScan) -> list[Any]:
    steps = ["read", "repaired", "stays", "order"]
    counts = [
        table[table["step"].isin(steps) & (table["what"] != table["what"].iloc[0])][
            ["step", "phase", "what", "patients"]
        ].values.tolist()
        for table in (memory.account().table, scan.account().table)
    ]
    assert counts[1] == counts[0]
    return list(counts[1])


def test_an_account_counts_duplicates_and_far_ends() -> None:
    frame, stays = tables(8, clean=True)
    stays["to"] += 90.0
    twice = pd.concat([stays, stays[:20]]).drop_duplicates("who", keep="last")
    doubled = pd.concat([twice, twice[-20:]])
    read = courses(doubled, leave_out=["duplicates"])
    counts = require_same_account(
        bb.read_cohort(frame, phases=read, **DECLARED), scan_cohort(frame, phases=read, **DECLARED)
    )
    found = {what: patients for _, _, what, patients in counts}
    assert found["of rows that say the same twice, one was kept"] == 20
    assert found[FAR_ENDS] == twice["to"].notna().sum()


@pytest.mark.parametrize("overlap", [PRIORITY, NAMED])
def test_an_account_counts_what_memory_counts(overlap: Any) -> None:
    """By hand: 1 stranger; 2 other phases; 2 empty; 2 after."""
    counts = require_same_account(*both(8, overlap=overlap, bridge=0.125))
    repaired = {what: patients for step, _, what, patients in counts if step == "repaired"}
    assert list(repaired.values())[:4] == [1, 2, 2, 2]
    assert [name.startswith(("of overl", "overl")) for name in repaired] == [False] * 4 + [
        True,
        False,
    ]
    assert sum(step == "stays" for step, *_ in counts) == (6 if overlap == PRIORITY else 10)


@pytest.mark.parametrize(
    "kind",
    [
        *LEAVE_OUT,
        *("overlap", "order", "dose", "negative", "unread", "twice", "unit", "nameless"),
        "went on",
    ],
)
def test_what_is_wrong_is_told_as_in_memory(kind: str) -> None:
    """Column, words and patients; one that stands in many rows counts once."""
    frame, stays = tables(9, clean=kind not in LEAVE_OUT)
    declared: dict[str, Any] = {"overlap": PRIORITY}
    declared["leave_out"] = [name for name in LEAVE_OUT if name != kind]
    if kind == "overlap":
        stays = tables(9)[1]
        declared = {"leave_out": LEAVE_OUT}
    elif kind == "order":
        declared["order"] = "listed"
    elif kind == "dose":
        declared["dose"] = "dose"
        stays.loc[[3, 40, 41], "dose"] = [-1.0, np.nan, np.inf]
    elif kind == "negative":
        stays.loc[[3, 40], ["from", "to"]] = [[-2.0, 1.0], [np.nan, 4.0]]
    elif kind == "twice":
        stays = pd.concat([stays, stays[3:9]], ignore_index=True)
        declared = {}
    elif kind == "unit":
        stays[["from", "to"]] *= 30.4
        declared["leave_out"] = []
    elif kind == "nameless":
        stays.loc[[3, 40], "who"] = [None, " "]
    elif kind == "went on":
        declared["dose"] = "dose"
    elif kind == "unread":
        stays["from"] = stays["from"].astype(str)
        stays.loc[[3, 40], "from"] = ["1,5", "soon"]
    told = []
    for read in (bb.read_cohort, scan_cohort):
        with pytest.raises(DataError) as caught:
            read(frame, phases=courses(stays, **declared), **DECLARED)
        told.append(
            [
                (
                    problem.column,
                    problem.found.split(" (")[0],
                    problem.expected,
                    sorted(problem.patients)[:10],
                    problem.count or len(problem.patients),
                )
                for problem in caught.value.problems
            ]
        )
    assert sorted(told[1]) == sorted(told[0])


def test_what_engines_cannot_do_is_refused(tmp_path: Path) -> None:
    frame, stays = tables(9, clean=True)
    frame.to_parquet(tmp_path / "p.parquet")
    with pytest.raises(SpecError, match="must be in the engine that holds the patients"):
        scan_cohort(frame, phases=courses(ibis.memtable(stays)), **DECLARED)
    with pytest.raises(SpecError, match="must be in the engine that holds the patients"):
        scan_cohort(ibis.memtable(frame), phases=courses(stays), **DECLARED)
    own = scan_cohort(ibis.memtable(frame), phases=courses(ibis.memtable(stays)), **DECLARED)
    asked = question(measure="current")
    memory = bb.read_cohort(frame, phases=courses(stays), **DECLARED)
    require_same(bb.person_time(memory, asked), bb.person_time(own, asked))


def made(rows: list[tuple[str, str, float, float]], **declared: Any) -> list[Any]:
    """The same stays of two patients, seen for 10 and 20 months, in memory and in a scan."""
    frame = tables(9, patients=2, clean=True)[0].assign(
        id=["p1", "p2"], time=[10.0, 20.0], free=[10.0, 20.0], remission=0.0, moved=np.nan
    )
    stays = pd.DataFrame(rows, columns=["who", "drug", "from", "to"])
    stays["cycle"], stays["dose"] = np.arange(len(stays)), 1.0
    read = courses(stays, **declared)
    return [
        bb.read_cohort(frame, phases=read, **DECLARED),
        scan_cohort(frame, phases=read, **DECLARED),
    ]


def stays_of(patients: Any) -> list[tuple[str, str, float, float, float]]:
    """Patient, phase, start, stop and cycles of each stay."""
    ids, stays = None, None
    if isinstance(patients, Cohort):
        ids, stays = patients.patients, patients.stays
    else:
        table = patients.table.order_by(patients.column("patient")).to_pyarrow()
        ids = table[column_name("patient")].to_pylist()
        stays = stays_of_lists(table[STAYS].combine_chunks())
    assert stays is not None
    return [
        (str(ids[who]), patients.phases[phase], start, stop, cycles)
        for who, phase, start, stop, cycles in zip(
            stays.patient,
            stays.phase,
            stays.start.tolist(),
            stays.stop.tolist(),
            stays.cycles.tolist(),
            strict=True,
        )
    ]


def test_what_lies_after_follow_up_once_overlaps_are_settled_is_dropped() -> None:
    rows = [("p1", "tki", 2.0, 12.0), ("p1", "blina", 8.0, 14.0), ("p2", "blina", 3.0, 4.0)]
    for patients in made(rows, overlap=PRIORITY):
        assert stays_of(patients) == [
            ("p1", "tki", 2.0, 8.0, 1.0),
            ("p1", "tki", 8.0, 12.0, 0.0),
            ("p2", "blina", 3.0, 4.0, 1.0),
        ]


def test_a_cycle_that_begins_under_another_stay_counts_from_where_it_shows() -> None:
    rows = [("p2", "tki", 1.0, 5.0), ("p2", "blina", 3.0, 7.0)]
    for patients in made(rows, overlap=PRIORITY, cycle="cycle"):
        assert stays_of(patients) == [
            ("p2", "tki", 1.0, 3.0, 1.0),
            ("p2", "tki", 3.0, 5.0, 0.0),
            ("p2", "blina", 5.0, 7.0, 1.0),
        ]


def test_noise_is_no_overlap() -> None:
    """0.1 + 0.2 is a little more than 0.3, which is where it then ends."""
    rows = [
        ("p2", "tki", 0.1, 0.1 + 0.2),
        ("p2", "blina", 0.3, 4.0),
        ("p2", "chemo", 0.3, 2.0),
        ("p1", "tki", 0.1, 0.1 + 0.2),
        ("p1", "blina", 0.3, 4.0),
    ]
    both_ = [stays_of(patients) for patients in made(rows, overlap=("blina", "tki", "chemo"))]
    assert both_[0] == both_[1]
    assert both_[0][:3] == [
        ("p1", "tki", 0.1, 0.3, 1.0),
        ("p1", "blina", 0.3, 4.0, 1.0),
        ("p2", "tki", 0.1, 0.3, 1.0),
    ]


def test_nobody_has_stays() -> None:
    frame, stays = tables(9, clean=True)
    none: pd.DataFrame = stays[:0]
    memory = bb.read_cohort(frame, phases=courses(none), **DECLARED)
    scan = scan_cohort(frame, phases=courses(none), **DECLARED)
    assert memory.account().table.query("step == 'stays'").empty
    assert scan.account().table.query("step == 'stays'").empty
