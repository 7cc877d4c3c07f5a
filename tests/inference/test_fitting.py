"""What a fit says of itself: where it came from, and which gates it failed."""

from dataclasses import replace

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import ConvergenceError
from bayesblina.inference.fitting import Fit, hash_of
from tests.inference.small import cohort_of

QUESTION = bb.Question(exposed="late", eligible_from="entry")


def fitted(*, weights: np.ndarray | None = None) -> Fit:
    cohort = cohort_of(1, covariates=["age"])
    return bb.fit(
        cohort, QUESTION, model="free", seed=1, weights=weights, draws=500, chains=2, progress=False
    )


def test_provenance_says_what_was_done() -> None:
    fit = fitted()
    assert list(fit.provenance.seconds) == ["person_time", "sample", "finish"]
    assert fit.provenance.data_hash == hash_of(fit.person_time)
    assert not any("pseudo-posterior" in note for note in fit.provenance.notes)
    assert set(fit.draws.children) == {"posterior", "prior", "observed_data", "constant_data"}
    events = fit.draws["observed_data"]["events"].values
    np.testing.assert_array_equal(events, fit.person_time.table["events"].values)
    weighted = fitted(weights=np.linspace(0.5, 1.5, 80))
    assert "pseudo-posterior" in weighted.provenance.notes[-1]
    assert weighted.provenance.data_hash != fit.provenance.data_hash


def test_failed_gates_are_named() -> None:
    fit = fitted()
    assert fit.converged
    assert "converged" not in fit.failed
    fit.require_converged()
    criteria = fit.convergence.criteria.assign(passed=False)
    failed = replace(fit, convergence=replace(fit.convergence, criteria=criteria))
    assert failed.failed[0] == "converged"
    assert "NOT CONVERGED" in failed._repr_html_()
    with pytest.raises(ConvergenceError, match="largest Pareto k is"):
        failed.require_converged()
