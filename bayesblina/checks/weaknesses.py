"""What weakens an answer, in short sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesblina.checks.proportional import early_and_late
from bayesblina.checks.pulls import pulls, told_pulls
from bayesblina.core.arrays import Floats
from bayesblina.core.tables.numbers import p_value
from bayesblina.estimands.sources import differences
from bayesblina.estimands.support import NOBODY, supported
from bayesblina.hazards.effects import levels_of
from bayesblina.hazards.parts import IllnessDeath, PowerPrior
from bayesblina.inference.fitting import Fit
from bayesblina.patients.rules import is_after
from bayesblina.person_time.cells import PersonTime

# Share of an endpoint's follow-up that a time without anybody at risk must have to be told.
GAP = 0.05
# Share of the reference's events that follow another endpoint's from which that is told, and the
# largest share of the exposed who start after it.
LEFT_BEHIND, STARTS_AFTER = 0.1, 0.1
# Share of the precision from which on a prior is said to speak.
PRIOR_SPEAKS = 0.25


def weaknesses(
    fit: Fit, pulled: pd.DataFrame | None = None, *, coarse: bool = False
) -> tuple[str, ...]:
    """Say what weakens the answer of a fit, beside what the gates tell.

    Short sentences: of endpoints without events in the exposed phase or in its reference, or in
    which a prior speaks or pulls the answer far; of covariate levels and subgroups in which nobody
    is ever exposed; of endpoints after whose events, such as relapse, the exposed phase no longer
    begins while patients stay at risk of another; of times at which nobody is at risk in a state
    that is compared; of effects that are not the same early and late; of external patients who
    conflict with the current ones; of weights whose sum is not the number of patients, or of their
    pieces. None names a patient or counts a few.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> all(isinstance(one, str) for one in weaknesses(bb.fit(cohort, question, seed=1)))
    True
    """
    table = pulls(fit) if pulled is None else pulled
    return (
        *_without_events(fit),
        *_prior_speaks(fit),
        *told_pulls(table, exposed=fit.question.exposed),
        *_never_exposed(fit),
        *_left_behind(fit),
        *_nobody_at_risk(fit),
        *_not_proportional(fit),
        *_conflicts(fit),
        *_weights(fit, coarse=coarse),
    )


def unreliable(loo: pd.DataFrame, *, coarse: bool = False) -> tuple[str, ...]:
    """Word the leave-one-out predictions that cannot be relied on, and what to do.

    Sentences without their full stops, one for each endpoint that has any.

    Examples
    --------
    >>> row = {"endpoint": "os", "pareto_k_limit": 0.7, "patients_above_limit": 2}
    >>> found = unreliable(pd.DataFrame([{**row, "evaluated": 86, "reliable": False}]))
    >>> found[0].partition("; ")[0]
    'os: leave-one-out prediction is not reliable, with Pareto k above 0.70 for 2 of 86 patients'
    """
    return tuple(
        f"{row['endpoint']}: leave-one-out prediction is not reliable, with Pareto k above "
        f"{row['pareto_k_limit']:.2f} for "
        + (
            "some patients"
            if coarse
            else f"{row['patients_above_limit']} of {row['evaluated']} patients"
        )
        + "; compare models with loo(fit, moment_match=True) or refit=True, or with "
        "k_fold"
        for row in loo[~loo["reliable"].astype(bool)].to_dict("records")
    )


def _where(fit: Fit) -> dict[str, str]:
    """Word the sides that are compared."""
    exposed, reference = fit.question.exposed, fit.question.reference
    return {
        "exposed": f"in {exposed}",
        "reference": f"in {reference}" if reference else f"without {exposed}",
    }


def _by_role(person_time: PersonTime, name: str, role: str) -> Floats:
    """Sum over the states of a role; shape (endpoint,)."""
    states = person_time.table["role"].values == role
    values = person_time.table[name].transpose("endpoint", "interval", "phase", "pattern").values
    return np.asarray(values[:, :, states].sum(axis=(1, 2, 3)), dtype=np.float64)


def _without_events(fit: Fit) -> list[str]:
    found = []
    for role, where in _where(fit).items():
        for name, events in zip(
            fit.person_time.endpoints, _by_role(fit.person_time, "events", role), strict=True
        ):
            if events <= NOBODY:
                bound = "how low" if role == "exposed" else "how high"
                found.append(
                    f"{name}: no event {where}; {bound} the hazard ratio may be is what its "
                    "prior says"
                )
    return found


def _prior_speaks(fit: Fit) -> list[str]:
    """Endpoints of which the prior of the hazard ratio has much of the precision."""
    prior = fit.definition.phases.prior.sd
    logs = fit.posterior["log_hazard_ratio"].isel(effect=0)
    shares = np.square(logs.std(("chain", "draw"), ddof=1).values / prior)
    return [
        f"{name}: few events; the prior of the hazard ratio has about {share:.0%} of the precision"
        for name, share in zip(fit.person_time.endpoints, shares, strict=True)
        if share >= PRIOR_SPEAKS
    ]


def _never_exposed(fit: Fit) -> list[str]:
    """Levels of categorical covariates in which nobody is ever exposed."""
    person_time = fit.person_time
    table = person_time.table
    exposed = table["role"].values == "exposed"
    time = table["person_time"].transpose("endpoint", "interval", "phase", "pattern").values
    spent = time[:, :, exposed].sum(axis=(1, 2))
    apart, found = fit.definition.roles.get("subgroup"), []
    for one in person_time.covariates:
        if one.kind != "categorical":
            continue
        levels, level = levels_of(person_time, one.name, table["design"].values)
        for place, label in enumerate(levels):
            there = spent[:, level == place].sum(axis=1)
            missing = [
                name
                for name, total in zip(person_time.endpoints, there, strict=True)
                if total <= NOBODY * max(float(spent.max(initial=0.0)), 1.0)
            ]
            if not missing:
                continue
            where = "" if len(missing) == len(person_time.endpoints) else f"{', '.join(missing)}: "
            end = (
                "its hazard ratio there is what the prior and the other subgroups say"
                if one.name == apart
                else "nothing is known of its effect there"
            )
            found.append(
                f"{where}nobody with {one.name} {label} was ever in {fit.question.exposed}; {end}"
            )
    return found


def _left_behind(fit: Fit) -> list[str]:
    """Endpoints whose reference holds those who had another one's event and cannot start any more.

    Their hazard is not what not starting does: the other event, such as relapse, confounds.
    """
    person_time, question = fit.person_time, fit.question
    if not person_time.complete or isinstance(fit.definition.endpoints, IllnessDeath):
        return []
    exits, events = person_time.people["exit"].values, person_time.people["event"].values
    role, spent = person_time.table["role"].values, person_time.episodes
    found = []
    for index, name in enumerate(person_time.endpoints):
        rows = spent["endpoint"].values == index
        who, start, stop = (spent[one].values[rows] for one in ("patient", "start", "stop"))
        state = role[spent["phase"].values[rows]]
        begun = np.full(exits.shape[1], np.inf)
        np.minimum.at(begun, who[state == "exposed"], start[state == "exposed"])
        ends = (stop == exits[index, who]) & events[index, who]
        last = np.zeros(exits.shape[1], dtype=np.bool_)
        last[who[ends & (state == "reference")]] = True
        for other, before in enumerate(person_time.endpoints):
            passed = np.where(events[other], exits[other], np.inf)
            after = is_after(exits[index], passed)
            late = np.isfinite(begun) & (begun >= passed)
            if (last & after).sum() < LEFT_BEHIND * max(int(last.sum()), 1):
                continue
            if late.sum() > STARTS_AFTER * np.isfinite(begun).sum():
                continue
            where = _where(fit)["reference"]
            found.append(
                f"{name}: {question.exposed} hardly ever begins after an event of {before}, and "
                f"those who had one stay at risk {where}: the hazard ratio is in part that of "
                f"{before}; model 'illness_death' keeps the two apart"
            )
    return found


def _nobody_at_risk(fit: Fit) -> list[str]:
    """Gaps in the follow-up of a state that is compared, to two digits: nobody's own time."""
    person_time, found = fit.person_time, []
    table = supported(person_time)
    for index, endpoint in enumerate(person_time.endpoints):
        first, last = (
            float(person_time.table[one].values[index]) for one in ("first_begin", "last_exit")
        )
        for role, where in _where(fit).items():
            rows = table[(table["endpoint"] == endpoint) & (table["role"] == role)]
            if rows.empty:
                continue
            starts, stops = rows["start"].to_numpy(), rows["stop"].to_numpy()
            least = GAP * (last - first)
            unit = person_time.unit
            found += [
                f"{endpoint}: nobody is at risk {where} from {_coarse(a)} to {_coarse(b)} {unit}; "
                "curves under it are the model's alone there"
                for a, b in zip(stops[:-1], starts[1:], strict=True)
                if b - a > least
            ]
            if last - stops[-1] > least:
                found.append(
                    f"{endpoint}: nobody is at risk {where} after {_coarse(stops[-1])} {unit}; "
                    "curves under it are the model's alone there"
                )
    return found


def _coarse(time: float) -> str:
    """Write a time with two digits, and no power of ten."""
    return f"{float(f'{time:.2g}'):.10g}"


def _not_proportional(fit: Fit) -> list[str]:
    return [
        f"{one.endpoint}: the effect of {fit.question.exposed} is not the same early and late: "
        f"hazard ratio {one.early:.2f} up to {_coarse(one.split)} {fit.person_time.unit}, "
        f"{one.late:.2f} after "
        f"({p_value(one.p_value)}); the one ratio is "
        "their average"
        for one in early_and_late(fit)
        if one.differs
    ]


def _conflicts(fit: Fit) -> list[str]:
    """External patients whose hazard or hazard ratios are not those of the current ones."""
    covariate = fit.definition.borrowing and fit.definition.borrowing.source
    words = {
        "baseline": "the hazard of {who}is",
        "phases": "the hazard ratio of {name} in {who}is",
        "covariates": "the hazard ratio of {name} in {who}is",
    }
    found = []
    for one in differences(fit):
        if one.conflicts:
            lower, middle, upper = one.interval(0.95)
            who = f"external patients ({covariate} {one.source}) "
            found.append(
                f"{one.endpoint}: {words[one.part].format(name=one.name, who=who)} {middle:.2f} "
                f"(95 % interval {lower:.2f} to {upper:.2f}) times the current patients': they "
                "conflict, and little is borrowed of it"
            )
    return found


def _weights(fit: Fit, *, coarse: bool) -> list[str]:
    """Weights that make patients more or fewer than they are."""
    person_time = fit.person_time
    if not person_time.weighted or isinstance(fit.definition.borrowing, PowerPrior):
        return []
    if not person_time.complete:
        return []
    if person_time.in_pieces:
        size, pieces = (
            ("some", "") if coarse else (f"{person_time.persons.size}", f"{person_time.size} ")
        )
        return [
            f"the follow-up of {size} patients is in {pieces}pieces with "
            "weights, which count as independent; the interval is not that of the estimate"
        ]
    people = person_time.people
    found = []
    for index, name in enumerate(person_time.endpoints):
        used = np.isfinite(people["exit"].values[index])
        total, count = float(people["weight"].values[used].sum()), int(used.sum())
        if abs(total - count) > 0.005 * count:
            found.append(
                f"{name}: the weights sum to {total / count:.2f} times the number of patients; the "
                "interval is as wide as if there were so many"
            )
    return found
