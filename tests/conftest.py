"""One fit of the synthetic study, shared by all tests that read from a fit."""

import os

import pytest
from hypothesis import settings

import bayesblina as bb
from bayesblina.fitting import Fit

# The same examples in every run; HYPOTHESIS_RANDOM=1 looks for new ones.
settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("HYPOTHESIS_RANDOM"):
    settings.load_profile("repeatable")

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


@pytest.fixture(scope="session")
def synthetic_fit() -> Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    return bb.fit(cohort, QUESTION, seed=1, progress=False)
