"""What the priors say before any data: by hand, patient by patient."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.hazards.build import build_model, draw_prior
from bayesblina.inference.fitting import Fit
from bayesblina.inference.model_data import person_time_for

QUESTION = bb.Question(exposed="m", eligible_from="entry")


def cohort(
    count: int = 50, seed: int = 8, covariates: tuple[str, ...] = ("age", "sex")
) -> bb.Cohort:
    """Patients of this test's own: a phase, two covariates, one endpoint."""
    random = np.random.default_rng(seed)
    event, censored = random.exponential(10.0, count), random.uniform(5.0, 25.0, count)
    time, start = np.minimum(event, censored), random.uniform(0.5, 12.0, count)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(count)],
            "time": time,
            "event": (event <= censored).astype(int),
            "m": np.where((start < time) & (random.random(count) < 0.7), start, np.nan),
            "age": random.normal(50.0, 10.0, count).round(0),
            "sex": np.where(random.random(count) < 0.5, "f", "m"),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(m="m"),
        covariates=list(covariates),
        synthetic=True,
    )


def test_prior_has_the_moments_that_were_asked_for(synthetic_fit: Fit) -> None:
    from bayesblina.hazards.baseline import baseline_curves, walks
    from bayesblina.hazards.parts import RandomWalk

    definition, person_time = synthetic_fit.definition, synthetic_fit.person_time
    draws = 2000
    prior = bb.priors.prior_predictive(
        definition, person_time, seed=5, draws=draws, baseline="prior"
    )
    logs = np.log(prior["hazard_ratio"].values[:, :, 0])
    sd = definition.phases.prior.sd
    assert np.abs(logs.mean(axis=0)).max() < 4 * sd / np.sqrt(draws)
    np.testing.assert_allclose(logs.std(axis=0), sd, rtol=4 / np.sqrt(2 * draws))
    terms = 1 + len(synthetic_fit.design.term_names)
    curves = baseline_curves(person_time, synthetic_fit.design, prior_sd=np.ones(terms))
    weight = curves.weight
    found = walks(np.ones((weight.shape[0], weight.shape[1] - 1)), weight, curves.crude)
    scaled = (found.basis * found.inverse_roughness[:, None, :]) ** 2
    baseline = definition.baseline
    assert isinstance(baseline, RandomWalk)
    variance = baseline.level.sd**2 + baseline.step.sd**2 * scaled.sum(axis=2)
    values = np.log(prior["hazard"].values)
    # The sd of a normal's variance is sqrt(2 / n) of it.
    np.testing.assert_allclose(values.var(axis=0), variance, rtol=4.5 * (2 / draws) ** 0.5)


@pytest.mark.parametrize("name", ["primary", "over_time", "by_subgroup", "weibull"])
def test_as_many_events_are_expected_as_there_were(name: str) -> None:
    """Cell by cell with the draws' own effects; and curves patient by patient."""
    model = bb.load_model(name)
    if name == "by_subgroup":
        model = model.with_covariates(subgroup="sex")
    person_time = person_time_for(model, cohort(), QUESTION, cuts=[2.0, 5.0, 11.0])
    times = [0.0, 1.0, 6.0, 20.0]
    prior = bb.priors.prior_predictive(model, person_time, seed=3, draws=30, times=times)
    built = build_model(model, person_time)
    truth = draw_prior(built, seed=3, draws=30).isel(chain=0).sel(endpoint="os")
    table, design = person_time.table.sel(endpoint="os"), built.design
    events, time = table["events"].values, table["person_time"].values
    span = np.diff(np.append(np.concatenate([[0.0], person_time.cuts]), 20.0))
    for draw in (0, 7, 29):
        one = truth.isel(draw=draw)
        relative = np.exp(design.terms @ one["coefficient"].values)
        ratio = np.full((4, 2), float(one["log_hazard_ratio"].values[0]))
        if name == "over_time":
            ratio = np.repeat(one["log_hazard_ratio_by_interval"].values[:, None], 2, axis=1)
        if name == "by_subgroup":
            ratio = np.repeat(one["log_hazard_ratio_by_subgroup"].values[None], 4, axis=0)
        group = design.class_of
        hazard = prior["hazard"].sel(endpoint="os").isel(draw=draw).values
        for interval in range(4):
            expected = 0.0
            for pattern in range(time.shape[2]):
                effect = np.exp(ratio[interval, group[pattern]])
                unexposed, exposed = time[interval, :, pattern]
                expected += relative[pattern] * (unexposed + effect * exposed)
            assert hazard[interval] * expected == pytest.approx(events[interval].sum(), rel=1e-9)
        for phase, state in enumerate(prior["phase"].values):
            alive = [
                np.exp(
                    -relative[pattern]
                    * (hazard * span * np.exp(ratio[:, group[pattern]] * phase)).sum()
                )
                for pattern in person_time.people["pattern"].values
            ]
            got = prior["survival"].sel(endpoint="os", phase=state, time=20.0).isel(draw=draw)
            assert float(got) == pytest.approx(np.mean(alive), rel=1e-9)
    np.testing.assert_allclose(prior["survival"].sel(time=0.0), 1.0, rtol=1e-12)
    crude = events.sum(axis=(1, 2)) / time.sum(axis=(1, 2))
    pooled = prior["pooled_survival"].sel(endpoint="os", time=20.0)
    assert float(pooled) == pytest.approx(np.exp(-(crude * span).sum()), rel=1e-12)


def test_the_vague_baseline_is_absurd_and_the_pooled_hazard_is_not() -> None:
    """Why it is given: of the prior alone most draws have nobody alive, or everybody."""
    person_time = bb.person_time(cohort(covariates=()), QUESTION)
    model = bb.load_model("primary")
    absurd = {}
    for baseline in ("prior", "pooled"):
        found = bb.priors.prior_predictive(
            model, person_time, seed=1, draws=300, times=[18.0], baseline=baseline
        )
        alive = found["survival"].sel(endpoint="os").isel(phase=0)
        absurd[baseline] = float(((alive < 0.005) | (alive > 0.995)).mean())
    assert absurd["prior"] > 0.5
    assert absurd["pooled"] < 0.05


def test_cured_patients_stay_alive() -> None:
    model = bb.load_model("mixture_cure")
    person_time = person_time_for(model, cohort(), QUESTION)
    prior = bb.priors.prior_predictive(model, person_time, seed=1, draws=50, times=[1e9])
    left = prior["survival"].values
    fraction = draw_prior(build_model(model, person_time), seed=1, draws=50)["cured_log_odds"]
    assert ((left >= 0.0) & (left <= 1.0)).all()
    # Whoever the covariates make likelier to be cured: the order of draws is that of the fraction.
    assert np.corrcoef(left[:, 0, 0, 0], fraction.values[0, :, 0])[0, 1] > 0.3


def test_what_is_impossible_is_said() -> None:
    person_time = bb.person_time(cohort(), QUESTION)
    with pytest.raises(SpecError, match="at least 1"):
        bb.priors.prior_predictive(bb.load_model("primary"), person_time, seed=1, draws=0)
    with pytest.raises(SpecError, match="'pooled' or 'prior'"):
        bb.priors.prior_predictive(bb.load_model("primary"), person_time, seed=1, baseline="none")  # type: ignore[arg-type]
