"""How far curves lie from those of the free model, whose curves are written down."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.checks import refit
from bayesblina.checks.refit import curve_shift, free_model
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.regimes import Regime
from bayesblina.hazards.parts import Independent, PatientFrailty
from bayesblina.inference.convergence import sampler_settings
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry")
REGIMES: list[Regime] = [bb.Never(), bb.From(2.0)]
TIMES = [2.0, 5.0, 9.0]
DIMS = ("chain", "draw", "endpoint", "regime", "time")


def cohort_of() -> Cohort:
    table = pd.DataFrame(
        {
            "id": list("abcd"),
            "time": [4.0, 9.0, 7.0, 6.0],
            "died": [1, 1, 0, 1],
            "late": [2.0, None, 3.0, None],
            "score": [0.1, 0.2, 0.3, 0.4],
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="died"),
            "efs": bb.Endpoint(time="time", event="died"),
        },
        phases=bb.Phases(late="late"),
        covariates=["score"],
    )


COHORT = cohort_of()
WEIGHTS = [1.0, 2.0, 1.5, 0.5]


def fit_of(model: str = "primary") -> Fit:
    definition = bb.load_model(model).with_priors(phases=bb.HazardRatioPrior.from_sd(0.4))
    person_time = bb.person_time(COHORT, QUESTION, cuts=[5.0], weights=WEIGHTS)
    draws = xr.Dataset(
        {"log_hazard_ratio": (("chain", "draw", "endpoint", "effect"), np.zeros((1, 2, 2, 1)))},
        coords={"endpoint": ["os", "efs"], "effect": ["late"]},
    )
    return written_fit(person_time, QUESTION, definition, draws)


def survival_of(mean: Any, half: Any) -> xr.Dataset:
    """Four draws in two chains around means over (endpoint, regime, time): at `half` from them."""
    mean, half = np.broadcast_arrays(np.asarray(mean, float), np.asarray(half, float))
    draws = np.stack([mean - half, mean + half, mean + half, mean - half])
    return xr.Dataset(
        {"survival": (DIMS, draws.reshape(2, 2, *mean.shape))},
        coords={"endpoint": ["os", "efs"], "regime": ["never", "from 2"], "time": TIMES},
        attrs={"landmark": 2.0},
    )


# Of the fit and of the free model; of the latter's four draws the sd is half x sqrt(4 / 3).
OWN = np.array(
    [[[1.0, 0.8, 0.6], [1.0, 0.9, 0.7]], [[1.0, 0.5, 0.25], [1.0, 0.6, 0.5]]],
)
FREE = np.array(
    [[[1.0, 0.7, 0.65], [1.0, 0.9, 0.75]], [[1.0, 0.5, 0.25], [0.5, 0.6, 0.5]]],
)
HALF = np.array(
    [[[0.0, 0.03, 0.03], [0.0, 0.04, 0.04]], [[0.0, 0.02, 0.03], [0.0, 0.001, 0.002]]],
)


class Second:
    """In the place of the free fit and of its curves."""

    def __init__(self) -> None:
        self.fitted: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        self.curves = survival_of(FREE, HALF)

    def fit(self, definition: Any, person_time: Any, question: Any, **named: Any) -> str:
        self.fitted = {"definition": definition, "person_time": person_time, **named}
        self.fitted["question"] = question
        return "free fit"

    def survival(self, fit: Any, **named: Any) -> xr.Dataset:
        self.asked = {"fit": fit, **named}
        return self.curves


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Second:
    found = Second()
    monkeypatch.setattr(refit, "fit_person_time", found.fit)
    monkeypatch.setattr(refit, "survival", found.survival)
    return found


@pytest.mark.usefixtures("second")
def test_the_furthest_time_of_each_curve() -> None:
    """Where the free curve has not begun to fall, nothing is compared; nor where all is known."""
    found = curve_shift(fit_of(), COHORT, survival_of(OWN, 0.01), regimes=REGIMES)
    assert list(found.columns) == [
        *("endpoint", "regime", "largest", "time"),
        *("survival", "survival_free", "sd_free"),
    ]
    assert found["endpoint"].tolist() == ["os", "os", "efs", "efs"]
    assert found["regime"].tolist() == ["never", "from 2"] * 2
    sd = np.sqrt(4.0 / 3.0)
    expected = [
        (0.1 / (0.03 * sd), 5.0, 0.8, 0.7, 0.03 * sd),
        (0.05 / (0.04 * sd), 9.0, 0.7, 0.75, 0.04 * sd),
        (0.0, 5.0, 0.5, 0.5, 0.02 * sd),
        # Known better than to 0.01 throughout: the first time stands for all.
        (np.nan, np.nan, 1.0, 0.5, 0.0),
    ]
    np.testing.assert_allclose(found.iloc[:, 2:].to_numpy(float), expected, atol=1e-12)


def test_the_free_fit_as_it_is_asked_for(second: Second) -> None:
    fit = fit_of()
    curve_shift(fit, COHORT, survival_of(OWN, 0.01), regimes=REGIMES)
    assert second.fitted["definition"] == free_model(fit.definition)
    assert second.fitted["question"] is QUESTION
    person_time = second.fitted["person_time"]
    assert person_time.people["weight"].values.tolist() == WEIGHTS
    # A cut at each event: the baseline jumps there.
    assert person_time.cuts.size > fit.person_time.cuts.size
    assert second.fitted["seed"] == 7
    assert second.fitted["settings"] == sampler_settings(250, 1, 4, 1, 7)
    assert second.fitted["complete"] is False
    assert second.asked["fit"] == "free fit"
    assert second.asked["regimes"] is REGIMES
    assert second.asked["landmark"] == 2.0
    assert second.asked["times"].tolist() == TIMES


def test_no_curves_no_rows(second: Second) -> None:
    second.curves = survival_of(OWN, 0.01).isel(endpoint=slice(0))
    found = curve_shift(fit_of(), COHORT, second.curves, regimes=REGIMES)
    assert found.empty
    assert found.columns[0] == "endpoint"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((COHORT, COHORT, None), r"^fit: expected Fit, got Cohort"),
        ((None, "table", None), r"^cohort: expected Cohort, got str"),
        ((None, COHORT, "curves"), r"^curves: expected .*Dataset.*, got str"),
    ],
)
def test_wrong_kinds_are_named(arguments: tuple[Any, ...], message: str) -> None:
    fit, cohort, given = arguments
    with pytest.raises(TypeError, match=message):
        curve_shift(fit or fit_of(), cohort, given or survival_of(OWN, 0.01), regimes=REGIMES)


def test_priors_stay_and_the_rest_is_free() -> None:
    narrow = bb.HazardRatioPrior.from_sd(0.4)
    primary = bb.load_model("primary").with_priors(phases=narrow, covariates=narrow)
    found = free_model(primary)
    free = bb.load_model("free")
    assert (found.name, found.baseline) == ("free", free.baseline)
    assert (found.phases, found.covariates) == (primary.phases, primary.covariates)
    assert found.phases != free.phases
    assert found.covariates != free.covariates


def test_each_part_without_a_counterpart() -> None:
    """One part of an otherwise plain model at a time."""
    primary = bb.load_model("primary")
    shipped = {
        "phases": bb.load_model("over_time").phases,
        "endpoints": bb.load_model("correlated").endpoints,
        "groups": PatientFrailty.model_validate(bb.load_model("patient_frailty").groups),
        "borrowing": bb.load_model("robust_mixture").borrowing,
        "cure": bb.load_model("mixture_cure").cure,
        "baseline": bb.load_model("shared_baseline").baseline,
    }
    assert isinstance(primary.endpoints, Independent)
    for name, part in shipped.items():
        with pytest.raises(EstimandError, match="'primary' has no counterpart with a free base"):
            free_model(primary.model_copy(update={name: part}))
    with pytest.raises(EstimandError, match="has no counterpart"):
        free_model(bb.load_model("stratified").with_covariates(stratum="score"))
    # A baseline that knows no shared one is plain.
    assert free_model(bb.load_model("weibull")).name == "free"


def test_a_free_baseline_is_not_moved() -> None:
    definition = bb.load_model("free")
    fit = fit_of()
    own = written_fit(fit.person_time, QUESTION, definition, fit.posterior)
    with pytest.raises(EstimandError, match="Its baseline is free itself"):
        curve_shift(own, COHORT, survival_of(OWN, 0.01), regimes=REGIMES)
