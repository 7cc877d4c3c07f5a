"""Methods of the study of the baseline: the default, its companion, Cox's model, the old default.

The old default's rules stand here as they were; the new default's cuts are the package's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from bayesblina.core.arrays import Floats
from bayesblina.core.intervals import default_cuts
from tests.studies import baseline_engine as engine
from tests.studies.baseline_patients import PLACE, Arm, Data, Patients

TIMES = np.array([3.0, 6.0, 12.0, 18.0, 24.0])
# The half-normal prior of the old default's walk sd: a change over follow-up of 0.04 to 25.
OLD_WALK_SCALE = 1.4752296449281626
COARSE, LEAST_SHARE = 2, 1e-3
OLD_WALK_SDS = np.exp(np.linspace(np.log(0.03), np.log(6.0), 13))
METHODS = ("default", "companion", "Cox", "old default")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a method says about one data set.

    Attributes
    ----------
    mean, sd, lower, upper, below_zero
        Of the log hazard ratio: mean or estimate, sd, 95 % interval, probability of less than 0.
    survival : tuple of ndarray, shape (time,)
        Unexposed from the landmark, and of who starts at the arm's start; at `TIMES` after them.
    intervals
        Number of intervals; 0 where there are none.
    """

    mean: float
    sd: float
    lower: float
    upper: float
    below_zero: float
    survival: tuple[Floats, Floats]
    intervals: int


def pooled_entries(data: Data) -> list[Floats]:
    """When patients change state, by state, and come under observation late; all endpoints."""
    states = next(iter(data.endpoints.values())).start.shape[1]
    found: list[list[Floats]] = [[] for _ in range(states)]
    for one in data.endpoints.values():
        for k in range(states):
            start = one.start[:, k]
            inside = np.isfinite(start) & (start > one.observed_from) & (start < one.stop)
            found[k].append(start[inside])
    begins = np.concatenate([one.observed_from for one in data.endpoints.values()])
    late = begins[begins > begins.min() * (1.0 + 1e-9)]
    return [*(np.concatenate(times) for times in found), late]


def event_times(data: Data) -> Floats:
    """Times of all events, endpoints together."""
    return np.concatenate([one.stop[one.event > 0] for one in data.endpoints.values()])


def new_cuts(data: Data) -> Floats:
    """The package's own default cuts."""
    return default_cuts(
        event_times(data), endpoints=len(data.endpoints), entry_times=pooled_entries(data)
    )


def old_cuts(data: Data) -> Floats:
    """The default cuts as they were: quantiles of event times, one for five events, at most 20."""
    times = np.sort(event_times(data))
    events = times.size / len(data.endpoints)
    count = max(1, int(min(events / 5.0, max(20.0, 2.5 * events**0.25))))
    if count < 2:
        return np.empty(0)
    cuts = np.unique(np.quantile(times, np.arange(1, count) / count, method="inverted_cdf"))
    return np.asarray(cuts[cuts < times[-1]])


def old_distances(cuts: Floats, last: float, events: Floats) -> Floats:
    """The old default's clock: distances of neighbouring intervals, half time and half events."""
    start = np.concatenate([[0.0], cuts])
    if last <= start[-1]:
        last = float(2.0 * start[-1] - start[-2])
    middle = (start + np.append(start[1:], last)) / 2.0
    share = events / events.sum()
    passed = np.cumsum(share) - share / 2.0
    return np.asarray((np.diff(middle) / max(last, middle[-1]) + np.diff(passed)) / 2.0)


def spans(cuts: Floats, begin: float) -> Floats:
    """Time in each interval of the spans from a time to `TIMES` after 0, none before it."""
    low, high = np.concatenate([[0.0], cuts]), np.append(cuts, np.inf)
    ends = np.maximum(TIMES, begin)[:, None]
    return np.asarray(np.clip(np.minimum(ends, high) - np.maximum(low, begin), 0.0, None))


def prior_precision(arm: Arm, *, old: bool = False) -> Floats:
    """Prior precisions of the coefficients; covariates had the prior of phases."""
    place = np.arange(arm.design.shape[1])
    covariate = engine.EFFECT_SD if old else engine.COVARIATE_SD
    return np.asarray(np.where(place < arm.effects, engine.EFFECT_SD, covariate) ** -2.0)


def _mean_survival(
    model: tuple[Floats, Floats, Floats, Floats],
    level: tuple[Floats, float],
    steps: list[Floats],
    found: list[tuple[Floats, Floats, Floats]],
    share: Floats,
    arm: Arm,
    cuts: Floats,
) -> Floats:
    """Posterior mean survival, unexposed and of who starts; shape (2 x time,)."""
    # Half the points and the weighty walk sds are enough.
    share = share[:, ::COARSE] / share[:, ::COARSE].sum()
    extra = np.concatenate([spans(cuts, arm.landmark), spans(cuts, arm.start)])
    exposed = np.repeat([0.0, 1.0], TIMES.size)
    reference = int(np.flatnonzero(~arm.design.any(axis=1))[0])
    curve, used = np.zeros(exposed.size), 0.0
    for step, part, (density, modes, betas) in zip(steps, share, found, strict=True):
        if part.sum() < LEAST_SHARE:
            continue
        at = [values[::COARSE].copy() for values in (modes, betas, density)]
        curve += part @ engine.walk_survival(*model, step, *level, *at, extra, exposed, reference)
        used += part[at[2] >= at[2].max() - engine.NEGLIGIBLE].sum()
    return np.asarray(curve / used)


def walk_answer(
    patients: Patients, arm: Arm, cuts: Floats, grid: Floats, *, old: bool, curves: bool
) -> Answer:
    """The default (a known step sd) or, if `old`, a walk with an estimated one on the old clock."""
    events, time = engine.tabulate(
        patients.observed_from,
        patients.stop,
        patients.event,
        patients.start,
        patients.pattern,
        arm.patterns,
        cuts,
    )
    by_interval = events.sum(axis=1)
    weight = by_interval + engine.HALF_AN_EVENT
    unit = weight / weight.sum() / engine.LEVEL_SD
    centre = np.log((by_interval.sum() + engine.HALF_AN_EVENT) / time.sum()) / engine.LEVEL_SD
    steps, priors = [np.full(cuts.size, engine.STEP_SD**-2)], np.zeros(1)
    if old and cuts.size:
        distances = old_distances(cuts, float(patients.stop.max()), by_interval)
        steps = [1.0 / (sd**2 * distances) for sd in OLD_WALK_SDS]
        priors = np.log(OLD_WALK_SDS) - 0.5 * (OLD_WALK_SDS / OLD_WALK_SCALE) ** 2
    model = (events, time, arm.design, prior_precision(arm, old=old))
    found = [engine.walk_log_density(*model, step, unit, centre, grid) for step in steps]
    joint = np.stack([density for density, _, _ in found]) + priors[:, None]
    highest = joint.max()
    said = engine.posterior(grid, np.log(np.exp(joint - highest).sum(axis=0)) + highest)
    curve = np.full(2 * TIMES.size, np.nan)
    if curves:
        share = np.exp(joint - highest)
        curve = _mean_survival(model, (unit, centre), steps, found, share, arm, cuts)
    return Answer(
        mean=said.mean,
        sd=said.sd,
        lower=said.lower,
        upper=said.upper,
        below_zero=said.below_zero,
        survival=(curve[: TIMES.size], curve[TIMES.size :]),
        intervals=cuts.size + 1,
    )


def _steps(times: Floats, begin: float, jumps: Floats) -> Floats:
    """Sum jumps, shape (..., event time), over the spans from a time to `TIMES`."""
    inside = (times > begin) & (times <= np.maximum(TIMES, begin)[:, None])
    return np.asarray(jumps @ inside.T.astype(np.float64))


def partial_answers(patients: Patients, arm: Arm) -> tuple[Answer, Answer, Floats]:
    """The companion and Cox's model with Breslow's baseline; the grid for other methods."""
    times, events, at_risk = engine.risk_sets(
        patients.observed_from,
        patients.stop,
        patients.event,
        patients.start,
        patients.pattern,
        arm.patterns,
    )
    design = arm.design
    precision = prior_precision(arm)
    middle, error = engine.partial_estimate(events, at_risk, design, precision)
    grid = middle[0] + error[0] * np.linspace(-engine.GRID_SDS, engine.GRID_SDS, engine.GRID_POINTS)
    density, modes = engine.partial_log_density(events, at_risk, design, precision, grid)
    said = engine.posterior(grid, density)
    counts = events.sum(axis=1)
    total = np.exp(modes @ design.T) @ at_risk.T
    # The jump at an event time is gamma distributed given the hazard ratio (Kalbfleisch 1978).
    never = _steps(times, arm.landmark, -counts * np.log1p(1.0 / total))
    started = _steps(times, arm.start, -counts * np.log1p(np.exp(grid)[:, None] / total))
    companion = Answer(
        mean=said.mean,
        sd=said.sd,
        lower=said.lower,
        upper=said.upper,
        below_zero=said.below_zero,
        survival=(said.weight @ np.exp(never), said.weight @ np.exp(started)),
        intervals=0,
    )
    estimate, errors = engine.partial_estimate(events, at_risk, design, np.zeros_like(precision))
    breslow = counts / (np.exp(estimate @ design.T) @ at_risk.T)
    half = engine.NORMAL_95 * errors[0]
    cox = Answer(
        mean=float(estimate[0]),
        sd=float(errors[0]),
        lower=float(estimate[0] - half),
        upper=float(estimate[0] + half),
        below_zero=NormalDist().cdf(-float(estimate[0] / errors[0])),
        survival=(
            np.exp(-_steps(times, arm.landmark, breslow)),
            np.exp(-_steps(times, arm.start, np.exp(estimate[0]) * breslow)),
        ),
        intervals=0,
    )
    return companion, cox, grid


def answers(data: Data, arm: Arm, *, curves: bool = True) -> dict[str, dict[str, Answer]]:
    """All methods on all endpoints of one data set; models' curves only if asked for."""
    new, old = new_cuts(data), old_cuts(data)
    found = {}
    for name, patients in data.endpoints.items():
        companion, cox, grid = partial_answers(patients, arm)
        by_method = {"companion": companion, "Cox": cox}
        for method, cuts in (("default", new), ("old default", old)):
            by_method[method] = walk_answer(
                patients, arm, cuts, grid, old=method != "default", curves=curves
            )
        found[name] = by_method
    return found


def rows_of(
    data: Data, arm: Arm, log_ratio: float, *, curves: bool = True
) -> list[dict[str, object]]:
    """One row for each endpoint and method, held against the truth and the companion."""
    rows: list[dict[str, object]] = []
    for name, by_method in answers(data, arm, curves=curves).items():
        hazard = data.hazard[name]
        truths = []
        for begin, ratio in ((arm.landmark, 1.0), (arm.start, np.exp(log_ratio))):
            at = hazard.cumulative(np.append(np.maximum(TIMES, begin), begin))
            truths.append(np.exp(-ratio * (at[:-1] - at[-1])))
        companion = by_method["companion"]
        for method in METHODS:
            said = by_method[method]
            error = [
                np.mean((curve - truth)[begin < TIMES] ** 2)
                for curve, truth, begin in zip(
                    said.survival, truths, (arm.landmark, arm.start), strict=True
                )
            ]
            rows.append(
                {
                    "endpoint": name,
                    "method": method,
                    "intervals": said.intervals,
                    "mean": said.mean,
                    "sd": said.sd,
                    "covered": said.lower <= log_ratio <= said.upper,
                    "width": said.upper - said.lower,
                    "success": said.below_zero >= 0.975,
                    "shift": (said.mean - companion.mean) / companion.sd,
                    "difference": said.mean - companion.mean,
                    "sd_ratio": said.sd / companion.sd,
                    "unexposed": error[0] if curves else np.nan,
                    "exposed": error[1] if curves else np.nan,
                }
            )
    return rows


__all__ = ["METHODS", "PLACE", "Answer", "answers", "rows_of"]
