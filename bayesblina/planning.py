"""How a study would do before it is done: bias, coverage, power, assurance, sample size.

Cohorts are simulated many at a time, and analysed either by the hazard model itself, or by its
normal approximation, which is exact enough to search with: the maximum of the likelihood of the
piecewise-exponential model with a free baseline, combined with a normal prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from bayesblina.cohort import Cohort, Outcome
from bayesblina.errors import DataError, SpecError
from bayesblina.estimands import hazard_ratio
from bayesblina.fitting import expose_for, fit_exposure
from bayesblina.hazards.definition import HazardRatioPrior, ModelDefinition, load_model
from bayesblina.question import ENTRY, Question
from bayesblina.sampling import SamplerSettings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ENDPOINT, PHASE = "event", "exposed"
# Patients simulated at once.
BLOCK = 2_000_000
NEWTON_STEPS = 40
INTERVALS = 8
LARGEST = 100_000
CHARACTERISTICS = (
    "replications",
    "analysed",
    "bias",
    "bias_mcse",
    "coverage",
    "coverage_mcse",
    "success",
    "success_mcse",
    "width",
    "events",
    "exposed",
    "converged",
)
DEFAULT_PRIOR = HazardRatioPrior(hazard_ratio=(0.2, 5.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDesign:
    """A study of a phase that patients enter later.

    Time is counted from when a patient becomes eligible.

    Parameters
    ----------
    patients
        Number of eligible patients.
    hazards
        Events per patient and time unit without the phase, in each piece.
    cuts
        Inner cut points of the pieces; one fewer than hazards.
    start_hazards, start_cuts
        The same of starting the phase; a hazard of 0 is a time in which nobody starts.
    hazard_ratio
        In the phase against not in it.
    accrual
        Length of accrual, uniform.
    follow_up
        Time from the end of accrual to the analysis.
    dropout
        Hazard of leaving observation before.
    unit
        Time unit.

    Raises
    ------
    SpecError
        If a number is impossible.

    Examples
    --------
    >>> design = StudyDesign(
    ...     patients=86, hazards=(0.03,), start_hazards=(0.1,), hazard_ratio=0.5, follow_up=12.0
    ... )
    >>> design.patients
    86
    """

    patients: int
    hazards: tuple[float, ...]
    start_hazards: tuple[float, ...]
    hazard_ratio: float
    follow_up: float
    accrual: float = 0.0
    cuts: tuple[float, ...] = ()
    start_cuts: tuple[float, ...] = ()
    dropout: float = 0.0
    unit: str = "months"

    def __post_init__(self) -> None:
        whole: object = self.patients
        if isinstance(whole, bool) or not isinstance(whole, int | np.integer) or whole < 2:
            raise SpecError(f"patients must be a whole number of at least 2, got {whole!r}.")
        for name, inner in (("hazards", "cuts"), ("start_hazards", "start_cuts")):
            rates = tuple(float(one) for one in getattr(self, name))
            points = tuple(float(one) for one in getattr(self, inner))
            if len(rates) != len(points) + 1:
                raise SpecError(f"{len(points)} {inner} need {len(points) + 1} {name}.")
            if not all(0 <= one < math.inf for one in rates) or max(rates) == 0:
                raise SpecError(f"{name} must be at least 0, and not all 0, got {rates!r}.")
            if not (np.diff((0.0, *points)) > 0).all() or not np.isfinite(points).all():
                raise SpecError(f"{inner} must be positive and strictly increasing.")
            object.__setattr__(self, name, rates)
            object.__setattr__(self, inner, points)
        for name, zero in (
            ("hazard_ratio", False),
            ("follow_up", False),
            ("accrual", True),
            ("dropout", True),
        ):
            value = float(getattr(self, name))
            if not 0 <= value < math.inf or (value == 0 and not zero):
                least = "at least" if zero else "greater than"
                raise SpecError(f"{name} must be {least} 0 and finite, got {value!r}.")
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohorts:
    """Simulated cohorts.

    Attributes
    ----------
    time, start : ndarray, shape (cohort, patient)
        End of follow-up, and start of the phase; infinite where there is none before that.
    event : ndarray of bool, shape (cohort, patient)
        Whether follow-up ends with the event.
    hazard_ratio : ndarray, shape (cohort,)
        The truth of each.
    """

    time: Floats
    start: Floats
    event: Bools
    hazard_ratio: Floats


def simulate_cohorts(
    design: StudyDesign, *, cohorts: int, seed: int, effect: HazardRatioPrior | None = None
) -> Cohorts:
    """Simulate cohorts of a design, all at once.

    Parameters
    ----------
    design
        The design.
    cohorts
        How many.
    seed
        Seed.
    effect
        Distribution from which each cohort's hazard ratio is drawn; by default it is the design's.

    Returns
    -------
    Cohorts
        The cohorts.

    Raises
    ------
    SpecError
        If `cohorts` is impossible.

    Examples
    --------
    >>> design = StudyDesign(
    ...     patients=86, hazards=(0.03,), start_hazards=(0.1,), hazard_ratio=0.5, follow_up=12.0
    ... )
    >>> simulate_cohorts(design, cohorts=100, seed=1).time.shape
    (100, 86)
    """
    if isinstance(cohorts, bool) or cohorts < 1:
        raise SpecError(f"cohorts must be at least 1, got {cohorts!r}.")
    random = np.random.default_rng(seed)
    ratio = np.full(cohorts, design.hazard_ratio)
    if effect is not None:
        ratio = np.exp(random.normal(effect.mean, effect.sd, cohorts))
    shape = (cohorts, design.patients)
    start = _inverse(design.start_cuts, design.start_hazards, random.exponential(size=shape))
    target = random.exponential(size=shape)
    # Hazard up to the start, and beyond it at the ratio: time is that of the clock without phase.
    passed = _cumulative(design.cuts, design.hazards, start)
    beyond = passed + (target - passed) / ratio[:, None]
    with np.errstate(invalid="ignore"):
        level = np.where(target <= passed, target, beyond)
    death = _inverse(design.cuts, design.hazards, level)
    end = design.follow_up + random.uniform(0.0, 1.0, shape) * design.accrual
    if design.dropout > 0:
        end = np.minimum(end, random.exponential(1.0 / design.dropout, shape))
    time = np.minimum(death, end)
    return Cohorts(
        time=time,
        start=np.where(start < time, start, np.inf),
        event=death <= end,
        hazard_ratio=ratio,
    )


def _cumulative(cuts: Sequence[float], hazards: Sequence[float], times: Floats) -> Floats:
    """Cumulative piecewise-constant hazard at times, infinite ones included."""
    starts = np.array([0.0, *cuts])
    rates = np.array(hazards)
    before = np.concatenate([[0.0], np.cumsum(np.diff(starts) * rates[:-1])])
    piece = np.searchsorted(starts, times, side="right") - 1
    with np.errstate(invalid="ignore"):
        inside = rates[piece] * (times - starts[piece])
    return np.asarray(before[piece] + np.where(rates[piece] == 0, 0.0, inside))


def _inverse(cuts: Sequence[float], hazards: Sequence[float], levels: Floats) -> Floats:
    """Find when the cumulative hazard reaches levels; infinite where it never does."""
    starts = np.array([0.0, *cuts])
    rates = np.array(hazards)
    before = np.concatenate([[0.0], np.cumsum(np.diff(starts) * rates[:-1])])
    piece = np.searchsorted(before, levels, side="left") - 1
    piece = np.clip(piece, 0, rates.size - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        time = starts[piece] + (levels - before[piece]) / rates[piece]
    return np.asarray(np.where(np.isnan(time), np.inf, time))


def operating_characteristics(
    design: StudyDesign,
    *,
    replications: int = 1000,
    seed: int,
    success: float = 0.975,
    prior: HazardRatioPrior = DEFAULT_PRIOR,
    effect: HazardRatioPrior | None = None,
    analysis: Literal["normal", "model"] = "normal",
    model: str | ModelDefinition = "primary",
    settings: SamplerSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Simulate and analyse a design many times.

    Parameters
    ----------
    design
        The design.
    replications
        Number of cohorts.
    seed
        Seed.
    success
        The study succeeds if P(HR < 1) is at least this.
    prior
        Prior of the hazard ratio in the analysis.
    effect
        Distribution of the true hazard ratio; the share of successes is then the assurance.
    analysis
        ``"normal"``: the normal approximation. ``"model"``: the hazard model itself, fitted to each
        cohort; about half a second each.
    model
        The hazard model, for ``"model"``; its prior of the phases is `prior`.
    settings
        How long each fit is sampled.
    progress
        Called with the number of cohorts done and that of all.

    Returns
    -------
    pandas.DataFrame
        One row: ``replications``, ``analysed`` (cohorts with somebody exposed and events; others
        count as no success), ``bias`` of the log hazard ratio with ``bias_mcse``, ``coverage`` of
        95 % intervals with ``coverage_mcse``, ``success`` with ``success_mcse`` (power; type I
        error where the hazard ratio is 1; assurance with `effect`), ``width`` (mean ratio of the
        interval's ends), ``events`` and ``exposed`` (mean numbers), ``converged`` (share).

    Raises
    ------
    SpecError
        If an argument is impossible.

    Notes
    -----
    Assurance: O'Hagan, Stevens and Campbell (2005), doi:10.1002/pst.175.

    Examples
    --------
    >>> design = StudyDesign(
    ...     patients=86, hazards=(0.03,), start_hazards=(0.1,), hazard_ratio=0.5, follow_up=12.0
    ... )
    >>> table = operating_characteristics(design, replications=200, seed=1)
    >>> bool(0 < table["success"].iloc[0] < 1)
    True
    """
    if isinstance(replications, bool) or replications < 2:
        raise SpecError(f"replications must be at least 2, got {replications!r}.")
    if not 0 < success < 1:
        raise SpecError(f"success must be a probability, got {success!r}.")
    if analysis not in ("normal", "model"):
        raise SpecError(f"analysis must be 'normal' or 'model', got {analysis!r}.")
    step = max(1, BLOCK // design.patients)
    parts = []
    done = 0
    for index, first in enumerate(range(0, replications, step)):
        count = min(step, replications - first)
        block = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        cohorts = simulate_cohorts(design, cohorts=count, seed=block, effect=effect)
        if analysis == "normal":
            mean, sd = normal_posterior(cohorts, prior)
            lower, upper = mean - 1.959964 * sd, mean + 1.959964 * sd
            found = np.stack([mean, lower, upper, norm.cdf(-mean / sd), np.ones(count)])
        else:
            definition = model if isinstance(model, ModelDefinition) else load_model(model)
            definition = definition.with_priors(phases=prior)

            def tell(fitted: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + fitted, replications)

            found = _by_model(cohorts, design, definition, settings, block, tell)
        parts.append((cohorts, found))
        done += count
        if progress is not None:
            progress(done, replications)
    mean, lower, upper, certain, converged = np.concatenate([one for _, one in parts], axis=1)
    truth = np.log(np.concatenate([one.hazard_ratio for one, _ in parts]))
    good = np.isfinite(mean)
    error = mean[good] - truth[good]
    holds = (lower[good] <= truth[good]) & (truth[good] <= upper[good])
    successes = np.where(good, certain >= success, False)
    events = np.concatenate([one.event.sum(axis=1) for one, _ in parts])
    exposed = np.concatenate([np.isfinite(one.start).sum(axis=1) for one, _ in parts])

    def mcse(values: NDArray[Any]) -> float:
        return float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan

    row = {
        "replications": replications,
        "analysed": int(good.sum()),
        "bias": float(error.mean()) if good.any() else math.nan,
        "bias_mcse": mcse(error),
        "coverage": float(holds.mean()) if good.any() else math.nan,
        "coverage_mcse": mcse(holds),
        "success": float(successes.mean()),
        "success_mcse": mcse(successes),
        "width": float(np.exp(upper[good] - lower[good]).mean()) if good.any() else math.nan,
        "events": float(events.mean()),
        "exposed": float(exposed.mean()),
        "converged": float(converged[good].mean()) if good.any() else math.nan,
    }
    return pd.DataFrame([row], columns=list(CHARACTERISTICS))


def normal_posterior(cohorts: Cohorts, prior: HazardRatioPrior) -> tuple[Floats, Floats]:
    """Approximate the posterior of the log hazard ratio of every cohort by a normal one.

    Parameters
    ----------
    cohorts
        The cohorts.
    prior
        Prior of the hazard ratio.

    Returns
    -------
    mean, sd : ndarray, shape (cohort,)
        Of the posterior whose baseline is a free constant in each of 8 intervals between the
        quantiles of all events, profiled out; the prior is in the maximum and in the curvature.
        NaN where there is no event, or nobody on one side.
    """
    count = cohorts.time.shape[0]
    times = cohorts.time[cohorts.event]
    if not times.size:
        return np.full(count, np.nan), np.full(count, np.nan)
    edges = np.concatenate([[0.0], _inner_cuts(cohorts), [np.inf]])
    change = np.minimum(cohorts.start, cohorts.time)
    inside = cohorts.start < cohorts.time
    deaths = np.zeros((2, count, edges.size - 1))
    spent = np.zeros(deaths.shape)
    for piece, (low, high) in enumerate(pairwise(edges)):
        whole = np.clip(np.minimum(cohorts.time, high) - low, 0.0, None).sum(axis=1)
        before = np.clip(np.minimum(change, high) - low, 0.0, None).sum(axis=1)
        here = cohorts.event & (cohorts.time > low) & (cohorts.time <= high)
        spent[0, :, piece], spent[1, :, piece] = before, whole - before
        deaths[0, :, piece] = (here & ~inside).sum(axis=1)
        deaths[1, :, piece] = (here & inside).sum(axis=1)
    total = deaths.sum(axis=0)
    point = np.full(count, prior.mean)
    precision = 1.0 / prior.sd**2
    for _ in range(NEWTON_STEPS):
        ratio = np.exp(np.clip(point, -20, 20))[:, None]
        adjusted = spent[0] + ratio * spent[1]
        share = np.divide(
            ratio * spent[1], adjusted, out=np.zeros_like(adjusted), where=adjusted > 0
        )
        slope = (deaths[1] - total * share).sum(axis=1) - precision * (point - prior.mean)
        curvature = (total * share * (1.0 - share)).sum(axis=1) + precision
        step = np.clip(slope / curvature, -1.0, 1.0)
        point = point + step
        if np.abs(step).max() < 1e-10:
            break
    sd = 1.0 / np.sqrt(curvature)
    usable = (spent[1].sum(axis=1) > 0) & (spent[0].sum(axis=1) > 0) & (total.sum(axis=1) > 0)
    return np.where(usable, point, np.nan), np.where(usable, sd, np.nan)


def _inner_cuts(cohorts: Cohorts) -> Floats:
    """Cut points between the quantiles of all events, one set for all cohorts."""
    times = cohorts.time[cohorts.event]
    return np.unique(np.quantile(times, np.arange(1, INTERVALS) / INTERVALS))


def _by_model(
    cohorts: Cohorts,
    design: StudyDesign,
    definition: ModelDefinition,
    settings: SamplerSettings | None,
    seed: int,
    progress: Callable[[int], None],
) -> Floats:
    """Fit the hazard model to each cohort: mean, interval, P(HR < 1) and whether it converged."""
    settings = settings or SamplerSettings(draws=500, tune=500, chains=4)
    question = Question(exposed=PHASE, eligible_from=ENTRY)
    count = cohorts.time.shape[0]
    found = np.full((5, count), np.nan)
    for index in range(count):
        try:
            exposure = expose_for(definition, as_cohort(cohorts, index, design), question)
        except DataError:
            continue
        fitted = fit_exposure(
            definition, exposure, question, seed=seed + index, settings=settings, complete=False
        )
        logs = np.log(hazard_ratio(fitted)["hazard_ratio"].values).ravel()
        lower, upper = np.quantile(logs, [0.025, 0.975])
        found[:, index] = logs.mean(), lower, upper, (logs < 0).mean(), fitted.converged
        progress(index + 1)
    return found


def as_cohort(cohorts: Cohorts, index: int, design: StudyDesign) -> Cohort:
    """Take one simulated cohort as patients.

    Parameters
    ----------
    cohorts
        Simulated cohorts.
    index
        Which one.
    design
        Their design.

    Returns
    -------
    Cohort
        Synthetic patients with the endpoint ``event`` and the phase ``exposed``.
    """
    time, start = cohorts.time[index].copy(), cohorts.start[index]
    return Cohort(
        patients=np.array([str(one) for one in range(time.size)]),
        unit=design.unit,
        endpoints={
            ENDPOINT: Outcome(
                time=time, event=cohorts.event[index].copy(), entry=np.zeros(time.size)
            )
        },
        phases=(PHASE,),
        phase_start=np.where(np.isinf(start), np.nan, start)[:, None],
        phase_end=np.full((time.size, 1), np.nan),
        synthetic=True,
        source="a simulated design",
    )


def sample_size(
    design: StudyDesign,
    *,
    power: float = 0.8,
    seed: int,
    replications: int = 2000,
    success: float = 0.975,
    prior: HazardRatioPrior = DEFAULT_PRIOR,
    effect: HazardRatioPrior | None = None,
) -> pd.DataFrame:
    """Find the smallest number of patients with enough power, or assurance.

    Parameters
    ----------
    design
        The design; its number of patients is where the search begins.
    power
        Share of successes that is wanted.
    seed, replications, success, prior, effect
        As for `operating_characteristics`, with its normal approximation.

    Returns
    -------
    pandas.DataFrame
        One row per number of patients that was tried, in order: ``patients`` and what
        `operating_characteristics` gives; the first row whose ``success`` reaches `power` is the
        answer, to within the Monte-Carlo error.

    Raises
    ------
    SpecError
        If the power is impossible, or not reached with 100,000 patients.
    """
    if not 0 < power < 1:
        raise SpecError(f"power must lie between 0 and 1, got {power!r}.")
    tried: dict[int, pd.DataFrame] = {}

    def reached(patients: int) -> bool:
        if patients not in tried:
            tried[patients] = operating_characteristics(
                replace(design, patients=patients),
                replications=replications,
                seed=seed,
                success=success,
                prior=prior,
                effect=effect,
            )
        return float(tried[patients]["success"].iloc[0]) >= power

    high = design.patients
    while not reached(high):
        if high >= LARGEST:
            raise SpecError(
                f"{LARGEST} patients do not reach {power:g}: with this effect, or its prior, the "
                "study cannot."
            )
        high = min(2 * high, LARGEST)
    while high > 2 and reached(max(high // 2, 2)):
        high = max(high // 2, 2)
    low = max(high // 2, 2)
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle
    table = pd.concat(
        [tried[patients].assign(patients=patients) for patients in sorted(tried)],
        ignore_index=True,
    )
    return table[["patients", *(name for name in table.columns if name != "patients")]]
