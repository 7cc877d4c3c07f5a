"""The free baseline: step functions against their own formulas, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.hazards.build import build_model
from bayesblina.hazards.definition import ModelDefinition, parse_model
from bayesblina.inference import drawing
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import Fit

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
LANDMARK, START, HORIZON = 8.0, 10.0, 24.0


@pytest.fixture(scope="module")
def cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=1)[0]


@pytest.fixture(scope="module")
def fit(cohort: bb.Cohort) -> Fit:
    return bb.fit(cohort, QUESTION, model="free", seed=1, draws=300, chains=2, progress=False)


def jumps_of(fit: Fit, endpoint: str) -> tuple[Floats, Floats]:
    """Times and jumps of the baseline of an endpoint, (jump,) and (draws, jump)."""
    table = fit.person_time.table
    width = (table["interval_stop"] - table["interval_start"]).values[1::2]
    logs = fit.posterior["log_baseline"].sel(endpoint=endpoint)
    flat = logs.values.reshape(-1, logs.sizes["interval"])[:, 1::2]
    return table["interval_stop"].values[1::2], np.exp(flat) * width


def steps(
    fit: Fit, endpoint: str, at: Floats, *, start: float | None, landmark: float
) -> NDArray[np.float64]:
    """Survival by the formula of a step function, averaged over those at risk at the landmark."""
    times, jumps = jumps_of(fit, endpoint)
    one = fit.posterior.sel(endpoint=endpoint)
    ratio = one["log_hazard_ratio"].values.reshape(-1)
    slope = one["coefficient"].values.reshape(ratio.size, -1)
    people = fit.person_time.people.sel(endpoint=endpoint)
    inside = (people["begin"].values <= landmark) & (people["exit"].values > landmark)
    terms = fit.design.terms[people["pattern"].values[inside]]
    relative = np.exp(slope @ terms.T)
    acting = np.zeros(times.size) if start is None else (times > start) * 1.0
    hazard = jumps * np.exp(ratio[:, None] * acting) * (times > landmark)
    passed = np.cumsum(hazard, axis=1)
    found = np.empty((ratio.size, at.size))
    for index, time in enumerate(at):
        last = int(np.searchsorted(times, time, side="right")) - 1
        total = passed[:, last] if last >= 0 else np.zeros(ratio.size)
        found[:, index] = np.exp(-total[:, None] * relative).mean(axis=1)
    return found


@pytest.mark.parametrize("endpoint", ["os", "rfs"])
@pytest.mark.parametrize("start", [None, START])
def test_survival_and_restricted_means_are_the_steps(
    fit: Fit, endpoint: str, start: float | None
) -> None:
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(START)]
    label = regimes[0 if start is None else 1].label
    times, _ = jumps_of(fit, endpoint)
    inside = times[(times > LANDMARK) & (times < HORIZON)]
    # At the jumps, and between them.
    at = np.sort(np.concatenate([inside, inside + 1e-4, [LANDMARK, HORIZON]]))
    found = bb.survival(fit, regimes=regimes, times=at, landmark=LANDMARK)["survival"]
    values = found.sel(endpoint=endpoint, regime=label).values.reshape(-1, at.size)
    expected = steps(fit, endpoint, at, start=start, landmark=LANDMARK)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-9)
    means = bb.rmst(fit, regimes=regimes, horizon=HORIZON, landmark=LANDMARK)["rmst"]
    knots = np.concatenate([[LANDMARK], inside, [HORIZON]])
    level = steps(fit, endpoint, knots[:-1], start=start, landmark=LANDMARK)
    np.testing.assert_allclose(
        means.sel(endpoint=endpoint, regime=label).values.ravel(),
        level @ np.diff(knots),
        rtol=0,
        atol=1e-9 * HORIZON,
    )
    middle = bb.median_survival(fit, regimes=regimes, horizon=HORIZON, landmark=LANDMARK)
    one = middle.sel(endpoint=endpoint, regime=label)
    reached = one["reached"].values.ravel().astype(bool)
    median = one["quantile"].values.ravel()
    # A median lies at a jump, up to the length of its interval.
    nearest = times[np.abs(times - median[reached, None]).argmin(axis=1)]
    np.testing.assert_allclose(median[reached], nearest, rtol=1e-8)


def test_hazard_ratios_are_the_companions(fit: Fit) -> None:
    found = partial_posterior(fit.definition, fit.person_time, seed=1, draws=600)
    assert found.draws is not None
    for name in ("log_hazard_ratio", "coefficient"):
        np.testing.assert_array_equal(
            fit.posterior[name].values.reshape(found.draws[name].shape), found.draws[name].values
        )
    ratio = bb.average_hazard_ratio(fit, regime=bb.From(LANDMARK), landmark=LANDMARK)
    own = bb.hazard_ratio(fit)["hazard_ratio"]
    # Marginal ones lie between the conditional one and 1.
    inside = (ratio["hazard_ratio"] - own) * (1.0 - own)
    assert float((inside > -0.01).mean()) > 0.95


def test_jumps_are_breslows_estimator() -> None:
    """Without effects to speak of the jumps' means are those of Nelson and Aalen, and gamma."""
    table = bb.simulate.blinatumomab_table(seed=1)
    ties = table.assign(os_months=np.ceil(table["os_months"]))
    cohort = bb.read_cohort(
        ties,
        patient="patient_id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="os_months", event="died")},
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
    )
    question = bb.Question(exposed="maintenance", eligible_from="entry")
    nothing = bb.HazardRatioPrior.from_sd(1e-6)
    definition = bb.load_model("free").with_priors(phases=nothing)
    fit = bb.fit(cohort, question, model=definition, seed=1, draws=2000, progress=False)
    times, jumps = jumps_of(fit, "os")
    ends, died = ties["os_months"].to_numpy(), ties["died"].to_numpy() == 1
    deaths = np.array([(died & (ends == time)).sum() for time in times])
    at_risk = np.array([(ends >= time).sum() for time in times])
    assert deaths.max() > 3
    error = np.sqrt(deaths) / at_risk / np.sqrt(8000)
    assert (np.abs(jumps.mean(axis=0) - deaths / at_risk) < 4.5 * error).all()
    np.testing.assert_allclose(jumps.std(axis=0), np.sqrt(deaths) / at_risk, rtol=0.08)
    # Independent given the hazard ratios.
    correlation = np.corrcoef(jumps.T) - np.eye(times.size)
    assert np.abs(correlation).max() < 5.0 / np.sqrt(8000)


def test_weighted_events_and_risk_sets() -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "time": [2.0, 3.0, 5.0, 7.0],
            "died": [1, 1, 1, 0],
            "start": [np.nan, 1.0, 4.0, np.nan],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died")},
        phases=bb.Phases(late="start"),
    )
    weights = np.array([1.0, 2.0, 0.5, 1.5])
    question = bb.Question(exposed="late", eligible_from="entry")
    nothing = bb.HazardRatioPrior.from_sd(1e-6)
    definition = bb.load_model("free").with_priors(phases=nothing)
    fit = bb.fit(
        cohort, question, model=definition, weights=weights, seed=1, draws=4000, progress=False
    )
    times, jumps = jumps_of(fit, "os")
    assert times.tolist() == [2.0, 3.0, 5.0]
    expected = np.array([1.0 / 5.0, 2.0 / 4.0, 0.5 / 2.0])
    shape = np.array([1.0, 2.0, 0.5])
    error = expected / np.sqrt(shape) / np.sqrt(16_000)
    assert (np.abs(jumps.mean(axis=0) - expected) < 4.5 * error).all()
    assert any("weights" in note for note in fit.provenance.notes)


def test_criteria_are_those_of_weights(fit: Fit) -> None:
    assert fit.converged
    criteria = fit.convergence.criteria["criterion"].tolist()
    assert criteria == ["largest Pareto k", "smallest effective number of draws"]
    assert fit.convergence.table["r_hat"].isna().all()
    assert (fit.convergence.table["pareto_k"] < 0.5).all()


REFUSED: dict[str, Callable[[Fit, bb.Cohort], object]] = {
    "hazard": lambda fit, _: bb.hazard(fit),
    "leave_one_out": lambda fit, _: bb.loo(fit),
    "compare": lambda fit, _: bb.compare({"one": fit, "other": fit}),
    "influence": lambda fit, _: bb.influence(fit),
    "power_scaling": lambda fit, _: bb.priors.power_scaling(fit),
    "replicated_events": lambda fit, _: bb.checks.replicated_events(fit, seed=1),
    "replicated_simon_makuch": lambda fit, _: bb.checks.replicated_simon_makuch(fit, seed=1),
    "k_fold": lambda _, cohort: bb.k_fold(cohort, QUESTION, model="free", folds=3, seed=1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, fit: Fit, cohort: bb.Cohort) -> None:
    with pytest.raises(EstimandError, match="cannot be had from model 'free'"):
        REFUSED[name](fit, cohort)


def test_no_prior_of_the_baseline(fit: Fit) -> None:
    with pytest.raises(EstimandError, match="no prior of the baseline"):
        bb.priors.prior_predictive(fit.definition, fit.person_time, seed=1)
    with pytest.raises(SpecError, match="no density of baselines"):
        build_model(fit.definition, fit.person_time)
    with pytest.raises(SpecError, match="has no prior 'level'"):
        fit.definition.with_priors(level=bb.HazardRatioPrior.from_sd(1.0))


def test_check_says_what_it_did_not_do(fit: Fit) -> None:
    found = bb.check(fit)
    assert found.passed
    assert found.loo.empty
    assert found.predictive.empty
    assert any("cannot be had" in note for note in found.notes)
    assert "no LOO estimates" in repr(found)
    assert found._repr_html_()


def test_saved_and_loaded(fit: Fit, tmp_path: Path) -> None:
    bb.save(fit, tmp_path / "fit.nc")
    again = bb.load(tmp_path / "fit.nc")
    assert again.definition == fit.definition
    np.testing.assert_array_equal(
        again.posterior["log_baseline"].values, fit.posterior["log_baseline"].values
    )
    assert again.converged


def test_cuts_and_other_parts_are_refused(cohort: bb.Cohort) -> None:
    with pytest.raises(SpecError, match="cuts are not for model 'free'"):
        bb.fit(cohort, QUESTION, model="free", cuts=[3.0], seed=1, progress=False)
    content = bb.load_model("free").model_dump(by_alias=True)
    content["phases"] = bb.load_model("over_time").phases.model_dump()
    with pytest.raises(SpecError, match="proportional phases"):
        parse_model(content, source="a test")


def test_grouped_jumps_state_their_error(
    cohort: bb.Cohort, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MOST_JUMPS", 15)
    coarse = bb.fit(cohort, QUESTION, model="free", seed=1, draws=300, chains=2, progress=False)
    (note,) = [one for one in coarse.provenance.notes if "jumps of the hazard" in one]
    error = float(note.rsplit(" ", 1)[1])
    assert coarse.person_time.table.sizes["interval"] < fit.person_time.table.sizes["interval"] / 2
    times = np.linspace(LANDMARK, 30.0, 200)
    one, other = (
        bb.survival(part, times=times, landmark=LANDMARK)["survival"].mean(("chain", "draw"))
        for part in (fit, coarse)
    )
    assert 0.0 < error < 0.3
    away = np.abs(one.values - other.values)
    assert away.max() < error


def test_transitions_of_a_course(cohort: bb.Cohort) -> None:
    content = bb.load_model("free").model_dump(by_alias=True)
    content["endpoints"] = bb.load_model("illness_death").endpoints.model_dump()
    definition: ModelDefinition = parse_model(content, source="a test")
    fit = bb.fit(cohort, QUESTION, model=definition, seed=1, draws=50, chains=2, progress=False)
    alive = bb.survival(fit, times=[12.0, 24.0], landmark=LANDMARK)["survival"]
    assert alive["endpoint"].values.tolist() == ["os", "rfs"]
    assert bool((alive.sel(endpoint="os") >= alive.sel(endpoint="rfs") - 1e-12).all())


def test_imputed_dropouts(cohort: bb.Cohort, fit: Fit) -> None:
    found = bb.bias.informative_dropout(
        cohort,
        fit,
        hazard_ratio_exposed=1.5,
        hazard_ratio_unexposed=1.0,
        horizon=30.0,
        imputations=2,
        death="os",
        seed=1,
        settings=SamplerSettings(draws=50, tune=10, chains=2),
    )
    assert np.isfinite(found["hazard_ratio"]).all()
