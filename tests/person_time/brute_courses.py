"""Courses in which phases recur, followed by a loop over patients: nothing of the package in it.

All times are exact fractions. Between two times at which anything may change the state is asked for
in the middle, by words as the reference has them; so it is nowhere said which of two marks at one
time comes first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

NEVER = float("inf")
Time = Fraction | float


@dataclass(frozen=True)
class Stay:
    """Time in one phase; `stop` may be `NEVER`. `cycle`: 1 where a cycle begins with it."""

    phase: str
    start: Fraction
    stop: Time
    cycle: int = 1
    dose: Fraction = Fraction(0)


@dataclass(frozen=True)
class Outcome:
    """Follow-up from `entry` (None: never seen) until `time`."""

    entry: Fraction | None
    time: Fraction
    event: bool


@dataclass(frozen=True)
class Patient:
    """Stays by time, none overlapping."""

    stays: tuple[Stay, ...]
    outcomes: dict[str, Outcome]
    transplant: Fraction | None = None


@dataclass(frozen=True)
class Asked:
    """A question."""

    exposed: tuple[str, ...]
    measure: str
    steps: tuple[Fraction, ...] = ()
    amount: str = "time"
    lag: Fraction = Fraction(0)
    eligible_from: str = "entry"
    landmark: Fraction | None = None
    transplant: str | None = None
    first: str = "before any phase"

    @property
    def label(self) -> str:
        return " or ".join(self.exposed)

    def names_of_steps(self) -> list[str]:
        """The states of the exposed phases, in order."""
        steps = [f"{float(step):g}" for step in self.steps]
        if self.measure in ("current", "ever"):
            return [self.label]
        if self.measure == "episode":
            if not steps:
                return [self.label]
            edges = [1, *map(int, self.steps)]
            spans = [
                f"{low}" if high == low + 1 else f"{low} to {high - 1}"
                for low, high in pairwise(edges)
            ]
            return [f"{self.label} episode {span}" for span in [*spans, f"{edges[-1]} and later"]]
        if self.amount == "cycles" and steps:
            # How many whole numbers lie in each step, counted one after the other.
            known = [
                [str(n) for n in range(1, 100) if low < n <= high]
                for low, high in pairwise([Fraction(0), *self.steps])
            ]
            spans = [
                "1 cycle"
                if own == ["1"]
                else f"{own[0]} cycles"
                if len(own) == 1
                else f"up to {own[-1]} cycles"
                if own[0] == "1"
                else f"{own[0]} to {own[-1]} cycles"
                for own in known
            ]
            return [
                f"{self.label} {span}"
                for span in [*spans, f"{int(known[-1][-1]) + 1} cycles and more"]
            ]
        prefix = {
            "since_entry": self.label,
            "since_end": f"{self.label} ended",
            "cumulative": f"{self.label} {self.amount}",
        }[self.measure]
        edges_ = ["0", *steps]
        spans = [f"{prefix} {low} to {high}" for low, high in pairwise(edges_)]
        spans.append(f"{prefix} from {edges_[-1]}")
        if self.measure == "since_end":
            return [self.label, *spans]
        return spans if steps else [self.label]


def joined(stays: list[Stay], name_of: Callable[[Stay], str], *, over_gaps: bool) -> list[Stay]:
    """Stays that follow each other under one name, at once or (`over_gaps`) after any time."""
    runs: list[Stay] = []
    for stay in stays:
        name = name_of(stay)
        if runs and runs[-1].phase == name and (over_gaps or runs[-1].stop == stay.start):
            runs[-1] = Stay(phase=name, start=runs[-1].start, stop=stay.stop)
        else:
            runs.append(Stay(phase=name, start=stay.start, stop=stay.stop))
    return runs


def exposed_stays(patient: Patient, asked: Asked) -> list[Stay]:
    return [stay for stay in patient.stays if stay.phase in asked.exposed]


def amount_by(stays: list[Stay], amount: str, now: Fraction) -> Fraction:
    """What was had of some stays by a time."""
    total = Fraction(0)
    for stay in stays:
        if stay.start >= now:
            continue
        if amount == "cycles":
            total += stay.cycle
            continue
        until = now if stay.stop >= now else Fraction(stay.stop)
        length = until - stay.start
        total += (
            length if amount == "time" else stay.dose * length / Fraction(stay.stop - stay.start)
        )
    return total


def measure_by(patient: Patient, asked: Asked, time: Fraction) -> Fraction | None:
    """Value of the measure just before a time; None where there is none."""
    own, now = exposed_stays(patient, asked), time - asked.lag
    begun = [stay for stay in own if stay.start < now]
    if not begun:
        return None
    if asked.measure == "cumulative":
        return amount_by(own, asked.amount, now)
    if asked.measure == "episode":
        runs = joined(own, lambda _: asked.label, over_gaps=False)
        return Fraction(sum(run.start < now for run in runs))
    if asked.measure == "since_end":
        last = max(stay.stop for stay in begun)
        return None if last >= now else now - Fraction(last)
    return now - begun[0].start


def state_at(patient: Patient, asked: Asked, now: Fraction) -> str:
    """The state at a time at which nothing changes."""
    if asked.transplant == "phase" and patient.transplant is not None and patient.transplant < now:
        return "transplant"
    names = asked.names_of_steps()
    if asked.measure in ("since_end", "cumulative"):
        value = measure_by(patient, asked, now)
        begun = [stay for stay in exposed_stays(patient, asked) if stay.start < now - asked.lag]
        if not begun:
            others = [stay for stay in patient.stays if stay.phase not in asked.exposed]
            return where(others, asked, now)
        if asked.measure == "since_end":
            if value is None:
                return names[0]
            return names[1 + sum(step < value for step in asked.steps)]
        assert value is not None
        return names[sum(step < value for step in asked.steps)]
    state = where(list(patient.stays), asked, now)
    if state != asked.label or asked.measure in ("current", "ever"):
        return state
    own = exposed_stays(patient, asked)
    if asked.measure == "since_entry":
        return names[sum(step < now - own[0].start for step in asked.steps)]
    number = sum(run.start < now for run in joined(own, lambda _: asked.label, over_gaps=False))
    return names[sum(step <= number for step in asked.steps)]


def where(stays: list[Stay], asked: Asked, now: Fraction) -> str:
    """The phase that a patient is in, or where she was while an entry is not yet counted."""
    lasting = asked.measure in ("ever", "since_entry")
    runs = joined(
        stays,
        lambda stay: asked.label if stay.phase in asked.exposed else stay.phase,
        over_gaps=lasting,
    )
    if lasting:
        state = asked.first
        for number, run in enumerate(runs):
            counted = run.start + (asked.lag if run.phase == asked.label else 0)
            replaced = runs[number + 1].start if number + 1 < len(runs) else NEVER
            if counted < now and counted < replaced:
                state = run.phase
        return state
    outside = "off treatment" if any(run.stop < now for run in runs) else asked.first
    inside = next((run for run in runs if run.start < now <= run.stop), None)
    if inside is None:
        return outside
    if inside.phase != asked.label or now > inside.start + asked.lag:
        return inside.phase
    return next((run.phase for run in runs if run.stop == inside.start), outside)


def at_risk(
    patient: Patient, asked: Asked, endpoint: str
) -> tuple[Fraction, Fraction, bool] | None:
    """From when to when, and whether it ends with the event."""
    outcome = patient.outcomes[endpoint]
    if outcome.entry is None:
        return None
    begin = outcome.entry
    if asked.eligible_from != "entry":
        starts = [stay.start for stay in patient.stays if stay.phase == asked.eligible_from]
        if not starts:
            return None
        begin = max(begin, min(starts))
    stop, event = outcome.time, outcome.event
    if begin >= stop:
        return None
    if asked.landmark is not None:
        if begin > asked.landmark or asked.landmark >= stop:
            return None
        begin = asked.landmark
    if (
        asked.transplant == "censor"
        and patient.transplant is not None
        and patient.transplant < stop
    ):
        if patient.transplant <= begin:
            return None
        stop, event = patient.transplant, False
    return begin, stop, event


def changes_of(patient: Patient, asked: Asked) -> set[Fraction]:
    """All times at which the state may change."""
    own = exposed_stays(patient, asked)
    points: set[Time] = set() if patient.transplant is None else {patient.transplant}
    for stay in patient.stays:
        points |= {stay.start, stay.stop, stay.start + asked.lag, stay.stop + asked.lag}
        for step in asked.steps:
            points |= {stay.start + step, stay.stop + step + asked.lag}
    for stay in own:
        had = amount_by(own, asked.amount, stay.start)
        amount: Time = Fraction(0)
        if asked.amount == "time":
            amount = stay.stop - stay.start
        elif asked.amount == "dose":
            amount = stay.dose
        for step in asked.steps:
            if asked.measure == "cumulative" and had <= step < had + amount:
                length = (
                    1 if asked.amount == "time" else Fraction(stay.stop - stay.start) / stay.dose
                )
                points.add(stay.start + (step - had) * length + asked.lag)
    return {Fraction(point) for point in points if point != NEVER}


@dataclass
class Cells:
    """Time and events by interval and state, and how many patients are at risk."""

    time: dict[tuple[int, str], Fraction] = field(default_factory=dict)
    events: dict[tuple[int, str], int] = field(default_factory=dict)
    patients: int = 0

    def compares(self, asked: Asked, reference: str | None = None) -> bool:
        """Whether there are patients, events, time exposed and time that is not."""
        exposed = {state for _, state in self.time if state in asked.names_of_steps()}
        others = {state for _, state in self.time} - exposed - {"transplant"}
        if reference is not None:
            others &= {reference}
        return bool(self.patients > 1 and self.events and exposed and others)


def follow(
    patients: list[Patient], asked: Asked, endpoint: str, cuts: tuple[Fraction, ...]
) -> Cells:
    """Add time and events up, patient by patient and piece by piece."""
    cells = Cells()
    for patient in patients:
        risk = at_risk(patient, asked, endpoint)
        if risk is None:
            continue
        cells.patients += 1
        begin, stop, event = risk
        inner = {point for point in {*changes_of(patient, asked), *cuts} if begin < point < stop}
        for low, high in pairwise(sorted({begin, stop, *inner})):
            middle = (low + high) / 2
            cell = sum(cut < middle for cut in cuts), state_at(patient, asked, middle)
            cells.time[cell] = cells.time.get(cell, Fraction(0)) + high - low
            if event and high == stop:
                cells.events[cell] = cells.events.get(cell, 0) + 1
    return cells
