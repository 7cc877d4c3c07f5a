"""Events and person-time by cell against a slow count of every patient's every unit of time.

Hypothesis makes whole cohorts on a grid of whole units of time, so that everything ties with
everything. `Count` walks through each patient's units one by one, in integers, and applies the
definitions; the package gets the same times in another unit and with rounding noise.
"""

from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core import intervals
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import DataError, SpecError
from bayesblina.core.intervals import default_cuts
from bayesblina.person_time.cells import each, front
from bayesblina.person_time.cells.many import tabulate_many
from bayesblina.person_time.follow_up import find_episodes
from tests.person_time.by_hand import MAINTENANCE, cells, read, same_person_time
from tests.person_time.counts import LAST, OFF, Case, cases, many, some


@many
@given(st.booleans().flatmap(lambda anchored: cases(anchored=anchored)))
def test_cells_equal_the_count(case: Case) -> None:
    counted = case.counted
    if not counted.comparable():
        event("nothing to compare")
        with pytest.raises(DataError, match="nothing to compare"):
            case.person_time()
        return
    event("compared")
    person_time = case.person_time()
    table, people = person_time.table, person_time.people
    row_of = [int(str(name).split()[1]) for name in people["patient"].values]
    pattern_of = dict(zip(row_of, people["pattern"].values.tolist(), strict=True))
    states = list(table["phase"].values)
    assert set(states) == {state for _, _, state, _ in counted.time}
    assert list(table["role"].values) == [counted.role(state) for state in states]
    assert table.sizes["interval"] == len(case.cuts) + 1
    for variable, counts in (("events", counted.events), ("person_time", counted.time)):
        expected = np.zeros([table.sizes[name] for name in table[variable].dims])
        for (name, interval, state, row), count in counts.items():
            cell = (case.analysed.index(name), interval, states.index(state), pattern_of[row])
            expected[cell] += count
        unit = case.unit if variable == "person_time" else 1.0
        np.testing.assert_allclose(table[variable].values, unit * expected, rtol=1e-9)
        np.testing.assert_array_equal(table[variable].values == 0, expected == 0)
    left = {
        (item.endpoint, item.reason, int(name.split()[1]))
        for item in person_time.left_out
        for name in item.patients
    }
    assert left == counted.left_out
    used = {(name, row) for name, _, _, row in counted.time}
    assert sum(len(item.patients) for item in person_time.left_out) == len(left)
    assert len(used) + len(left) == len(case.patients) * len(case.analysed)
    assert set(row_of) == {row for _, row in used}


@many
@given(cases(), st.booleans(), st.sampled_from([None, (1,), (1, 3)]))
def test_one_pass_over_many_patients_gives_the_same(
    case: Case, weighted: bool, pieces: tuple[int, ...] | None
) -> None:
    assume(case.counted.comparable())
    cohort, question = case.cohort(), case.asked()
    weights = np.linspace(0.5, 2.0, cohort.size) if weighted else None
    phase_cuts = None if pieces is None else [case.unit * piece for piece in pieces]
    cuts = np.array([case.unit * cut for cut in case.cuts])
    one = bb.person_time(cohort, question, cuts=cuts, weights=weights, phase_cuts=phase_cuts)
    other = tabulate_many(
        cohort,
        question,
        cuts=cuts,
        phase_cuts=None if phase_cuts is None else np.array(phase_cuts),
        weight=weights,
        compress=None,
    )
    same_person_time(one, other)
    assert one.people.equals(other.people[list(one.people.data_vars)])
    assert one.episodes.equals(other.episodes)
    assert one.left_out == other.left_out


@some
@given(cases())
def test_one_pass_places_the_same_cuts(case: Case) -> None:
    assume(case.counted.comparable())
    one = bb.person_time(case.cohort(), case.asked())
    other = tabulate_many(
        case.cohort(), case.asked(), cuts=None, phase_cuts=None, weight=None, compress=None
    )
    np.testing.assert_allclose(other.cuts, one.cuts, rtol=1e-9)
    assert one.table["events"].equals(other.table["events"])


@some
@given(cases())
def test_cells_of_single_patients_equal_the_count(case: Case) -> None:
    person_time, counted = case.exposed(), case.counted
    people, states = person_time.people, list(person_time.table["phase"].values)
    position = {int(str(name).split()[1]): at for at, name in enumerate(people["patient"].values)}
    for name in case.analysed:
        got = person_time.patient_cells(name).toarray()
        expected = np.zeros_like(got)
        for (endpoint, interval, state, row), units in counted.time.items():
            if endpoint == name:
                cell = interval * len(states) + states.index(state)
                expected[position[row], cell] = units * case.unit
        np.testing.assert_allclose(got, expected, rtol=1e-9)
        one = people.sel(endpoint=name)
        at_risk = (one["exit"] - one["begin"]).fillna(0.0).values
        np.testing.assert_allclose(got.sum(axis=1), at_risk, rtol=1e-9)
        who, cells = person_time.event_cells(name)
        assert {(int(a), int(b)) for a, b in zip(who, cells, strict=True)} == {
            (position[row], interval * len(states) + states.index(state))
            for endpoint, interval, state, row in counted.events
            if endpoint == name
        }
        assert who.size == int(one["event"].sum()) == len(set(who.tolist()))
        summed = person_time.table["person_time"].sel(endpoint=name).sum("pattern").values.ravel()
        np.testing.assert_allclose(got.sum(axis=0), summed, rtol=1e-9)


@some
@given(cases())
def test_patterns_are_the_patients_with_equal_covariates(case: Case) -> None:
    person_time, cohort = case.exposed(), case.cohort()
    design = person_time.table["design"]
    terms = [str(term) for term in design["term"].values]
    used = [int(str(name).split()[1]) for name in person_time.people["patient"].values]
    raw: dict[str, Floats] = {}
    for name, covariate in cohort.covariates.items():
        values = covariate.values[used]
        raw[name] = values
        for level, label in enumerate(covariate.levels):
            raw[f"{name}[{label}]"] = (values == level).astype(np.float64)
    for index, term in enumerate(terms):
        got = design.values[person_time.people["pattern"].values, index]
        np.testing.assert_array_equal(got, raw[term])
        assert np.ptp(got) > 0
    by_pattern: dict[int, set[tuple[float, ...]]] = {}
    for at, pattern in enumerate(person_time.people["pattern"].values.tolist()):
        own = tuple(cohort.covariates[name].values[used[at]] for name in cohort.covariates)
        by_pattern.setdefault(pattern, set()).add(own)
    assert sorted(by_pattern) == list(range(design.sizes["pattern"]))
    assert all(len(found) == 1 for found in by_pattern.values())
    assert len({*map(tuple, design.values)}) == design.sizes["pattern"]


@some
@given(cases(), st.integers(0, 2**32 - 1))
def test_order_of_patients_does_not_matter(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.patients))
    shuffled = replace(case, patients=tuple(case.patients[row] for row in order))
    one, other = case.exposed().table, shuffled.person_time().table
    assert one["events"].equals(other["events"])
    assert one["design"].equals(other["design"])
    np.testing.assert_allclose(other["person_time"].values, one["person_time"].values, rtol=1e-9)


@some
@given(cases())
def test_another_unit_scales_time_and_nothing_else(case: Case) -> None:
    """Days for months."""
    one, other = case.exposed(), case.person_time(scale=30.4375)
    assert one.table["events"].equals(other.table["events"])
    np.testing.assert_allclose(
        other.table["person_time"].values, 30.4375 * one.table["person_time"].values, rtol=1e-12
    )
    assert one.left_out == other.left_out
    default, rescaled = (
        bb.person_time(case.cohort(scale), case.asked(scale)) for scale in (1.0, 30.4375)
    )
    np.testing.assert_allclose(rescaled.cuts, 30.4375 * default.cuts, rtol=1e-12)
    assert default.table["events"].equals(rescaled.table["events"])


@some
@given(cases(), st.sets(st.integers(1, LAST + 1), max_size=4))
def test_more_cuts_merge_back_to_the_same(case: Case, more: set[int]) -> None:
    finer = replace(case, cuts=tuple(sorted({*case.cuts, *more})))
    coarse, fine = case.exposed().table, finer.person_time().table
    parent = np.searchsorted(case.cuts, [*finer.cuts, LAST + 9])
    for name in ("events", "person_time"):
        merged = np.zeros(np.moveaxis(coarse[name].values, 1, 0).shape)
        np.add.at(merged, parent, np.moveaxis(fine[name].values, 1, 0))
        np.testing.assert_allclose(np.moveaxis(merged, 0, 1), coarse[name].values, rtol=1e-9)


@some
@given(cases())
def test_episodes_follow_each_other_without_gaps(case: Case) -> None:
    for found in find_episodes(case.cohort(), case.asked()).values():
        assert (found.stop > found.start).all()
        for patient in np.unique(found.patient):
            own = np.flatnonzero(found.patient == patient)
            np.testing.assert_array_equal(found.start[own][1:], found.stop[own][:-1])
            assert not found.event[own][:-1].any()


# Examples by hand.


def test_time_before_a_start_never_counts_in_the_phase() -> None:
    """Immortal time: ten months lived, four of them in maintenance, whatever came of it."""
    cohort = read({"months": [10.0, 3.0], "died": [1, 1], "start": [6.0, None]})
    person_time = bb.person_time(cohort, MAINTENANCE, cuts=[])
    assert list(person_time.table["phase"].values) == ["before maintenance", "maintenance"]
    assert cells(person_time, "person_time") == [[9.0, 4.0]]
    assert cells(person_time, "events") == [[1, 1]]


def test_a_phase_that_starts_at_the_end_contributes_nothing() -> None:
    cohort = read({"months": [10.0, 8.0, 9.0], "died": [1, 1, 0], "start": [10.0, 2.0, 9.0]})
    person_time = bb.person_time(cohort, MAINTENANCE, cuts=[])
    assert cells(person_time, "person_time") == [[21.0, 6.0]]
    assert cells(person_time, "events") == [[1, 1]]


def test_a_near_tie_with_the_end_is_a_tie() -> None:
    cohort = read(
        {"months": [0.3, 0.1 + 0.2, 8.0], "died": [1, 1, 1], "start": [0.1 + 0.2, 0.3, 2.0]},
        unit="years",
    )
    person_time = bb.person_time(cohort, MAINTENANCE, cuts=[0.1 * 3])
    assert cells(person_time, "events") == [[2, 0], [0, 1]]
    np.testing.assert_allclose(cells(person_time, "person_time"), [[0.9, 0.0], [1.7, 6.0]])


def test_an_event_at_a_cut_belongs_to_the_earlier_interval() -> None:
    cohort = read({"months": [6.0, 6.5, 7.0], "died": [1, 1, 1], "start": [None, 6.0, 1.0]})
    person_time = bb.person_time(cohort, MAINTENANCE, cuts=[6.0])
    assert cells(person_time, "events") == [[1, 0], [0, 2]]
    assert cells(person_time, "person_time") == [[13.0, 5.0], [0.0, 1.5]]


def test_many_starts_at_a_cut_leave_nothing_before_it() -> None:
    """Rounding of fifteen widths of 0.1 must neither leave time there nor make it negative."""
    cohort = read(
        {"months": [3.1] * 18, "died": [1] * 18, "start": [0.1] * 15 + [None] * 3}, unit="years"
    )
    person_time = bb.person_time(cohort, MAINTENANCE, cuts=[0.1])
    assert cells(person_time, "person_time")[0][1] == 0.0
    assert cells(person_time, "person_time")[1][1] == pytest.approx(45.0)


def test_entry_at_remission_leaves_out_what_came_before() -> None:
    """Remission in month 2; one patient had none, one started maintenance on that day."""
    cohort = read(
        {
            "months": [10.0, 9.0, None, 7.0],
            "died": [1, 1, None, 0],
            "remission": [2.0, 2.0, None, 2.0],
            "start": [5.0, None, None, 2.0],
        },
        endpoints={"rfs": bb.Endpoint(time="months", event="died", entry="remission")},
    )
    person_time = bb.person_time(cohort, MAINTENANCE, cuts=[4.0])
    assert cells(person_time, "person_time") == [[4.0, 2.0], [6.0, 8.0]]
    assert cells(person_time, "events") == [[0, 0], [1, 1]]
    (left,) = person_time.left_out
    assert left.reason == "never under observation for this endpoint"
    assert left.patients == ("p2",)
    assert person_time.people["begin"].values.tolist() == [[2.0, 2.0, 2.0]]


def test_the_last_interval_is_open() -> None:
    cohort = read({"months": [500.0, 3.0], "died": [1, 1], "start": [1.0, None]})
    person_time = bb.person_time(cohort, MAINTENANCE, cuts=[2.0])
    assert person_time.table["interval_stop"].values.tolist() == [2.0, np.inf]
    assert cells(person_time, "person_time") == [[3.0, 1.0], [1.0, 498.0]]


@pytest.mark.parametrize(
    ("transplant", "person_time", "events"),
    [
        ("censor", [[5.0, 4.0]], [[1, 0]]),
        ("phase", [[5.0, 4.0, 4.0]], [[1, 0, 1]]),
        ("ignore", [[5.0, 8.0]], [[1, 1]]),
    ],
)
def test_transplant(
    transplant: Literal["censor", "phase", "ignore"],
    person_time: list[list[float]],
    events: list[list[float]],
) -> None:
    """Maintenance from month 2, transplant in month 6, death in month 10."""
    cohort = read(
        {"months": [10.0, 3.0], "died": [1, 1], "start": [2.0, None], "sct": [6.0, None]},
        transplant="sct",
    )
    got = bb.person_time(cohort, replace(MAINTENANCE, transplant=transplant), cuts=[])
    assert cells(got, "person_time") == person_time
    assert cells(got, "events") == events


@pytest.mark.parametrize("gap", [0.0, 1e-3, 1e-5, 1e-8])
def test_an_event_just_after_a_transplant_is_censored(gap: float) -> None:
    """From a hundredth of a day on; less apart they are at one time, and the event counts."""
    cohort = read(
        {
            "months": [100.0, 90.0, 80.0],
            "died": [1, 1, 1],
            "start": [None, 10.0, None],
            "sct": [100.0 * (1.0 - gap), None, None],
        },
        transplant="sct",
    )
    person_time = bb.person_time(cohort, replace(MAINTENANCE, transplant="censor"), cuts=[])
    assert cells(person_time, "events") == [[2 if gap < 1e-6 else 1, 1]]


@pytest.mark.parametrize(
    ("lag", "phase_end", "phases", "person_time"),
    [
        (0.0, "ever", ["before maintenance", "maintenance"], [[5.0, 8.0]]),
        (3.0, "ever", ["before maintenance", "maintenance"], [[8.0, 5.0]]),
        (0.0, "current", ["before maintenance", "maintenance", OFF], [[5.0, 4.0, 4.0]]),
        (3.0, "current", ["before maintenance", "maintenance", OFF], [[8.0, 1.0, 4.0]]),
    ],
)
def test_lag_and_phase_end(
    lag: float,
    phase_end: Literal["ever", "current"],
    phases: list[str],
    person_time: list[list[float]],
) -> None:
    """Maintenance from month 2 to month 6, death in month 10."""
    cohort = read(
        {"months": [10.0, 3.0], "died": [1, 1], "start": [2.0, None], "end": [6.0, None]},
        phases=bb.Phases(maintenance=bb.Phase(start="start", end="end")),
    )
    got = bb.person_time(cohort, replace(MAINTENANCE, lag=lag, phase_end=phase_end), cuts=[])
    assert list(got.table["phase"].values) == phases
    assert cells(got, "person_time") == person_time


def test_eligible_from_a_phase_counts_from_its_start() -> None:
    cohort = read(
        {
            "months": [10.0, 9.0, 4.0, 5.0],
            "died": [1, 1, 1, 0],
            "second": [3.0, 2.0, None, 5.0],
            "start": [6.0, None, None, None],
        },
        phases=bb.Phases(consolidation="second", maintenance="start"),
    )
    question = bb.Question(exposed="maintenance", eligible_from="consolidation", landmark=4.0)
    person_time = bb.person_time(cohort, question, cuts=[])
    assert cells(person_time, "person_time") == [[7.0, 4.0]]
    assert {(item.reason, item.patients) for item in person_time.left_out} == {
        ("never reached consolidation", ("p2",)),
        ("follow-up ended by the start of eligibility", ("p3",)),
    }


def test_the_size_does_not_grow_with_the_patients() -> None:
    """A thousand copies of a cohort: the same cells, a thousand times the numbers."""
    columns: dict[str, list[Any]] = {
        "months": [10.0, 3.0, 8.0, 6.0],
        "died": [1, 1, 0, 1],
        "start": [6.0, None, 2.0, None],
        "age": ["old", "young", "young", "old"],
    }
    small, large = (
        bb.person_time(
            read({name: values * copies for name, values in columns.items()}, covariates=["age"]),
            MAINTENANCE,
            cuts=[3.0, 6.0],
        )
        for copies in (1, 1000)
    )
    assert large.table.nbytes == small.table.nbytes
    for name in ("events", "person_time"):
        np.testing.assert_allclose(large.table[name].values, 1000 * small.table[name].values)


COMPARED: Any = MappingProxyType(
    {"months": [10.0, 3.0], "died": [1, 1], "second": [1.0, 1.0], "start": [6.0, None]}
)


@pytest.mark.parametrize(
    ("changed", "question", "found"),
    [
        ({}, {"landmark": 10.0}, "no patient is ever eligible"),
        ({"died": [0, 0]}, {}, "no event among the eligible patients"),
        ({"start": [None, None]}, {}, "no eligible patient has time in maintenance"),
        ({"start": [10.0, None]}, {}, "no eligible patient has time in maintenance"),
        ({}, {"lag": 4.0}, "no eligible patient has time in maintenance"),
        ({"start": [0.0, 0.0], "second": [None, None]}, {}, "has time outside maintenance"),
        ({"second": [None, None]}, {"reference": "consolidation"}, "has time in consolidation"),
    ],
)
def test_nothing_to_compare_is_an_error(
    changed: dict[str, Any], question: dict[str, Any], found: str
) -> None:
    cohort = read(
        {**COMPARED, **changed}, phases=bb.Phases(consolidation="second", maintenance="start")
    )
    with pytest.raises(DataError, match=found) as caught:
        bb.person_time(cohort, replace(MAINTENANCE, **question))
    assert [problem.column for problem in caught.value.problems] == ["survival"]


def test_time_after_a_transplant_is_no_comparison() -> None:
    """It is a state of its own; everybody else is in maintenance from the start."""
    cohort = read(
        {"months": [10.0, 3.0], "died": [1, 1], "start": [0.0, 0.0], "sct": [2.0, None]},
        transplant="sct",
    )
    with pytest.raises(DataError, match="no eligible patient has time outside maintenance"):
        bb.person_time(cohort, replace(MAINTENANCE, transplant="phase"))


def test_the_first_level_that_occurs_is_the_reference() -> None:
    """Nobody used is in the first level of all: the one patient in it never reached the phase."""
    cohort = read(
        {
            "months": [10.0, 3.0, 8.0, 6.0],
            "died": [1, 1, 0, 1],
            "second": [None, 1.0, 1.0, 1.0],
            "start": [None, 2.0, None, None],
            "age": ["a", "b", "c", "d"],
            "marrow": [0.1, 0.2, 0.2, 0.4],
            "sex": ["f", "f", "f", "f"],
        },
        phases=bb.Phases(consolidation="second", maintenance="start"),
        covariates=["age", "marrow", "sex"],
    )
    design = bb.person_time(cohort, replace(MAINTENANCE, eligible_from="consolidation")).table[
        "design"
    ]
    assert list(design["term"].values) == ["age[c]", "age[d]", "marrow"]
    assert sorted(design.values.tolist()) == [[0, 0, 0.2], [0, 1, 0.4], [1, 0, 0.2]]


def test_default_cuts_are_those_of_the_eligible_patients() -> None:
    months = np.arange(1.0, 41.0)
    cohort = read(
        {
            "months": list(months),
            "died": [1] * 40,
            "relapse": list(months / 2),
            "start": [*[None] * 39, 6.0],
        },
        endpoints={
            "os": bb.Endpoint(time="months", event="died"),
            "rfs": bb.Endpoint(time="relapse", event="died"),
        },
    )
    person_time = bb.person_time(cohort, replace(MAINTENANCE, landmark=5.0))
    events = np.concatenate([months, months / 2])
    # One patient enters maintenance at 6, and counts for both endpoints; nobody begins late.
    expected = default_cuts(events[events > 5.0], endpoints=2, entry_times=[[6.0, 6.0]])
    assert expected.size > 3
    assert 5.75 in expected
    np.testing.assert_array_equal(person_time.cuts, expected)


def test_impossible_cuts_are_refused() -> None:
    cohort = read({"months": [10.0, 3.0], "died": [1, 1], "start": [6.0, None]})
    with pytest.raises(SpecError, match="strictly increasing"):
        bb.person_time(cohort, MAINTENANCE, cuts=[6.0, 3.0])


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda values: values * 0.5, "conservation failed: person-time 6.5 of 13"),
        (lambda values: values * (1.0 - 1e-8), "conservation failed: person-time 12.99"),
        (lambda values: values - [[20.0, -20.0]] * 2, "negative person-time in a cell"),
    ],
)
def test_lost_time_is_an_error(monkeypatch: pytest.MonkeyPatch, damage: Any, found: str) -> None:
    whole = intervals.person_time_by_group

    def damaged(*arguments: Any, **options: Any) -> Any:
        return damage(whole(*arguments, **options))

    monkeypatch.setattr(each, "person_time_by_group", damaged)
    cohort = read({"months": [10.0, 3.0], "died": [1, 1], "start": [6.0, None]})
    with pytest.raises(DataError, match=found):
        bb.person_time(cohort, MAINTENANCE, cuts=[3.0])


def test_a_lost_event_or_patient_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find_episodes

    def damaged(*arguments: Any) -> dict[str, Any]:
        return {
            name: replace(found, event=found.event & (found.patient > 0), left_out=())
            for name, found in whole(*arguments).items()
        }

    monkeypatch.setattr(front, "find_episodes", damaged)
    table: dict[str, list[Any]] = {
        "months": [10.0, 3.0, 1.0],
        "died": [1, 1, 1],
        "start": [6.0, None, None],
    }
    with pytest.raises(DataError, match="1 events of 2") as caught:
        bb.person_time(read(table), replace(MAINTENANCE, landmark=2.0), cuts=[])
    assert "2 patients used and 0 left out of 3" in str(caught.value)


def test_repr_shows_counts_and_no_patients() -> None:
    cohort = read({"months": [10.0, 3.0], "died": [1, 1], "start": [6.0, None]}, synthetic=True)
    person_time = bb.person_time(cohort, MAINTENANCE, cuts=[3.0])
    assert repr(person_time) == (
        "PersonTime(2 synthetic patients; survival: 2 events in 13 person-months; "
        "2 intervals x 2 phases x 1 patterns)"
    )
    assert person_time.endpoints == ("survival",)
    assert person_time.cuts.tolist() == [3.0]
    assert all(
        np.diff(pair)[0] >= 0 for pair in pairwise(person_time.table["interval_start"].values)
    )
