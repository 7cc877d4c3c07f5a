"""What a cohort accepts, and that whatever it refuses is named completely."""

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bayesblina.core.errors import DataError, Problem, SpecError, name_patients, nearest
from bayesblina.patients.cohort import Cohort, Repair
from bayesblina.patients.covariates import Covariate
from bayesblina.patients.declarations import RESERVED_PHASES, Endpoint, Phase, Phases
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.rules import DAYS_PER_UNIT

nan, inf = np.nan, np.inf


def outcome(time: list[float], event: list[int], entry: list[float] | None = None) -> Outcome:
    return Outcome(
        time=np.array(time, dtype=np.float64),
        event=np.array(event, dtype=bool),
        entry=np.zeros(len(time)) if entry is None else np.array(entry, dtype=np.float64),
    )


def make(**changes: Any) -> Cohort:
    """Make a valid cohort of four, with changes."""
    whole: dict[str, Any] = {
        "patients": np.array(["A", "B", "C", "D"]),
        "unit": "months",
        "endpoints": {
            "os": outcome([10, 12, 8, 5], [1, 0, 1, 0]),
            "rfs": outcome([9, 12, nan, 4], [1, 0, 0, 1], [2, 1, nan, 3]),
        },
        "phases": ("consolidation", "maintenance"),
        "phase_start": np.array([[2, 6], [1, nan], [nan, nan], [nan, 3]], dtype=np.float64),
        "phase_end": np.array([[5, 9], [nan, nan], [nan, nan], [nan, 99]], dtype=np.float64),
        "phase_ends_known": True,
        "transplant": np.array([nan, 12, nan, 0]),
        "covariates": {
            "age": Covariate(
                kind="categorical", values=np.array([0.0, 1, 1, 0]), levels=("young", "old")
            ),
            "marrow": Covariate(kind="continuous", values=np.array([0.1, 0.2, 0.3, 0.4])),
        },
    }
    return Cohort(**{**whole, **changes})


def problems_of(**changes: Any) -> tuple[Problem, ...]:
    with pytest.raises(DataError) as caught:
        make(**changes)
    return caught.value.problems


def test_a_valid_cohort_keeps_what_it_was_given() -> None:
    cohort = make()
    assert cohort.size == 4
    np.testing.assert_array_equal(cohort.endpoints["rfs"].time, [9, 12, nan, 4])
    np.testing.assert_array_equal(cohort.phase_start[:, 1], [6, nan, nan, 3])
    assert cohort.repairs == ()


def test_repr_shows_counts_and_no_patients() -> None:
    cohort = make(patients=np.array(["Anna", "Bert", "Cleo", "Dora"]), synthetic=True)
    assert repr(cohort) == (
        "Cohort(4 synthetic patients, months; os: 2 events, rfs: 2 events; "
        "phases consolidation: 2, maintenance: 2)"
    )
    for part in (cohort, cohort.endpoints["os"], cohort.covariates["age"]):
        assert "Anna" not in repr(part)


def test_arrays_and_mappings_are_read_only() -> None:
    cohort = make()
    arrays: list[NDArray[Any]] = [cohort.patients, cohort.phase_start, cohort.phase_end]
    arrays += [covariate.values for covariate in cohort.covariates.values()]
    for values in cohort.endpoints.values():
        arrays += [values.time, values.event, values.entry]
    assert cohort.transplant is not None
    for array in [*arrays, cohort.transplant]:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = array
    with pytest.raises(TypeError):
        cohort.endpoints["new"] = cohort.endpoints["os"]  # type: ignore[index]
    with pytest.raises(TypeError):
        cohort.covariates["new"] = cohort.covariates["age"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        cohort.unit = "days"  # type: ignore[misc]


ENDPOINT_RULES = [
    ("time", -1.0, 0.0, "negative or infinite times"),
    ("time", inf, 0.0, "negative or infinite times"),
    ("time", 0.0, nan, "times of 0: nobody is at risk at the origin itself"),
    ("time", nan, 0.0, "missing times"),
    ("entry", 5.0, -1.0, "negative or infinite entry times"),
    ("entry", 5.0, inf, "negative or infinite entry times"),
    ("entry", 5.0, 5.0, "entry at or after the end of follow-up for efs"),
    ("entry", 5.0, 5.0 - 1e-12, "entry at or after the end of follow-up for efs"),
    ("entry", 5.0, 6.0, "entry at or after the end of follow-up for efs"),
]


@pytest.mark.parametrize(("role", "time", "entry", "found"), ENDPOINT_RULES)
def test_endpoint_rules(role: str, time: float, entry: float, found: str) -> None:
    extra = outcome([10, 10, time, 10], [1, 1, 1, 1], [0, 0, entry, 0])
    (problem,) = problems_of(endpoints={"os": make().endpoints["os"], "efs": extra})
    assert (problem.column, problem.found, problem.patients) == (f"efs.{role}", found, ("C",))


PHASE_RULES = [
    ("consolidation.start", [-1, nan], [nan, nan], "negative or infinite starts"),
    ("maintenance.start", [nan, inf], [nan, nan], "negative or infinite starts"),
    ("maintenance.start", [nan, 8.1], [nan, nan], "maintenance starts after the end of follow-up"),
    ("maintenance.start", [4, 3], [nan, nan], "maintenance starts before consolidation"),
    ("consolidation.end", [4, 5], [3, nan], "consolidation ends before it starts, or without"),
    ("maintenance.end", [nan, nan], [nan, 3], "maintenance ends before it starts, or without"),
    ("maintenance.end", [nan, 3], [nan, inf], "maintenance ends before it starts, or without"),
]


@pytest.mark.parametrize(("column", "start", "end", "found"), PHASE_RULES)
def test_phase_rules(column: str, start: list[float], end: list[float], found: str) -> None:
    starts, ends = make().phase_start.copy(), make().phase_end.copy()
    starts[2], ends[2] = start, end
    (problem,) = problems_of(phase_start=starts, phase_end=ends)
    assert (problem.column, problem.patients) == (column, ("C",))
    assert problem.found.startswith(found)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ([nan, 8], [nan, nan]),  # at the end of follow-up
        ([8 * (1 + 1e-12), 8], [nan, nan]),  # the same, but for rounding
        ([0.3, 0.1 + 0.2], [0.3, 0.3]),
        ([0.1 + 0.2, 0.3], [0.3, 20]),  # ends may be planned, and lie after follow-up
        ([0, 0], [0, 0]),
    ],
)
def test_legal_phases_with_ties(start: list[float], end: list[float]) -> None:
    starts, ends = make().phase_start.copy(), make().phase_end.copy()
    starts[2], ends[2] = start, end
    np.testing.assert_array_equal(make(phase_start=starts, phase_end=ends).phase_start[2], start)


@pytest.mark.parametrize(
    ("time", "found"),
    [
        (-1.0, "negative or infinite times"),
        (inf, "negative or infinite times"),
        (8.5, "transplant after the end of follow-up"),
    ],
)
def test_transplant_rules(time: float, found: str) -> None:
    (problem,) = problems_of(transplant=np.array([nan, nan, time, nan]))
    assert (problem.column, problem.found, problem.patients) == ("transplant", found, ("C",))


def test_follow_up_ends_with_the_last_endpoint() -> None:
    """A phase may start after one endpoint's time, as long as another is still followed."""
    starts = np.array([[nan, 9.5], [nan, nan], [nan, nan], [nan, nan]])
    none = np.full((4, 2), nan)
    make(phase_start=starts, phase_end=none)
    only = {"rfs": make().endpoints["rfs"]}
    (problem,) = problems_of(phase_start=starts, phase_end=none, endpoints=only, transplant=None)
    assert problem.patients == ("A",)
    # Nothing is known of C's follow-up, so nothing can lie after it.
    starts = np.array([[nan, nan], [nan, nan], [7.0, 900.0], [nan, nan]])
    make(phase_start=starts, phase_end=none, endpoints=only, transplant=None)


def test_ids_must_be_there_and_unique() -> None:
    missing, repeated = problems_of(patients=np.array(["A", "", "A", ""]))
    assert missing.found == "missing ids in rows 2, 4"
    assert repeated.found == "ids that stand in more than one row"
    assert repeated.patients == ("A",)


def test_covariates_must_be_known_for_everybody() -> None:
    values = np.array([0.1, nan, inf, 0.4])
    (problem,) = problems_of(covariates={"x": Covariate(kind="continuous", values=values)})
    assert (problem.column, problem.patients) == ("x", ("B", "C"))


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({"unit": "fortnights"}, ["unit"]),
        ({"endpoints": {}}, ["endpoints"]),
        ({"endpoints": {"os": outcome([1], [1])}}, ["os.time", "os.event", "os.entry"]),
        ({"phase_start": np.full((4, 3), nan)}, ["phase_start"]),
        ({"phase_end": np.full(4, nan)}, ["phase_end"]),
        ({"transplant": np.full(3, nan)}, ["transplant"]),
        ({"covariates": {"x": Covariate(kind="continuous", values=np.ones(5))}}, ["x"]),
        (
            {
                "patients": np.array([], dtype=str),
                "endpoints": {"os": outcome([], [])},
                "phase_start": np.empty((0, 2)),
                "phase_end": np.empty((0, 2)),
                "transplant": None,
                "covariates": {},
            },
            ["patient"],
        ),
    ],
)
def test_shapes(changes: dict[str, Any], columns: list[str]) -> None:
    assert [problem.column for problem in problems_of(**changes)] == columns


@pytest.mark.parametrize(
    ("unit", "median", "hint"),
    [
        ("months", 900.0, "Perhaps days or weeks?"),
        ("years", 51.0, "Perhaps days or weeks or months?"),
        ("days", 0.5, "Perhaps years?"),
        ("days", 0.01, ""),
    ],
)
def test_impossible_units(unit: str, median: float, hint: str) -> None:
    (problem,) = problems_of(
        unit=unit,
        endpoints={"os": outcome([median / 2, median, median, 2 * median], [1, 1, 0, 0])},
        phase_start=np.full((4, 2), nan),
        phase_end=np.full((4, 2), nan),
        transplant=None,
    )
    assert problem.column == "os.time"
    assert problem.found == f"a median follow-up of {median:.4g} {unit}"
    assert problem.expected == f"That is impossible: check the unit. {hint}".strip()


@pytest.mark.parametrize("unit", DAYS_PER_UNIT)
def test_two_years_are_possible_in_every_unit(unit: str) -> None:
    scale = 730.5 / DAYS_PER_UNIT[unit]
    cohort = make(
        unit=unit,
        endpoints={"os": outcome([scale] * 4, [1, 0, 1, 0])},
        phase_start=np.full((4, 2), nan),
        phase_end=np.full((4, 2), nan),
        transplant=None,
    )
    assert cohort.unit == unit


def test_everything_wrong_is_reported_at_once() -> None:
    bad = outcome([-1, 0, nan, 5], [1, 1, 1, 1], [0, 0, 0, 7])
    found = problems_of(
        patients=np.array(["A", "A", "C", "D"]),
        endpoints={"os": make().endpoints["os"], "efs": bad},
        phase_start=np.array([[6, 2], [-3, nan], [nan, 9], [nan, nan]]),
        phase_end=np.array([[nan, nan], [nan, nan], [nan, nan], [nan, 1]]),
        transplant=np.array([nan, nan, 80, nan]),
        covariates={"x": Covariate(kind="continuous", values=np.array([nan, 1, 1, 1]))},
    )
    assert [(problem.column, problem.patients) for problem in found] == [
        ("patient", ("A",)),
        ("efs.time", ("A",)),
        ("efs.time", ("A",)),
        ("efs.time", ("C",)),
        ("efs.entry", ("D",)),
        ("consolidation.start", ("A",)),
        ("maintenance.start", ("C",)),
        ("maintenance.end", ("D",)),
        ("maintenance.start", ("A",)),
        ("transplant", ("C",)),
        ("x", ("A",)),
    ]


values_of_time = st.sampled_from([nan, nan, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, inf])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(values_of_time, min_size=8, max_size=8),
        min_size=1,
        max_size=6,
    )
)
def test_exactly_the_impossible_patients_are_named(rows: list[list[float]]) -> None:
    """One patient at a time, in plain words; nobody possible is refused, nobody else accepted."""

    def impossible(row: list[float]) -> bool:
        first, second, entry, start, later, end, later_end, transplant = row
        followed = [time for time in (first, second) if np.isfinite(time)]
        last = max(followed, default=inf)
        entered = np.isfinite(entry)
        return bool(
            any(value < 0 or value == inf for value in row)
            or np.isnan(first)
            or first == 0
            or second == 0
            or (entered and np.isnan(second))
            or (entered and second > 0 and entry >= second)
            or any(time > last for time in (start, later, transplant))
            or later < start
            or end < start
            or later_end < later
            or end > later
            or (np.isnan(start) and not np.isnan(end))
            or (np.isnan(later) and not np.isnan(later_end))
        )

    table = np.array(rows)
    ids = [f"patient {row}" for row in range(len(rows))]
    wrong = {name for name, row in zip(ids, rows, strict=True) if impossible(row)}
    events = np.zeros(len(rows), dtype=bool)
    made: dict[str, Any] = {
        "patients": np.array(ids),
        "unit": "months",
        "endpoints": {
            "os": Outcome(time=table[:, 0], event=events, entry=np.zeros(len(rows))),
            "rfs": Outcome(time=table[:, 1], event=events, entry=table[:, 2]),
        },
        "phases": ("consolidation", "maintenance"),
        "phase_start": table[:, 3:5],
        "phase_end": table[:, 5:7],
        "transplant": table[:, 7],
    }
    if not wrong:
        cohort = Cohort(**made)
        np.testing.assert_array_equal(cohort.phase_start, table[:, 3:5])
        return
    with pytest.raises(DataError) as caught:
        Cohort(**made)
    assert {name for problem in caught.value.problems for name in problem.patients} == wrong


def test_an_error_counts_patients_and_names_ten_when_asked() -> None:
    ids = np.array([f"P{row:03d}" for row in range(25)])
    with pytest.raises(DataError) as caught:
        Cohort(
            patients=ids,
            unit="months",
            endpoints={"os": outcome([-1.0] * 23 + [5.0] * 2, [0] * 25)},
            phases=("maintenance",),
            phase_start=np.full((25, 1), nan),
            phase_end=np.full((25, 1), nan),
            source="patients.csv",
        )
    head = "1 problem in patients.csv:\n  - os.time: negative or infinite times "
    assert str(caught.value) == (
        f"{head}[23 patients, in rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and others]. Expected finite "
        "times from the origin."
    )
    assert caught.value.words(show_ids=True) == (
        f"{head}[23 patients: P000, P001, P002, P003, P004, P005, P006, P007, P008, P009 and 13 "
        "more]. Expected finite times from the origin."
    )
    assert caught.value.problems[0].patients == tuple(map(str, ids[:23]))


def test_missing_ids_are_named_by_row_ten_at_most() -> None:
    size = 12
    with pytest.raises(DataError, match=r"missing ids in rows 1, 2, .*, 10 and 2 more"):
        Cohort(
            patients=np.array([""] * size),
            unit="months",
            endpoints={"os": outcome([5.0] * size, [0] * size)},
            phases=(),
            phase_start=np.empty((size, 0)),
            phase_end=np.empty((size, 0)),
        )


def test_wording_of_names() -> None:
    assert name_patients(["A"]) == "1 patient: A"
    assert name_patients([f"{row}" for row in range(10)]).endswith("8, 9")
    assert name_patients(["x" * 41]) == f"1 patient: {'x' * 37}..."
    assert nearest("relapse_montth", ["id", "relapse_month"]) == "Nearest: relapse_month."
    assert nearest("zzz", ["a", "b"]) == "There are: a, b."
    assert nearest("zzz", []) == "There are none."
    assert nearest("zzz", [f"a{row}" for row in range(23)]).endswith("a19 and 3 more.")


def test_phases_keep_their_order_and_columns() -> None:
    phases = Phases(second="b", first=Phase(start="a", end="z"))
    assert phases.names == ("second", "first")
    assert phases.items() == (("second", Phase(start="b")), ("first", Phase(start="a", end="z")))
    assert phases == Phases.from_dict({"second": "b", "first": Phase(start="a", end="z")})
    assert hash(phases) == hash(Phases(second="b", first=Phase(start="a", end="z")))
    assert phases != Phases(first=Phase(start="a", end="z"), second="b")
    assert phases != "second"
    assert eval(repr(phases), {"Phases": Phases, "Phase": Phase}) == phases
    assert Phases.from_dict({"cycle 6+": "m"}).names == ("cycle 6+",)
    assert Endpoint(time="t", event="e").entry is None


@pytest.mark.parametrize("name", [*sorted(RESERVED_PHASES), "before consolidation"])
def test_reserved_phase_names_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match=f"'{name}' has a meaning of its own"):
        Phases.from_dict({name: "column"})


def test_no_phases_are_refused() -> None:
    with pytest.raises(SpecError, match="Name at least one phase"):
        Phases()


def test_a_repair_counts_its_patients() -> None:
    assert Repair(rule="times of 0 became 0.5", patients=("A", "B")).count == 2


def test_no_life_is_that_long() -> None:
    (problem,) = problems_of(endpoints={"os": outcome([10, 1801, 12, 9], [1, 1, 0, 0])})
    assert problem.column == "os.time"
    assert problem.found == "times longer than a life"
    assert len(problem.patients) == 1
