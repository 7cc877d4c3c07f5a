"""Long fits, under the model's prior and under others."""

from __future__ import annotations

from functools import cache

import bayesblina as bb
from bayesblina.inference.fitting import Fit

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


@cache
def long_fit() -> Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=2)
    return bb.fit(cohort, QUESTION, seed=1, draws=5000, progress=False)


def under(interval: tuple[float, float]) -> Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=2)
    model = bb.load_model("primary").with_priors(phases=bb.HazardRatioPrior(hazard_ratio=interval))
    return bb.fit(cohort, QUESTION, model=model, seed=2, draws=5000, progress=False)
