"""Seeds reproduce draws, with what was compiled for other data; PyMC's own path agrees."""

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.hazards.build import BuiltModel, build_model
from bayesblina.inference.compiling import _COMPILED, compiled_of
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.sampling import _sample_with_pymc, sample
from bayesblina.person_time.cells import PersonTime
from tests.inference.small import small

QUICK = SamplerSettings(draws=50, tune=100, chains=2, cores=2)


@pytest.fixture(scope="module")
def person_time() -> PersonTime:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=3)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    return bb.person_time(cohort, question)


@pytest.fixture(scope="module")
def built(person_time: PersonTime) -> BuiltModel:
    return build_model(bb.load_model("primary"), person_time)


def test_other_data_and_sizes_compile_nothing(built: BuiltModel) -> None:
    sample(built, seed=1, settings=QUICK)
    before = set(_COMPILED)
    compiled = compiled_of(built)
    other = small(9, cuts=[2.0, 4.0, 6.0, 8.0, 10.0], covariates=["arm", "age"])
    assert other.structure == built.structure
    draws, timing = sample(other, seed=1, settings=QUICK)
    assert set(_COMPILED) == before
    assert compiled_of(other) is compiled
    assert draws["posterior"]["log_baseline"].shape == (2, 50, 1, 6)
    assert timing["engine"] == "compiled"


def test_same_seed_same_draws(built: BuiltModel) -> None:
    one, _ = sample(built, seed=11, settings=QUICK)
    two, _ = sample(built, seed=11, settings=QUICK)
    other, _ = sample(built, seed=12, settings=QUICK)
    assert one["posterior"].to_dataset().identical(two["posterior"].to_dataset())
    assert not one["posterior"].to_dataset().identical(other["posterior"].to_dataset())


def test_pymcs_own_path_agrees(built: BuiltModel) -> None:
    settings = SamplerSettings(draws=1000, tune=1000, chains=2, cores=2)
    ours, _ = sample(built, seed=1, settings=settings)
    theirs, timing = _sample_with_pymc(built, seed=1, settings=settings)
    assert timing["engine"] == "pymc"
    for name in ("log_hazard_ratio", "level", "walk_innovation"):
        a, b = (tree["posterior"][name] for tree in (ours, theirs))
        spread = np.sqrt(a.var(("chain", "draw")) / 400 + b.var(("chain", "draw")) / 400)
        difference = np.abs(a.mean(("chain", "draw")) - b.mean(("chain", "draw")))
        assert bool((difference < 4 * spread).all())
