"""What a model needs of the patients: events and person-time, cuts and weights; or why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats
from bayesblina.core.course_marks import measure_at
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import default_cuts, round_cuts
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.parts import (
    Free,
    IllnessDeath,
    PatientFrailty,
    PhasesSinceEntry,
    PowerPrior,
)
from bayesblina.inference.drawing import jump_cuts
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time import cells
from bayesblina.person_time.binding import bind
from bayesblina.person_time.cells import PersonTime, valid_weights
from bayesblina.person_time.contents import require_comparison
from bayesblina.person_time.follow_up import find_episodes
from bayesblina.person_time.question import ENTRY, Question
from bayesblina.person_time.segments import courses_layout, stays_of

# Of patients with effects of their own, or of their groups, this hazard may pass before they are
# observed: their sd is then found too small by some 2 %, and hazards by 7 %.
LARGEST_BEFORE = 0.05


def person_time_for(
    definition: ModelDefinition,
    cohort: Cohort | CohortScan,
    question: Question,
    *,
    cuts: ArrayLike | None = None,
    phase_cuts: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    compress: bool | None = None,
    landmarks: Sequence[float] = (),
) -> PersonTime:
    """Sum events and person-time as a model needs them.

    `phase_cuts`, shape (n_pieces - 1,): times since entering the exposed phase; only for a model
    whose effect varies with it.
    """
    _require_patients(definition, cohort)
    _require_seen_from_the_start(definition, cohort, question)
    if question.starts_until is not None:
        _require_exact_times(definition)
    if definition.cure is not None:
        # Who is cured is a mixture over each patient's own follow-up.
        compress = False
    if isinstance(definition.borrowing, PowerPrior) and isinstance(cohort, Cohort):
        weights = power_weights(definition, cohort, weights)
    ends = definition.endpoints
    courses = (ends.death, ends.relapse_free) if isinstance(ends, IllnessDeath) else None
    if isinstance(definition.baseline, Free):
        if cuts is not None:
            raise SpecError(
                f"cuts are not for model '{definition.name}': its baseline jumps at the event "
                "times. Leave them out."
            )
        cuts = jump_cuts(
            cells.person_time(cohort, question, cuts=[], weights=weights, courses=courses)
        )
    if isinstance(definition.phases, PhasesSinceEntry):
        if phase_cuts is None and question.steps is None:
            phase_cuts = _phase_cuts(cohort, question)
    elif question.stepped:
        raise SpecError(
            f"measure='{question.measure}' has an effect by step, and model '{definition.name}' "
            "has one effect of the exposed phase: take 'since_entry', which smooths over steps."
        )
    elif phase_cuts is not None:
        raise SpecError(
            f"phase_cuts are for a model whose effect varies with time since entering the "
            f"phase, such as 'since_entry'; '{definition.name}' has none."
        )
    return cells.person_time(
        cohort,
        question,
        cuts=cuts,
        phase_cuts=phase_cuts,
        by_patient=isinstance(definition.groups, PatientFrailty),
        weights=weights,
        courses=courses,
        compress=compress,
        landmarks=landmarks,
    )


def _require_patients(definition: ModelDefinition, cohort: Cohort | CohortScan) -> None:
    """Refuse models that look at single patients where there are none, or pieces of them only."""
    unfit = {
        "effects of single patients": isinstance(definition.groups, PatientFrailty),
        "an illness-death course": isinstance(definition.endpoints, IllnessDeath),
        "cured patients": definition.cure is not None,
    }
    if not isinstance(cohort, Cohort):
        needed = "patients in memory: read them with read_cohort, or take another model."
        unfit |= {
            "external patients who count less": isinstance(definition.borrowing, PowerPrior),
            "jumps at the event times": isinstance(definition.baseline, Free),
        }
    elif cohort.period is not None:
        needed = (
            "the whole follow-up of each patient; here it is cut at calendar dates: read the "
            "patients without a calendar (or take cohort.whole()), or take another model, such as "
            "'primary'."
        )
    elif cohort.persons is not None:
        needed = (
            "the whole follow-up of each patient; these are pieces or copies of it, each with a "
            "weight. Take another model, such as 'primary'."
        )
    else:
        return
    for what, wanted in unfit.items():
        if wanted:
            raise SpecError(f"Model '{definition.name}' has {what}, which needs {needed}")


def _require_exact_times(definition: ModelDefinition) -> None:
    """Refuse models whose likelihood has no form for events that are found at visits."""
    unfit = {
        "a baseline that jumps at event times, which visits do not tell": isinstance(
            definition.baseline, Free
        ),
        "cured patients, and a visit does not tell a late event from a cure": (
            definition.cure is not None
        ),
        "an effect of each patient, over which a gap between visits has no closed integral": (
            isinstance(definition.groups, PatientFrailty)
        ),
        "external patients, whose visits are not known to be alike": (
            definition.borrowing is not None
        ),
        "an illness-death course, in which a relapse before death may never have been seen": (
            isinstance(definition.endpoints, IllnessDeath)
        ),
    }
    for what, wanted in unfit.items():
        if wanted:
            raise SpecError(
                f"Model '{definition.name}' has {what}: take one without it, such as 'primary', "
                "where events are recorded at visits."
            )


def hazard_before_observation(cohort: Cohort, question: Question) -> dict[str, float]:
    """Find how much left truncation there is: hazard that passes before patients are observed.

    Whoever has the event between becoming eligible and coming under observation is never seen.
    Patients eligible from the start of a phase become so then, and those of a question with a
    landmark are all at risk there.

    Result: by endpoint: the mean, over the patients who contribute, of the time between the two,
    times events per time at risk.
    """
    cohort = cohort.whole()
    eligible = np.zeros(cohort.size)
    if question.eligible_from != ENTRY:
        eligible = cohort.phase_start[:, cohort.phases.index(question.eligible_from)]
    hazards = {}
    for name in bind(question, cohort):
        outcome = cohort.endpoints[name]
        begin = np.maximum(outcome.entry, eligible)
        seen = outcome.time > begin
        events, time = outcome.event[seen].sum(), (outcome.time - begin)[seen].sum()
        late = 0.0 if question.landmark is not None else (begin - eligible)[seen].sum()
        hazards[name] = float(events / time * late / seen.sum()) if seen.any() else 0.0
    return hazards


def _require_seen_from_the_start(
    definition: ModelDefinition, cohort: Cohort | CohortScan, question: Question
) -> None:
    """Refuse left truncation where it selects the effects of patients or of groups."""
    alone = isinstance(definition.groups, PatientFrailty)
    if definition.groups is None or (alone and not isinstance(cohort, Cohort)):
        return
    if not isinstance(cohort, Cohort):
        late = [name for name in bind(question, cohort) if cohort.endpoints[name].entry is not None]
        if late and question.eligible_from == ENTRY and question.landmark is None:
            raise SpecError(
                f"Model '{definition.name}' has effects of groups, and how late patients of "
                f"{late[0]} come under observation is not told in a query engine: read them with "
                "read_cohort, declare that time as a phase and take it as eligible_from, or ask "
                "with a landmark."
            )
        return
    for name, hazard in hazard_before_observation(cohort, question).items():
        if hazard > LARGEST_BEFORE:
            raise SpecError(
                f"Model '{definition.name}' has effects of {'patients' if alone else 'groups'}, "
                f"but of {name} patients come under observation so long after they became eligible "
                f"that about {hazard:.2g} events for each who is seen would have come before. Who "
                "is seen is more robust than who is not, and the model, which does not know that, "
                "would find too little difference and too low a hazard. If patients are only at "
                "risk from entry on, such as for relapse from remission, declare that time as a "
                "phase and take it as eligible_from; or ask with a landmark by which they are "
                "under observation; or take a model without such effects."
            )


def power_weights(definition: ModelDefinition, cohort: Cohort, weights: ArrayLike | None) -> Floats:
    """Let external patients count their share."""
    assert isinstance(definition.borrowing, PowerPrior)
    name = definition.borrowing.source
    covariate = None if name is None else cohort.covariates.get(name)
    if name is None or covariate is None or covariate.kind != "categorical":
        known = [key for key, held in cohort.covariates.items() if held.kind == "categorical"]
        raise SpecError(
            f"Model '{definition.name}' needs a categorical covariate that tells external "
            f"patients: name it with with_covariates(source=...). There are: "
            f"{', '.join(known) or 'none'}."
        )
    share = np.where(covariate.values == 0, 1.0, definition.borrowing.weight)
    own = valid_weights(weights, cohort)
    return share if own is None else share * own


def _phase_cuts(cohort: Cohort | CohortScan, question: Question) -> Floats:
    """Choose when the exposed phase's effect may change: quantiles of time since entry at events.

    At least the median. Rounded to two digits: pieces are named for them.
    """
    if not isinstance(cohort, Cohort):
        raise SpecError(
            "Give phase_cuts: in a query engine the times since entering the phase at which its "
            "effect may change are not chosen from the events."
        )
    if question.measure == "episode":
        return np.array([2.0, 3.0])
    episodes = find_episodes(cohort, question)
    require_comparison(episodes, question)
    asked = question if question.stepped else replace(question, measure="since_entry", lag=0.0)
    exposure = courses_layout(cohort, replace(asked, phase_end=None)).exposure
    stays = stays_of(cohort)
    moments = []
    for of_endpoint in (own.as_found() for own in episodes.values()):
        treated = np.asarray(of_endpoint.phase_names)[of_endpoint.phase] == question.exposure
        rows = of_endpoint.event & treated
        moments.append(
            measure_at(stays, exposure, of_endpoint.patient[rows], of_endpoint.stop[rows])
        )
    times = np.concatenate(moments)
    times = times[np.isfinite(times)]
    if np.unique(times).size < 2:
        raise SpecError(
            f"Fewer than two events in {question.exposure} at different times since entering it, "
            "or amounts of it: its effect cannot vary with these. Take a model with a constant "
            "effect, or give phase_cuts."
        )
    cuts = default_cuts(times, endpoints=len(episodes))
    if not cuts.size:
        cuts = np.quantile(times, [0.5], method="inverted_cdf")
    return round_cuts(cuts, times)
