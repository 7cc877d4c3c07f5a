"""Standardisation over supplied patients and subgroups; ratios; numbers needed; statements."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.estimands.comparisons import _statement
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


def test_ratio_between_covariates(synthetic_fit: Fit) -> None:
    got = bb.hazard_ratio(
        synthetic_fit, exposed={"marrow_blasts": 70.0}, reference={"marrow_blasts": 50.0}
    )
    names = list(synthetic_fit.design.term_names)
    scale = synthetic_fit.design.scale[names.index("marrow_blasts")]
    slope = synthetic_fit.posterior["coefficient"].sel(term="marrow_blasts")
    np.testing.assert_allclose(
        got["hazard_ratio"].values, np.exp(20.0 / scale * slope.values), rtol=1e-12
    )
    assert got.attrs["reference"] == "marrow_blasts 50.0"
    level = bb.hazard_ratio(
        synthetic_fit, exposed={"age_group": "55+"}, reference={"age_group": "35-54"}
    )["hazard_ratio"]
    coefficient = synthetic_fit.posterior["coefficient"]
    expected = coefficient.sel(term="age_group[55+]") - coefficient.sel(term="age_group[35-54]")
    np.testing.assert_allclose(level.values, np.exp(expected.values), rtol=1e-12)


def test_ratio_between_sets_of_phases() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=3)
    question = bb.Question(
        exposed="maintenance",
        eligible_from="consolidation",
        reference="consolidation",
        transplant="phase",
    )
    fit = bb.fit(cohort, question, seed=1, draws=100, tune=200, progress=False)
    beta = fit.posterior["log_hazard_ratio"]
    plain = bb.hazard_ratio(fit)["hazard_ratio"]
    np.testing.assert_allclose(
        plain.values, np.exp(beta.sel(effect="maintenance").values), rtol=1e-12
    )
    swapped = bb.hazard_ratio(fit, exposed="consolidation", reference="maintenance")
    np.testing.assert_allclose(swapped["hazard_ratio"].values, 1 / plain.values, rtol=1e-12)
    mixed = bb.hazard_ratio(
        fit, exposed=["maintenance", "transplant"], reference="consolidation", over="interval"
    )["hazard_ratio"]
    average = bb.hazard_ratio(
        fit, exposed=["maintenance", "transplant"], reference="consolidation"
    )["hazard_ratio"]
    table = fit.person_time.table
    for endpoint in ("os", "rfs"):
        time = table["person_time"].sel(endpoint=endpoint).sum("pattern")
        one = beta.isel(chain=0, draw=9).sel(endpoint=endpoint)
        ratios = {
            name: float(np.exp(one.sel(effect=name))) for name in ("maintenance", "transplant")
        }
        whole = {name: float(time.sel(phase=name).sum()) for name in ratios}
        logs = []
        for interval in range(time.sizes["interval"]):
            spent = {name: float(time.sel(phase=name)[interval]) for name in ratios}
            spent = spent if sum(spent.values()) > 0 else whole
            expected = sum(spent[n] * ratios[n] for n in ratios) / sum(spent.values())
            value = mixed.sel(endpoint=endpoint).isel(chain=0, draw=9, interval=interval)
            assert float(value) == pytest.approx(expected, rel=1e-12)
            logs.append(np.log(expected))
        events = table["events"].sel(endpoint=endpoint).sum(("phase", "pattern")).values
        assert float(average.sel(endpoint=endpoint).isel(chain=0, draw=9)) == pytest.approx(
            float(np.exp(np.average(logs, weights=events))), rel=1e-12
        )
    for exposed, reference, message in (
        (["maintenance"], ["maintenance"], "stands on both sides"),
        ("maintenance", {"age_group": "55+"}, "phases with phases"),
        ([], "consolidation", "empty set"),
        (3, "consolidation", "Expected a phase"),
        (["maintenance", "maintenance"], "consolidation", "stands twice"),
        ("maintenence", "consolidation", "Nearest: maintenance"),
    ):
        with pytest.raises(EstimandError, match=message):
            bb.hazard_ratio(fit, exposed=exposed, reference=reference)  # type: ignore[arg-type]


def test_number_needed_to_treat(synthetic_fit: Fit) -> None:
    needed = bb.number_needed_to_treat(
        synthetic_fit, time=24.0, regime=bb.From(START), landmark=LANDMARK, mass=0.9
    )
    both: tuple[Regime, Regime] = (bb.From(START), bb.Never())
    curves = bb.survival(synthetic_fit, regimes=both, times=[24.0], landmark=LANDMARK)
    difference = bb.contrast(curves, *both)["survival_difference"].isel(time=0)
    for endpoint in ("os", "rfs"):
        values = difference.sel(endpoint=endpoint).values.ravel()
        one = needed.sel(endpoint=endpoint)
        assert float(one["number_needed_to_treat"]) == pytest.approx(1 / np.median(values))
        assert float(one["number_at_lower"]) == pytest.approx(1 / np.quantile(values, 0.05))
        assert float(one["number_at_upper"]) == pytest.approx(1 / np.quantile(values, 0.95))
        assert float(one["probability_of_benefit"]) == pytest.approx((values > 0).mean())
    with pytest.raises(EstimandError, match="do not differ by 9"):
        bb.number_needed_to_treat(synthetic_fit, time=9.0, regime=bb.From(START), landmark=LANDMARK)


@pytest.mark.parametrize(
    ("difference", "statement"),
    [
        # Altman's way: 1 / 0.1 = 10; from the larger effect's number to the smaller's.
        ((0.1, 0.05, 0.2), "benefit 10 (95% interval benefit 5 to benefit 20)"),
        ((0.1, -0.05, 0.25), "benefit 10 (95% interval benefit 4 to infinity to harm 20)"),
        ((-0.1, -0.2, -0.05), "harm 10 (95% interval harm 5 to harm 20)"),
        ((0.1, 0.0, 0.2), "benefit 10 (95% interval benefit 5 to infinity)"),
    ],
)
def test_numbers_in_words(difference: tuple[float, float, float], statement: str) -> None:
    assert _statement(*difference, 0.95) == statement


def test_probability_statements() -> None:
    values = np.array([[-2.0, -1.0, 0.0, 0.5], [1.0, 2.0, 3.0, 4.0]])
    draws = xr.Dataset(
        {"gain": (("chain", "draw", "endpoint"), np.stack([values, values + 10], axis=2))},
        coords={"endpoint": ["os", "rfs"]},
        attrs={"converged": 0},
    )
    table = bb.probabilities(draws, thresholds=[0.0], equivalence=(-1.0, 1.0))
    assert list(table["endpoint"]) == ["os"] * 4 + ["rfs"] * 4
    assert list(table["statement"][:4]) == [
        "gain < 0",
        "gain < -1",
        "-1 <= gain <= 1",
        "gain > 1",
    ]
    np.testing.assert_allclose(table["probability"], [2 / 8, 1 / 8, 4 / 8, 3 / 8, 0, 0, 0, 1])
    assert (table["mcse"][4:] == 0).all()
    assert not table["converged"].any()
    many = np.random.default_rng(1).normal(size=(4, 1000))
    one = bb.probabilities(xr.Dataset({"gain": (("chain", "draw"), many)}), thresholds=[0.0]).iloc[
        0
    ]
    # Independent draws: the binomial's standard error, 0.5 / sqrt(4000), up to the estimate of
    # the effective sample size.
    assert one["mcse"] == pytest.approx(0.5 / np.sqrt(4000), rel=0.15)
    for arguments, message in (
        ({}, "Ask for thresholds"),
        ({"equivalence": (1.0, -1.0)}, "in order"),
    ):
        with pytest.raises(SpecError, match=message):
            bb.probabilities(draws, **arguments)


def test_survival_equals_the_gamma_conjugate_posteriors() -> None:
    """One categorical covariate, no walk, flat priors: each cell's hazard is Gamma(D, E).

    Only patients of arm a are ever exposed, so the cells (a, not exposed), (b, not exposed) and
    (a, exposed) have a free log hazard each, and a flat prior on it is the gamma prior of shape
    and rate 0. Then E[exp(-hazard t)] = (E / (E + t))^D.
    """
    generator = np.random.default_rng(4)
    size = 120
    arm = np.where(np.arange(size) < 70, "a", "b")
    time = generator.exponential(np.where(arm == "a", 20.0, 9.0))
    start = np.where((arm == "a") & (generator.random(size) < 0.6), 3.0, np.nan)
    table = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(size)],
            "time": np.minimum(time, 30.0),
            "event": (time < 30.0).astype(int),
            "start": np.where(start < np.minimum(time, 30.0), start, np.nan),
            "arm": arm,
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["arm"],
    )
    flat = bb.HazardRatioPrior.from_sd(50.0)
    model = bb.load_model("primary").with_priors(phases=flat, covariates=flat, level=flat)
    question = bb.Question(exposed="late", eligible_from="entry")
    fit = bb.fit(cohort, question, model=model, cuts=[], seed=1, progress=False)
    times = [2.0, 10.0, 25.0]
    got = bb.survival(fit, regimes=[bb.Never()], times=times, landmark=0.0, by="arm")
    summary = bb.summary(got)
    # 70 of the 120 patients are in arm a.
    whole = bb.survival(fit, regimes=[bb.Never()], times=times, landmark=0.0)["survival"]
    parts = got["survival"]
    mixed = (70 * parts.sel(subgroup="a") + 50 * parts.sel(subgroup="b")) / 120
    np.testing.assert_allclose(whole.values, mixed.values, rtol=1e-12)
    exposed = table["start"].notna()
    for name in ("a", "b"):
        rows = table["arm"] == name
        # Time and events outside the late phase.
        spent = np.where(exposed, table["start"], table["time"])[rows].sum()
        deaths = int((table["event"] * ~exposed)[rows].sum())
        for at in times:
            exact = (spent / (spent + at)) ** deaths
            row = summary[(summary["subgroup"] == name) & (summary["time"] == at)].iloc[0]
            assert abs(row["mean"] - exact) < 4 * row["mcse"]
            second = (spent / (spent + 2 * at)) ** deaths
            assert row["sd"] == pytest.approx(np.sqrt(second - exact**2), rel=0.08)


def test_phases_that_share_a_hazard_are_not_told_apart() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=3)
    question = bb.Question(exposed="maintenance", eligible_from="entry", transplant="ignore")
    fit = bb.fit(cohort, question, seed=1, draws=100, tune=200, progress=False)
    shared = [
        str(name)
        for name, role in zip(
            fit.person_time.table["treatment"].values,
            fit.person_time.table["role"].values,
            strict=True,
        )
        if role == "reference"
    ]
    assert "consolidation" in shared
    assert len(shared) == 2
    (first,) = (name for name in shared if name != "consolidation")
    for exposed, reference in (
        (["consolidation", "maintenance"], first),
        ("maintenance", "consolidation"),
        ("consolidation", first),
    ):
        with pytest.raises(EstimandError, match=r"one hazard for .* names the reference"):
            bb.hazard_ratio(fit, exposed=exposed, reference=reference)
    whole = bb.hazard_ratio(fit, exposed="maintenance", reference=shared)["hazard_ratio"]
    np.testing.assert_allclose(whole.values, bb.hazard_ratio(fit)["hazard_ratio"].values)
