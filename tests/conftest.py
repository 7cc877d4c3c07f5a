"""One fit of the synthetic study, shared by all tests that read from a fit."""

import importlib
import os

import pytest
from hypothesis import settings

import bayesblina as bb
from bayesblina.fitting import Fit

# Tests compile PyMC's own form of models too, which the package does where nothing else works.
importlib.import_module("bayesblina.hazards.op_kernels")

# The same examples in every run; HYPOTHESIS_RANDOM=1 looks for new ones.
settings.register_profile("repeatable", derandomize=True)
if not os.environ.get("HYPOTHESIS_RANDOM"):
    settings.load_profile("repeatable")

# These need the same compiled models: in one process each is compiled once.
MODELS = {"test_models", "test_reference", "test_comparison", "test_illness_death", "test_cure"}

LONG = {"test_what_if", "test_weighting", "test_cli", "test_examples"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file, and those of the models, in one process."""
    for item in items:
        group = "models" if item.path.stem in MODELS else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    # The longest first, so that no process waits for another at the end.
    items.sort(key=lambda item: (item.path.stem not in MODELS, item.path.stem not in LONG))


QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


@pytest.fixture(scope="session")
def synthetic_fit() -> Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    return bb.fit(cohort, QUESTION, seed=1, progress=False)
