"""What a model needs of the patients: cuts since entry, shares of external patients."""

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.hazards.parts import PowerPrior
from bayesblina.inference.model_data import person_time_for
from tests.inference.small import cohort_of

QUESTION = bb.Question(exposed="late", eligible_from="entry")


def test_cuts_since_entry_are_chosen_from_the_events() -> None:
    cohort = cohort_of(1, covariates=[])
    model = bb.load_model("since_entry")
    table = person_time_for(model, cohort, QUESTION).table
    since = table["since"].values[table["role"].values == "exposed"]
    assert since.size > 1
    died, entered = cohort.endpoints["os"].event, cohort.phase_start[:, 0]
    stay = (cohort.endpoints["os"].time - entered)[died & np.isfinite(entered)]
    # Every piece has events.
    counts, _ = np.histogram(stay, [*since, np.inf])
    assert (counts > 0).all()
    assert counts.sum() == np.isfinite(stay).sum()
    given = person_time_for(model, cohort, QUESTION, phase_cuts=[2.0]).table
    assert given["since"].values[given["role"].values == "exposed"].tolist() == [0.0, 2.0]


def test_cuts_since_entry_are_for_effects_that_vary_with_it() -> None:
    with pytest.raises(SpecError, match="'primary' has none"):
        person_time_for(
            bb.load_model("primary"), cohort_of(1, covariates=[]), QUESTION, phase_cuts=[2.0]
        )


def test_external_patients_count_their_share() -> None:
    cohort = cohort_of(1, covariates=["arm"])
    model = bb.load_model("power_prior").with_covariates(source="arm")
    assert isinstance(model.borrowing, PowerPrior)
    counted = person_time_for(model, cohort, QUESTION, cuts=[]).people["weight"].values
    external = cohort.covariates["arm"].values != 0
    np.testing.assert_array_equal(counted, np.where(external, model.borrowing.weight, 1.0))
    twice = person_time_for(model, cohort, QUESTION, cuts=[], weights=np.full(cohort.size, 2.0))
    np.testing.assert_array_equal(twice.people["weight"].values, 2.0 * counted)
    with pytest.raises(SpecError, match="needs a categorical covariate that tells external"):
        person_time_for(bb.load_model("power_prior"), cohort, QUESTION)


def test_cuts_since_entry_are_nobodys_own_time() -> None:
    """They name the pieces: two digits of a time between two patients' own are left."""
    table = person_time_for(
        bb.load_model("since_entry"), cohort_of(1, covariates=[]), QUESTION
    ).table
    cuts = table["since"].values[table["role"].values == "exposed"][1:]
    assert cuts.tolist() == [float(f"{cut:.2g}") for cut in cuts]
