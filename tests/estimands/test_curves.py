"""Curves of patients who are known only as sums, or come from elsewhere; draws are written down."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.inference.drawing import swings
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.cells import PersonTime
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry")
CUTS = [4.0]
DECLARED: dict[str, Any] = {
    "patient": "id",
    "unit": "months",
    "endpoints": {"os": bb.Endpoint(time="time", event="died", entry="first")},
    "phases": bb.Phases(late="late"),
}


@cache
def table() -> pd.DataFrame:
    random = np.random.default_rng(8)
    size = 40
    first = random.uniform(0.0, 2.0, size)
    time = first + 0.5 + random.exponential(8.0, size)
    late = 3.0 + random.exponential(4.0, size)
    return pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "first": first,
            "time": time,
            "died": (random.random(size) < 0.7).astype(int),
            "late": np.where(late < time, late, np.nan),
            "source": random.choice(["current", "old"], size),
            "arm": random.choice(["a", "b"], size),
            "score": random.normal(size=size),
        }
    )


def fit_of(person_time: PersonTime, model: ModelDefinition, **more: Any) -> Fit:
    """Draws of what every model has, and of what is given over an endpoint and more."""
    design = written_fit(person_time, QUESTION, model, xr.Dataset()).design
    random = np.random.default_rng(9)
    over = ("chain", "draw", "endpoint")
    sizes = {
        "log_baseline": ("interval", -2.5, 2),
        "log_hazard_ratio": ("effect", -0.5, 1),
        "coefficient": ("term", 0.2, len(design.term_names)),
    }
    posterior = xr.Dataset(
        {
            name: ((*over, dim), random.normal(mean, 0.3, (1, 4, 1, size)))
            for name, (dim, mean, size) in sizes.items()
        }
        | {name: ((*over, *dims), values) for name, (dims, values) in more.items()},
        coords={"chain": [0], "draw": range(4), "endpoint": ["os"]},
    )
    return written_fit(person_time, QUESTION, model, posterior)


def in_memory(*covariates: str, compress: bool | None = None) -> PersonTime:
    cohort = bb.read_cohort(table(), **DECLARED, covariates=list(covariates))
    return bb.person_time(cohort, QUESTION, cuts=CUTS, compress=compress)


# Sums.


def test_curves_of_sums_are_those_of_the_patients() -> None:
    """At a landmark that was named, and at the median begin of follow-up, which always is."""
    pytest.importorskip("ibis", reason="the extra `scale` is not installed")
    scan = bb.scan_cohort(table(), **DECLARED, covariates=["arm"])
    person_time = bb.person_time(scan, QUESTION, cuts=CUTS, landmarks=[3.5])
    model = bb.load_model("primary")
    sums, patients = fit_of(person_time, model), fit_of(in_memory("arm"), model)
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(6.0)]
    for landmark in (3.5, None):
        one, other = (
            bb.survival(fit, regimes=regimes, landmark=landmark) for fit in (sums, patients)
        )
        assert one.attrs["landmark"] == pytest.approx(other.attrs["landmark"])
        np.testing.assert_allclose(one["time"].values, other["time"].values, rtol=1e-9)
        np.testing.assert_allclose(one["survival"].values, other["survival"].values, rtol=1e-9)
    last = float(person_time.table["last_exit"].values[0])
    with pytest.raises(EstimandError, match=rf"end of follow-up, {last:g} months: there are no"):
        bb.survival(sums, times=[1.1 * last], landmark=3.5)
    with pytest.raises(EstimandError, match=r"nobody eligible is in it before 3\..* months"):
        bb.survival(sums, regimes=[bb.From(1.0)], landmark=2.0)


# Compressed covariates.


def test_what_compressed_covariates_may_change_is_said() -> None:
    """The bound of the largest log hazard ratio over the range, of any draw."""
    fit = fit_of(in_memory("arm", "score", compress=True), bb.load_model("primary"))
    found = bb.survival(fit, times=[6.0], landmark=3.5)
    compression = fit.person_time.compression
    assert compression is not None
    largest = swings(fit.person_time, fit.posterior, fit.design)
    assert found.attrs["survival_error"] == compression.survival_error(largest, courses=False) > 0.0
    place = list(fit.design.term_names).index("score")
    slopes = np.abs(fit.posterior["coefficient"].values[..., place]).max()
    (axis,) = compression.axes
    expected = slopes / fit.design.scale[place] * (axis.high - axis.low) / 2.0
    assert list(largest) == pytest.approx([expected])
    # Of patients who are named nothing is compressed, and nothing of exact covariates.
    alone = bb.survival(fit, times=[6.0], landmark=3.5, population={"arm": "a", "score": 0.0})
    assert "survival_error" not in alone.attrs
    exact = fit_of(in_memory("arm", "score", compress=False), bb.load_model("primary"))
    curve = bb.survival(exact, times=[6.0], landmark=3.5)
    assert "survival_error" not in curve.attrs
    np.testing.assert_allclose(
        found["survival"].values, curve["survival"].values, atol=found.attrs["survival_error"]
    )


# Patients who are supplied.


def test_supplied_patients_are_as_the_current_ones() -> None:
    """Of whatever source: it is not named, and has no part in their curves."""
    model = bb.load_model("robust_mixture").with_covariates(source="source")
    person_time = in_memory("arm", "source")
    effects = np.random.default_rng(3).normal(2.0, 1.0, (1, 4, 1, 1))
    fit = fit_of(person_time, model, source_effect=(("source",), effects))
    with pytest.raises(EstimandError, match="'source' tells external patients"):
        bb.survival(fit, landmark=3.5, population={"arm": "b", "source": "old"})
    found = bb.survival(fit, times=[7.0], landmark=3.5, population={"arm": "b"})
    plain = fit_of(person_time, bb.load_model("primary"))
    terms = [str(name) for name in person_time.table["term"].values]
    # By hand: two months to 7 after the cut at 4, and half a month before it.
    raw = np.array([[1.0 if name == "arm[b]" else 0.0 for name in terms]])
    standard = fit.design.standardised(raw)
    log_relative = fit.posterior["coefficient"].values[0, :, 0] @ standard[0]
    rates = np.exp(fit.posterior["log_baseline"].values[0, :, 0] + log_relative[:, None])
    expected = np.exp(-rates @ np.array([0.5, 3.0]))
    np.testing.assert_allclose(found["survival"].values.ravel(), expected, rtol=1e-9)
    assert found.attrs["population"] == "a patient with arm b"
    # The fit's own are averaged over the current ones alone.
    both = [bb.survival(one, times=[7.0], landmark=3.5) for one in (fit, plain)]
    assert both[0].attrs["population"].startswith("current eligible patients at risk")
    assert not np.allclose(both[0]["survival"].values, both[1]["survival"].values)


def test_supplied_patients_are_of_new_groups() -> None:
    model = bb.load_model("frailty").with_covariates(group="source")
    random = np.random.default_rng(3)
    fit = fit_of(
        in_memory("arm", "source"),
        model,
        group_sd=((), np.full((1, 4, 1), 0.5)),
        group_effect=(("group",), random.normal(0.0, 0.5, (1, 4, 1, 2))),
    )
    with pytest.raises(EstimandError, match="'source' makes the model's groups"):
        bb.survival(fit, landmark=3.5, population={"arm": "b", "source": "old"})
    found = bb.survival(fit, times=[7.0], landmark=3.5, population={"arm": "b"})
    assert found.attrs["population"] == "a patient with arm b, of new source"
    own = bb.survival(fit, times=[7.0], landmark=3.5)
    assert own.attrs["population"].endswith("with their own groups' effects")


def test_wrong_kinds_are_named() -> None:
    estimates: list[tuple[Any, dict[str, Any]]] = [
        (bb.survival, {}),
        (bb.cumulative_hazard, {}),
        (bb.hazard, {}),
        (bb.rmst, {"horizon": 9.0}),
        (bb.survival_quantile, {}),
        (bb.median_survival, {}),
    ]
    for estimate, more in estimates:
        with pytest.raises(TypeError, match=r"^fit: expected Fit, got str"):
            estimate("fit", **more)
