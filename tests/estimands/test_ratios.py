"""Hazard ratios read off draws that are written down, averaged by hand."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort
from tests.estimands.written_fits import written_fit

# `early` is the reference; before it is another state, with an effect of its own.
QUESTION = bb.Question(exposed="late", eligible_from="entry", reference="early")
CUTS = [4.0, 8.0]
CHAINS, DRAWS = 2, 3


@cache
def cohort_of() -> Cohort:
    random = np.random.default_rng(4)
    size = 60
    time = 1.0 + random.exponential(6.0, size)
    early = random.uniform(0.0, 2.0, size)
    late = early + random.exponential(4.0, size)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "os": time,
            "died": (random.random(size) < 0.7).astype(int),
            "rfs": 0.7 * time,
            "early": np.where(early < time, early, np.nan),
            "late": np.where(late < time, late, np.nan),
            "arm": random.choice(["a", "b", "c"], size),
            "score": random.normal(size=size),
        }
    )
    return bb.read_cohort(
        table.assign(failed=table["died"] | (table["rfs"] < table["os"])),
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died"),
            "rfs": bb.Endpoint(time="rfs", event="failed"),
        },
        phases=bb.Phases(early="early", late="late"),
        covariates=["arm", "score"],
    )


def fit_of(model: ModelDefinition, *, phase_cuts: Any = None, **dims: tuple[str, int]) -> Fit:
    """Draws of what every model has, and of what is named: a variable with its dimension."""
    person_time = bb.person_time(cohort_of(), QUESTION, cuts=CUTS, phase_cuts=phase_cuts)
    design = written_fit(person_time, QUESTION, model, xr.Dataset()).design
    random = np.random.default_rng(6)
    sizes = {
        "log_baseline": ("interval", 3),
        "log_hazard_ratio": ("effect", len(design.effects)),
        "coefficient": ("term", len(design.term_names)),
        **dims,
    }
    posterior = xr.Dataset(
        {
            name: (
                ("chain", "draw", "endpoint", dim),
                random.normal(0.0, 0.8, (CHAINS, DRAWS, 2, size)),
            )
            for name, (dim, size) in sizes.items()
        },
        coords={"chain": [1, 2], "draw": [5, 6, 7], "endpoint": ["os", "rfs"]},
    )
    return written_fit(person_time, QUESTION, model, posterior)


def pieces() -> Fit:
    return fit_of(
        bb.load_model("since_entry"),
        phase_cuts=[1.5, 3.0],
        log_hazard_ratio_by_piece=("piece", 3),
    )


def by_arm() -> Fit:
    return fit_of(
        bb.load_model("by_subgroup").with_covariates(subgroup="arm"),
        log_hazard_ratio_by_subgroup=("subgroup", 3),
    )


# By time since entry.


def test_ratios_of_the_pieces() -> None:
    fit = pieces()
    found = bb.hazard_ratio(fit, over="step")
    ratio = found["hazard_ratio"]
    assert ratio.dims == ("chain", "draw", "endpoint", "step")
    assert ratio["begins"].dims == ("step",)
    assert ratio["begins"].values.tolist() == [0.0, 1.5, 3.0]
    states = fit.person_time.table["treatment"].values == "late"
    assert ratio["step"].values.tolist() == fit.person_time.table["phase"].values[states].tolist()
    assert ratio["chain"].values.tolist() == [1, 2]
    assert ratio["draw"].values.tolist() == [5, 6, 7]
    np.testing.assert_allclose(
        np.log(ratio.values), fit.posterior["log_hazard_ratio_by_piece"].values, atol=1e-12
    )
    assert (found.attrs["exposed"], found.attrs["reference"]) == ("late", "early")


def mixed_by_piece(fit: Fit, reference: list[str]) -> Floats:
    """Pieces against phases together: hazards weigh by their time, intervals by the events."""
    table = fit.person_time.table
    treatment = table["treatment"].values
    effects = list(fit.design.effects)
    own = {
        name: fit.posterior["log_hazard_ratio"].isel(effect=effects.index(name)).values
        for name in reference
        if name in effects
    }
    late = np.flatnonzero(treatment == "late")
    out = np.empty((CHAINS, DRAWS, 2, late.size))
    for endpoint in range(2):
        one = table.isel(endpoint=endpoint)
        spent = one["person_time"].sum("pattern").values
        events = one["events"].sum("pattern").values
        for place, piece in enumerate(late):
            logs = []
            for interval in range(3):
                total, hazard = 0.0, np.zeros((CHAINS, DRAWS))
                for name in reference:
                    time = spent[interval, treatment == name].sum()
                    values = own[name][:, :, endpoint] if name in own else 0.0
                    hazard = hazard + time * np.exp(values)
                    total += time
                logs.append(np.log(hazard / total))
            by_piece = fit.posterior["log_hazard_ratio_by_piece"].values[:, :, endpoint, place]
            share = events[:, piece] / events[:, piece].sum()
            out[:, :, endpoint, place] = by_piece - np.tensordot(share, np.stack(logs), 1)
    return out


def test_pieces_against_phases_that_differ() -> None:
    """The reference named in the call holds a state with an effect of its own."""
    fit = pieces()
    events = fit.person_time.table["events"].sum("pattern").values
    late = fit.person_time.table["treatment"].values == "late"
    # Every piece has events in several intervals, or their average would be any of them.
    assert ((events[:, :, late] > 0).sum(axis=1) > 1).any(axis=0).all()
    both = ["early", "before early"]
    found = bb.hazard_ratio(fit, exposed="late", reference=both, over="step")
    np.testing.assert_allclose(
        np.log(found["hazard_ratio"].values), mixed_by_piece(fit, both), rtol=1e-9, atol=1e-12
    )
    assert found.attrs["reference"] == "early or before early"


def test_what_has_no_ratio_by_time_since_entry() -> None:
    message = "Only the exposed phase of a model in which its effect varies"
    with pytest.raises(EstimandError, match=message):
        bb.hazard_ratio(pieces(), exposed=["late", "before early"], over="step")
    with pytest.raises(EstimandError, match=message):
        bb.hazard_ratio(by_arm(), over="step", by="arm")
    with pytest.raises(EstimandError, match=message):
        bb.hazard_ratio(fit_of(bb.load_model("primary")), over="step")


# By subgroup.


@pytest.mark.parametrize("over", ["average", "interval"])
def test_ratios_by_subgroup(over: Any) -> None:
    fit = by_arm()
    found = bb.hazard_ratio(fit, by="arm", over=over)
    ratio = found["hazard_ratio"]
    dims: tuple[str, ...] = ("chain", "draw", "endpoint", "subgroup")
    assert ratio["subgroup"].values.tolist() == ["a", "b", "c"]
    expected = fit.posterior["log_hazard_ratio_by_subgroup"].values
    if over == "interval":
        dims = (*dims, "interval")
        expected = np.repeat(expected[..., None], 3, axis=-1)
        assert ratio["interval_start"].values.tolist() == [0.0, 4.0, 8.0]
        assert ratio["interval_stop"].values.tolist() == [4.0, 8.0, np.inf]
    assert ratio.dims == dims
    np.testing.assert_allclose(np.log(ratio.values), expected, atol=1e-12)


def test_the_average_over_subgroups() -> None:
    """By the events of each, within intervals and then over them."""
    fit = by_arm()
    table = fit.person_time.table
    # Pattern by pattern: arm b and c have a term each, in the covariates' order.
    names = [str(name) for name in table["term"].values]
    level = np.zeros(table.sizes["pattern"], dtype=int)
    for index, name in enumerate(("arm[b]", "arm[c]"), start=1):
        level[table["design"].values[:, names.index(name)] == 1.0] = index
    events = table["events"].sum("phase").values
    by_level = np.stack([events[..., level == index].sum(axis=2) for index in range(3)], axis=1)
    log_ratio = fit.posterior["log_hazard_ratio_by_subgroup"].values
    found = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values)
    by_interval = np.log(bb.hazard_ratio(fit, over="interval")["hazard_ratio"].values)
    for endpoint in range(2):
        weight = by_level[endpoint]
        assert (weight.sum(axis=0) > 0).all()
        inside = np.einsum("cds,si->cdi", log_ratio[:, :, endpoint], weight / weight.sum(axis=0))
        np.testing.assert_allclose(by_interval[:, :, endpoint], inside, rtol=1e-9)
        share = weight.sum(axis=0) / weight.sum()
        np.testing.assert_allclose(found[:, :, endpoint], inside @ share, rtol=1e-9)


def test_ratios_that_do_not_differ_by_a_covariate() -> None:
    for fit, by in ((by_arm(), "score"), (fit_of(bb.load_model("primary")), "arm")):
        with pytest.raises(EstimandError, match=f"does not differ by '{by}' in model"):
            bb.hazard_ratio(fit, by=by)


# Between covariates.


def test_ratios_between_covariates() -> None:
    """Every other covariate is equal, whatever it is."""
    fit = fit_of(bb.load_model("primary"))
    names, scale = list(fit.design.term_names), fit.design.scale
    slope = fit.posterior["coefficient"].values
    found = bb.hazard_ratio(
        fit, exposed={"arm": "b", "score": 1.0}, reference={"score": -0.5, "arm": "c"}
    )
    terms = np.zeros(len(names))
    for name, value in (("arm[b]", 1.0), ("arm[c]", -1.0), ("score", 1.5)):
        place = names.index(name)
        terms[place] = value / scale[place]
    np.testing.assert_allclose(np.log(found["hazard_ratio"].values), slope @ terms, atol=1e-12)
    assert found.attrs["exposed"] == "arm b, score 1.0"
    assert found.attrs["reference"] == "score -0.5, arm c"
    alone = bb.hazard_ratio(fit, exposed={"arm": "b"}, reference={"arm": "a"}, over="interval")
    place = names.index("arm[b]")
    expected = slope[..., place] / scale[place]
    np.testing.assert_allclose(
        np.log(alone["hazard_ratio"].values), np.repeat(expected[..., None], 3, -1), atol=1e-12
    )


def test_impossible_ratios_between_covariates() -> None:
    fit = by_arm()
    with pytest.raises(EstimandError, match="arm has a part of its own in model 'by_subgroup'"):
        bb.hazard_ratio(fit, exposed={"arm": "b"}, reference={"arm": "a"})
    one, other = {"score": 1.0}, {"score": 2.0}
    with pytest.raises(EstimandError, match="A ratio between covariate values varies with neither"):
        bb.hazard_ratio(fit, exposed=one, reference=other, by="arm")
    with pytest.raises(EstimandError, match="A ratio between covariate values varies with neither"):
        bb.hazard_ratio(fit, exposed=one, reference=other, over="step")
    with pytest.raises(EstimandError, match="Give both sides the same covariates"):
        bb.hazard_ratio(fit, exposed=one, reference={"arm": "a"})
    with pytest.raises(EstimandError, match="The two sides are equal"):
        bb.hazard_ratio(fit, exposed=one, reference=dict(one))
    with pytest.raises(EstimandError, match="Give the reference's covariates too"):
        bb.hazard_ratio(fit, exposed=one)
    with pytest.raises(EstimandError, match="phases with phases, or covariates with covariates"):
        bb.hazard_ratio(fit, exposed="late", reference=one)
    with pytest.raises(TypeError, match=r"^fit: expected Fit, got str"):
        bb.hazard_ratio("fit")  # type: ignore[arg-type]
