"""How draws are made: what is kept with them, what is noted, and how long each stage took."""

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.inference import drawing
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.drawing import NO_COMPANION, by_partial_likelihood, sampled
from bayesblina.person_time.cells import PersonTime
from tests.inference.small import cohort_of

QUICK = SamplerSettings(draws=20, tune=50, chains=2, cores=1)
QUESTION = bb.Question(exposed="late", eligible_from="entry")


@pytest.fixture(scope="module")
def person_time() -> PersonTime:
    return bb.person_time(cohort_of(1, covariates=["age"]), QUESTION, cuts=[3.0])


def test_what_nobody_asked_for_is_not_made(person_time: PersonTime) -> None:
    found = sampled(
        bb.load_model("primary"),
        person_time,
        seed=1,
        settings=QUICK,
        complete=False,
        compared=False,
        progress=False,
    )
    assert found.companion is NO_COMPANION
    assert set(found.tree.children) == {"posterior", "sample_stats"}
    assert "were not kept" in found.notes[0]
    assert list(found.seconds) == ["build", "compile", "sample", "finish", "companion"]


def test_likelihoods_of_very_many_patients_are_not_kept(
    person_time: PersonTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"seed": 1, "settings": QUICK, "compared": False, "progress": False}
    model = bb.load_model("primary")
    whole = sampled(model, person_time, complete=True, **settings)  # type: ignore[arg-type]
    kept = whole.tree["log_likelihood"].to_dataset()["survival"]
    assert kept.sizes == {"chain": 2, "draw": 20, "patient": person_time.size}
    prior = whole.tree["prior"].to_dataset()["log_hazard_ratio"]
    assert prior.sizes["draw"] == drawing.PRIOR_DRAWS
    # Of the prior's own sd, up to four standard errors.
    sd = model.phases.prior.sd
    assert float(prior.std()) == pytest.approx(sd, rel=4 / np.sqrt(2 * drawing.PRIOR_DRAWS))
    monkeypatch.setattr(drawing, "LARGEST_LOG_LIKELIHOOD", 40 * person_time.size - 1)
    large = sampled(model, person_time, complete=True, **settings)  # type: ignore[arg-type]
    assert "log_likelihood" not in large.tree.children
    assert f"{person_time.size} patients x 40 draws are too many" in large.notes[0]


def test_chains_of_independent_draws_are_a_layout(person_time: PersonTime) -> None:
    found = by_partial_likelihood(
        bb.load_model("free"), person_time, seed=1, settings=QUICK, complete=True
    )
    assert found.companion.draws is not None
    drawn = found.companion.draws["log_hazard_ratio"].values.ravel()
    posterior = found.tree["posterior"].to_dataset()["log_hazard_ratio"]
    assert posterior.sizes["chain"] == 2
    np.testing.assert_array_equal(posterior.values.ravel(), drawn)
    assert found.engine == "partial likelihood"
    assert set(found.tree["prior"].data_vars) == {"log_hazard_ratio", "coefficient"}


def test_no_partial_likelihood_is_told(person_time: PersonTime) -> None:
    model = bb.load_model("mixture_cure")
    with pytest.raises(SpecError, match="mixture_cure' not compared"):
        by_partial_likelihood(model, person_time, seed=1, settings=QUICK, complete=True)
