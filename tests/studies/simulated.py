"""Large synthetic studies, and what tests of them share."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

import bayesblina as bb
from bayesblina.patients.cohort import Cohort
from bayesblina.studies.simulate import (
    Truth,
    blinatumomab_cohort,
)

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
type Floats = NDArray[np.float64]
STATES = ("no_remission", "in_remission", "after_relapse")
TREATED = ("in_remission", "after_relapse")
TRANSPLANTS: tuple[Literal["censor", "phase", "ignore"], ...] = ("censor", "phase", "ignore")
RETREATED = {"consolidation": 0.2, "maintenance": 0.2}
PATIENTS = pd.DataFrame(
    {"age_group": ["18-34", "55+"], "prior_salvage": ["no", "yes"], "marrow_blasts": [50.0, 70.0]}
)
# How many synthetic studies a large cohort is worth.
TIMES = 200
# Two-sided probability of more than four standard errors.
FAR = 2 * norm.sf(4.0)


def large(truth: Truth | None = None, *, seed: int = 1, times: int = TIMES) -> Cohort:
    return blinatumomab_cohort(
        seed,
        n_patients=267 * times,
        n_consolidation=86 * times,
        n_maintenance=36 * times,
        truth=truth,
    ).cohort
