"""Models of curves in the worst scenarios of the study of the baseline, beside the default."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats
from tests.studies import baseline_engine as engine
from tests.studies import family_engine as curves
from tests.studies.baseline_methods import (
    TIMES,
    Answer,
    new_cuts,
    partial_answers,
    spans,
)
from tests.studies.baseline_patients import Arm, Data, Hazard, Patients
from tests.studies.baseline_settings import ONE_PHASE, RATIOS, Setting

# The eight worst of docs/validation/baseline.md.
WORST = (
    ("early", "step up"),
    ("early", "rising"),
    ("early", "pulse"),
    ("late", "pulse"),
    ("early", "early peak"),
    ("uniform", "falling"),
    ("clustered", "pulse"),
    ("early", "constant"),
)
SIZES = (86, 267)
# Nodes of hyperparameters with less mass at a first look, at three points within 2.4 companion sds,
# are left out; so are they from survival.
LEAST_AT_FIRST, LEAST_FOR_SURVIVAL = 1e-3, 1e-2
FIRST_LOOK = np.array([7, 10, 13])
# Survival is worked out in one data set of so many.
CURVES = 5
# Log hazards are compared over these months.
MONTHS = np.linspace(0.25, 23.75, 48)
BEYOND = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveAnswer:
    """What a model of curves says of one data set.

    Attributes
    ----------
    answer
        Of the log hazard ratio and survival.
    log_hazard : ndarray, shape (interval,)
        Posterior mean log baseline hazards; NaN where only the hazard ratio was asked for.
    """

    answer: Answer
    log_hazard: Floats


def curve_answer(
    model: str, patients: Patients, arm: Arm, cuts: Floats, grid: Floats, *, survival: bool
) -> CurveAnswer:
    """Integrate over the hyperparameters and the log hazards, for one phase and no covariates."""
    events, time = engine.tabulate(
        patients.observed_from,
        patients.stop,
        patients.event,
        patients.start,
        patients.pattern,
        1,
        cuts,
    )
    prior = curves.curve_prior(
        model, cuts, float(patients.stop.max()), events.sum(axis=1), float(time.sum())
    )
    # Points 0.8 companion sds apart are enough for a posterior that is nearly normal.
    grid = grid[::2].copy()
    data = (events, time, arm.design[:, 0].copy(), engine.EFFECT_SD**-2, prior.mean)
    nodes = list(zip(prior.covariance, prior.log_weight, strict=True))
    first = np.array(
        [
            (curves.curve_log_density(*data, covariance, grid[FIRST_LOOK])[0] + mass).max()
            for covariance, mass in nodes
        ]
    )
    kept = [nodes[k] for k in np.flatnonzero(first > first.max() + np.log(LEAST_AT_FIRST))]
    found = [curves.curve_log_density(*data, covariance, grid) for covariance, _ in kept]
    joint = np.stack([density + mass for (density, _), (_, mass) in zip(found, kept, strict=True)])
    highest = joint.max()
    share = np.exp(joint - highest)
    said = engine.posterior(grid, np.log(share.sum(axis=0)) + highest)
    share /= share.sum()
    curve, used = np.full(2 * TIMES.size, np.nan), 0.0
    hazard = np.full(cuts.size + 1, np.nan)
    if survival:
        extra = np.concatenate([spans(cuts, arm.landmark), spans(cuts, arm.start)])
        started = np.repeat([0.0, 1.0], TIMES.size)
        curve = np.zeros(2 * TIMES.size)
        hazard = np.zeros(cuts.size + 1)
        for (density, duals), (covariance, _), part in zip(found, kept, share, strict=True):
            if part.sum() < LEAST_FOR_SURVIVAL:
                continue
            values = curves.curve_survival(*data, covariance, grid, density, duals, extra, started)
            curve += part @ values
            used += part[values[:, 0] > 0].sum()
            for g in np.flatnonzero(values[:, 0] > 0):
                hazard += part[g] * curves.mean_log_hazard(
                    time, data[2] * grid[g], prior.mean, covariance, duals[g]
                )
        curve, hazard = curve / used, hazard / used
    answer = Answer(
        mean=said.mean,
        sd=said.sd,
        lower=said.lower,
        upper=said.upper,
        below_zero=said.below_zero,
        survival=(curve[: TIMES.size], curve[TIMES.size :]),
        intervals=cuts.size + 1,
    )
    return CurveAnswer(answer=answer, log_hazard=hazard)


def true_log_hazard(hazard: Hazard) -> Floats:
    """At `MONTHS`."""
    piece = np.searchsorted(hazard.begin, MONTHS, side="right") - 1
    return np.asarray(np.log(hazard.rate[piece]))


def rows_of(data: Data, arm: Arm, log_ratio: float, *, survival: bool) -> list[dict[str, object]]:
    """One row for each model, held against the truth and the companion."""
    (patients,), (hazard,) = data.endpoints.values(), data.hazard.values()
    cuts = new_cuts(data)
    companion, _, grid = partial_answers(patients, arm)
    truths = []
    for begin, ratio in ((arm.landmark, 1.0), (arm.start, np.exp(log_ratio))):
        at = hazard.cumulative(np.append(np.maximum(TIMES, begin), begin))
        truths.append(np.exp(-ratio * (at[:-1] - at[-1])))
    by_model: dict[str, tuple[Answer, Floats | None]] = {"companion": (companion, None)}
    for model in curves.MODELS:
        found = curve_answer(model, patients, arm, cuts, grid, survival=survival)
        by_model[model] = (found.answer, found.log_hazard)
    rows: list[dict[str, object]] = []
    for model, (said, log_hazard) in by_model.items():
        squared = [
            np.mean((curve - truth)[begin < TIMES] ** 2) if survival else np.nan
            for curve, truth, begin in zip(
                said.survival, truths, (arm.landmark, arm.start), strict=True
            )
        ]
        error = np.nan
        if log_hazard is not None and survival:
            at_months = log_hazard[np.searchsorted(cuts, MONTHS)]
            error = float(np.mean((at_months - true_log_hazard(hazard)) ** 2))
        rows.append(
            {
                "model": model,
                "mean": said.mean,
                "sd": said.sd,
                "covered": said.lower <= log_ratio <= said.upper,
                "success": said.below_zero >= 0.975,
                "shift": (said.mean - companion.mean) / companion.sd,
                "sd_ratio": said.sd / companion.sd,
                "failed": abs(said.mean - companion.mean) > 2.0 * BEYOND * companion.sd,
                "unexposed": squared[0],
                "exposed": squared[1],
                "log_hazard": error,
            }
        )
    return rows


def settings(replications: int) -> list[Setting]:
    """All cells; their data sets are those of the study of the baseline."""
    return [
        Setting(ONE_PHASE, entry, baseline, size, ratio, replications)
        for size in SIZES
        for entry, baseline in WORST
        for ratio in RATIOS
    ]


def simulate(setting: Setting) -> pd.DataFrame:
    """All data sets of one cell, analysed by all models."""
    rows: list[dict[str, object]] = []
    arm = setting.kind
    for replication in range(setting.replications):
        data = arm.simulate(setting.patients, setting.log_ratio, setting.generator(replication))
        survival = replication % CURVES == 0
        found = rows_of(data, arm, setting.log_ratio, survival=survival)
        rows += [{"replication": replication, **row} for row in found]
    return pd.DataFrame(rows).assign(
        entry=setting.entry,
        baseline=setting.baseline,
        patients=setting.patients,
        ratio=setting.ratio,
    )
