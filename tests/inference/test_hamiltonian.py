"""Hamiltonian draws: of the same posterior as importance sampling."""

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.inference import partial_draws
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.monte_carlo import hamiltonian
from tests.inference.companions import QUESTION, moments, read, study


class TestHamiltonian:
    """Draws by chains agree with those by importance."""

    @pytest.mark.parametrize("kind", ["primary", "by_subgroup"])
    def test_agree(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        person_time = bb.person_time(read(study(60, 12), ("site",)), QUESTION)
        definition = bb.load_model(kind)
        if kind == "by_subgroup":
            definition = definition.with_covariates(subgroup="site")
        weighed = partial_posterior(definition, person_time, seed=1, draws=20_000)
        monkeypatch.setattr(partial_draws, "LARGEST_K", -10.0)
        chained = partial_posterior(definition, person_time, seed=1, draws=20_000)
        assert chained.table["method"].tolist() == ["hmc"]
        effective = float(chained.table["effective_draws"].item())
        assert effective > 2000
        for name in weighed.draws or ():
            mean, sd = moments(weighed, str(name))
            other = moments(chained, str(name))
            assert (abs(other[0] - mean) / sd).max() < 5.0 / np.sqrt(effective) + 0.01
            assert abs(other[1] / sd - 1.0).max() < 0.06


def test_chains_draw_from_a_skewed_density() -> None:
    # A gamma distribution of shape 3 on the log scale: mean of the value 3, of its log 0.9228.
    found = hamiltonian(
        lambda x: ((3.0 * x - np.exp(x)).sum(axis=1), 3.0 - np.exp(x)),
        np.full((200, 1), 1.0),
        draws=100,
        warm_up=100,
        seed=4,
    )
    assert found.shape == (200, 100, 1)
    assert np.exp(found).mean() == pytest.approx(3.0, abs=0.1)
    assert found.mean() == pytest.approx(0.92278, abs=0.03)
