"""Weighted fits: whole numbers as weights against replicated patients, pieces against the whole.

Both sides have the same draws, so that nothing but what is derived from them can differ.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import logsumexp

import bayesblina as bb
from bayesblina.checks import weaknesses
from bayesblina.checks.agreement import risk_sets
from bayesblina.checks.pointwise import efficiencies, leave_one_out_total
from bayesblina.checks.replicates import _overlapping
from bayesblina.core.errors import DataError, EstimandError, SpecError
from bayesblina.hazards.likelihood import patient_log_likelihood
from bayesblina.inference import model_data
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import Fit, weights_of
from bayesblina.inference.monte_carlo import smooth_tails
from bayesblina.output.plots import martingale_residuals as draw_residuals
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime, front
from bayesblina.studies.bias import dropout

LATE = bb.Question(exposed="late", eligible_from="entry")
CUTS = [2.0, 5.0]
SIZE = 60


def patients() -> pd.DataFrame:
    """Patients who enter late or not, and a phase and a covariate that do something."""
    random = np.random.default_rng(5)
    site = random.random(SIZE) < 0.4
    time = random.exponential(np.where(site, 4.0, 9.0)) + 0.2
    stop = random.uniform(3.0, 14.0, SIZE)
    end = np.minimum(time, stop)
    start = random.exponential(3.0, SIZE)
    return pd.DataFrame(
        {
            "id": [f"p{index:02d}" for index in range(SIZE)],
            "time": end,
            "event": (time <= stop).astype(int),
            "entry": np.where(random.random(SIZE) < 0.3, 0.3 * end, 0.0),
            "start": np.where(start < 0.7 * end, start, np.nan),
            "site": np.where(site, "y", "x"),
            # Who dies weighs more: what ignores weights is found out.
            "weight": np.where(time <= stop, random.integers(1, 4, SIZE), 1),
        }
    )


def cohort_of(table: pd.DataFrame, *, person: str | None = None) -> Cohort:
    found = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event", entry="entry")},
        phases=bb.Phases(late="start"),
        covariates=["site"],
    )
    return found if person is None else replace(found, persons=table[person].to_numpy(dtype=str))


def replicated() -> pd.DataFrame:
    """As many rows of a patient as the weight says, in any order."""
    table = patients()
    rows = np.repeat(np.arange(SIZE), table["weight"])
    rows = np.random.default_rng(1).permutation(rows)
    found = table.iloc[rows].reset_index(drop=True)
    return found.assign(person=found["id"], id=[f"copy {index}" for index in range(len(found))])


def pieces() -> pd.DataFrame:
    """Each patient in two rows, cut at 40 % of the follow-up."""
    table = patients()
    middle = table["entry"] + 0.4 * (table["time"] - table["entry"])
    begun = table["start"] < middle
    first = table.assign(
        id="a" + table["id"],
        time=middle,
        event=0,
        start=table["start"].where(begun),
    )
    second = table.assign(id="b" + table["id"], entry=middle)
    return pd.concat([second, first], ignore_index=True).assign(person=[*table["id"]] * 2)


def exposed(table: pd.DataFrame, *, weights: Any = None, person: str | None = None) -> PersonTime:
    return bb.person_time(cohort_of(table, person=person), LATE, cuts=CUTS, weights=weights)


@cache
def weighted() -> Fit:
    table = patients()
    return bb.fit(
        cohort_of(table),
        LATE,
        seed=1,
        cuts=CUTS,
        weights=table["weight"].to_numpy(),
        draws=200,
        tune=300,
        progress=False,
    )


def with_person_time(person_time: PersonTime) -> Fit:
    """The same draws, said to be of other rows; covariates are standardised by rows."""
    found = replace(weighted(), person_time=person_time)
    old, new = weighted().design, found.design
    posterior = weighted().posterior
    slope = posterior["coefficient"] / old.scale[0]
    moved = slope.isel(term=0, drop=True) * (new.centre[0] - old.centre[0])
    posterior = posterior.assign(
        coefficient=slope * new.scale[0],
        log_baseline=(posterior["log_baseline"] + moved).transpose(*posterior["log_baseline"].dims),
    )
    return replace(found, draws=xr.DataTree.from_dict({"/posterior": posterior}))


def of_copies() -> Fit:
    return with_person_time(exposed(replicated(), person="person"))


def of_pieces() -> Fit:
    return with_person_time(exposed(pieces(), person="person"))


def of_wholes() -> Fit:
    return with_person_time(exposed(patients()))


# Who is left out ----------------------------------------------------------------------------------


def test_the_weighted_posterior_is_that_of_the_copies() -> None:
    ours, theirs = weighted().person_time, of_copies().person_time
    for name in ("events", "person_time"):
        np.testing.assert_allclose(ours.table[name], theirs.table[name], rtol=1e-12)
    assert repr(theirs).startswith(f"PersonTime({SIZE} patients in {theirs.size} pieces; ")
    assert theirs.in_pieces
    assert not ours.in_pieces
    assert theirs.size == int(patients()["weight"].sum())


def test_influence_takes_the_whole_weight_away() -> None:
    ours = bb.influence(weighted())
    theirs = bb.influence(of_copies()).sel(patient=ours["patient"])
    assert theirs.sizes["patient"] == SIZE
    for name in ("change", "change_probability", "pareto_k"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-7, atol=1e-9)
    # One by one, copies would each seem to matter less.
    alone = bb.influence(with_person_time(exposed(replicated())))
    assert float(abs(alone["change"]).max()) < 0.7 * float(abs(ours["change"]).max())


def test_influence_of_pieces_is_that_of_the_patients() -> None:
    whole, cut = bb.influence(of_wholes()), bb.influence(of_pieces())
    np.testing.assert_allclose(
        cut["change"].sel(patient=whole["patient"]), whole["change"], rtol=1e-7, atol=1e-9
    )
    # The analyst looks patients up in the table that was cut.
    rows = bb.checks.most_influential(cohort_of(patients()), cut, endpoint="os", count=3)
    assert set(rows["patient"]) <= set(patients()["id"])


def test_leaving_out_pieces_is_leaving_out_patients() -> None:
    whole, cut = bb.loo(of_wholes()), bb.loo(of_pieces())
    at = whole.elpd["patient"]
    np.testing.assert_allclose(cut.elpd.sel(patient=at), whole.elpd, rtol=1e-9)
    np.testing.assert_allclose(cut.pareto_k.sel(patient=at), whole.pareto_k, rtol=1e-7, atol=1e-9)
    pd.testing.assert_frame_equal(cut.follow_up.loc[whole.follow_up.index], whole.follow_up)
    # Both predict the same.
    table = bb.compare({"whole": whole, "in pieces": cut})
    assert abs(table["elpd_difference"]).max() < 1e-9
    totals = [leave_one_out_total(one) for one in (of_wholes(), of_pieces())]
    assert totals[0].patients == totals[1].patients == SIZE
    assert totals[0].elpd == pytest.approx(totals[1].elpd, rel=1e-9)


def test_memory_holds_so_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = of_copies()
    whole = bb.influence(fit)
    draws = 800
    monkeypatch.setattr("bayesblina.checks.pointwise.BLOCK", 7 * draws)
    np.testing.assert_allclose(bb.influence(fit)["change"], whole["change"], rtol=1e-7, atol=1e-9)


def test_a_weight_counts_as_often_as_it_says() -> None:
    """All weights 2: draws say how likely twice the patients are; scores are twice as large."""
    twice = with_person_time(exposed(patients(), weights=np.full(SIZE, 2.0)))
    found = bb.loo(twice)
    plain = of_wholes()
    each = patient_log_likelihood(plain.posterior, plain.person_time, plain.design).values
    flat = each.reshape(-1, SIZE).T
    log_weights, _ = smooth_tails(-2.0 * flat, efficiency=efficiencies(2.0 * each))
    expected = 2.0 * logsumexp(log_weights + flat, axis=1)
    np.testing.assert_allclose(found.elpd, expected, rtol=1e-9)
    with pytest.raises(SpecError, match="weigh patients differently"):
        bb.compare({"a": found, "b": bb.loo(plain)})
    with pytest.raises(SpecError, match="refit=True"):
        bb.loo(twice, moment_match=True)


def varying() -> Fit:
    table = pieces()
    weights = np.where(table["id"].str.startswith("a"), 0.8, 1.3)
    return with_person_time(exposed(table, weights=weights, person="person"))


def test_weights_that_vary_have_no_density(tmp_path: Path) -> None:
    fit = varying()
    for ask in (bb.loo, leave_one_out_total):
        with pytest.raises(EstimandError, match=r"bayesblina\.influence tells on whom"):
            ask(fit)
    with pytest.raises(EstimandError, match="vary during their follow-up"):
        bb.compare({"a": fit, "b": fit})
    checks = bb.check(fit)
    assert checks.loo.empty
    assert sum("vary during their follow-up" in one for one in checks.notes) == 1
    assert "0 of 0" not in repr(checks)
    moved = bb.influence(fit)
    assert moved.sizes["patient"] == SIZE
    # The interval's spread is that of pieces.
    (told,) = [one for one in checks.weaknesses if "pieces" in one]
    assert told.startswith(f"the follow-up of {SIZE} patients is in {2 * SIZE} pieces")
    coarse = [one for one in weaknesses.weaknesses(fit, coarse=True) if "pieces" in one]
    assert [one.partition(" with weights")[0] for one in coarse] == [
        "the follow-up of some patients is in pieces"
    ]
    # Whose the pieces are is kept with the fit.
    bb.save(fit, tmp_path / "fit.nc")
    loaded = bb.load(tmp_path / "fit.nc")
    xr.testing.assert_allclose(bb.influence(loaded), moved)
    assert repr(loaded.person_time) == repr(fit.person_time)


def test_pieces_of_many_patients_are_theirs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    few = exposed(pieces(), person="person")
    monkeypatch.setattr(front, "MANY", 10)
    many = exposed(pieces(), person="person")
    assert repr(many) == repr(few)
    assert many.in_pieces
    assert many.persons.ids.tolist() == few.persons.ids.tolist()
    np.testing.assert_array_equal(many.persons.of, few.persons.of)


def test_models_that_need_whole_patients_refuse_pieces() -> None:
    cohort = cohort_of(pieces(), person="person")
    for name in ("patient_frailty", "mixture_cure"):
        with pytest.raises(SpecError, match="pieces or copies"):
            bb.fit(cohort, LATE, model=name, seed=1, progress=False)
    with pytest.raises(DataError, match="persons"):
        replace(cohort, persons=np.array(["a"]))


def test_weighted_follow_up_knows_its_persons() -> None:
    table = patients()
    cohort = cohort_of(table)
    question = bb.Question(exposed="late", eligible_from="entry")
    found = bb.weighting.starting_weights(cohort, question, endpoint="os")
    assert found.cohort.persons is not None
    np.testing.assert_array_equal(found.cohort.persons, cohort.patients[found.of])
    copies = bb.weighting.clone_censor_weight(cohort, question, endpoint="os", grace=2.0)
    person_time = bb.person_time(copies.cohort, copies.question, cuts=CUTS, weights=copies.weights)
    assert set(person_time.persons.ids) <= set(table["id"])
    assert _overlapping(person_time, "os")
    assert not _overlapping(of_pieces().person_time, "os")


# Residuals ----------------------------------------------------------------------------------------


def test_residuals_of_copies_and_pieces_are_those_of_patients() -> None:
    ours, theirs = (
        bb.checks.martingale_residuals(weighted()),
        bb.checks.martingale_residuals(of_copies()),
    )
    for name in ("residual", "events", "expected", "sd"):
        np.testing.assert_allclose(
            theirs[name].sel(patient=ours["patient"]), ours[name], rtol=1e-9, atol=1e-12
        )
    whole, cut = (
        bb.checks.martingale_residuals(of_wholes()),
        bb.checks.martingale_residuals(of_pieces()),
    )
    for name in ("residual", "events", "expected", "sd"):
        np.testing.assert_allclose(
            cut[name].sel(patient=whole["patient"]), whole[name], rtol=1e-9, atol=1e-9
        )


def test_weighted_residuals_sum_to_nothing() -> None:
    table = patients()
    found = bb.checks.martingale_residuals(weighted())
    deaths = float((table["weight"] * table["event"]).sum())
    assert float(found["events"].sum()) == deaths
    # The level's score: events expected are a gamma variable with mean and variance the events;
    # 800 draws give its mean to within a few of their standard errors.
    error = 4.0 * math.sqrt(deaths / 800)
    assert abs(float(found["residual"].sum())) < error
    # Without weights they are far from it.
    plain = bb.checks.martingale_residuals(of_wholes())
    assert abs(float(plain["residual"].sum())) > 3.0 * error
    axis = draw_residuals(found).axes[0]
    assert np.size(axis.lines[0].get_xdata()) == int(table["event"].sum())


# Observed and predicted survival ------------------------------------------------------------------


def test_observed_curves_of_weights_are_those_of_copies() -> None:
    table, copies = patients(), replicated()
    cohort, weights = cohort_of(table), table["weight"].to_numpy(float)
    for ours, theirs in (
        (bb.kaplan_meier(cohort, weights=weights), bb.kaplan_meier(cohort_of(copies))),
        (
            bb.kaplan_meier(cohort, by="site", landmark=1.0, weights=weights),
            bb.kaplan_meier(cohort_of(copies), by="site", landmark=1.0),
        ),
        (
            bb.simon_makuch(cohort, LATE, landmark=1.0, weights=weights),
            bb.simon_makuch(cohort_of(copies), LATE, landmark=1.0),
        ),
        (
            bb.classical.nelson_aalen(cohort, weights=weights),
            bb.classical.nelson_aalen(cohort_of(copies)),
        ),
    ):
        value = "survival" if "survival" in ours else "cumulative_hazard"
        for column in ("time", value, "at_risk", "events"):
            np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-9, atol=1e-12)
    # R: summary(survfit(Surv(entry, time, event) ~ 1, weights = weight)) has this survival too.


def test_band_has_the_effective_sizes_of_risk_sets() -> None:
    table = patients()
    weights = table["weight"].to_numpy(float)
    found = bb.kaplan_meier(cohort_of(table), weights=weights)
    survival, variance = 1.0, 0.0
    for time in np.sort(table.loc[table["event"] == 1, "time"])[:20]:
        inside = (table["entry"] < time) & (table["time"] >= time)
        risk = weights[inside].sum()
        share = weights[inside & (table["time"] == time)].sum() / risk
        effective = risk**2 / (weights[inside] ** 2).sum()
        survival *= 1.0 - share
        variance += share / (effective * (1.0 - share))
    row = found[found["time"] == time].iloc[0]
    width = math.exp(1.959963985 * math.sqrt(variance) / abs(math.log(survival)))
    assert row["lower"] == pytest.approx(survival**width, rel=1e-8)
    assert row["upper"] == pytest.approx(survival ** (1.0 / width), rel=1e-8)
    # Equal weights change nothing, however large.
    equal = bb.kaplan_meier(cohort_of(table), weights=np.full(SIZE, 3.0))
    plain = bb.kaplan_meier(cohort_of(table))
    for column in ("survival", "lower", "upper"):
        np.testing.assert_allclose(equal[column], plain[column], rtol=1e-9)


def test_bootstrap_band_draws_persons() -> None:
    given: dict[str, Any] = {"band": "bootstrap", "seed": 3, "replicates": 60, "landmark": 1.0}
    table = patients()
    whole = bb.simon_makuch(cohort_of(table), LATE, **given)
    cut = bb.simon_makuch(cohort_of(pieces(), person="person"), LATE, **given)
    joined = whole.merge(cut, on=["endpoint", "group", "time"], suffixes=("", "_cut"))
    assert len(joined) == len(whole)
    for column in ("survival", "lower", "upper"):
        np.testing.assert_allclose(joined[column], joined[f"{column}_cut"], atol=1e-9)
    # Weights count inside a replicate: equal ones change nothing.
    equal = bb.simon_makuch(cohort_of(table), LATE, weights=np.full(SIZE, 2.5), **given)
    np.testing.assert_allclose(equal["lower"], whole["lower"], atol=1e-9)
    # Unequal ones, by a loop over drawn studies.
    weights = table["weight"].to_numpy(float)
    got = bb.simon_makuch(cohort_of(table), LATE, weights=weights, **given)
    one = got[got["group"] == "no late"]
    drawn = np.random.default_rng(3).multinomial(SIZE, np.full(SIZE, 1 / SIZE), size=60)
    begin, stop, died = (table[name].to_numpy() for name in ("entry", "time", "event"))
    start = table["start"].fillna(np.inf).to_numpy()
    curves = []
    for counts in drawn:
        survival, curve = 1.0, []
        for time in one["time"].to_numpy()[1:]:
            inside = (begin < time) & (stop >= time) & (start >= time)
            share = counts * weights * inside
            if share.sum():
                survival *= 1.0 - share[(stop == time) & (died == 1)].sum() / share.sum()
            curve.append(survival)
        curves.append(curve)
    lower, upper = np.quantile(curves, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(one["lower"].to_numpy()[1:], lower, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(one["upper"].to_numpy()[1:], upper, rtol=1e-9, atol=1e-9)


def test_predicted_against_observed_survival_is_weighted() -> None:
    # Patients of equal risk may be in either of two groups: all together.
    one: dict[str, Any] = {"times": [3.0, 6.0], "landmark": 1.0, "groups": 1}
    ours, theirs = (
        bb.checks.predicted_against_observed(weighted(), **one),
        bb.checks.predicted_against_observed(of_copies(), **one),
    )
    for column in ("patients", "predicted", "predicted_lower", "observed", "events", "expected"):
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-9)
    plain = bb.checks.predicted_against_observed(of_wholes(), **one)
    assert (plain["observed"] - ours["observed"]).min() > 0.05
    assert (abs(plain["predicted"] - ours["predicted"]) > 1e-4).all()


def test_hazards_are_summed_with_weights_and_their_squares() -> None:
    asked: dict[str, Any] = {"keep": np.ones((1, 1), dtype=bool), "begin": 0.0}
    some, at = np.array([0, 17]), np.array([4.0])
    ours = risk_sets(weighted(), "os", some, at=at, **asked)
    theirs = risk_sets(of_copies(), "os", some, at=at, **asked)
    assert ours is not None
    assert theirs is not None
    for name in ("knots", "at_risk", "hazard"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)
    assert (theirs.unit == 1.0).all()
    # By hand, in the piece of follow-up before month 4.
    fit, table = weighted(), patients()
    piece = int(np.searchsorted(ours.knots, 4.0)) - 1
    here = (ours.knots[piece] + ours.knots[piece + 1]) / 2
    inside = ((table["entry"] < here) & (table["time"] > here)).to_numpy()
    posterior = fit.posterior.sel(endpoint="os").isel(chain=0, draw=17)
    raw = (table["site"] == "y").to_numpy(float)
    design = fit.design
    shift = (raw - design.centre[0]) / design.scale[0] * float(posterior["coefficient"][0])
    shift += float(posterior["log_baseline"][1])
    shift += (table["start"] < here).to_numpy() * float(posterior["log_hazard_ratio"][0])
    hazard = np.exp(shift) * inside
    weight = table["weight"].to_numpy()
    assert ours.hazard[1, piece] == pytest.approx((weight * hazard).sum(), rel=1e-9)
    unit = (weight**2 * hazard).sum() / (weight * hazard).sum()
    assert ours.unit[1, piece] == pytest.approx(unit, rel=1e-9)


def test_equal_weights_replicate_as_none() -> None:
    twice = with_person_time(exposed(patients(), weights=np.full(SIZE, 2.0)))
    plain = of_wholes()
    curves = [
        bb.checks.replicated_simon_makuch(one, seed=1, draws=20, landmark=1.0)["survival"]
        for one in (twice, plain)
    ]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-9)
    ours, theirs = (
        bb.checks.replicated_events(twice, seed=1),
        bb.checks.replicated_events(plain, seed=1),
    )
    for name in ("observed", "expected", "replicated"):
        np.testing.assert_allclose(ours[name], 2.0 * theirs[name], rtol=1e-9)
    for name in ("p_value", "p_value_interval"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9)
    assert theirs["replicated"].dtype.kind == "i"


def test_replicates_have_the_variance_of_weighted_events() -> None:
    """One draw, again and again: the spread is that of the events alone."""
    fit = weighted()
    same = fit.posterior.isel(chain=[0] * 4, draw=[0] * 1000)
    same = same.assign_coords(chain=np.arange(4), draw=np.arange(1000))
    fixed = replace(fit, draws=xr.DataTree.from_dict({"/posterior": same}))
    found = bb.checks.replicated_events(fixed, seed=2)
    one = with_person_time(exposed(patients(), weights=patients()["weight"].to_numpy(float) ** 2))
    squares = replace(fixed, person_time=one.person_time)
    expected = bb.checks.replicated_events(squares, seed=2)["expected"].isel(chain=0, draw=0)
    drawn = found["replicated"].var(("chain", "draw"))
    known = expected.values > 0
    # A variance of n draws of a skewed variable: relative error sqrt((2 + 1 / mean) / n).
    number = (found["expected"].isel(chain=0, draw=0) ** 2 / expected).values[known]
    error = np.sqrt((2.0 + 1.0 / number) / 4000)
    np.testing.assert_array_less(abs(drawn.values[known] / expected.values[known] - 1), 4.5 * error)


def test_copies_at_the_same_time_have_no_joint_probability() -> None:
    events = bb.checks.replicated_events(of_copies(), seed=1)
    assert np.isnan(events["p_value_interval"]).all()
    assert np.isfinite(events["p_value"]).all()
    assert np.isfinite(bb.checks.replicated_events(of_pieces(), seed=1)["p_value_interval"]).all()


# Dropout, and weights found again -----------------------------------------------------------------


def test_dropouts_are_fitted_with_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    direct = model_data.person_time_for

    def spied(definition: Any, cohort: Cohort, *given: Any, **named: Any) -> PersonTime:
        person_time = direct(definition, cohort, *given, **named)
        seen.append((cohort, person_time))
        return person_time

    monkeypatch.setattr(dropout, "person_time_for", spied)
    table = patients()
    cohort = cohort_of(table)
    found = bb.bias.informative_dropout(
        cohort,
        weighted(),
        horizon=16.0,
        hazard_ratio_exposed=1.5,
        hazard_ratio_unexposed=1.0,
        seed=1,
        imputations=2,
        settings=SamplerSettings(draws=50, tune=200, chains=2),
    )
    assert found["hazard_ratio"].sizes["chain"] == 4
    weight = table["weight"].to_numpy(float)
    for completed, person_time in seen:
        one = completed.endpoints["os"]
        assert float(person_time.table["events"].sum()) == pytest.approx(weight @ one.event)
        time = weight @ (one.time - one.entry)
        assert float(person_time.table["person_time"].sum()) == pytest.approx(time)
        assert one.event.sum() > table["event"].sum()
    with pytest.raises(EstimandError, match="whole patients"):
        bb.bias.informative_dropout(
            cohort_of(pieces(), person="person"),
            of_pieces(),
            horizon=16.0,
            hazard_ratio_exposed=1.5,
            hazard_ratio_unexposed=1.0,
            seed=1,
        )


def test_weights_are_found_again() -> None:
    table = patients()
    turned = table.iloc[::-1].reset_index(drop=True)
    assert weights_of(of_wholes(), cohort_of(turned)) is None
    np.testing.assert_array_equal(weights_of(weighted(), cohort_of(turned)), turned["weight"])
    with pytest.raises(SpecError, match="not the one that was fitted"):
        weights_of(weighted(), cohort_of(table[:30]))
    # What a power prior takes off is not among them.
    model = bb.load_model("power_prior").with_covariates(source="site")
    fit = replace(weighted(), definition=model)
    share = model.borrowing.weight  # type: ignore[union-attr]
    counted = np.where(table["site"] == "y", share, 1.0) * table["weight"].to_numpy()
    held = replace(fit, person_time=exposed(table, weights=counted))
    found = weights_of(held, cohort_of(table))
    assert found is not None
    np.testing.assert_allclose(found, table["weight"])
