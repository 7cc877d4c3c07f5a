"""One fit of the synthetic study, shared by all tests that read from a fit."""

import pytest

import bayesblina as bb
from bayesblina.fitting import Fit

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


@pytest.fixture(scope="session")
def synthetic_fit() -> Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    return bb.fit(cohort, QUESTION, seed=1, progress=False)
