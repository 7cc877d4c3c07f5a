"""A hazard model in words and formulas; no numbers are computed here."""

from __future__ import annotations

import textwrap

from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.parts import (
    Commensurate,
    Correlated,
    Differing,
    Free,
    GaussianProcess,
    IllnessDeath,
    Part,
    PatientFrailty,
    PhasesBySubgroup,
    PhasesOverTime,
    PhasesSinceEntry,
    PowerPrior,
    RandomWalk,
    RobustMixture,
    SiteFrailty,
    SmoothWalk,
    Weibull,
)
from bayesblina.hazards.priors import HazardRatioPrior, NormalPrior, SpreadPrior

WIDTH = 98

# What is shared in full of a part that is not covered.
SHARED: dict[Part, str] = {
    "baseline": "level of the hazard",
    "shape": "course of the hazard over time",
    "phases": "hazard ratios of phases",
    "covariates": "hazard ratios of covariates",
}
# Of each part in which external patients may differ: the term, the ratio, its words.
DIFFERENCES: dict[Part, tuple[str, str, str]] = {
    "baseline": ("d[e, source]", "exp(d)", "hazard"),
    "shape": ("v[e, source](t)", "", ""),
    "phases": ("q[e, source, k]", "exp(q)", "hazard ratios of phases"),
    "covariates": ("x[i]'g[e, source]", "exp(g)", "hazard ratios of covariates"),
}
# What phases and groups add to the log hazard, by their kind.
RATIOS = {
    "proportional": "r[e, k]",
    "over_time": "r[e, k](t)",
    "since_entry": "r[e, k](t - entry)",
    "by_subgroup": "r[e, k, g]",
}
GROUPS = {"levels": "u[e, g]", "patient": "u[i]"}
UNNAMED = "a covariate to be named"


def mathematics(definition: ModelDefinition, *, scale: str = "") -> str:
    """Write a model's hazard, likelihood and priors.

    `scale`: what steps of the exposed phase's effect are of; by default time since entering it.

    >>> from bayesblina import load_model
    >>> print(mathematics(load_model("free")).splitlines()[0])
    log h[e, i](t) = b[e](t) + r[e, k] + x[i]'c[e]
    """
    groups, borrowing, stratified = (
        definition.groups,
        definition.borrowing,
        "stratum" in definition.roles,
    )
    terms = (
        f"b[e{', s' if stratified else ''}](t)",
        "r[e, k](step)"
        if scale and isinstance(definition.phases, PhasesSinceEntry)
        else RATIOS[definition.phases.kind],
        "x[i]'c[e]",
        GROUPS[groups.kind] if groups else "",
        *(
            DIFFERENCES[p][0]
            for p in (borrowing.covers if isinstance(borrowing, Differing) else ())
        ),
    )
    lines = [
        f"log h[e, i](t) = {' + '.join(filter(None, terms))}",
        "  endpoint e, patient i, phase k at time t",
        "  hazards that jump at event times"
        if isinstance(definition.baseline, Free)
        else "  hazards constant within intervals j between cut points",
        *(["  stratum s"] if stratified else []),
        "",
    ]
    for title, text in (
        ("Likelihood", _likelihood(definition)),
        ("Baseline", _baseline(definition)),
        ("Phases", _phases(definition, scale)),
        ("Covariates", _covariates(definition)),
        ("Endpoints", _endpoints(definition)),
        ("Groups", _groups(definition)),
        ("Borrowing", _borrowing(definition)),
        ("Cure", _cure(definition)),
    ):
        if text:
            lines += [
                title,
                *textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  "),
            ]
    return "\n".join([*lines, ""])


def _likelihood(definition: ModelDefinition) -> str:
    if isinstance(definition.baseline, Free):
        return (
            "Breslow's partial likelihood: at each event time the log hazard ratio of those who "
            "have the event, less the logarithm of the sum of hazard ratios of those at risk just "
            "before."
        )
    text = (
        "The sum over cells (endpoint, interval, phase, covariate pattern) of events x log hazard "
        "- person-time x hazard."
    )
    if isinstance(definition.groups, PatientFrailty):
        text += " Every patient is a pattern; patient-level predictions integrate u[i] out."
    if definition.cure is not None:
        text += (
            " That takes everybody as not cured: a patient with the event adds log(1 - p[e, i]), "
            "one without log(p[e, i] + (1 - p[e, i]) exp(-H)) + H, with H the cumulative hazard "
            "over the patient's follow-up."
        )
    return text


def _interval(prior: NormalPrior | SpreadPrior) -> str:
    lower, upper = prior.stated
    return f"{prior.mass:.0%} in {lower:g} to {upper:g}"


def _normal(prior: NormalPrior) -> str:
    return f"Normal({prior.mean:.3g}, {prior.sd:.3g})"


def _level(prior: HazardRatioPrior) -> str:
    plus = "" if abs(prior.mean) < 1e-12 else f" + {prior.mean:.3g}"
    return (
        f"exp(a[e]) / crude rate: {_interval(prior)}, that is a[e] ~ Normal(log crude rate{plus}, "
        f"{prior.sd:.3g})"
    )


def _spread(prior: SpreadPrior, name: str) -> str:
    if prior.known:
        return f"{_interval(prior)}, with {name} = {prior.scale:.3g} known"
    return f"{_interval(prior)}, that is {name} ~ HalfNormal({prior.scale:.3g})"


def _baseline(definition: ModelDefinition) -> str:
    walk = "b[e, j] = a[e] + w[e, j], event-weighted mean of w zero"
    match definition.baseline:
        case Free():
            return (
                "Without a prior. Given r and c, the hazard jumps at each event time t of endpoint "
                "e by Gamma(events at t, rate = sum over those at risk at t of exp(r + x'c)), and "
                "is 0 between event times (Kalbfleisch 1978, "
                "doi:10.1111/j.2517-6161.1978.tb01666.x)."
            )
        case Weibull() as kind:
            return (
                "b[e, j] = a[e] + slope[e] x log t[j] (centred at events) + w[e, j]; "
                f"{_level(kind.level)}; hazard at twice the time: {_interval(kind.doubling)}; w a "
                "random walk of departures on a clock half time, half events, over the whole of "
                f"follow-up: {_spread(kind.change, 'walk_sd')}."
            )
        case GaussianProcess(length_scale=(low, high)) as kind:
            return (
                "b[e, j] = a[e] + f[e](log t[j]), event-weighted mean of f zero; "
                f"{_level(kind.level)}; f a Gaussian process with Matern 5/2 covariance by "
                f"{kind.functions} functions in a Hilbert space; one time against the mean: "
                f"{_spread(kind.change, 'process_sd')}; length scale log-normal, 95% in {low:g} to "
                f"{high:g} halves of the range of log time."
            )
        case RandomWalk() as kind:
            whose = "one w for all endpoints" if kind.shared else "a w for each"
            curve = " and stratum" if kind.stratified else ""
            return (
                f"{walk}; {_level(kind.level)}{curve}; w a random walk ({whose}) whose steps from "
                f"one interval to the next are independent: {_interval(kind.step)}, that is "
                f"Normal(0, {kind.step.sd:.3g}), known."
            )
        case SmoothWalk(slope=slope) as kind:
            walk_sd = _spread(kind.change, "walk_sd")
            if slope is None:
                return (
                    f"{walk}; {_level(kind.level)}; w a random walk (a w for each) whose steps "
                    "have variance walk_sd^2 x distance on a clock half time, half events; end of "
                    f"follow-up against its beginning: {walk_sd}."
                )
            return (
                f"{walk}; {_level(kind.level)}; w a walk of order 2 (a w for each): a straight "
                "line on a clock half time, half events, whose end against its beginning has "
                f"{_interval(slope)}, and independent bends; departure from the line at the end: "
                f"{walk_sd}."
            )


def _phases(definition: ModelDefinition, scale: str) -> str:
    phases = definition.phases
    prior = f"exp(r): {_interval(phases.prior)}, that is {_normal(phases.prior)}"
    match phases:
        case PhasesOverTime(change=change):
            return (
                f"{prior}, for the event-weighted average; the exposed phase's departs from it by "
                "a random walk over follow-up, end against beginning: "
                f"{_spread(change, 'phase_walk_sd')}."
            )
        case PhasesSinceEntry(change=change):
            over = "the time since entering the phase, long after against just after"
            if scale:
                over = f"the steps of {scale}, the last against the first"
            return (
                f"{prior}, for the event-weighted average; the exposed phase's departs from it by "
                f"a random walk over {over}: {_spread(change, 'phase_walk_sd')}."
            )
        case PhasesBySubgroup(change=change, subgroup=name):
            return (
                f"{prior}, for the average; the exposed phase's in level g of {name or UNNAMED} is "
                "Normal(average, subgroup_sd), one level against the average: "
                f"{_spread(change, 'subgroup_sd')}."
            )
    return f"{prior}; 0 in the reference."


def _covariates(definition: ModelDefinition) -> str:
    prior = definition.covariates.prior
    return (
        f"exp(c), per sd of a continuous covariate or per level: {_interval(prior)}, that is "
        f"{_normal(prior)}."
    )


def _endpoints(definition: ModelDefinition) -> str:
    match definition.endpoints:
        case Correlated(concentration=concentration):
            return (
                "r of the endpoints are jointly normal, with an LKJ prior of concentration "
                f"{concentration:g} on their correlation."
            )
        case IllnessDeath(death=death, relapse_free=relapse_free):
            return (
                "The transitions remission to relapse, remission to death and relapse to death, "
                f"each with hazards of its own, from '{relapse_free}' and '{death}'. With P0 the "
                "probability of remission and P1 that of being alive after relapse: "
                "P0' = -(h_relapse + h_death in remission) P0, "
                "P1' = h_relapse P0 - h_death after relapse P1; "
                f"{relapse_free} is P0, {death} is P0 + P1."
            )
    return "Independent given the parameters; fitted together."


def _groups(definition: ModelDefinition) -> str:
    match definition.groups:
        case SiteFrailty(spread=spread, group=name):
            return (
                f"u[e, g] ~ Normal(0, group_sd[e]) for the levels g of {name or UNNAMED}; one "
                f"level against the average: {_spread(spread, 'group_sd')}."
            )
        case PatientFrailty(spread=spread):
            return (
                "u[i] ~ Normal(0, patient_sd), of all endpoints alike; one patient against the "
                f"average: {_spread(spread, 'patient_sd')}."
            )
    return ""


def _borrowing(definition: ModelDefinition) -> str:
    kind = definition.borrowing
    if kind is None:
        return ""
    whose = f"external patients (levels of {kind.source or UNNAMED} other than its reference)"
    if isinstance(kind, PowerPrior):
        return f"Events and person-time of {whose} count {kind.weight:g} times."
    differences = "; ".join(_difference(kind, part) for part in kind.covers)
    missing = ", ".join(words for part, words in SHARED.items() if part not in kind.covers)
    shared = f" Shared in full: {missing}." if missing else ""
    return f"Of {whose}; 0 for current ones. {differences}.{shared}"


def _difference(kind: Commensurate | RobustMixture, part: Part) -> str:
    """Say by what external patients differ in a part."""
    if part == "shape":
        return (
            "v: b + v is a walk of each source's own, of the same prior as the current patients'; "
            "the mean of v over their events is zero"
        )
    term, ratio, what = DIFFERENCES[part]
    symbol = term.removeprefix("x[i]'")
    if isinstance(kind, Commensurate):
        sd = f"{term[0]}_sd"
        prior = f"Normal(0, {sd}[e]), {_spread(kind.prior_of(part), sd)}"
    else:
        mixture = kind.prior_of(part)
        prior = (
            f"with probability {mixture.probability:g} {ratio} has {_interval(mixture.close)}, "
            f"{_normal(mixture.close)}; else {_interval(mixture.apart)}, "
            f"{_normal(mixture.apart)}, each apart from the others"
        )
    return f"{symbol}: {what} against current ones: {prior}"


def _cure(definition: ModelDefinition) -> str:
    if definition.cure is None:
        return ""
    fraction, ratio = definition.cure.fraction, definition.cure.covariates
    return (
        "With probability p[e, i] the patient never has the event, from coming under observation "
        "on: logit p[e, i] = m[e] + x[i]'q[e]; h is the hazard of the others. At mean covariates "
        f"p: {_interval(fraction)}, that is m ~ {_normal(fraction)}; "
        f"exp(q), per sd of a continuous covariate or per level: {_interval(ratio)}, that is "
        f"{_normal(ratio)}."
    )
