"""What weakens an answer, in short sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesblina.checks.proportional import early_and_late
from bayesblina.checks.pulls import pulls, told_pulls
from bayesblina.core.tables.numbers import p_value
from bayesblina.estimands.sources import differences
from bayesblina.estimands.support import NOBODY, episodes_of, supported
from bayesblina.hazards.effects import levels_of
from bayesblina.hazards.parts import IllnessDeath, PowerPrior
from bayesblina.inference.fitting import Fit
from bayesblina.patients.rules import is_after

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


def _without_events(fit: Fit) -> list[str]:
    table, bounds = fit.person_time.table, {"exposed": "how low", "reference": "how high"}
    by_state = table["events"].sum(("interval", "pattern")).transpose("endpoint", "phase").values
    return [
        f"{name}: no event {where}; {bounds[role]} the hazard ratio may be is what its prior says"
        for role, where in _where(fit).items()
        for name, events in zip(fit.person_time.endpoints, by_state, strict=True)
        if events[table["role"].values == role].sum() <= NOBODY
    ]


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
    person_time, table = fit.person_time, fit.person_time.table
    exposed = table["role"].values == "exposed"
    time = table["person_time"].transpose("endpoint", "interval", "phase", "pattern").values
    # (endpoint, pattern)
    time = time[:, :, exposed].sum(axis=(1, 2))
    nobody = NOBODY * max(float(time.max(initial=0.0)), 1.0)
    sentences = []
    for covariate in person_time.covariates:
        if covariate.kind != "categorical":
            continue
        levels, level = levels_of(person_time, covariate.name, table["design"].values)
        end = (
            "its hazard ratio there is what the prior and the other subgroups say"
            if covariate.name == fit.definition.roles.get("subgroup")
            else "nothing is known of its effect there"
        )
        for place, label in enumerate(levels):
            missing = time[:, level == place].sum(axis=1) <= nobody
            names = ", ".join(np.array(person_time.endpoints)[missing])
            where = "" if missing.all() else f"{names}: "
            if missing.any():
                sentences.append(
                    f"{where}nobody with {covariate.name} {label} was ever in "
                    f"{fit.question.exposed}; {end}"
                )
    return sentences


def _left_behind(fit: Fit) -> list[str]:
    """Endpoints whose reference holds those who had another one's event and cannot start any more.

    Their hazard is not what not starting does: the other event, such as relapse, confounds.
    """
    person_time, question = fit.person_time, fit.question
    if not person_time.complete or isinstance(fit.definition.endpoints, IllnessDeath):
        return []
    exits, events = person_time.people["exit"].values, person_time.people["event"].values
    role, where = person_time.table["role"].values, _where(fit)["reference"]
    endpoints = []
    for index, name in enumerate(person_time.endpoints):
        who, state, start, stop = episodes_of(person_time, name)
        exposed = role[state] == "exposed"
        begun = np.full(exits.shape[1], np.inf)
        np.minimum.at(begun, who[exposed], start[exposed])
        ends = (stop == exits[index, who]) & events[index, who]
        last = np.zeros(exits.shape[1], dtype=np.bool_)
        last[who[ends & (role[state] == "reference")]] = True
        for other, before in enumerate(person_time.endpoints):
            passed = np.where(events[other], exits[other], np.inf)
            after = (last & is_after(exits[index], passed)).sum()
            late = (np.isfinite(begun) & (begun >= passed)).sum()
            if after < LEFT_BEHIND * max(int(last.sum()), 1):
                continue
            if late <= STARTS_AFTER * np.isfinite(begun).sum():
                endpoints.append(
                    f"{name}: {question.exposed} hardly ever begins after an event of {before}, "
                    f"and those who had one stay at risk {where}: the hazard ratio is in part that "
                    f"of {before}; model 'illness_death' keeps the two apart"
                )
    return endpoints


def _nobody_at_risk(fit: Fit) -> list[str]:
    """Gaps in the follow-up of a state that is compared, to two digits: nobody's own time."""
    person_time, sentences = fit.person_time, []
    by_side = supported(person_time).groupby(["endpoint", "role"], sort=False)
    bounds = zip(
        person_time.endpoints,
        person_time.table["first_begin"].values.tolist(),
        person_time.table["last_exit"].values.tolist(),
        strict=True,
    )
    for endpoint, first, last in bounds:
        for role, where in _where(fit).items():
            if (endpoint, role) not in by_side.groups:
                continue
            rows = by_side.get_group((endpoint, role))
            gaps = zip(rows["stop"], [*rows["start"].iloc[1:], np.inf], strict=True)
            for begin, end in gaps:
                if min(end, last) - begin <= GAP * (last - first):
                    continue
                when = f"after {_coarse(begin)}"
                if end <= last:
                    when = f"from {_coarse(begin)} to {_coarse(end)}"
                sentences.append(
                    f"{endpoint}: nobody is at risk {where} {when} {person_time.unit}; curves "
                    "under it are the model's alone there"
                )
    return sentences


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
    sentences = []
    for one in differences(fit):
        if one.conflicts:
            lower, middle, upper = one.interval(0.95)
            what = "hazard" if one.part == "baseline" else f"hazard ratio of {one.name}"
            of = "of" if one.part == "baseline" else "in"
            sentences.append(
                f"{one.endpoint}: the {what} {of} external patients ({covariate} {one.source}) is "
                f"{middle:.2f} (95 % interval {lower:.2f} to {upper:.2f}) times the current "
                "patients': they conflict, and little is borrowed of it"
            )
    return sentences


def _weights(fit: Fit, *, coarse: bool) -> list[str]:
    """Weights that make patients more or fewer than they are."""
    person_time = fit.person_time
    known = person_time.weighted and person_time.complete
    if not known or isinstance(fit.definition.borrowing, PowerPrior):
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
    used = np.isfinite(people["exit"].transpose("endpoint", "patient").values)
    shares = (used @ people["weight"].values) / used.sum(axis=1)
    return [
        f"{name}: the weights sum to {share:.2f} times the number of patients; the interval is as "
        "wide as if there were so many"
        for name, share in zip(person_time.endpoints, shares.tolist(), strict=True)
        if abs(share - 1.0) > 0.005
    ]
