"""The parts of the study of planning: type I error, power by three ways, sample sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.inference.cohort_posteriors import cohort_posteriors
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.studies.planning.designs import Cohorts, StudyDesign, as_cohort, simulate_cohorts

NORMAL_95 = 1.959963984540054
SUCCESS = 0.975
# 95 % of the prior mass of the hazard ratio lies in 0.2 to 5.
PRIOR_SD = math.log(5.0) / NORMAL_95
QUESTION = bb.Question(exposed="exposed", eligible_from="entry")

# The design of the tutorial on planning.
DEMO = StudyDesign(
    patients=86,
    hazards=(0.05, 0.03),
    cuts=(12.0,),
    start_hazards=(0.0, 0.1),
    start_cuts=(3.0,),
    hazard_ratio=0.5,
    accrual=24.0,
    follow_up=12.0,
    dropout=0.005,
)
# Hazards before and after a cut, and where it is; entry is at 0.1 a month from month 3 on.
BASELINES = {
    "falling": ((0.12, 0.02), (6.0,)),
    "rising": ((0.01, 0.06), (6.0,)),
    "step at entry": ((0.01, 0.08, 0.02), (3.0, 8.0)),
}
TYPE_ONE = {86: 8000, 267: 8000, 1200: 4000, 5000: 2000}
TYPE_ONE_SEED = 11
FITS, FITS_SEED, SHORT_FITS = 400, 12, 100
OWN, OWN_SEED = 1500, 13
MANY, MANY_SEED = 40_000, 14
SIZES, SIZES_REPLICATIONS, SIZES_MANY = range(1, 11), 2000, 20_000
FLAT = bb.HazardRatioPrior(hazard_ratio=(0.001, 1000.0))
SCHOENFELD = (0.7, 0.6)
GRID = np.linspace(-8.0, 6.0, 1401)
SHORT = SamplerSettings(draws=500, tune=500)
TIMED = 2000


def type_one_design(baseline: str, patients: int) -> StudyDesign:
    """Make a design without any effect whose patients enter while the hazard changes."""
    hazards, cuts = BASELINES[baseline]
    return replace(
        DEMO,
        patients=patients,
        hazards=hazards,
        cuts=cuts,
        hazard_ratio=1.0,
    )


def eight_intervals(cohorts: Cohorts) -> tuple[Floats, Floats]:
    """Normal posterior with the baseline free in eight intervals: how designs were analysed."""
    times = cohorts.time[cohorts.event]
    edges = [0.0, *np.unique(np.quantile(times, np.arange(1, 8) / 8)), np.inf]
    change = np.minimum(cohorts.start, cohorts.time)
    inside = cohorts.start < cohorts.time
    shape = (2, cohorts.time.shape[0], len(edges) - 1)
    deaths, spent = np.zeros(shape), np.zeros(shape)
    for piece, (low, high) in enumerate(pairwise(edges)):
        whole = np.clip(np.minimum(cohorts.time, high) - low, 0.0, None).sum(axis=1)
        before = np.clip(np.minimum(change, high) - low, 0.0, None).sum(axis=1)
        here = cohorts.event & (cohorts.time > low) & (cohorts.time <= high)
        spent[0, :, piece], spent[1, :, piece] = before, whole - before
        deaths[0, :, piece] = (here & ~inside).sum(axis=1)
        deaths[1, :, piece] = (here & inside).sum(axis=1)
    total = deaths.sum(axis=0)
    point = np.zeros(shape[1])
    for _ in range(40):
        weighted = np.exp(point)[:, None] * spent[1]
        share = np.divide(
            weighted, spent[0] + weighted, out=np.zeros_like(weighted), where=weighted > 0
        )
        slope = (deaths[1] - total * share).sum(axis=1) - point / PRIOR_SD**2
        curvature = (total * share * (1.0 - share)).sum(axis=1) + PRIOR_SD**-2.0
        step = np.clip(slope / curvature, -1.0, 1.0)
        point = point + step
        if np.abs(step).max() < 1e-10:
            break
    return point, 1.0 / np.sqrt(curvature)


def type_one() -> pd.DataFrame:
    """Success, bias and coverage at a hazard ratio of 1, by companion and by eight intervals."""
    rows = []
    for baseline in BASELINES:
        for patients, replications in TYPE_ONE.items():
            design = type_one_design(baseline, patients)
            row = bb.planning.operating_characteristics(
                design, seed=TYPE_ONE_SEED, replications=replications
            ).iloc[0]
            old = [
                eight_intervals(simulate_cohorts(design, cohorts=count, seed=seed))
                for seed, count in _blocks(patients, replications)
            ]
            mean, sd = (np.concatenate(parts) for parts in zip(*old, strict=True))
            rows.append(
                {
                    "baseline": baseline,
                    "patients": patients,
                    **row.to_dict(),
                    "old_success": float((mean + NORMAL_95 * sd <= 0).mean()),
                    "old_coverage": float((np.abs(mean) <= NORMAL_95 * sd).mean()),
                }
            )
    return pd.DataFrame(rows)


def _blocks(patients: int, replications: int) -> list[tuple[int, int]]:
    """Seeds and numbers of cohorts, a million patients at a time."""
    step = max(1, 1_000_000 // patients)
    return [
        (1000 * TYPE_ONE_SEED + first, min(step, replications - first))
        for first in range(0, replications, step)
    ]


def draw_by_hand(design: StudyDesign, random: np.random.Generator) -> pd.DataFrame:
    """Draw the patients of a design one by one, piece by piece of their hazards."""
    rows = []
    for patient in range(design.patients):
        entered = _first(design.start_hazards, design.start_cuts, 0.0, 1.0, random)
        died = _first(design.hazards, design.cuts, 0.0, 1.0, random)
        if died > entered:
            # From entry on, anew: a piecewise-constant hazard has no memory.
            died = _first(design.hazards, design.cuts, entered, design.hazard_ratio, random)
        ended = design.follow_up + design.accrual * random.random()
        if design.dropout > 0:
            ended = min(ended, random.exponential(1.0 / design.dropout))
        stop = min(died, ended)
        rows.append(
            {
                "id": patient,
                "months": stop,
                "died": int(died <= ended),
                "start": entered if entered < stop else math.nan,
            }
        )
    return pd.DataFrame(rows)


def _first(
    hazards: tuple[float, ...],
    cuts: tuple[float, ...],
    begin: float,
    ratio: float,
    random: np.random.Generator,
) -> float:
    """Time of a first event after a beginning."""
    for hazard, low, high in zip(hazards, (0.0, *cuts), (*cuts, math.inf), strict=True):
        if high <= begin or hazard == 0:
            continue
        after = max(low, begin) + random.exponential(1.0 / (hazard * ratio))
        if after < high:
            return after
    return math.inf


def by_cox(cohort: bb.Cohort) -> dict[str, float]:
    """Estimate and standard error by Cox's model, and the normal posterior that they make."""
    row = bb.cox(cohort, QUESTION).iloc[0]
    estimate = math.log(row["estimate"]) if row["estimate"] > 0 else math.nan
    error = math.log(row["upper"] / row["lower"]) / (2.0 * NORMAL_95)
    precision = error**-2.0 + PRIOR_SD**-2.0
    mean, sd = estimate * error**-2.0 / precision, precision**-0.5
    return {
        "estimate": estimate,
        "wald": float(estimate + NORMAL_95 * error <= 0),
        "mean": mean,
        "lower": mean - NORMAL_95 * sd,
        "upper": mean + NORMAL_95 * sd,
        "below_zero": 0.5 * math.erfc(mean / sd / math.sqrt(2.0)),
    }


def by_hand(table: pd.DataFrame) -> dict[str, float]:
    """Posterior of partial likelihood and prior on a grid, risk set by risk set."""
    stop, start = table["months"].to_numpy(), table["start"].fillna(math.inf).to_numpy()
    log_density = -0.5 * (GRID / PRIOR_SD) ** 2
    for patient in np.flatnonzero(table["died"].to_numpy() == 1):
        moment = stop[patient]
        exposed = start[stop >= moment] < moment
        log_density = log_density + GRID * (start[patient] < moment)
        log_density = log_density - np.log((~exposed).sum() + exposed.sum() * np.exp(GRID))
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    mean = float(weight @ GRID)
    # Each point stands for the step about it.
    passed = np.cumsum(weight) - 0.5 * weight
    lower, upper = np.interp([0.025, 0.975], passed, GRID)
    below = float(np.interp(0.0, GRID, passed))
    return {"mean": mean, "lower": lower, "upper": upper, "below_zero": below}


def own_loop(design: StudyDesign, replications: int, seed: int) -> pd.DataFrame:
    """Cohorts drawn by hand, read as any table is, and analysed by Cox's model."""
    rows = []
    for replication in range(replications):
        table = draw_by_hand(design, np.random.default_rng([seed, replication]))
        cohort = bb.read_cohort(
            table,
            patient="id",
            unit="months",
            endpoints={"event": bb.Endpoint(time="months", event="died", recorded="exact")},
            phases=bb.Phases(exposed="start"),
            synthetic=True,
        )
        exact = {f"exact_{name}": value for name, value in by_hand(table).items()}
        rows.append({**by_cox(cohort), **exact})
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame, truth: float) -> dict[str, float]:
    """What `operating_characteristics` says, of one's own rows; those without estimate fail."""
    good = rows["mean"].notna()
    error = rows.loc[good, "mean"] - truth
    success = (rows["below_zero"] >= SUCCESS).astype(float)
    covered = ((rows["lower"] <= truth) & (truth <= rows["upper"]))[good].astype(float)
    return {
        "replications": len(rows),
        "success": success.mean(),
        "success_mcse": success.std() / math.sqrt(len(rows)),
        "bias": error.mean(),
        "bias_mcse": error.std() / math.sqrt(good.sum()),
        "coverage": covered.mean(),
        "width": np.exp(rows["upper"] - rows["lower"])[good].mean(),
    }


def cohorts_of(design: StudyDesign) -> Cohorts:
    """The cohorts that `operating_characteristics` simulates for the fits."""
    block = int(np.random.SeedSequence([FITS_SEED, 0]).generate_state(1)[0])
    return simulate_cohorts(design, cohorts=FITS, seed=block)


def by_model(settings: SamplerSettings | None = None) -> pd.DataFrame:
    """Power of the demo's design by fits of the model."""
    count, way = (FITS, "model, the same cohorts")
    if settings is not None:
        count, way = SHORT_FITS, "model, 500 draws after 500"
    row = bb.planning.operating_characteristics(
        DEMO, seed=FITS_SEED, replications=count, analysis="model", settings=settings
    ).iloc[0]
    found = {"hazard_ratio": DEMO.hazard_ratio, "way": way, "seed": FITS_SEED, **row.to_dict()}
    return pd.DataFrame([found])


def without_baseline(ratio: float) -> pd.DataFrame:
    """Power of the demo's design by companion and by Cox, on the same cohorts and on others."""
    design, truth = replace(DEMO, hazard_ratio=ratio), math.log(ratio)
    rows = []

    def add(way: str, seed: int, found: Mapping[Any, Any]) -> None:
        rows.append({"hazard_ratio": ratio, "way": way, "seed": seed, **found})

    for way, seed, replications in (
        ("companion", MANY_SEED, MANY),
        ("companion, the same cohorts", FITS_SEED, FITS),
        ("companion, flat prior", MANY_SEED, MANY),
    ):
        prior = FLAT if way.endswith("flat prior") else None
        row = bb.planning.operating_characteristics(
            design, seed=seed, replications=replications, prior=prior
        ).iloc[0]
        add(way, seed, row.to_dict())
    same = cohorts_of(design)
    paired = pd.DataFrame([by_cox(as_cohort(same, i, design)) for i in range(FITS)])
    add("Cox and prior, the same cohorts", FITS_SEED, summary(paired, truth))
    own = own_loop(design, OWN, OWN_SEED)
    exact = own.filter(like="exact_").rename(columns=lambda name: name.removeprefix("exact_"))
    add("own loop, grid", OWN_SEED, summary(exact, truth))
    add("own loop, Cox and prior", OWN_SEED, summary(own, truth))
    wald = own.assign(mean=own["estimate"], lower=math.nan, upper=math.nan)
    wald["below_zero"] = np.where(own["wald"] == 1.0, 1.0, 0.0)
    add("own loop, Cox alone", OWN_SEED, {**summary(wald, truth), "coverage": math.nan})
    return pd.DataFrame(rows)


def sizes() -> pd.DataFrame:
    """The demo's sample size by ten seeds, and by one with many cohorts."""
    rows = []
    for seed, replications in [*((one, SIZES_REPLICATIONS) for one in SIZES), (99, SIZES_MANY)]:
        found = bb.planning.sample_size(DEMO, power=0.8, seed=seed, replications=replications)
        rows.append(_size_row(found, seed, replications))
    return pd.DataFrame(rows)


def _size_row(found: bb.planning.SampleSize, seed: int, replications: int) -> dict[str, float]:
    return {
        "seed": seed,
        "replications": replications,
        "patients": found.patients,
        "lower": found.lower,
        "upper": found.upper,
    }


def randomised(ratio: float) -> StudyDesign:
    """Half of the patients are exposed from the first moment on, and all are followed for long."""
    moment = 1e-6
    return StudyDesign(
        patients=300,
        hazards=(0.03,),
        start_hazards=(math.log(2.0) / moment, 0.0),
        start_cuts=(moment,),
        hazard_ratio=ratio,
        follow_up=24.0,
    )


def schoenfeld_size(ratio: float, power: float = 0.8) -> float:
    """Patients of the randomised design by Schoenfeld's formula."""
    from scipy.stats import norm

    events = (norm.ppf(SUCCESS) + norm.ppf(power)) ** 2 / (0.25 * math.log(ratio) ** 2)
    design = randomised(ratio)
    hazard, until = design.hazards[0], design.follow_up
    share = 1.0 - 0.5 * (math.exp(-hazard * until) + math.exp(-hazard * ratio * until))
    return float(events / share)


def integrated_size(ratio: float, power: float = 0.8) -> float:
    """Patients of the randomised design with the shares at risk as they change with time."""
    from scipy.integrate import quad
    from scipy.stats import norm

    design = randomised(ratio)
    hazard = design.hazards[0]

    def information(moment: float) -> float:
        out, inside = (0.5 * math.exp(-hazard * one * moment) for one in (1.0, ratio))
        events = hazard * (out + ratio * inside)
        return events * out * inside / (out + inside) ** 2

    each = float(quad(information, 0.0, design.follow_up)[0])
    return float((norm.ppf(SUCCESS) + norm.ppf(power)) ** 2 / math.log(ratio) ** 2 / each)


def against_schoenfeld() -> pd.DataFrame:
    """Sizes under a flat prior beside the closed form."""
    rows = []
    for ratio in SCHOENFELD:
        found = bb.planning.sample_size(
            randomised(ratio), power=0.8, seed=1, replications=SIZES_REPLICATIONS, prior=FLAT
        )
        row = _size_row(found, 1, SIZES_REPLICATIONS)
        rows.append({"hazard_ratio": ratio, **row, "formula": schoenfeld_size(ratio)})
    return pd.DataFrame(rows)


def seconds() -> pd.DataFrame:
    """Both analyses of the same cohorts, and their simulation."""
    rows = []
    for patients in (86, 1200):
        design = type_one_design("falling", patients)
        began = time.perf_counter()
        cohorts = simulate_cohorts(design, cohorts=TIMED, seed=1)
        simulated = time.perf_counter()
        eight_intervals(cohorts)
        old = time.perf_counter()
        cohort_posteriors(
            cohorts.time, cohorts.start, cohorts.event, prior_mean=0.0, prior_sd=PRIOR_SD
        )
        new = time.perf_counter()
        rows.append(
            {
                "patients": patients,
                "simulation": simulated - began,
                "eight intervals": old - simulated,
                "companion": new - old,
            }
        )
    return pd.DataFrame(rows)


PARTS: dict[str, Callable[[], pd.DataFrame]] = {
    "seconds": seconds,
    "type_one": type_one,
    "power by model": by_model,
    "power": lambda: without_baseline(0.5),
    "schoenfeld": against_schoenfeld,
    "sizes": sizes,
    "power by short fits": lambda: by_model(SHORT),
    "level": lambda: without_baseline(1.0),
}
POWER = ("power", "power by model", "power by short fits", "level")
