"""What external patients differ by, read off draws that are written down."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm

import bayesblina as bb
from bayesblina.estimands.sources import Difference, differences, probability_apart
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.parts import RobustMixture
from bayesblina.inference.fitting import Fit
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry")
DRAWS = np.random.default_rng(1)


def fit_of(model: ModelDefinition, *, cuts: tuple[float, ...] = (4.0,)) -> Fit:
    """Two external sources, two covariate terms and, against them, one phase."""
    size = 12
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "time": 2.0 + np.arange(size),
            "died": [1] * size,
            "rfs": 2.0 + np.arange(size),
            "late": [1.5, None] * 6,
            "source": ["current", "old", "older"] * 4,
            "arm": ["a", "a", "b"] * 4,
            "score": np.arange(size) ** 2.0,
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="died"),
            "rfs": bb.Endpoint(time="rfs", event="died"),
        },
        phases=bb.Phases(late="late"),
        covariates=["source", "arm", "score"],
    )
    names = {
        "source_effect": ("source",),
        "source_shape": ("source", "interval"),
        "source_phase_effect": ("source", "effect"),
        "source_coefficient": ("source", "term"),
    }
    sizes = {"source": 2, "interval": 2, "effect": 1, "term": 2}
    posterior = xr.Dataset(
        {
            name: (
                ("chain", "draw", "endpoint", *dims),
                DRAWS.normal(size=(2, 3, 2, *(sizes[dim] for dim in dims))),
            )
            for name, dims in names.items()
        },
        coords={"endpoint": ["os", "rfs"]},
    )
    # Dimensions in another order are the same draws.
    posterior["source_coefficient"] = posterior["source_coefficient"].transpose(
        "chain", "draw", "endpoint", "term", "source"
    )
    return written_fit(
        bb.person_time(cohort, QUESTION, cuts=list(cuts)), QUESTION, model, posterior
    )


ROBUST = bb.load_model("robust_mixture").with_covariates(source="source")
COMMENSURATE = bb.load_model("commensurate").with_covariates(source="source")


def test_every_difference_has_its_draws() -> None:
    """By endpoint, part, source and name; the shape of the baseline is none."""
    fit = fit_of(ROBUST)
    found = differences(fit)
    assert isinstance(ROBUST.borrowing, RobustMixture)
    posterior = fit.posterior
    expected: list[tuple[Any, ...]] = []
    for endpoint in ("os", "rfs"):
        one = posterior.sel(endpoint=endpoint)
        for source in (0, 1):
            draws = one["source_effect"].isel(source=source)
            expected.append((endpoint, "baseline", source, "", draws))
        for source in (0, 1):
            draws = one["source_phase_effect"].isel(source=source, effect=0)
            expected.append((endpoint, "phases", source, "late", draws))
        for source in (0, 1):
            for term, name in enumerate(("arm[b]", "score")):
                draws = one["source_coefficient"].isel(source=source, term=term)
                expected.append((endpoint, "covariates", source, name, draws))
    assert len(found) == len(expected) == 16
    for difference, (endpoint, part, source, name, draws) in zip(found, expected, strict=True):
        assert difference.endpoint == endpoint
        assert difference.part == part
        assert difference.source == ("old", "older")[source]
        assert difference.name == name
        np.testing.assert_array_equal(difference.log_ratio, draws.values.ravel())
        prior = ROBUST.borrowing.prior_of(difference.part)
        assert difference.prior_apart == pytest.approx(1.0 - prior.probability)
        assert difference.apart is not None
        np.testing.assert_allclose(
            difference.apart, probability_apart(prior, draws.values.ravel()), rtol=1e-12
        )
    # The phases' prior is another one than the baseline's.
    assert {round(one.prior_apart, 9) for one in found} == {0.2, 0.6}


def test_other_models_have_no_far_part() -> None:
    found = differences(fit_of(COMMENSURATE))
    assert {one.part for one in found} == {"baseline", "phases", "covariates"}
    assert all(one.apart is None for one in found)
    assert all(np.isnan(one.prior_apart) for one in found)


def test_where_all_share_everything_there_is_none() -> None:
    assert differences(fit_of(bb.load_model("primary"))) == ()


def test_the_far_part_by_bayes() -> None:
    assert isinstance(ROBUST.borrowing, RobustMixture)
    prior = ROBUST.borrowing.prior_of("phases")
    effect = np.array([-3.0, -0.2, 0.0, 0.4, 2.0])
    close = prior.probability * norm.pdf(effect, prior.close.mean, prior.close.sd)
    far = (1.0 - prior.probability) * norm.pdf(effect, prior.apart.mean, prior.apart.sd)
    np.testing.assert_allclose(probability_apart(prior, effect), far / (close + far), rtol=1e-12)


def difference_of(log_ratio: Any) -> Difference:
    return Difference(
        endpoint="os",
        source="old",
        part="baseline",
        name="",
        log_ratio=np.asarray(log_ratio),
        apart=None,
        prior_apart=np.nan,
    )


def test_intervals_of_a_ratio() -> None:
    """Logarithms of 1 to 101: quantiles are whole numbers."""
    found = difference_of(np.log(np.arange(1.0, 102.0)))
    assert found.interval(0.9) == pytest.approx((6.0, 51.0, 96.0))
    assert found.interval(0.5) == pytest.approx((26.0, 51.0, 76.0))


@pytest.mark.parametrize(
    ("low", "high", "conflicts"),
    [(0.02, 1.0, True), (-1.0, -0.02, True), (-0.02, 1.0, False), (-1.0, 0.02, False)],
)
def test_a_ratio_that_excludes_one_conflicts(low: float, high: float, conflicts: bool) -> None:
    """Draws whose central 95 % run from one to the other."""
    share = np.linspace(0.0, 1.0, 1001)
    draws = low + (high - low) * (share - 0.025) / 0.95
    found = difference_of(draws)
    assert found.interval(0.95)[::2] == pytest.approx((np.exp(low), np.exp(high)))
    assert found.conflicts is conflicts
