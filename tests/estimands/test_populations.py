"""Averages over supplied patients against loops, and who may be supplied."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.populations import Population
from bayesblina.estimands.regimes import Regime
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort

LANDMARK, START = 8.0, 10.0

TIMES = [9.5, 13.0, 22.0]


REGIMES: list[Regime] = [bb.Never(), bb.From(START)]


@pytest.fixture(scope="module")
def others() -> Cohort:
    """Patients who were not fitted."""
    return bb.simulate.blinatumomab_cohort(seed=11)[0]


def shift(fit: Fit, one: xr.Dataset, covariates: dict[str, object]) -> float:
    """Log relative hazard of a patient in one draw, term by term."""
    design, total = fit.design, 0.0
    for index, name in enumerate(design.term_names):
        if "[" in name:
            covariate, level = name.rstrip("]").split("[")
            raw = float(covariates[covariate] == level)
        else:
            raw = float(str(covariates[name]))
        standard = (raw - design.centre[index]) / design.scale[index]
        total += standard * float(one["coefficient"].values[index])
    return total


def curve(fit: Fit, one: xr.Dataset, relative: float, start: float, time: float) -> float:
    """Survival of one patient in one draw, by adding up small exact pieces."""
    cuts = fit.person_time.cuts
    inner = [cut for cut in (*cuts, start) if LANDMARK < cut < time]
    knots = [LANDMARK, *sorted(inner), time]
    total = 0.0
    for left, right in pairwise(knots):
        middle = (left + right) / 2
        log_hazard = float(one["log_baseline"].values[int(np.searchsorted(cuts, middle))])
        if middle > start:
            log_hazard += float(one["log_hazard_ratio"].values[0])
        total += (right - left) * np.exp(log_hazard + relative)
    return float(np.exp(-total))


def patients_of(cohort: Cohort) -> list[dict[str, object]]:
    columns = {
        name: [one.levels[int(value)] for value in one.values]
        if one.kind == "categorical"
        else list(one.values)
        for name, one in cohort.covariates.items()
    }
    return [{name: values[row] for name, values in columns.items()} for row in range(cohort.size)]


def test_supplied_patients_equal_a_loop_over_patients_and_draws(
    synthetic_fit: Fit, others: Cohort
) -> None:
    got = bb.survival(
        synthetic_fit, regimes=REGIMES, times=TIMES, landmark=LANDMARK, population=others
    )
    assert "267 supplied patients" in got.attrs["population"]
    patients = patients_of(others)
    for endpoint in ("os", "rfs"):
        for draw in (3, 700):
            one = synthetic_fit.posterior.isel(chain=2, draw=draw).sel(endpoint=endpoint)
            relative = [shift(synthetic_fit, one, patient) for patient in patients]
            for regime, start in (("never", np.inf), ("from 10", START)):
                expected = [
                    np.mean([curve(synthetic_fit, one, each, start, time) for each in relative])
                    for time in TIMES
                ]
                values = got["survival"].sel(endpoint=endpoint, regime=regime)
                np.testing.assert_allclose(
                    values.isel(chain=2, draw=draw).values, expected, rtol=1e-10
                )


def test_subgroups_average_to_everybody(synthetic_fit: Fit, others: Cohort) -> None:
    for population in (None, others):
        whole, parts = (
            bb.rmst(
                synthetic_fit,
                horizon=24.0,
                regimes=REGIMES,
                landmark=LANDMARK,
                population=population,
                by=by,
            )["rmst"]
            for by in (None, "age_group")
        )
        assert parts.dims == ("chain", "draw", "endpoint", "subgroup", "regime")
        people = synthetic_fit.person_time.people
        for endpoint in ("os", "rfs"):
            if population is None:
                one = people.sel(endpoint=endpoint)
                at_risk = (one["begin"] <= LANDMARK) & (one["exit"] > LANDMARK)
                design = synthetic_fit.person_time.table["design"].values
                rows = design[people["pattern"].values[at_risk.values]]
                names = list(synthetic_fit.person_time.table["term"].values)
                middle, old = (
                    rows[:, names.index(f"age_group[{x}]")].mean() for x in ("35-54", "55+")
                )
                share = {"18-34": 1 - middle - old, "35-54": middle, "55+": old}
            else:
                ages = pd.Series([patient["age_group"] for patient in patients_of(others)])
                share = {level: float((ages == level).mean()) for level in ages.unique()}
            weights = xr.DataArray(
                [share[str(x)] for x in parts["subgroup"].values], dims="subgroup"
            )
            np.testing.assert_allclose(
                (parts.sel(endpoint=endpoint) * weights).sum("subgroup").values,
                whole.sel(endpoint=endpoint).values,
                rtol=1e-12,
            )


def test_a_patients_curve_and_quantile(synthetic_fit: Fit) -> None:
    patient: Population = {"age_group": "55+", "prior_salvage": "yes", "marrow_blasts": 80.0}
    got = bb.survival(
        synthetic_fit, regimes=REGIMES, times=TIMES, landmark=LANDMARK, population=patient
    )["survival"]
    one = synthetic_fit.posterior.isel(chain=0, draw=5).sel(endpoint="rfs")
    relative = shift(
        synthetic_fit, one, {"age_group": "55+", "prior_salvage": "yes", "marrow_blasts": 80.0}
    )
    expected = [curve(synthetic_fit, one, relative, START, time) for time in TIMES]
    values = got.sel(endpoint="rfs", regime="from 10").isel(chain=0, draw=5).values
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    median = bb.median_survival(
        synthetic_fit, regimes=[bb.Never()], landmark=LANDMARK, population=patient
    )
    time = float(median["quantile"].isel(chain=0, draw=5).sel(endpoint="rfs", regime="never"))
    if bool(median["reached"].isel(chain=0, draw=5).sel(endpoint="rfs", regime="never")):
        assert curve(synthetic_fit, one, relative, np.inf, time) == pytest.approx(0.5, rel=1e-9)


def test_patients_outside_the_range_are_counted(synthetic_fit: Fit) -> None:
    patient: Population = {"age_group": "55+", "prior_salvage": "yes", "marrow_blasts": 1e3}
    got = bb.survival(synthetic_fit, landmark=LANDMARK, times=[9.0], population=patient)
    assert got.attrs["population"].endswith("(1 outside the range of the patients fitted)")


@pytest.mark.parametrize(
    ("population", "by", "message"),
    [
        ({"age_group": "55+"}, None, "Give the patient's prior_salvage, marrow_blasts too"),
        ({"age": 3.0}, None, "The model has no covariate 'age'. There are: age_group"),
        (
            {"age_group": "90+", "prior_salvage": "yes", "marrow_blasts": 50.0},
            None,
            "no patient with '90\\+'; its levels are 18-34, 35-54, 55\\+",
        ),
        (
            {"age_group": "55+", "prior_salvage": "yes", "marrow_blasts": "many"},
            None,
            "marrow_blasts must be a number, got 'many'",
        ),
        (
            {"age_group": "55+", "prior_salvage": "yes", "marrow_blasts": np.nan},
            None,
            "marrow_blasts must be finite",
        ),
        ([1, 2], None, "population must be a Cohort or a mapping.*got list"),
        (None, ["age_group"], "by must be the name of one covariate"),
        (None, "marrow_blasts", "no categorical covariate 'marrow_blasts'"),
        (
            {"age_group": "55+", "prior_salvage": "yes", "marrow_blasts": 50.0},
            "age_group",
            "the population: nobody has age_group '18-34'",
        ),
    ],
)
def test_impossible_populations(
    synthetic_fit: Fit, population: object, by: object, message: str
) -> None:
    with pytest.raises(EstimandError, match=message):
        bb.survival(
            synthetic_fit,
            landmark=LANDMARK,
            times=[9.0],
            population=population,  # type: ignore[arg-type]
            by=by,  # type: ignore[arg-type]
        )


def test_a_population_without_a_covariate_of_the_model(synthetic_fit: Fit) -> None:
    table = pd.DataFrame(
        {
            "id": ["a"],
            "t": [9.0],
            "d": [1],
            "age_group": ["55+"],
            "prior_salvage": ["yes"],
            "late": [np.nan],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(late="late"),
        covariates=["age_group", "prior_salvage"],
    )
    with pytest.raises(EstimandError, match="has no covariate 'marrow_blasts'"):
        bb.survival(synthetic_fit, landmark=LANDMARK, times=[9.0], population=cohort)
