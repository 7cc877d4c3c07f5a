"""Whole cohorts on a grid of whole units of time, and a slow count of what is in their cells."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import assume, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.covariates import Covariate
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.cells import PersonTime

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
    for began in ({**eligible, question.exposure: start}, {**eligible, **reference}):
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
