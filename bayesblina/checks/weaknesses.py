"""What weakens an answer, in short sentences: what pulls it, and what is not in the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.intervals import split
from bayesblina.core.tables.numbers import p_value
from bayesblina.estimands.draws import NOBODY, episodes_of, supported
from bayesblina.estimands.ratios import answer, without_baseline
from bayesblina.estimands.sources import differences
from bayesblina.hazards.effects import levels_of
from bayesblina.hazards.parts import IllnessDeath, PowerPrior, ProportionalPhases
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.fitting import Fit
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.rules import is_after

# Share of an endpoint's follow-up that a time without anybody at risk must have to be told.
GAP = 0.05
# Share of the reference's events that follow another endpoint's from which that is told, and the
# largest share of the exposed who start after it.
LEFT_BEHIND, STARTS_AFTER = 0.1, 0.1
# Share of the precision from which on a prior is said to speak.
PRIOR_SPEAKS = 0.25
# In sds of the companion: from here on a pull is told.
PULL_TOLD = 0.25
COLUMNS = (
    "baseline_pull",
    "prior_pull",
    "without_prior_median",
    "covariate_prior_pull",
    "without_covariate_priors_median",
)
PHASES, COVARIATES = "phases", "covariates"
# Two-sided.
LEVEL = 0.05
# Rows beyond which the check would take seconds.
LARGEST = 50_000


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
    return (
        *_without_events(fit),
        *_prior_speaks(fit),
        *told_pulls(pulls(fit) if pulled is None else pulled, exposed=fit.question.exposure),
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
    exposed, reference = fit.question.exposure, fit.question.reference
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
    ] + _steps_without_events(fit)


def _steps_without_events(fit: Fit) -> list[str]:
    """Find steps, named by the question, in which nobody has an event, where others have some."""
    if not fit.question.steps:
        return []
    table = fit.person_time.table
    exposed = table["role"].values == "exposed"
    by_step = table["events"].sum(("interval", "pattern")).transpose("endpoint", "phase").values
    return [
        f"{name}: no event in {step}; its hazard ratio is what its prior and the other steps say"
        for name, events in zip(fit.person_time.endpoints, by_step[:, exposed], strict=True)
        for step, count in zip(table["phase"].values[exposed], events, strict=True)
        if count <= NOBODY < events.sum()
    ]


def _prior_speaks(fit: Fit) -> list[str]:
    """Endpoints of which the prior of the hazard ratio has much of the precision."""
    sds = fit.posterior["log_hazard_ratio"].isel(effect=0).std(("chain", "draw"), ddof=1).values
    shares = np.square(sds / fit.definition.phases.prior.sd)
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
        for index, label in enumerate(levels):
            missing = time[:, level == index].sum(axis=1) <= nobody
            names = ", ".join(np.array(person_time.endpoints)[missing])
            where = "" if missing.all() else f"{names}: "
            if missing.any():
                sentences.append(
                    f"{where}nobody with {covariate.name} {label} was ever in "
                    f"{fit.question.exposure}; {end}"
                )
    return sentences


def _left_behind(fit: Fit) -> list[str]:
    """Endpoints whose reference holds those who had another one's event and cannot start any more.

    Their hazard is not what not starting does: the other event, such as relapse, confounds.
    """
    person_time, question = fit.person_time, fit.question
    if not person_time.complete or isinstance(fit.definition.endpoints, IllnessDeath):
        return []
    persons = person_time.persons
    _, exits, events = persons.follow_up(person_time.people)
    role, where = person_time.table["role"].values, _where(fit)["reference"]
    endpoints = []
    for index, name in enumerate(person_time.endpoints):
        rows, state, start, stop = episodes_of(person_time, name)
        who, exposed = persons.of[rows], role[state] == "exposed"
        begun = np.full(exits.shape[1], np.inf)
        np.minimum.at(begun, who[exposed], start[exposed])
        ends = (stop == exits[index, who]) & events[index, who]
        last = np.zeros(exits.shape[1], dtype=np.bool_)
        last[who[ends & (role[state] == "reference")]] = True
        for other, before in enumerate(person_time.endpoints):
            passed = np.where(events[other], exits[other], np.inf)
            after = (last & is_after(exits[index], passed)).sum()
            late = (np.isfinite(begun) & (begun >= passed)).sum()
            left_behind = after >= LEFT_BEHIND * max(int(last.sum()), 1)
            if left_behind and late <= STARTS_AFTER * np.isfinite(begun).sum():
                endpoints.append(
                    f"{name}: {question.exposure} hardly ever begins after an event of {before}, "
                    f"and those who had one stay at risk {where}: the hazard ratio is in part that "
                    f"of {before}; model 'illness_death' keeps the two apart"
                )
    return endpoints


def _nobody_at_risk(fit: Fit) -> list[str]:
    """Gaps in the follow-up of a state that is compared, to two digits: nobody's own time."""
    person_time, sentences = fit.person_time, []
    bounds = person_time.table[["first_begin", "last_exit"]]
    for (endpoint, role), rows in supported(person_time).groupby(["endpoint", "role"], sort=False):
        follow_up = bounds.isel(endpoint=person_time.endpoints.index(endpoint))
        first, last = float(follow_up["first_begin"]), float(follow_up["last_exit"])
        for begin, end in zip(rows["stop"], [*rows["start"].iloc[1:], np.inf], strict=True):
            if min(end, last) - begin > GAP * (last - first):
                when = f"after {_coarse(begin)}"
                if end <= last:
                    when = f"from {_coarse(begin)} to {_coarse(end)}"
                sentences.append(
                    f"{endpoint}: nobody is at risk {_where(fit)[str(role)]} {when} "
                    f"{person_time.unit}; curves under it are the model's alone there"
                )
    return sentences


def _coarse(time: float) -> str:
    """Write a time with two digits, and no power of ten."""
    return f"{float(f'{time:.2g}'):.10g}"


def _not_proportional(fit: Fit) -> list[str]:
    return [
        f"{ratio.endpoint}: the effect of {fit.question.exposure} is not the same early and late: "
        f"hazard ratio {ratio.early:.2f} up to {_coarse(ratio.split)} {fit.person_time.unit}, "
        f"{ratio.late:.2f} after ({p_value(ratio.p_value)}); the one ratio is their average"
        for ratio in early_and_late(fit)
        if ratio.differs
    ]


def _conflicts(fit: Fit) -> list[str]:
    """External patients whose hazard or hazard ratios are not those of the current ones."""
    covariate = fit.definition.borrowing and fit.definition.borrowing.source
    sentences = []
    for difference in differences(fit):
        if difference.conflicts:
            lower, middle, upper = difference.interval(0.95)
            baseline = difference.part == "baseline"
            whose = "hazard of" if baseline else f"hazard ratio of {difference.name} in"
            sentences.append(
                f"{difference.endpoint}: the {whose} external patients ({covariate} "
                f"{difference.source}) is {middle:.2f} (95 % interval {lower:.2f} to {upper:.2f}) "
                "times the current patients': they conflict, and little is borrowed of it"
            )
    return sentences


def _weights(fit: Fit, *, coarse: bool) -> list[str]:
    """Weights that make patients more or fewer than they are."""
    person_time = fit.person_time
    known = person_time.weighted and person_time.complete
    if not known or isinstance(fit.definition.borrowing, PowerPrior):
        return []
    if person_time.in_pieces and person_time.period is None:
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


def pulls(fit: Fit) -> pd.DataFrame:
    """Say how far the priors and the baseline pull the hazard ratio of a fit.

    Result: one row per endpoint, of differences of median log hazard ratios: ``endpoint``,
    ``baseline_pull`` (the fit against its companion), ``prior_pull`` (the companion with the prior
    of the hazard ratio against the one without), ``without_prior_median`` (the hazard ratio without
    it), ``covariate_prior_pull`` and ``without_covariate_priors_median`` (the same for the priors
    of the covariates), ``companion_sd`` (of the log hazard ratio) and ``reason``, why something is
    missing. Missing where there is no companion, no covariate, or without the prior no posterior.
    """
    table = pd.DataFrame({"endpoint": list(fit.person_time.endpoints)})
    table[[*COLUMNS, "companion_sd"]] = np.nan
    bare = without_baseline(fit)
    if bare is None:
        return table.assign(reason=fit.gate.reason)
    companion, reasons = answer(bare), []
    middle = np.median(companion, axis=0)
    table["baseline_pull"] = np.median(answer(fit), axis=0) - middle
    table["companion_sd"] = companion.std(axis=0, ddof=1)
    parts = [(PHASES, "prior_pull", "without_prior_median")]
    if fit.design.term_names:
        parts.append((COVARIATES, "covariate_prior_pull", "without_covariate_priors_median"))
    for prior, pull, without in parts:
        flat = partial_posterior(
            fit.definition, fit.person_time, seed=fit.provenance.seed, flat=(prior,)
        )
        free = without_baseline(fit, flat)
        if free is None:
            reasons.append(flat.reason.removeprefix("not compared: "))
            continue
        other = np.median(answer(free), axis=0)
        table[pull], table[without] = middle - other, np.exp(other)
    return table.assign(reason="; ".join(reasons))


def told_pulls(table: pd.DataFrame, *, exposed: str) -> list[str]:
    """Word the priors that pull an answer far.

    Sentences: of priors that move the hazard ratio by more than a quarter of an sd, and of those
    without which nothing identifies it.
    """
    words = (
        ("prior_pull", "without_prior_median", "the prior of the hazard ratio moves it"),
        (
            "covariate_prior_pull",
            "without_covariate_priors_median",
            f"the priors of the covariates move the hazard ratio of {exposed}",
        ),
    )
    return [
        *(
            f"{row['endpoint']}: {said} from {row[without]:.2f} to "
            f"{row[without] * np.exp(row[pull]):.2f} "
            f"({abs(row[pull]) / row['companion_sd']:.1f} standard deviations)"
            for row in table.to_dict("records")
            for pull, without, said in words
            if abs(row[pull]) > PULL_TOLD * row["companion_sd"]
        ),
        *dict.fromkeys(reason for reason in table["reason"] if reason.startswith("without the")),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyLate:
    """An endpoint's hazard ratio up to a time and after it, by the partial likelihood.

    `split`: the median time of the events in the exposed phase and its reference.
    `p_value`: two-sided, that they are the same.
    """

    endpoint: str
    split: float
    early: float
    late: float
    p_value: float

    @property
    def differs(self) -> bool:
        """Whether they differ at the 5 % level."""
        return self.p_value < LEVEL


def early_and_late(fit: Fit) -> tuple[EarlyLate, ...]:
    """Estimate the exposed phase's hazard ratio in both halves of the event times.

    One for each endpoint of which both halves have an estimate: adjusted for the covariates in the
    model, and stratified as it is. None where the model's own effect is not one ratio, where
    patients have weights, are only summed or are very many.
    """
    person_time = fit.person_time
    if (
        not isinstance(fit.definition.phases, ProportionalPhases)
        or person_time.weighted
        or not person_time.complete
        or person_time.visits is not None
        or person_time.episodes.sizes["episode"] > LARGEST
    ):
        return ()
    raw = person_time.terms_of(slice(None))
    ratios = (_of_endpoint(fit, raw, name) for name in person_time.endpoints)
    return tuple(ratio for ratio in ratios if ratio is not None)


def _of_endpoint(fit: Fit, raw: Floats, endpoint: str) -> EarlyLate | None:
    """Cox's model with the phase's effect apart after the median event."""
    person_time, design = fit.person_time, fit.design
    patient, state, start, stop = episodes_of(person_time, endpoint)
    outcome = person_time.people.sel(endpoint=endpoint)
    if design.sources:
        # The answer is that of the current patients.
        rows = design.is_current[outcome["category"].values[patient]]
        patient, state, start, stop = patient[rows], state[rows], start[rows], stop[rows]
    event = outcome["event"].values[patient] & (stop == outcome["exit"].values[patient])
    compared = event & (person_time.table["role"].values[state] != "other")
    if not compared.any():
        return None
    cut = float(np.median(stop[compared]))
    piece, interval, length = split(start, stop, np.array([cut]))
    begin = np.where(interval == 1, np.maximum(start[piece], cut), start[piece])
    ends = np.append(piece[1:] != piece[:-1], True)
    end = np.where(ends, stop[piece], begin + length)
    phase = design.contrast[state[piece]]
    late = phase[:, :1] * (interval == 1)[:, None]
    early = phase[:, :1] - late
    if not late.any() or not early.any():
        return None
    columns = np.concatenate([early, late, phase[:, 1:], raw[patient[piece]]], axis=1)
    stratum = design.stratum_of[outcome["category"].values[patient[piece]]]
    # Strata one after the other in time: no risk set holds patients of two.
    later = stratum * (2.0 * float(end.max()))
    result = fit_cox(
        begin + later, end + later, event[piece] & ends, columns[:, _varies(columns, stratum)]
    )
    if not result.converged or np.isnan(result.estimate[:2]).any():
        return None
    (early_log, late_log), covariance = result.estimate[:2], result.covariance
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return EarlyLate(
        endpoint=endpoint,
        split=cut,
        early=float(np.exp(early_log)),
        late=float(np.exp(late_log)),
        p_value=float(2 * ndtr(-abs(late_log - early_log) / np.sqrt(variance))),
    )


def _varies(columns: Floats, stratum: Ints) -> Bools:
    """Say which columns differ within a stratum: others, such as its own, say nothing there."""
    within = [np.ptp(columns[stratum == level], axis=0) > 0 for level in np.unique(stratum)]
    return np.any(within, axis=0)
