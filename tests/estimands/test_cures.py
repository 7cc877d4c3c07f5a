"""The cured fraction of patients whose log odds are written down."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import expit

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.occupancies import cured_fraction
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.inference.fitting import Fit
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry")
CURE = bb.load_model("mixture_cure")
ARMS = ["a", "b", "a", "b", "b", "a"]
# p5 was never assessed for relapse.
WEIGHTS = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 1.5])


def cohort_of(covariates: tuple[str, ...]) -> bb.Cohort:
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(6)],
            "time": [5.0, 6.0, 7.0, 8.0, 9.0, 10.0],
            "died": [1, 0, 1, 0, 1, 0],
            "remission": [0.0] * 5 + [None],
            "late": [1.5, None] * 3,
            "arm": ARMS,
            "source": ["current", "current", "old", "current", "old", "current"],
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="died"),
            "rfs": bb.Endpoint(time="time", event="died", entry="remission"),
        },
        phases=bb.Phases(late="late"),
        covariates=list(covariates),
    )


def fit_of(covariates: tuple[str, ...] = ("arm",), model: ModelDefinition = CURE) -> Fit:
    draws = np.random.default_rng(3)
    person_time = bb.person_time(cohort_of(covariates), QUESTION, cuts=[6.5], weights=WEIGHTS)
    over = ("chain", "draw", "endpoint")
    variables: dict[str, Any] = {"cured_log_odds": (over, draws.normal(size=(2, 4, 2)))}
    fit = written_fit(person_time, QUESTION, model, xr.Dataset())
    terms = len(fit.design.term_names)
    variables["cured_coefficient"] = ((*over, "term"), draws.normal(size=(2, 4, 2, terms)))
    posterior = xr.Dataset(
        variables,
        coords={"chain": [3, 5], "draw": [10, 20, 30, 40], "endpoint": ["os", "rfs"]},
    )
    return written_fit(person_time, QUESTION, model, posterior)


def fractions(fit: Fit, endpoint: str) -> Any:
    """Of arms a and b, by chain and draw."""
    design = fit.design
    one = fit.posterior.sel(endpoint=endpoint)
    raw = np.zeros((2, fit.person_time.table.sizes["term"]))
    raw[1, list(fit.person_time.table["term"].values).index("arm[b]")] = 1.0
    terms = design.standardised(raw)
    shift = one["cured_coefficient"].values @ terms.T
    return expit(one["cured_log_odds"].values[..., None] + shift)


def test_averages_over_the_eligible() -> None:
    """With their weights; an endpoint's patients are those under observation for it."""
    fit = fit_of()
    found = cured_fraction(fit)
    fraction = found["cured_fraction"]
    assert fraction.dims == ("chain", "draw", "endpoint")
    assert set(fraction.coords) == {"chain", "draw", "endpoint"}
    assert fraction["chain"].values.tolist() == [3, 5]
    assert fraction["draw"].values.tolist() == [10, 20, 30, 40]
    assert fraction["endpoint"].values.tolist() == ["os", "rfs"]
    for endpoint, (of_a, of_b) in {"os": (3.0, 6.0), "rfs": (1.5, 6.0)}.items():
        expected = fractions(fit, endpoint) @ np.array([of_a, of_b]) / (of_a + of_b)
        np.testing.assert_allclose(fraction.sel(endpoint=endpoint), expected, rtol=1e-12)
    assert found.attrs["population"] == "eligible patients as they come under observation"
    assert found.attrs["kind"] == "marginal: averaged over the covariates of the population"
    assert found.attrs["model"] == "mixture_cure"


def test_by_subgroup() -> None:
    fit = fit_of()
    found = cured_fraction(fit, by="arm")
    fraction = found["cured_fraction"]
    assert fraction.dims == ("chain", "draw", "endpoint", "subgroup")
    assert fraction["subgroup"].values.tolist() == ["a", "b"]
    for endpoint in ("os", "rfs"):
        np.testing.assert_allclose(
            fraction.sel(endpoint=endpoint), fractions(fit, endpoint), rtol=1e-12
        )
    assert found.attrs["population"].endswith("as they come under observation, by arm")


def test_of_supplied_patients() -> None:
    fit = fit_of()
    one = cured_fraction(fit, population={"arm": "b"})
    np.testing.assert_allclose(
        one["cured_fraction"].sel(endpoint="rfs"), fractions(fit, "rfs")[..., 1], rtol=1e-12
    )
    assert one.attrs["population"] == "a patient with arm b"
    # A cohort's patients count alike for each endpoint, whatever is known of them.
    many = cured_fraction(fit, population=cohort_of(("arm",)))["cured_fraction"]
    for endpoint in ("os", "rfs"):
        expected = fractions(fit, endpoint).mean(axis=-1)
        np.testing.assert_allclose(many.sel(endpoint=endpoint), expected, rtol=1e-12)
    apart = cured_fraction(fit, population=cohort_of(("arm",)), by="arm")
    assert apart.attrs["population"] == "6 supplied patients, by arm"
    np.testing.assert_allclose(
        apart["cured_fraction"].sel(endpoint="os"), fractions(fit, "os"), rtol=1e-12
    )


def test_external_patients_are_not_averaged_over() -> None:
    """Of the current ones a has p0 and p5, b p1 and p3; supplied ones are as the current."""
    borrowing = bb.load_model("robust_mixture").with_covariates(source="source").borrowing
    model = CURE.model_copy(update={"borrowing": borrowing})
    assert "source" in model.roles
    fit = fit_of(("arm", "source"), model)
    found = cured_fraction(fit)
    assert found.attrs["population"] == "current eligible patients as they come under observation"
    expected = fractions(fit, "os") @ np.array([2.5, 3.0]) / 5.5
    np.testing.assert_allclose(found["cured_fraction"].sel(endpoint="os"), expected, rtol=1e-12)
    one = cured_fraction(fit, population={"arm": "b"})
    assert one.attrs["population"] == "a patient with arm b"
    with pytest.raises(EstimandError, match="'source' tells external patients"):
        cured_fraction(fit, population={"arm": "b", "source": "old"})


def test_patients_of_new_groups() -> None:
    groups = bb.load_model("frailty").with_covariates(group="source").groups
    model = CURE.model_copy(update={"groups": groups})
    fit = fit_of(("arm", "source"), model)
    one = cured_fraction(fit, population={"arm": "b"})
    assert one.attrs["population"] == "a patient with arm b, of new source"
    with pytest.raises(EstimandError, match="'source' makes the model's groups"):
        cured_fraction(fit, population={"arm": "b", "source": "old"})


def test_only_models_with_cured_patients() -> None:
    fit = fit_of()
    other = written_fit(fit.person_time, QUESTION, bb.load_model("primary"), fit.posterior)
    with pytest.raises(EstimandError, match="'primary' has no cured patients: fit 'mixture_cure'"):
        cured_fraction(other)
    with pytest.raises(TypeError, match=r"^fit: expected Fit, got str"):
        cured_fraction("fit")  # type: ignore[arg-type]
