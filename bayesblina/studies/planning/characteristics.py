"""How a study would do before it is done: bias, coverage, power, assurance, sample size.

Cohorts are simulated many at a time, and analysed either by the companion, which has no baseline
(the partial likelihood, with the prior of the hazard ratio), or by a hazard model itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bayesblina.core.arrays import Floats
from bayesblina.core.courses import Measure
from bayesblina.core.errors import (
    DataError,
    SpecError,
    require_at_least,
    require_choice,
    require_kind,
    require_seed,
)
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.hazards.parts import ProportionalPhases
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.inference.cohort_posteriors import cohort_posteriors
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import fit_person_time
from bayesblina.inference.model_data import person_time_for
from bayesblina.person_time.question import ENTRY, Question
from bayesblina.studies.planning.designs import (
    PHASE,
    Cohorts,
    StudyDesign,
    as_cohort,
    simulate_cohorts,
)

# Patients simulated at once.
BLOCK = 2_000_000
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
# Sizes tried about the first guess of a sample size, and how far from it others still count.
FACTORS = (0.8, 0.9, 1.0, 1.12, 1.25)
WINDOW = 1.5
BISECTIONS = 3
SCORING_STEPS = 50


def operating_characteristics(
    design: StudyDesign,
    *,
    replications: int = 1000,
    seed: int,
    success: float = 0.975,
    prior: HazardRatioPrior | None = None,
    effect: HazardRatioPrior | None = None,
    analysis: Literal["companion", "model"] = "companion",
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
        Prior of the hazard ratio in the analysis; by default that of the model's phases.
    effect
        Distribution of the true hazard ratio; the share of successes is then the assurance.
    analysis
        ``"companion"``: the posterior of the log hazard ratio by Breslow's partial likelihood,
        which has no baseline, all cohorts at once. ``"model"``: the hazard model itself, fitted to
        each cohort; a fifth of a second or more for each. Of designs with visits only this: there
        is no partial likelihood of events that are found at visits.
    model
        The hazard model, whose phases are proportional.
    settings
        How long each fit of ``"model"`` is sampled; by default as any fit.
    progress
        Called with the number of cohorts done and that of all.

    Returns
    -------
    pandas.DataFrame
        One row: ``replications``; ``analysed``, the cohorts with an event and with time in and out
        of the phase, to which bias, coverage and width refer: others count as no success;
        ``bias`` of the posterior mean of the log hazard ratio with ``bias_mcse``; ``coverage`` of
        equal-tailed 95 % credible intervals with ``coverage_mcse``; ``success`` with
        ``success_mcse`` (power; type I error where the hazard ratio is 1; assurance with
        `effect`); ``width`` (mean ratio of the interval's ends); ``events`` and ``exposed`` (mean
        numbers); ``converged`` (share of the fits, which count whether they converged or not; 1
        where nothing is sampled).

    Raises
    ------
    SpecError
        If an argument is impossible, or the model's effect varies.

    Notes
    -----
    Assurance: O'Hagan, Stevens and Campbell (2005), doi:10.1002/pst.175. Partial likelihood and
    prior: Kalbfleisch (1978), doi:10.1111/j.2517-6161.1978.tb01666.x.

    Examples
    --------
    >>> design = StudyDesign(
    ...     patients=86, hazards=(0.03,), start_hazards=(0.1,), hazard_ratio=0.5, follow_up=12.0
    ... )
    >>> table = operating_characteristics(design, replications=200, seed=1)
    >>> bool(0 < table["success"].iloc[0] < 1)
    True
    """
    require_kind(design, StudyDesign, "design")
    require_seed(seed)
    require_at_least(replications, 2, "replications")
    if not 0 < success < 1:
        raise SpecError(f"success must be a probability, got {success!r}.")
    require_choice(analysis, ("companion", "model"), "analysis")
    if analysis == "companion":
        _require_exact_times(design)
    definition = planned_model(model, prior)
    show = progress or (lambda *_: None)
    step = max(1, BLOCK // design.patients)
    simulated, answers = [], []
    for index, done in enumerate(range(0, replications, step)):
        count = min(step, replications - done)
        block = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        cohorts = simulate_cohorts(design, cohorts=count, seed=block, effect=effect)
        simulated.append(cohorts)
        if analysis == "companion":
            answers.append(_by_companion(cohorts, definition.phases.prior))
        else:

            def show_fit(fitted: int, before: int = done) -> None:
                show(before + fitted, replications)

            answers.append(_by_model(cohorts, design, definition, settings, block, show_fit))
        show(done + count, replications)
    return _characteristics(simulated, np.concatenate(answers, axis=1), success)


def _require_exact_times(design: StudyDesign) -> None:
    """Refuse designs of which there is no partial likelihood."""
    if design.visits is not None:
        raise SpecError(
            "Events of this design are found at visits, of which there is no partial likelihood: "
            "analyse it with analysis='model' (method = 'model' in a design file), and find the "
            "number of patients by a grid of designs."
        )


def planned_model(model: str | ModelDefinition, prior: HazardRatioPrior | None) -> ModelDefinition:
    """Take the model with which a study is planned."""
    definition = model if isinstance(model, ModelDefinition) else load_model(model)
    if not isinstance(definition.phases, ProportionalPhases):
        raise SpecError(
            f"A design has one hazard ratio, and in model '{definition.name}' it varies: take a "
            "model with proportional phases, such as 'primary'."
        )
    return definition if prior is None else definition.with_priors(phases=prior)


def _characteristics(cohorts: list[Cohorts], answers: Floats, success: float) -> pd.DataFrame:
    """Put what was found in all cohorts into a row."""
    mean, lower, upper, below_zero, converged = answers
    truth = np.log(np.concatenate([block.hazard_ratio for block in cohorts]))
    analysed = np.isfinite(mean)
    values: dict[str, Any] = {
        "bias": mean[analysed] - truth[analysed],
        "coverage": (lower[analysed] <= truth[analysed]) & (truth[analysed] <= upper[analysed]),
        "success": np.where(analysed, below_zero >= success, False),
        "width": np.exp(upper[analysed] - lower[analysed]),
        "events": np.concatenate([block.event.sum(axis=1) for block in cohorts]),
        "exposed": np.concatenate([np.isfinite(block.start).sum(axis=1) for block in cohorts]),
        "converged": converged[analysed],
    }
    row: dict[str, float] = {"replications": mean.size, "analysed": int(analysed.sum())}
    for name, own in values.items():
        row[name] = float(own.mean()) if own.size else math.nan
        row[f"{name}_mcse"] = (
            float(own.std(ddof=1) / math.sqrt(own.size)) if own.size > 1 else math.nan
        )
    return pd.DataFrame([row], columns=list(CHARACTERISTICS))


def _by_companion(cohorts: Cohorts, prior: HazardRatioPrior) -> Floats:
    """Mean, interval, P(HR < 1) and 1, of every cohort."""
    posterior = cohort_posteriors(
        cohorts.time,
        cohorts.start,
        cohorts.event,
        prior_mean=prior.mean,
        prior_sd=prior.sd,
        stays=cohorts.stays,
    )
    answers = (posterior.mean, posterior.lower, posterior.upper, posterior.below_zero)
    return np.stack([*answers, np.ones(posterior.mean.size)])


def _by_model(
    cohorts: Cohorts,
    design: StudyDesign,
    definition: ModelDefinition,
    settings: SamplerSettings | None,
    seed: int,
    progress: Callable[[int], None],
) -> Floats:
    """Fit the hazard model to each cohort: mean, interval, P(HR < 1) and whether it converged."""
    measure: Measure | None = None if design.cycles is None else "current"
    question = Question(
        exposed=PHASE, eligible_from=ENTRY, measure=measure, starts_until=design.starts_until
    )
    answers = np.full((5, cohorts.time.shape[0]), np.nan)
    for index in range(answers.shape[1]):
        try:
            person_time = person_time_for(definition, as_cohort(cohorts, index, design), question)
        except DataError:
            # Nobody in the phase, nobody out of it, or no event.
            continue
        fitted = fit_person_time(
            definition,
            person_time,
            question,
            seed=seed + index,
            settings=settings or SamplerSettings(),
            complete=False,
        )
        logs = np.log(hazard_ratio(fitted)["hazard_ratio"].values).ravel()
        lower, upper = np.quantile(logs, [0.025, 0.975])
        answers[:, index] = logs.mean(), lower, upper, (logs < 0).mean(), fitted.converged
        progress(index + 1)
    return answers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleSize:
    """The number of patients with which a study has the power, or assurance, that is wanted.

    Attributes
    ----------
    patients
        The smallest number with which it is reached, by a probit regression on all that was tried.
    lower, upper
        Its 95 % Monte-Carlo range: what other seeds could have given.
    power
        The share of successes that was wanted.
    table : pandas.DataFrame
        One row per number of patients that was tried, in order: ``patients``, and what
        `operating_characteristics` gives; each with random numbers of its own.
    """

    patients: int
    lower: int
    upper: int
    power: float
    table: pd.DataFrame

    def __repr__(self) -> str:
        """Show the number and its range."""
        return (
            f"SampleSize({self.patients} patients for {self.power:.0%}; "
            f"95 % Monte-Carlo range {self.lower} to {self.upper})"
        )


def sample_size(
    design: StudyDesign,
    *,
    power: float = 0.8,
    seed: int,
    replications: int = 2000,
    success: float = 0.975,
    prior: HazardRatioPrior | None = None,
    effect: HazardRatioPrior | None = None,
    model: str | ModelDefinition = "primary",
) -> SampleSize:
    """Find the smallest number of patients with enough power, or assurance.

    Parameters
    ----------
    design
        The design; its number of patients is where the search begins. Its times are exact.
    power
        Share of successes that is wanted.
    seed
        Seed.
    replications
        Number of cohorts of each size that is tried, about ten.
    success, prior, effect, model
        As for `operating_characteristics`, whose ``"companion"`` analyses the cohorts.

    Returns
    -------
    SampleSize
        The number of patients, its Monte-Carlo range, and what was tried.

    Raises
    ------
    SpecError
        If the power is impossible, or not reached with 100,000 patients; if events are found at
        visits; or if there are so few replications that they leave open how the power grows.

    Notes
    -----
    The probit of the share of successes is taken as linear in the square root of the number of
    patients, which it is where an estimate is normal, among sizes near the answer. The range holds
    the sizes at which the line's 95 % confidence band reaches the power: Fieller (1954),
    doi:10.1111/j.2517-6161.1954.tb00159.x.

    Examples
    --------
    >>> design = StudyDesign(
    ...     patients=86, hazards=(0.03,), start_hazards=(0.1,), hazard_ratio=0.5, follow_up=12.0
    ... )
    >>> found = sample_size(design, power=0.8, seed=1, replications=500)
    >>> found.lower <= found.patients <= found.upper
    True
    """
    require_kind(design, StudyDesign, "design")
    require_seed(seed)
    if not 0 < power < 1:
        raise SpecError(f"power must lie between 0 and 1, got {power!r}.")
    _require_exact_times(design)
    definition = planned_model(model, prior)
    tried: dict[int, pd.DataFrame] = {}

    def reached(patients: int) -> bool:
        if patients not in tried:
            tried[patients] = operating_characteristics(
                replace(design, patients=patients),
                replications=replications,
                # Sizes are independent of each other, as the regression takes them.
                seed=int(np.random.SeedSequence([seed, patients]).generate_state(1)[0]),
                success=success,
                effect=effect,
                model=definition,
            )
        return float(tried[patients]["success"].iloc[0]) >= power

    guess = _first_guess(reached, design.patients, power)
    for factor in FACTORS:
        reached(max(round(guess * factor), 2))
    near = [size for size in tried if guess / WINDOW <= size <= guess * WINDOW]
    successes = [replications * float(tried[size]["success"].iloc[0]) for size in near]
    patients, lower, upper = _solve_probit(
        np.array(near, dtype=np.float64), np.array(successes), replications, power
    )
    table = pd.concat({size: tried[size] for size in sorted(tried)}, names=["patients"])
    return SampleSize(
        patients=patients,
        lower=lower,
        upper=upper,
        power=power,
        table=table.reset_index("patients").reset_index(drop=True),
    )


def _first_guess(reached: Callable[[int], bool], begin: int, power: float) -> float:
    """Find by doubling, halving and a few bisections about where the power is reached."""
    high = begin
    while not reached(high):
        if high >= LARGEST:
            raise SpecError(
                f"{LARGEST} patients do not reach {power:g}: with this effect, or its prior, the "
                "study cannot."
            )
        high = min(2 * high, LARGEST)
    while high > 2 and reached(max(high // 2, 2)):
        high = max(high // 2, 2)
    low = float(max(high // 2, 2))
    top = float(high)
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * top)
        low, top = (low, middle) if reached(round(middle)) else (middle, top)
    return math.sqrt(low * top)


def _solve_probit(
    patients: Floats, successes: Floats, replications: int, power: float
) -> tuple[int, int, int]:
    """Find where a probit regression on the number of patients reaches the power, and its range."""
    rows = np.stack([np.ones(patients.size), np.sqrt(patients)], axis=1)
    # Half a success and half a failure more: shares of 0 and 1 have a place, too.
    count = replications + 1.0
    share = (successes + 0.5) / count
    line = np.linalg.lstsq(rows, ndtri(share), rcond=None)[0]
    for _ in range(SCORING_STEPS):
        fitted = np.clip(ndtr(rows @ line), 1e-12, 1.0 - 1e-12)
        density = np.exp(-0.5 * (rows @ line) ** 2) / math.sqrt(2.0 * math.pi)
        weight = count * density / (fitted * (1.0 - fitted))
        information = rows.T @ (rows * (weight * density)[:, None])
        step = np.linalg.solve(information, rows.T @ (weight * (share - fitted)))
        line = line + step
        if np.abs(step).max() < 1e-10:
            break
    covariance = np.linalg.inv(information)
    level, wide = float(ndtri(power)), float(ndtri(0.975)) ** 2
    # Roots at which the line lies 1.96 of its standard errors from the level.
    square = line[1] ** 2 - wide * covariance[1, 1]
    middle = (line[0] - level) * line[1] - wide * covariance[0, 1]
    constant = (line[0] - level) ** 2 - wide * covariance[0, 0]
    if line[1] <= 0 or square <= 0 or middle >= 0:
        raise SpecError(
            f"{replications} replications leave open with how many patients {power:g} is reached: "
            "take more."
        )
    half = math.sqrt(max(middle**2 - square * constant, 0.0))
    roots = (level - line[0]) / line[1], (-middle - half) / square, (-middle + half) / square
    patients_at, lower, upper = (max(math.ceil(max(root, 0.0) ** 2), 2) for root in roots)
    return patients_at, lower, upper
