"""Comparisons of regimes, from curves that are written down."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError
from bayesblina.estimands import comparisons
from bayesblina.estimands.comparisons import (
    average_hazard_ratio,
    contrast,
    number_needed_to_treat,
)
from bayesblina.inference.fitting import Fit
from tests.estimands.written_fits import written_fit

LATE, NEVER = bb.From(3.0), bb.Never()


def estimate_of(name: str = "rmst", **more: Any) -> xr.Dataset:
    values = np.array([[[8.0, 2.0], [6.0, 3.0]]])
    return xr.Dataset(
        {name: (("chain", "draw", "regime"), values), **more},
        coords={"regime": ["from 3", "never"]},
        attrs={"horizon": 24.0, "landmark": 2.0},
    )


# Contrasts.


def test_differences_and_ratios() -> None:
    """Draw by draw, the first less the second, or over it; no regime is left."""
    difference = contrast(estimate_of(), LATE, NEVER)
    assert list(difference.data_vars) == ["rmst_difference"]
    assert difference["rmst_difference"].values.tolist() == [[6.0, 3.0]]
    assert "regime" not in difference.coords
    assert difference.attrs == {
        "horizon": 24.0,
        "landmark": 2.0,
        "regime": "from 3",
        "against": "never",
    }
    ratio = contrast(estimate_of(), NEVER, LATE, kind="ratio")
    assert list(ratio.data_vars) == ["rmst_ratio"]
    assert ratio["rmst_ratio"].values.tolist() == [[0.25, 0.5]]
    assert "regime" not in ratio.coords
    assert (ratio.attrs["regime"], ratio.attrs["against"]) == ("never", "from 3")


def test_impossible_contrasts() -> None:
    given = estimate_of()
    regimes = "Never or From or Between or Cycles or WithPhases"
    calls: list[tuple[str, str, tuple[Any, ...]]] = [
        ("estimate", "Dataset", ("x", LATE, NEVER)),
        ("regime", regimes, (given, "x", NEVER)),
        ("against", regimes, (given, LATE, "x")),
    ]
    for name, kinds, arguments in calls:
        with pytest.raises(TypeError, match=rf"^{name}: expected {kinds}, got str"):
            contrast(*arguments)
    with pytest.raises(EstimandError, match="must be 'difference' or 'ratio', got 'quotient'"):
        contrast(given, LATE, NEVER, kind="quotient")  # type: ignore[arg-type]
    with pytest.raises(EstimandError, match="no regime 'from 9'; it has from 3, never"):
        contrast(given, LATE, bb.From(9.0))
    with pytest.raises(EstimandError, match="no regime 'from 3'; it has none"):
        contrast(given.isel(regime=0, drop=True), LATE, NEVER)
    zero = given.assign(rmst=given["rmst"].where(given["regime"] == "from 3", 0.0))
    with pytest.raises(EstimandError, match="rmst is 0 under 'never' in some draws: no ratio"):
        contrast(zero, LATE, NEVER, kind="ratio")
    # The other way round nothing is divided by 0, nor where differences are asked for.
    assert not contrast(zero, NEVER, LATE, kind="ratio")["rmst_ratio"].any()
    assert contrast(zero, LATE, NEVER)["rmst_difference"].values.tolist() == [[8.0, 6.0]]


def test_a_quantile_that_is_not_reached_has_no_difference() -> None:
    reached = (("chain", "draw", "regime"), np.array([[[True, True], [True, False]]]))
    with pytest.raises(EstimandError, match=r"^25\.0% of the draws do not reach .* by 24: its"):
        contrast(estimate_of("median", reached=reached), LATE, NEVER)
    all_reached = (reached[0], np.ones((1, 2, 2), dtype=bool))
    found = contrast(estimate_of("median", reached=all_reached), LATE, NEVER)
    assert found["median_difference"].values.tolist() == [[6.0, 3.0]]


# Numbers needed to treat.


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Two chains of 50 draws of nothing that is read."""
    table = pd.DataFrame(
        {
            "id": list("abcd"),
            "time": [4.0, 12.0, 9.0, 7.0],
            "died": [1, 1, 0, 1],
            "early": [2.0, 1.5, None, 1.0],
            "late": [3.0, None, 4.0, 5.0],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died")},
        phases=bb.Phases(early="early", late="late"),
    )
    question = bb.Question(exposed="late", eligible_from="entry", lag=0.5)
    model = bb.load_model("since_entry")
    person_time = bb.person_time(cohort, question, cuts=[4.0], phase_cuts=[2.0])
    draws = xr.Dataset({"level": (("chain", "draw"), np.zeros((2, 50)))})
    return written_fit(person_time, question, model, draws)


def curves_of(difference: Floats) -> xr.Dataset:
    """Survival whose difference is that, of one endpoint or of more."""
    never = np.full(difference.shape, 0.5)
    values = np.stack([never + difference, never], axis=3)[..., None]
    return xr.Dataset(
        {"survival": (("chain", "draw", "endpoint", "regime", "time"), values)},
        coords={
            "endpoint": ["os", "rfs"][: difference.shape[2]],
            "regime": ["from 3", "never"],
            "time": [12.0],
        },
        attrs={"landmark": 2.0, "model": "primary"},
    )


class Asked(dict[str, Any]):
    """In the place of an estimand: notes what is asked for, and gives it."""

    def __init__(self, found: xr.Dataset) -> None:
        super().__init__()
        self.found = found

    def __call__(self, fit: Fit, **named: Any) -> xr.Dataset:
        """Note it."""
        self.update(named, fit=fit)
        return self.found


def test_numbers_needed_to_treat(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rfs the interval includes 0; the ends are those of the difference, turned over."""
    shares = np.linspace(0.0, 1.0, 101)[:100].reshape(2, 50)
    difference = np.stack([0.1 + 0.2 * shares, -0.1 + 0.4 * shares], axis=2)
    asked = Asked(curves_of(difference))
    monkeypatch.setattr(comparisons, "survival", asked)
    population = {"arm": "a"}
    found = number_needed_to_treat(
        fit, time=12.0, regime=LATE, landmark=2.0, population=population, mass=0.8
    )
    assert asked["fit"] is fit
    assert (asked["regimes"], asked["times"]) == ([LATE, NEVER], [12.0])
    assert (asked["landmark"], asked["population"]) == (2.0, population)
    np.testing.assert_allclose(found["survival_difference"].values, difference, atol=1e-12)
    assert found["survival_difference"].dims == ("chain", "draw", "endpoint")
    for name, part in (
        ("number_at_lower", 0.1),
        ("number_needed_to_treat", 0.5),
        ("number_at_upper", 0.9),
    ):
        expected = 1.0 / np.quantile(difference, part, axis=(0, 1))
        np.testing.assert_allclose(found[name].values, expected, rtol=1e-9)
        assert "quantile" not in found[name].coords
    assert found["probability_of_benefit"].values.tolist() == [1.0, 0.74]
    assert found["statement"].dims == ("endpoint",)
    first, second = found["statement"].values
    assert first == "benefit 5.03 (80% interval benefit 3.59 to benefit 8.35)"
    assert "to infinity to harm" in second
    assert found.attrs == {
        "landmark": 2.0,
        "model": "primary",
        "time": 12.0,
        "regime": "from 3",
        "against": "never",
        "mass": 0.8,
    }


def test_a_difference_of_nothing_has_no_number(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparisons, "survival", Asked(curves_of(np.zeros((2, 50, 1)))))
    with pytest.raises(EstimandError, match="'from 3' and 'never' do not differ by 12: there is"):
        number_needed_to_treat(fit, time=12.0, regime=LATE)
    # One that is 0 in the middle has an infinite one, and no warning.
    some = np.zeros((2, 50, 1))
    some[0, 0], some[1, 1] = 0.1, -0.1
    monkeypatch.setattr(comparisons, "survival", Asked(curves_of(some)))
    found = number_needed_to_treat(fit, time=12.0, regime=LATE)
    assert np.isinf(found["number_needed_to_treat"].item())
    assert found["probability_of_benefit"].item() == 0.01
    assert found.attrs["mass"] == 0.95


@pytest.mark.parametrize("mass", [0.0, 1.0, -0.5, 1.5])
def test_impossible_masses(fit: Fit, mass: float) -> None:
    with pytest.raises(EstimandError, match=f"mass must lie between 0 and 1, got {mass}"):
        number_needed_to_treat(fit, time=12.0, regime=LATE, mass=mass)
    with pytest.raises(TypeError, match=r"^fit: expected Fit, got str"):
        number_needed_to_treat("fit", time=12.0, regime=LATE)  # type: ignore[arg-type]


# Average hazard ratios.

# `late` from 3 counts from 3.5; its second piece begins 2 after its start; a cut lies at 4.
EDGES = np.array([2.0, 3.5, 4.0, 5.0, 9.0])


@pytest.fixture(scope="module")
def drawn(fit: Fit) -> Fit:
    """The same with draws of everything, and nobody unlike another: hazards are constant between.

    The second piece of `late` has another effect than the first.
    """
    random = np.random.default_rng(2)
    over = ("chain", "draw", "endpoint")
    posterior = xr.Dataset(
        {
            "log_baseline": ((*over, "interval"), random.normal(-3.0, 0.5, (2, 50, 1, 2))),
            "log_hazard_ratio": (
                (*over, "effect"),
                random.normal(0.2, 0.5, (2, 50, 1, len(fit.design.effects))),
            ),
            "log_hazard_ratio_by_piece": (
                (*over, "piece"),
                random.normal(0.2, 0.5, (2, 50, 1, 2)),
            ),
        },
        coords={"chain": [0, 1], "draw": np.arange(50), "endpoint": ["os"]},
    )
    return written_fit(fit.person_time, fit.question, fit.definition, posterior)


def log_rates(fit: Fit) -> Floats:
    """Log hazards from 3 on and never, between the edges; shape (draws, regime, piece)."""
    posterior = fit.posterior.sel(endpoint="os")
    base = posterior["log_baseline"].values.reshape(-1, 2)[:, [0, 0, 1, 1]]
    pieces = posterior["log_hazard_ratio_by_piece"].values.reshape(-1, 2)
    treated = base + np.insert(pieces[:, [0, 0, 1]], 0, 0.0, axis=1)
    return np.stack([treated, base], axis=1)


def log_average(rates: Floats, last: float) -> Floats:
    """Averaged with what dies in each piece, the mean of both regimes; by draw."""
    passed = np.cumsum(np.exp(rates) * np.diff(np.minimum(EDGES, last)), axis=2)
    alive = np.exp(-np.insert(passed, 0, 0.0, axis=2))
    dying = -np.diff(alive, axis=2).mean(axis=1)
    return np.asarray((dying * (rates[:, 0] - rates[:, 1])).sum(axis=1) / dying.sum(axis=1))


@pytest.mark.parametrize("horizon", [9.0, 8.0, 4.5, 3.0])
def test_averages_over_the_events_of_both(drawn: Fit, horizon: float) -> None:
    """As precise as the rule is where hazards are constant: no knot is missed."""
    found = average_hazard_ratio(drawn, regime=LATE, landmark=2.0, horizon=horizon)
    expected = log_average(log_rates(drawn), horizon)
    ratio = found["hazard_ratio"]
    assert ratio.dims == ("chain", "draw", "endpoint")
    # Of neither regime.
    assert set(ratio.coords) == {"chain", "draw", "endpoint"}
    np.testing.assert_allclose(np.log(ratio.values).ravel(), expected, rtol=1e-6, atol=1e-9)
    assert found.attrs["horizon"] == horizon
    assert (found.attrs["exposed"], found.attrs["reference"]) == ("from 3", "never")
    assert found.attrs["landmark"] == 2.0
    assert found.attrs["population"] == "eligible patients at risk at the landmark"


def test_the_regimes_the_other_way_round(drawn: Fit) -> None:
    """To the end of follow-up by default, which is 12."""
    one = average_hazard_ratio(drawn, regime=LATE, landmark=2.0)
    other = average_hazard_ratio(drawn, regime=NEVER, against=LATE, landmark=2.0)
    assert one.attrs["horizon"] == other.attrs["horizon"] == 12.0
    np.testing.assert_allclose(
        one["hazard_ratio"].values, 1.0 / other["hazard_ratio"].values, rtol=1e-12
    )
    assert (other.attrs["exposed"], other.attrs["reference"]) == ("never", "from 3")


def test_the_average_of_one_patient() -> None:
    """The patient's own hazards: who is at higher risk has other events in the average."""
    table = pd.DataFrame(
        {
            "id": list("abcd"),
            "time": [4.0, 12.0, 9.0, 7.0],
            "died": [1, 1, 0, 1],
            "late": [3.0, None, 4.0, 5.0],
            "arm": ["a", "b", "b", "a"],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died")},
        phases=bb.Phases(late="late"),
        covariates=["arm"],
    )
    question = bb.Question(exposed="late", eligible_from="entry")
    person_time = bb.person_time(cohort, question, cuts=[4.0])
    posterior = xr.Dataset(
        {
            "log_baseline": (("chain", "draw", "endpoint", "interval"), [[[[-2.5, -2.0]]]]),
            "log_hazard_ratio": (("chain", "draw", "endpoint", "effect"), [[[[-0.7]]]]),
            "coefficient": (("chain", "draw", "endpoint", "term"), [[[[1.5]]]]),
        },
        coords={"chain": [0], "draw": [0], "endpoint": ["os"]},
    )
    fit = written_fit(person_time, question, bb.load_model("primary"), posterior)
    ratios = []
    for arm, indicator in (("a", 0.0), ("b", 1.0)):
        found = average_hazard_ratio(
            fit, regime=LATE, landmark=2.0, horizon=9.0, population={"arm": arm}
        )
        # Until 3 the two do not differ; then to the cut at 4, and on.
        standard = float(fit.design.standardised(np.array([[indicator]]))[0, 0])
        base = np.array([-2.5, -2.5, -2.0]) + 1.5 * standard
        rates = np.exp(np.stack([base - np.array([0.0, 0.7, 0.7]), base]))
        passed = np.cumsum(rates * np.diff([2.0, 3.0, 4.0, 9.0]), axis=1)
        dying = -np.diff(np.exp(-np.insert(passed, 0, 0.0, axis=1)), axis=1).mean(axis=0)
        expected = -0.7 * dying[1:].sum() / dying.sum()
        ratios.append(float(np.log(found["hazard_ratio"]).item()))
        assert ratios[-1] == pytest.approx(expected, rel=1e-5)
    assert abs(ratios[0] - ratios[1]) > 0.01


@pytest.mark.parametrize("horizon", [2.0, 12.1])
def test_horizons_outside_follow_up(drawn: Fit, horizon: float) -> None:
    with pytest.raises(EstimandError, match="horizon must lie after the landmark 2 and within"):
        average_hazard_ratio(drawn, regime=LATE, landmark=2.0, horizon=horizon)
    with pytest.raises(TypeError, match=r"^fit: expected Fit, got str"):
        average_hazard_ratio("fit", regime=LATE)  # type: ignore[arg-type]
