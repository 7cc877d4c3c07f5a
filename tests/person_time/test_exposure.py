"""Events and person-time by cell against a slow count of every patient's every unit of time.

Hypothesis makes whole cohorts on a grid of whole units of time, so that everything ties with
everything. `count` walks through each patient's units one by one, in integers, and applies the
definitions; the package gets the same times in another unit and with rounding noise.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core import intervals
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import DataError, SpecError
from bayesblina.core.intervals import default_cuts
from bayesblina.patients.cohort import Cohort, Covariate
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.cells import PersonTime, each, front
from bayesblina.person_time.cells.many import tabulate_many
from bayesblina.person_time.follow_up import find_episodes

PHASES = ("induction", "consolidation", "maintenance")
ENDPOINTS = ("os", "rfs", "efs")
LEVELS = ("young", "old", "oldest")
LAST = 9
OFF, TRANSPLANT = "off treatment", "transplant"


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Times in whole units; None where something never happened."""

    times: tuple[int | None, ...]
    events: tuple[bool, ...]
    entries: tuple[int | None, ...]
    starts: tuple[int | None, ...]
    ends: tuple[int | None, ...]
    transplant: int | None
    level: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """Patients and a question, both in whole units."""

    patients: tuple[Patient, ...]
    phases: tuple[str, ...]
    endpoints: tuple[str, ...]
    question: bb.Question
    cuts: tuple[int, ...]
    unit: float
    noise: int
    transplants_known: bool
    ends_known: bool
    covariates: bool

    @property
    def analysed(self) -> tuple[str, ...]:
        return self.question.endpoints or self.endpoints

    def cohort(self, scale: float = 1.0) -> Cohort:
        random = np.random.default_rng(self.noise)

        def times(values: list[Any]) -> Floats:
            exact = np.array(values, dtype=np.float64) * self.unit
            return scale * exact * (1.0 + 1e-13 * random.integers(-9, 10, exact.shape))

        def each(name: str) -> list[Any]:
            return [getattr(patient, name) for patient in self.patients]

        size = len(self.patients)
        empty = np.full((size, len(self.phases)), np.nan)
        covariates = {
            "age": Covariate(
                kind="categorical", values=np.array(each("level"), np.float64), levels=LEVELS
            ),
            "count": Covariate(kind="continuous", values=np.array(each("number"), np.float64)),
        }
        return Cohort(
            patients=np.array([f"patient {row}" for row in range(size)]),
            unit="months" if scale == 1.0 else "days",
            endpoints={
                name: Outcome(
                    time=times([patient.times[index] for patient in self.patients]),
                    event=np.array([patient.events[index] for patient in self.patients]),
                    entry=times([patient.entries[index] for patient in self.patients]),
                )
                for index, name in enumerate(self.endpoints)
            },
            phases=self.phases,
            phase_start=times(each("starts")),
            phase_end=times(each("ends")) if self.ends_known else empty,
            phase_ends_known=self.ends_known,
            transplant=times(each("transplant")) if self.transplants_known else None,
            covariates=covariates if self.covariates else {},
        )

    def asked(self, scale: float = 1.0) -> bb.Question:
        """Return the question in the cohort's unit."""
        landmark = self.question.landmark
        return replace(
            self.question,
            landmark=None if landmark is None else scale * self.unit * landmark,
            lag=scale * self.unit * self.question.lag,
        )

    def person_time(self, scale: float = 1.0) -> PersonTime:
        cuts = [scale * self.unit * cut for cut in self.cuts]
        return bb.person_time(self.cohort(scale), self.asked(scale), cuts=cuts)

    @cached_property
    def counted(self) -> "Count":
        return Count(self)

    def exposed(self) -> PersonTime:
        """Expose where there is something to compare; skip the example otherwise."""
        assume(self.counted.comparable())
        return self.person_time()


class Count:
    """What the definitions give, found one patient and one unit of time at a time.

    Step k of a patient is the time (k - 1, k]; all that matters in it is what was known at k - 1.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        # (endpoint, interval, state, patient)
        self.time: Counter[tuple[str, int, str, int]] = Counter()
        self.events: Counter[tuple[str, int, str, int]] = Counter()
        self.left_out: set[tuple[str, str, int]] = set()
        for name in case.analysed:
            index = case.endpoints.index(name)
            for row, patient in enumerate(case.patients):
                reason = self._reason(patient, index)
                if reason is not None:
                    self.left_out.add((name, reason, row))
                    continue
                for step in self._steps(patient, index):
                    interval = sum(cut < step for cut in case.cuts)
                    cell = (name, interval, self._state(patient, step - 1), row)
                    self.time[cell] += 1
                    if patient.events[index] and step == patient.times[index]:
                        self.events[cell] += 1

    def _window(self, patient: Patient, index: int) -> tuple[int, int] | None:
        """Follow-up of one endpoint that counts, before anything ends or delays it further."""
        question = self.case.question
        entry, time = patient.entries[index], patient.times[index]
        if entry is None or time is None:
            return None
        if question.eligible_from != "entry":
            eligible = patient.starts[self.case.phases.index(question.eligible_from)]
            if eligible is None:
                return None
            entry = max(entry, eligible)
        return entry, time

    def _steps(self, patient: Patient, index: int) -> Iterator[int]:
        window = self._window(patient, index)
        if window is None:
            return
        question = self.case.question
        for step in range(1, LAST + 1):
            transplanted = patient.transplant is not None and step > patient.transplant
            if (
                not (question.landmark is not None and window[0] > question.landmark)
                and window[0] <= step - 1
                and step <= window[1]
                and (question.landmark is None or step - 1 >= question.landmark)
                and not (question.transplant == "censor" and transplanted)
            ):
                yield step

    def _reason(self, patient: Patient, index: int) -> str | None:
        if any(self._steps(patient, index)):
            return None
        if patient.entries[index] is None:
            return "never under observation for this endpoint"
        window = self._window(patient, index)
        if window is None:
            return f"never reached {self.case.question.eligible_from}"
        if window[1] <= window[0]:
            return "follow-up ended by the start of eligibility"
        if self.case.question.landmark is not None and window[1] <= self.case.question.landmark:
            return "follow-up ended by the landmark"
        if self.case.question.landmark is not None and window[0] > self.case.question.landmark:
            return "came under observation after the landmark"
        return "transplanted by the start of eligibility or the landmark"

    def _state(self, patient: Patient, now: int) -> str:
        """Find the state that was entered last, at `now` or before."""
        question = self.case.question
        transplant = patient.transplant
        if question.transplant == "phase" and transplant is not None and transplant <= now:
            return TRANSPLANT
        for index in reversed(range(len(self.case.phases))):
            start, end = patient.starts[index], patient.ends[index]
            if start is None:
                continue
            if question.phase_end == "current" and end is not None and end <= now:
                return OFF
            lag = question.lag if self.case.phases[index] == question.exposed else 0
            if start + lag <= now:
                return self.case.phases[index]
        return f"before {self.case.phases[0]}"

    def role(self, state: str) -> str:
        question = self.case.question
        if state == question.exposed:
            return "exposed"
        if question.reference is None:
            return "other" if state == TRANSPLANT else "reference"
        return "reference" if state == question.reference else "other"

    def comparable(self) -> bool:
        def has(name: str, role: str) -> bool:
            return any(cell[0] == name and self.role(cell[2]) == role for cell in self.time)

        return all(
            len({cell[3] for cell in self.time if cell[0] == name}) > 1
            and has(name, "exposed")
            and has(name, "reference")
            and any(cell[0] == name for cell in self.events)
            for name in self.case.analysed
        )


def sometimes(values: st.SearchStrategy[int]) -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), values)


@st.composite
def patients(draw: st.DrawFn, *, endpoints: int, phases: int) -> Patient:
    times: list[int | None] = []
    entries: list[int | None] = []
    for _ in range(endpoints):
        kind = draw(st.sampled_from(["from 0", "from 0", "delayed", "never", "never, with a time"]))
        time = draw(st.integers(1, LAST))
        times.append(None if kind == "never" else time)
        delayed = draw(st.integers(0, time - 1))
        entries.append({"from 0": 0, "delayed": delayed}.get(kind))
    last = max((time for time in times if time is not None), default=LAST)
    marks = sorted(draw(st.lists(st.integers(0, last), min_size=phases, max_size=phases)))
    starts = [draw(st.sampled_from([mark, mark, None])) for mark in marks]
    # A phase ends by the start of the next that is entered.
    following = [
        min((later for later in starts[index + 1 :] if later is not None), default=LAST + 2)
        for index in range(phases)
    ]
    ends = [
        None if start is None else draw(sometimes(st.integers(start, until)))
        for start, until in zip(starts, following, strict=True)
    ]
    return Patient(
        times=tuple(times),
        events=tuple(draw(st.booleans()) for _ in times),
        entries=tuple(entries),
        starts=tuple(starts),
        ends=tuple(ends),
        transplant=draw(sometimes(st.integers(0, last))),
        level=draw(st.integers(0, len(LEVELS) - 1)),
        number=draw(st.integers(0, 2)),
    )


def anchors(question: bb.Question, phases: tuple[str, ...], endpoints: int, start: int) -> Any:
    """Two patients who give something to compare: exposed from `start`, and in the reference."""
    eligible = {} if question.eligible_from == "entry" else {question.eligible_from: 0}
    reference = {} if question.reference is None else {question.reference: 0}
    for began in ({**eligible, question.exposed: start}, {**eligible, **reference}):
        yield Patient(
            times=(LAST,) * endpoints,
            events=(True,) * endpoints,
            entries=(0,) * endpoints,
            starts=tuple(began.get(phase) for phase in phases),
            ends=(None,) * len(phases),
            transplant=None,
            level=0,
            number=0,
        )


@st.composite
def cases(draw: st.DrawFn, *, anchored: bool = True) -> Case:
    phases = PHASES[-draw(st.integers(1, len(PHASES))) :]
    endpoints = ENDPOINTS[: draw(st.integers(1, len(ENDPOINTS)))]
    transplants_known, ends_known = draw(st.booleans()), draw(st.booleans())
    exposed = draw(st.integers(0, len(phases) - 1))
    eligible = draw(st.integers(-1, exposed))
    others = [name for name in phases[max(eligible, 0) :] if name != phases[exposed]]
    chosen = draw(st.sets(st.sampled_from(endpoints)))
    question = bb.Question(
        exposed=phases[exposed],
        eligible_from="entry" if eligible < 0 else phases[eligible],
        reference=draw(st.sampled_from([None, *others])),
        endpoints=tuple(sorted(chosen)) or None,
        landmark=draw(sometimes(st.integers(0, 5))),
        lag=draw(st.sampled_from([0, 0, 1, 3])),
        phase_end=draw(st.sampled_from(["ever", "current"])) if ends_known else None,
        transplant=draw(st.sampled_from(["censor", "phase", "ignore"]))
        if transplants_known
        else None,
    )
    people = draw(
        st.lists(patients(endpoints=len(endpoints), phases=len(phases)), min_size=1, max_size=8)
    )
    if anchored:
        people += anchors(question, phases, len(endpoints), draw(st.integers(0, 5)))
    return Case(
        patients=tuple(people),
        phases=phases,
        endpoints=endpoints,
        question=question,
        cuts=tuple(sorted(draw(st.sets(st.integers(1, LAST + 1), max_size=4)))),
        unit=draw(st.sampled_from([1.0, 0.1, 1 / 3, 30.4375])),
        noise=draw(st.integers(0, 99)),
        transplants_known=transplants_known,
        ends_known=ends_known,
        covariates=draw(st.booleans()),
    )


many = settings(max_examples=300, deadline=None)
some = settings(max_examples=100, deadline=None)


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


def same_person_time(one: PersonTime, other: PersonTime) -> None:
    """Check that two ways of summing gave the same."""
    assert list(one.table.data_vars) == list(other.table.data_vars)
    assert one.table.attrs == other.table.attrs
    for name in one.table.variables:
        left, right = one.table[name], other.table[name]
        assert left.dims == right.dims
        if left.dtype.kind == "f":
            np.testing.assert_allclose(right.values, left.values, rtol=1e-9, atol=1e-12)
        else:
            assert left.equals(right), name


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


# Hand-computed examples.

MAINTENANCE = bb.Question(exposed="maintenance", eligible_from="entry")


def read(table: dict[str, list[Any]], **options: Any) -> Cohort:
    settings_: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": bb.Endpoint(time="months", event="died"),
        "phases": bb.Phases(maintenance="start"),
    }
    frame = pd.DataFrame(table)
    frame.insert(0, "id", [f"p{row}" for row in range(len(frame))])
    return bb.read_cohort(frame, **{**settings_, **options})


def cells(person_time: PersonTime, variable: Literal["events", "person_time"]) -> list[list[float]]:
    """Interval by phase, of the first endpoint and pattern."""
    values = person_time.table[variable].isel(endpoint=0, pattern=0).values
    return [[float(value) for value in row] for row in values]


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
