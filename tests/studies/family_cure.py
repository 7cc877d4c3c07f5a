"""Whether a cured fraction is found where follow-up shows the plateau."""

from __future__ import annotations

import numpy as np
import pandas as pd

import bayesblina as bb
from tests.studies.baseline_patients import Hazard, entry_times, event_times

SEED = 20_261_203
PATIENTS, FRACTION, RATIO = 600, 0.35, 0.5
FOLLOW_UP = (48.0, 84.0)
HAZARDS = {
    "constant": Hazard(begin=np.array([0.0]), rate=np.array([0.12])),
}
# How many sets of each.
SETS = {"constant": 50}
QUESTION = bb.Question(exposed="m", eligible_from="entry")


def cohort_of(hazard: str, number: int) -> bb.Cohort:
    """Patients of whom a fraction never has the event; the others' hazard is halved by a phase."""
    random = np.random.default_rng([SEED, list(HAZARDS).index(hazard), number])
    start, _ = entry_times("clustered", PATIENTS, random)
    times = event_times(
        HAZARDS[hazard],
        start[:, None],
        np.zeros(PATIENTS),
        np.array([0.0, np.log(RATIO)]),
        np.ones(PATIENTS),
        random,
    )
    times = np.where(random.random(PATIENTS) < FRACTION, np.inf, times)
    censored = random.uniform(*FOLLOW_UP, PATIENTS)
    stop = np.minimum(times, censored)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(PATIENTS)],
            "time": stop,
            "event": (times <= censored).astype(int),
            "m": np.where(start < stop, start, np.nan),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        phases=bb.Phases(m="m"),
        endpoints={"y": bb.Endpoint(time="time", event="event")},
        synthetic=True,
    )


def analyse(hazard: str, number: int) -> dict[str, object]:
    """Fit ``mixture_cure`` at its defaults."""
    fit = bb.fit(
        cohort_of(hazard, number), QUESTION, model="mixture_cure", seed=number, progress=False
    )
    fraction = bb.cured_fraction(fit)["cured_fraction"].values
    ratio = fit.posterior["log_hazard_ratio"].values
    return {
        "hazard": hazard,
        "number": number,
        "mean": float(fraction.mean()),
        "median": float(np.median(fraction)),
        "covered": bool(np.quantile(fraction, 0.025) <= FRACTION <= np.quantile(fraction, 0.975)),
        "log_ratio": float(ratio.mean()),
        "ratio_covered": bool(
            np.quantile(ratio, 0.025) <= np.log(RATIO) <= np.quantile(ratio, 0.975)
        ),
        "converged": fit.converged,
        "gate": fit.gate.state,
    }
