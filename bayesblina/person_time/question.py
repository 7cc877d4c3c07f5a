"""The question asked: an estimand in the terms of ICH E9(R1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from bayesblina.core.courses import AMOUNTS, LASTING, MEASURES, STEPPED, Amount, Measure
from bayesblina.core.errors import (
    SpecError,
    require_number,
)
from bayesblina.core.intervals import validate_cuts
from bayesblina.patients.account import to_html

ENTRY = "entry"
# Until when phases may start, of events that are found at visits; and what each assumes, in words.
StartsUntil = Literal["found", "event"]
STARTS_UNTIL: Mapping[str, str] = MappingProxyType(
    {
        "found": "treatment goes on until the event is found",
        "event": "nobody starts a phase after the event, seen or not",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who is compared, on what, from when, and what happens at intercurrent events.

    The attributes are those of an estimand in ICH E9(R1): population (`eligible_from`,
    `landmark`), treatment condition (`exposed`, `reference`, `lag`, `phase_end`), variable
    (`endpoints`), intercurrent events (`transplant`, `phase_end`). The summary measure is the
    estimand function that is called on the fit.

    Parameters
    ----------
    exposed
        Phase whose effect is asked for, or several, which count as one. It is a time-varying
        state: a patient counts as exposed only from the phase's start.
    eligible_from
        Population: ``"entry"`` (at risk from each endpoint's own entry) or a phase (only patients
        who reached it, at risk from its start).
    reference
        Phase to compare with. None means every eligible moment that is not exposed (nor, with
        ``transplant="phase"``, after transplant); all other phases then share one hazard. With a
        named reference each remaining phase has an effect of its own.
    endpoints
        Endpoints to analyse; None means all that the cohort declares.
    landmark
        Only patients at risk at this time, and only their time at risk after it.
    lag
        PersonTime counts only from this long after the phase's start; until then the patient
        remains in the state before.
    phase_end
        What happens when a phase ends: ``"ever"`` (once entered, always counted as in it) or
        ``"current"`` (off treatment until the next phase). Must be chosen where the cohort has
        phase ends.
    transplant
        ``"censor"`` (at the transplant), ``"phase"`` (a state of its own, with its own effect,
        for good) or ``"ignore"``. Must be chosen where the cohort records transplants.
    measure
        By which measure of a patient's own history the exposure enters: ``"current"`` (in it now)
        and ``"ever"`` (entered, until another phase is), of which `phase_end` is the short form;
        ``"since_entry"`` (time since entering it first); ``"since_end"`` (in it, or time since
        leaving it last: an effect that is carried over and wanes); ``"cumulative"`` (what has
        been had of it so far, also while off it); ``"episode"`` (in it for the first time, the
        second ...). All but the first two have an effect by step, which a model such as
        ``"since_entry"`` smooths.
    steps
        Where the steps lie, rising: times, or, of ``"cumulative"``, amounts that are exceeded
        from then on; of ``"episode"`` the numbers with which a new step begins. None for those
        that a model chooses by the events.
    amount
        What ``"cumulative"`` counts: ``"time"``, ``"cycles"`` begun, or ``"dose"``.
    starts_until
        Of events that are found at visits: until when phases may start. ``"found"``: treatment goes
        on as if nothing had happened until the event is found. ``"event"``: nobody starts a phase
        after the event, seen or not, so that a start proves that there was none before. The data
        cannot tell the two apart, and the answers differ; must be chosen where an endpoint is
        recorded at visits.

    Raises
    ------
    SpecError
        If a value is impossible in itself.

    Examples
    --------
    >>> Question(exposed="maintenance", eligible_from="consolidation").reference is None
    True
    >>> Question(exposed=["a", "b"], eligible_from="entry", measure="current").exposure
    'a or b'
    """

    exposed: str | Sequence[str]
    eligible_from: str
    reference: str | None = None
    endpoints: tuple[str, ...] | None = None
    landmark: float | None = None
    lag: float = 0.0
    phase_end: Literal["ever", "current"] | None = None
    transplant: Literal["censor", "phase", "ignore"] | None = None
    measure: Measure | None = None
    steps: Sequence[float] | None = None
    amount: Amount = "time"
    starts_until: StartsUntil | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "exposed", _exposed(self.exposed))
        for name in ("landmark", "lag"):
            value: object = getattr(self, name)
            if value is None and name == "landmark":
                continue
            object.__setattr__(self, name, require_number(value, name))
        names: object = self.endpoints
        if names is not None:
            if not isinstance(names, list | tuple):
                raise SpecError(f"endpoints must be a tuple of names, got {names!r}.")
            object.__setattr__(self, "endpoints", tuple(str(name) for name in names))
        if self.reference is not None and self.reference in self.exposed_phases:
            raise SpecError(f"exposed and reference are both '{self.reference}'.")
        _require_measure(self)
        if self.landmark is not None and not 0 <= self.landmark < np.inf:
            raise SpecError(f"landmark must be a time from 0 on, got {self.landmark!r}.")
        if not 0 <= self.lag < np.inf:
            raise SpecError(f"lag must be a length of time from 0 on, got {self.lag!r}.")
        if self.starts_until not in (None, *STARTS_UNTIL):
            raise SpecError(f"starts_until must be 'found' or 'event', got {self.starts_until!r}.")
        if self.starts_until == "event" and (self.lag or self.measure in LASTING):
            raise SpecError(
                "starts_until='event' takes each start for a proof that there was no event before, "
                "so that effects must begin with starts: leave out lag, and measures that go on "
                f"after the phase ({', '.join(LASTING)})."
            )
        if self.phase_end not in (None, "ever", "current"):
            raise SpecError(f"phase_end must be 'ever' or 'current', got {self.phase_end!r}.")
        if self.transplant not in (None, "censor", "phase", "ignore"):
            raise SpecError(
                f"transplant must be 'censor', 'phase' or 'ignore', got {self.transplant!r}."
            )
        if self.endpoints is not None and (
            not self.endpoints or len(set(self.endpoints)) != len(self.endpoints)
        ):
            raise SpecError(
                f"endpoints must be a tuple that names each endpoint once, got {self.endpoints!r}."
            )

    @property
    def exposed_phases(self) -> tuple[str, ...]:
        """Phases that are exposed."""
        return (self.exposed,) if isinstance(self.exposed, str) else tuple(self.exposed)

    @property
    def exposure(self) -> str:
        """Name of what is exposed, in results."""
        return " or ".join(self.exposed_phases)

    @property
    def measured(self) -> Measure:
        """By which measure the exposure enters."""
        return self.measure or self.phase_end or "ever"

    @property
    def state_at_end(self) -> Literal["ever", "current"] | None:
        """What happens at a phase's end: stayed in until another one, or left; None if unsaid."""
        if self.measure is None:
            return self.phase_end
        return "ever" if self.measure in ("ever", "since_entry") else "current"

    @property
    def stepped(self) -> bool:
        """Whether the exposure has an effect by step."""
        return self.measure in STEPPED

    @property
    def against(self) -> str:
        """What the exposed phase is compared with, in words."""
        if self.reference is not None:
            return self.reference
        transplanted = " and before transplant" if self.transplant == "phase" else ""
        return f"every eligible moment without {self.exposure}{transplanted}"

    def scale(self, unit: str) -> str:
        """Name what the steps of the exposure are of.

        Parameters
        ----------
        unit
            Time unit.

        Returns
        -------
        str
            What is counted, such as ``"months since entering maintenance"``, also where a model
            cuts time in the phase without a measure.

        Examples
        --------
        >>> question = Question(exposed="a", eligible_from="entry", measure="since_end")
        >>> question.scale("months")
        'months since the end of a'
        """
        if self.measure == "since_end":
            return f"{unit} since the end of {self.exposure}"
        if self.measure == "cumulative":
            return f"{unit if self.amount == 'time' else self.amount} of {self.exposure} so far"
        if self.measure == "episode":
            return f"episode of {self.exposure}"
        return f"{unit} since entering {self.exposure}"

    def require_landmark(self, landmark: float | None) -> None:
        """Refuse curves from before the question's own landmark.

        Parameters
        ----------
        landmark
            Where curves are to start; None for no landmark.

        Raises
        ------
        SpecError
            If it is no number, or earlier than the question's: only patients who lived to that are
            in the analysis, so time before it would be immortal.
        """
        if landmark is None:
            return
        asked = require_number(landmark, "landmark")
        if self.landmark is not None and asked < self.landmark:
            raise SpecError(
                f"landmark {asked:g} lies before the question's own, {self.landmark:g}: all its "
                "patients lived to that, so nobody could die in between. Ask from there, or leave "
                "the landmark out of the Question."
            )

    def estimand(self, *, period: str | None = None) -> dict[str, str]:
        """Put the question into the attributes of ICH E9(R1).

        Parameters
        ----------
        period
            The covariate of calendar periods, where follow-up is cut by a `Calendar`: curves hold
            each patient's fixed.

        Returns
        -------
        dict of str
            One sentence for each attribute.
        """
        population = (
            "all patients, from each endpoint's own entry"
            if self.eligible_from == ENTRY
            else f"patients who reached {self.eligible_from}, from its start"
        )
        if self.landmark is not None:
            population += f", event-free and under observation at {self.landmark:g}"
        measured = _MEASURED[self.measure or "ever"]
        if self.amount != "time":
            measured = measured.replace("what", f"how much, in {self.amount},")
        treatment = f"{self.exposure} ({measured}) against {self.against}"
        if self.steps is not None:
            edges = ", ".join(f"{step:g}" for step in self.steps)
            treatment += f"; steps begin {'with' if self.measure == 'episode' else 'after'} {edges}"
        if self.lag and self.measure in LASTING:
            treatment += f"; what has been counts {self.lag:g} later than it was"
        elif self.lag:
            treatment += f"; exposure counts from {self.lag:g} after its start, not before"
        events = []
        if self.phase_end is not None or self.measure is not None:
            what = _ENDED.get(self.measured, "stays in it")
            events.append(f"at a phase's end the patient {what}")
        if self.transplant is not None:
            what = {
                "censor": "censors follow-up",
                "phase": "is a state of its own",
                "ignore": "is ignored (treatment policy)",
            }[self.transplant]
            events.append(f"transplant {what}")
        if self.starts_until is not None:
            events.append(f"events found at visits: {STARTS_UNTIL[self.starts_until]}")
        return {
            "population": population,
            "treatment": treatment,
            "variable": "all endpoints" if self.endpoints is None else ", ".join(self.endpoints),
            "intercurrent events": "; ".join(events) or "none recorded",
            "summary measure": "conditional hazard ratio"
            f"{', by step and averaged over the steps' if self.stepped else ''}; survival curves "
            f"standardised over the population's covariates{_held(period)}",
        }

    def _repr_html_(self) -> str:
        return to_html(("Question", ""), list(self.estimand().items()))


# How each measure is named in an estimand's words.
_MEASURED: Mapping[Measure, str] = {
    "current": "time-varying, while in it",
    "ever": "time-varying",
    "since_entry": "time-varying, by time since entering it",
    "since_end": "time-varying, while in it and by time since leaving it",
    "cumulative": "time-varying, by what has been had of it so far",
    "episode": "time-varying, by how often it was entered",
}


# What becomes of a patient at the end of a phase, by the measures under which it is left.
_ENDED: Mapping[Measure, str] = {
    "current": "returns to off treatment",
    "episode": "returns to off treatment",
    "since_end": "has the effect that is carried over, whatever phase follows",
    "cumulative": "keeps what has been had, whatever phase follows",
    "since_entry": "stays in it until another phase begins",
}


def _exposed(given: object) -> str | tuple[str, ...]:
    """Take one phase, or several."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise SpecError(f"exposed must name a phase, or list several, got {given!r}.")
    if not names or len(set(names)) != len(names):
        raise SpecError(f"exposed must name at least one phase, and each once, got {given!r}.")
    return str(names[0]) if len(names) == 1 else tuple(names)


def _require_measure(question: Question) -> None:
    """Refuse impossible measures of the exposure, and make steps numbers."""
    measure = question.measure
    if measure is not None and measure not in MEASURES:
        raise SpecError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}.")
    if question.amount not in AMOUNTS:
        raise SpecError(f"amount must be one of {', '.join(AMOUNTS)}, got {question.amount!r}.")
    if question.amount != "time" and measure != "cumulative":
        raise SpecError(f"amount='{question.amount}' is for measure='cumulative'.")
    if measure is not None and question.phase_end not in (None, measure):
        raise SpecError(
            f"phase_end='{question.phase_end}' is short for measure='{question.phase_end}', and "
            f"measure is '{measure}': leave phase_end out."
        )
    if measure in LASTING and question.reference is not None:
        raise SpecError(
            f"measure='{measure}' goes on whatever phase follows, so that time in the reference "
            f"'{question.reference}' may be exposed: leave reference out."
        )
    if question.steps is None:
        return
    if not question.stepped:
        raise SpecError(f"steps are for a measure that has them: {', '.join(STEPPED)}.")
    steps = validate_cuts(question.steps, name="steps")
    if measure == "episode" and ((steps != np.round(steps)) | (steps < 2)).any():
        raise SpecError(f"steps of episodes are whole numbers from 2 on, got {question.steps!r}.")
    object.__setattr__(question, "steps", tuple(steps.tolist()))


def _held(period: str | None) -> str:
    """Say what curves do with calendar periods."""
    if period is None:
        return ""
    return f", each patient's {period} held as it is at the start of the curve (period survival)"
