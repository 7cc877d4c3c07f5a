"""Which model of curves comes closest to a hazard that is known, by the deterministic engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats
from tests.studies import family_engine as curves
from tests.studies.baseline_methods import new_cuts, partial_answers
from tests.studies.baseline_patients import NEVER, Arm, Data, Hazard, Patients
from tests.studies.family_curves import curve_answer

SEED = 20_261_204
END = 36.0
PIECES = 720
SIZES = (86, 267, 1500)
AT = np.linspace(0.5, 30.0, 60)


def smooth_log_hazard(times: Floats) -> Floats:
    """One wave over follow-up."""
    return np.asarray(-3.0 + 0.8 * np.sin(2 * np.pi * times / END))


def kinked_log_hazard(times: Floats) -> Floats:
    """Rises to a kink at month 6, falls, and is level from month 18 on."""
    return np.asarray(np.interp(times, [0.0, 6.0, 18.0, END], [-4.0, -2.2, -3.8, -3.8]))


def weibull_log_hazard(times: Floats) -> Floats:
    """Falls as a power of time does: a Weibull distribution of shape 0.6."""
    return np.asarray(-2.2 - 0.4 * np.log(times + 1e-3))


def stepped_log_hazard(times: Floats) -> Floats:
    """Steps up fourfold at month 6 and down to a half of it at month 15."""
    return np.asarray(np.select([times < 6.0, times < 15.0], [-3.8, -2.4], -3.1))


HAZARDS: dict[str, Callable[[Floats], Floats]] = {
    "smooth": smooth_log_hazard,
    "kinked": kinked_log_hazard,
    "Weibull": weibull_log_hazard,
    "steps": stepped_log_hazard,
}


def patients_of(shape: str, size: int, random: np.random.Generator) -> Data:
    """Patients of a known hazard, and a late phase without effect."""
    edges = np.linspace(0.0, END, PIECES + 1)
    rate = np.exp(HAZARDS[shape]((edges[1:] + edges[:-1]) / 2.0))
    hazard = Hazard(begin=edges[:-1], rate=rate)
    times = hazard.inverse(random.exponential(size=size))
    censored = random.uniform(12.0, END, size)
    stop = np.minimum(times, censored)
    start = random.uniform(0.0, 24.0, size)
    found = Patients(
        observed_from=np.zeros(size),
        stop=stop,
        event=(times <= censored).astype(np.float64),
        start=np.where(start < stop, start, NEVER)[:, None],
        pattern=np.zeros(size, dtype=np.int64),
        row=np.arange(size),
    )
    return Data(endpoints={"y": found}, hazard={"y": hazard})


def _arm() -> Arm:
    def simulate(count: int, log_ratio: float, random: np.random.Generator) -> Data:
        raise NotImplementedError((count, log_ratio, random))

    return Arm(simulate=simulate)


def recovery(shape: str, size: int, cohorts: int) -> pd.DataFrame:
    """Squared errors of posterior mean log hazards and survival, by model."""
    rows: list[dict[str, object]] = []
    arm = _arm()
    for number in range(cohorts):
        seed = [SEED, list(HAZARDS).index(shape), size, number]
        data = patients_of(shape, size, np.random.default_rng(seed))
        patients, cuts = data.endpoints["y"], new_cuts(data)
        _, _, grid = partial_answers(patients, arm)
        piece = np.searchsorted(cuts, AT)
        truth = HAZARDS[shape](AT)
        for model in curves.MODELS:
            found = curve_answer(model, patients, arm, cuts, grid, survival=True)
            times = np.array([3.0, 6.0, 12.0, 18.0, 24.0])
            survival = np.exp(-data.hazard["y"].cumulative(times))
            rows.append(
                {
                    "hazard": shape,
                    "patients": size,
                    "model": model,
                    "cohort": number,
                    "log_hazard": float(((found.log_hazard[piece] - truth) ** 2).mean()),
                    "variance": float(truth.var()),
                    "survival": float(((found.answer.survival[0] - survival) ** 2).mean()),
                }
            )
    return pd.DataFrame(rows)
