"""Values that several tests of studies start from."""

import pytest

import bayesblina as bb


@pytest.fixture(scope="module")
def cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=1)[0]
