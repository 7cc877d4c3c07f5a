"""Bias analysis, pinned to published examples and to simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.optimize import brentq
from scipy.stats import norm

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.studies.bias.adjustments import Kind, draw_uncertain
from bayesblina.studies.bias.dropout import _completed, _mixed

# VanderWeele and Ding (2017), doi:10.7326/M16-2607: infant death and formula feeding (3.9, lower
# end 1.8: 7.26 and 3.0); smoking and lung cancer as in the R package EValue's manual (10.73, lower
# end 8.02: 20.94777 and 15.52336); a protective ratio of 0.80 with upper end 0.91 (1.81 and 1.43).
PUBLISHED = {3.9: 7.263034, 1.8: 3.0, 10.73: 20.94777, 8.02: 15.52336, 0.80: 1.809017, 0.91: 1.43}


def test_published_e_values() -> None:
    for ratio, expected in PUBLISHED.items():
        digits = 5e-3 if expected in (3.0, 1.43) else 5e-6
        assert float(bb.bias.e_value(ratio)) == pytest.approx(expected, abs=digits)
    assert float(bb.bias.e_value(1.0)) == 1.0
    # Common events: the hazard ratio is first a risk ratio (VanderWeele 2017).
    rr = (1 - 0.5 ** math.sqrt(0.56)) / (1 - 0.5 ** math.sqrt(1 / 0.56))
    assert float(bb.bias.e_value(0.56, common=True)) == pytest.approx(
        float(bb.bias.e_value(rr)), rel=1e-12
    )
    assert 1.0 < float(bb.bias.e_value(0.56, common=True)) < float(bb.bias.e_value(0.56))
    with pytest.raises(SpecError, match="greater than 0"):
        bb.bias.e_value([0.5, 0.0])


def test_the_e_value_is_where_the_bound_explains_all() -> None:
    """Ding and VanderWeele (2016): a confounder as strong as the E-value just bounds the ratio."""
    for ratio in (1.2, 3.9, 10.73):
        strength = float(bb.bias.e_value(ratio))
        assert float(bb.bias.bounding_factor(strength, strength)) == pytest.approx(ratio, rel=1e-12)
    # The confounding part of an example in EValue's manual: 2 and 1.5 give 1.2.
    assert float(bb.bias.bounding_factor(2.0, 1.5)) == pytest.approx(1.2, rel=1e-12)
    with pytest.raises(SpecError, match="at least 1"):
        bb.bias.bounding_factor(0.5, 2.0)


def test_published_confounding() -> None:
    """The example of Stata's episensrri: 1.76 with prevalences 0.7 and 0.5 and a ratio of 5."""
    assert 1.76 / float(bb.bias.confounding(0.7, 0.5, 5.0)) == pytest.approx(1.389, abs=5e-4)
    assert float(bb.bias.confounding(0.3, 0.3, 7.0)) == 1.0
    # The bias never exceeds the bound of the same strength.
    assert float(bb.bias.confounding(0.8, 0.4, 3.0)) <= float(bb.bias.bounding_factor(2.0, 3.0))


def test_confounders_are_taken_out_by_draw(synthetic_fit: Fit) -> None:
    plain = bb.hazard_ratio(synthetic_fit)["hazard_ratio"].values
    adjusted = bb.bias.adjust_for_confounder(
        synthetic_fit,
        prevalence_exposed=0.2,
        prevalence_unexposed=0.5,
        confounder_ratio=2.0,
        seed=1,
    )
    np.testing.assert_allclose(adjusted["hazard_ratio"].values, plain / (1.2 / 1.5), rtol=1e-12)
    unsure = bb.bias.adjust_for_confounder(
        synthetic_fit,
        prevalence_exposed=(0.1, 0.3),
        prevalence_unexposed=(0.4, 0.6),
        confounder_ratio=(1.5, 3.0),
        seed=1,
    )
    assert float(np.log(unsure["hazard_ratio"]).std()) > float(np.log(plain).std())
    for arguments, words in (
        ({"prevalence_exposed": 1.5}, "share from 0 to 1"),
        ({"prevalence_exposed": (0.0, 0.5)}, "inside 0 to 1"),
        ({"confounder_ratio": 0.0}, "greater than 0"),
        ({"confounder_ratio": (2.0, 1.0)}, "must be positive"),
        ({"confounder_ratio": "high"}, "a number or"),
    ):
        given: dict[str, Any] = {
            "prevalence_exposed": 0.2,
            "prevalence_unexposed": 0.5,
            "confounder_ratio": 2.0,
            **arguments,
        }
        with pytest.raises(SpecError, match=words):
            bb.bias.adjust_for_confounder(synthetic_fit, seed=1, **given)


def test_intervals_hold_their_mass() -> None:
    random = np.random.default_rng(1)
    intervals: dict[Kind, tuple[float, float]] = {"share": (0.1, 0.4), "ratio": (0.5, 4.0)}
    for kind, ends in intervals.items():
        values = draw_uncertain(kind, "x", ends, (100_000,), random)
        inside = float(((values > ends[0]) & (values < ends[1])).mean())
        assert inside == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 100_000))


def test_misclassified_events(synthetic_fit: Fit) -> None:
    plain = bb.hazard_ratio(synthetic_fit)["hazard_ratio"].values
    found = bb.bias.adjust_for_misclassification(
        synthetic_fit, seen_exposed=0.8, seen_unexposed=0.9, false_exposed=0.1, seed=1
    )
    # Recorded events are true ones seen, over the share of recorded ones that are true.
    bias = (0.8 / 0.9) / (0.9 / 1.0)
    np.testing.assert_allclose(found["hazard_ratio"].values, plain / bias, rtol=1e-12)
    with pytest.raises(SpecError, match="must be seen"):
        bb.bias.adjust_for_misclassification(synthetic_fit, seen_exposed=0.0, seed=1)


def test_tipping_points_count_the_adjusted_draws(synthetic_fit: Fit) -> None:
    found = bb.bias.tipping_points(synthetic_fit, prevalences=[0.0, 0.5], ratios=[1.0, 2.0, 5.0])
    ratios = bb.hazard_ratio(synthetic_fit)["hazard_ratio"]
    for prevalence in (0.0, 0.5):
        for ratio in (1.0, 2.0, 5.0):
            adjusted = ratios / float(bb.bias.confounding(0.0, prevalence, ratio))
            here = found.sel(prevalence=prevalence, ratio=ratio)
            np.testing.assert_allclose(
                here["probability_below_1"], (adjusted < 1).mean(("chain", "draw"))
            )
            np.testing.assert_allclose(here["median"], adjusted.median(("chain", "draw")))
    figure = bb.plots.tipping_points(found, "os")
    assert len(figure.axes) == 2
    with pytest.raises(SpecError, match="expected numbers"):
        bb.bias.tipping_points(synthetic_fit, prevalences=[1.5])
    with pytest.raises(SpecError, match="greater than 0"):
        bb.bias.tipping_points(synthetic_fit, ratios=[0.0])


def test_e_values_of_draws(synthetic_fit: Fit) -> None:
    found = bb.bias.e_values(synthetic_fit)["e_value"]
    ratios = bb.hazard_ratio(synthetic_fit)["hazard_ratio"].values
    assert (found.values[ratios >= 1] == 1.0).all()
    some = ratios < 1
    np.testing.assert_allclose(found.values[some], bb.bias.e_value(ratios[some], common=True))
    towards = bb.bias.e_values(synthetic_fit, null=0.8)["e_value"]
    assert float(towards.mean()) < float(found.mean())
    with pytest.raises(SpecError, match="null"):
        bb.bias.e_values(synthetic_fit, null=0.0)
    with pytest.raises(SpecError, match="direction must be 'lower' or 'higher'"):
        bb.bias.e_values(synthetic_fit, direction="benefit")  # type: ignore[arg-type]


def drawn(fit: Fit, log_ratios: dict[str, np.ndarray[Any, Any]]) -> Fit:
    """Put other draws of the exposed phase's log hazard ratio in place, by endpoint."""
    draws = fit.draws.copy(deep=True)
    effect: xr.DataArray = draws["posterior"].dataset["log_hazard_ratio"]
    for name, values in log_ratios.items():
        where = {"endpoint": name, "effect": str(effect["effect"][0].item())}
        effect.loc[where] = values.reshape(effect.sizes["chain"], effect.sizes["draw"])
    return replace(fit, draws=draws)


def quantiles(fit: Fit, lower: float, upper: float) -> np.ndarray[Any, Any]:
    """Draws whose logarithms are normal, with this 95 % interval."""
    sizes = fit.posterior.sizes
    count = sizes["chain"] * sizes["draw"]
    log = np.log([lower, upper])
    level = norm.ppf((np.arange(count) + 0.5) / count)
    values = log.mean() + (log[1] - log[0]) / 2 / norm.ppf(0.975) * level
    return np.random.default_rng(1).permutation(values)


def test_e_values_of_a_harm(synthetic_fit: Fit) -> None:
    """VanderWeele and Ding's two examples: 3.9 from 1.8 (7.26, 3.0), 0.80 to 0.91 (1.81, 1.43)."""
    fit = drawn(
        synthetic_fit,
        {
            "os": quantiles(synthetic_fit, 1.8, 3.9**2 / 1.8),
            "rfs": quantiles(synthetic_fit, 0.8**2 / 0.91, 0.91),
        },
    )
    found = bb.bias.e_values(fit, common=False)
    assert found["direction"].to_series().to_dict() == {"os": "higher", "rfs": "lower"}
    assert found.attrs["direction_of"] == "base case"
    table = bb.summary(found).set_index("endpoint")
    assert table["direction"].to_dict() == {"os": "higher", "rfs": "lower"}
    # The bound nearest 1 is the lower end of the E-value's interval on either side.
    for name, middle, nearest in (("os", 7.263034, 3.0), ("rfs", 1.809017, 1.43)):
        assert table.loc[name, "median"] == pytest.approx(middle, abs=5e-3)
        assert table.loc[name, "lower"] == pytest.approx(nearest, abs=1e-2)
    # By hand, of a common event: 3.9 becomes (1 - 0.5^1.97484) / (1 - 0.5^0.50637), which is
    # 0.74560 / 0.29601 = 2.51886, and 2.51886 + sqrt(2.51886 x 1.51886) = 4.47482.
    common = bb.summary(bb.bias.e_values(fit)).set_index("endpoint")
    assert common.loc["os", "median"] == pytest.approx(4.47482, abs=5e-3)
    # Given, it is held against the draws: of a benefit there is nothing to be undone here.
    given = bb.bias.e_values(fit, direction="lower")
    assert set(given["direction"].values) == {"lower"}
    assert given.attrs["direction_of"] == "given"
    assert float(given["e_value"].sel(endpoint="os").quantile(0.9)) == 1.0
    # Against 5 the same ratio of 3.9 is lower: 1 / 0.78, 1.28205 + sqrt(1.28205 x 0.28205).
    against = bb.bias.e_values(fit, common=False, null=5.0)
    assert against["direction"].sel(endpoint="os").item() == "lower"
    assert float(against["e_value"].sel(endpoint="os").median()) == pytest.approx(1.88339, abs=5e-3)


# Dropout.


def dropouts(seed: int, *, patients: int = 3000) -> tuple[bb.Cohort, np.ndarray]:
    """A constant hazard of 0.05; half drop out early, the others are followed to month 30."""
    random = np.random.default_rng(seed)
    start = random.uniform(0.0, 10.0, patients)
    death = random.exponential(20.0, patients)
    leave = np.where(random.random(patients) < 0.5, random.uniform(2.0, 20.0, patients), np.inf)
    stop = np.minimum(np.minimum(death, leave), 30.0)
    table = pd.DataFrame(
        {
            "id": range(patients),
            "t": stop,
            "d": (death <= stop).astype(int),
            "s": np.where(start < stop, start, np.nan),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(late="s"),
        synthetic=True,
    )
    return cohort, leave <= stop


def test_imputed_courses_have_the_hazard_asked_for() -> None:
    cohort, left = dropouts(1)
    question = bb.Question(exposed="late", eligible_from="entry")
    fit = bb.fit(cohort, question, seed=1, draws=200, tune=300, cuts=[], progress=False)
    random = np.random.default_rng(2)
    exposed = cohort.phase_start[:, 0] < cohort.endpoints["os"].time
    for factors in ((1.0, 1.0), (3.0, 0.5)):
        completed = _completed(cohort, fit, 7, left, factors, 30.0, random, death=None)
        before, after = cohort.endpoints["os"], completed.endpoints["os"]
        kept = ~left
        np.testing.assert_array_equal(after.time[kept], before.time[kept])
        assert (after.time[left] > before.time[left]).all()
        assert after.time.max() == 30.0
        posterior = fit.posterior.isel(chain=0, draw=7, endpoint=0)
        base = float(np.exp(posterior["log_baseline"].values[0]))
        ratio = float(np.exp(posterior["log_hazard_ratio"].values[0]))
        for inside, factor in ((exposed, factors[0] * ratio), (~exposed, factors[1])):
            who = left & inside
            events = int(after.event[who].sum())
            time = float((after.time - before.time)[who].sum())
            # A Poisson count given the person-time it came from.
            expected = base * factor * time
            assert abs(events - expected) < 4 * math.sqrt(expected)


def expected_log_ratio(cohort: bb.Cohort, left: np.ndarray, fit: Fit, factor: float) -> float:
    """Log hazard ratio of what is known, and of what is expected after dropping out.

    Until month 30, under the posterior's mean hazards, cut at month 10; exposed patients who
    dropped out have `factor` times theirs. The maximum of the likelihood with proportional hazards.
    """
    posterior = fit.posterior.mean(("chain", "draw")).isel(endpoint=0)
    base = np.exp(posterior["log_baseline"].values)
    ratio = math.exp(float(posterior["log_hazard_ratio"].values[0]))
    table = fit.person_time.table.isel(endpoint=0).sum("pattern")
    order = np.argsort(table["role"].values == "exposed")
    events, time = (
        table[name].values[:, order].astype(float) for name in ("events", "person_time")
    )
    stop = cohort.endpoints["os"].time[left]
    exposed = cohort.phase_start[left, 0] < stop
    for phase, effect in ((0, 1.0), (1, ratio * factor)):
        own = stop[exposed == phase]
        alive = np.ones(own.size)
        for interval, (begin, end) in enumerate(((0.0, 10.0), (10.0, 30.0))):
            hazard = base[interval] * effect
            died = -alive * np.expm1(-hazard * np.maximum(end - np.maximum(own, begin), 0.0))
            events[interval, phase] += died.sum()
            time[interval, phase] += died.sum() / hazard
            alive -= died

    def score(log_ratio: float) -> float:
        weight = time * np.exp([0.0, log_ratio])
        return float((events[:, 1] - events.sum(axis=1) * weight[:, 1] / weight.sum(axis=1)).sum())

    return float(brentq(score, -5.0, 5.0))


def test_dropout_that_says_nothing_changes_nothing_and_other_dropout_does() -> None:
    cohort, left = dropouts(3, patients=600)
    question = bb.Question(exposed="late", eligible_from="entry")
    fit = bb.fit(cohort, question, seed=1, cuts=[10.0], progress=False)
    given: dict[str, Any] = {"horizon": 30.0, "seed": 1, "dropped": left, "imputations": 8}
    plain = bb.hazard_ratio(fit)["hazard_ratio"].values
    same = bb.bias.informative_dropout(
        cohort, fit, hazard_ratio_exposed=1.0, hazard_ratio_unexposed=1.0, **given
    )
    worse = bb.bias.informative_dropout(
        cohort, fit, hazard_ratio_exposed=4.0, hazard_ratio_unexposed=1.0, **given
    )
    assert same["hazard_ratio"].sizes["chain"] == 16
    logs = [np.log(one) for one in (plain, same["hazard_ratio"].values)]
    # Imputations under the model's own hazard pool to its posterior; 8 of them have this error.
    spread = logs[0].std()
    assert abs(logs[0].mean() - logs[1].mean()) < 4 * spread / math.sqrt(8)
    # The same imputations' posterior draws and random numbers: what differs between them is the
    # factor's effect. Numbers that are expected stand for random ones, and modes for means: to a
    # tenth of it.
    by_imputation = np.log(worse["hazard_ratio"].values).reshape(8, -1).mean(axis=1)
    by_imputation -= logs[1].reshape(8, -1).mean(axis=1)
    expected = expected_log_ratio(cohort, left, fit, 4.0) - expected_log_ratio(
        cohort, left, fit, 1.0
    )
    error = by_imputation.std(ddof=1) / math.sqrt(8)
    assert by_imputation.mean() == pytest.approx(expected, abs=4 * error + 0.1 * expected)
    for arguments, words in (
        ({"horizon": 0.0}, "horizon"),
        ({"imputations": 1}, "at least 2"),
        ({"dropped": [True]}, "truth values"),
    ):
        with pytest.raises(SpecError, match=words):
            bb.bias.informative_dropout(
                cohort,
                fit,
                hazard_ratio_exposed=1.0,
                hazard_ratio_unexposed=1.0,
                **{**given, **arguments},
            )
    cure = replace(fit, definition=bb.load_model("mixture_cure"))
    with pytest.raises(EstimandError, match="Fit 'primary'"):
        bb.bias.informative_dropout(
            cohort, cure, hazard_ratio_exposed=1.0, hazard_ratio_unexposed=1.0, **given
        )


def test_normal_quantiles_are_what_is_meant() -> None:
    """The interval of an uncertain share is central."""
    values = draw_uncertain("share", "x", (0.2, 0.6), (50_000,), np.random.default_rng(2))
    assert float((values < 0.2).mean()) == pytest.approx(0.025, abs=0.004)
    assert float(norm.ppf(0.975)) == pytest.approx(1.959964, abs=1e-6)


def test_what_is_imputed_is_possible(synthetic_fit: Fit) -> None:
    """Nobody relapses after a death; whom the question ended has not dropped out."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    people = synthetic_fit.person_time.people
    place = {str(patient): index for index, patient in enumerate(cohort.patients)}
    who = np.array([place[str(patient)] for patient in people["patient"].values])
    everybody = np.ones(cohort.size, dtype=bool)
    ended = imputed = 0
    for draw in (0, 1000, 2000, 3000):
        done = _completed(
            cohort,
            synthetic_fit,
            draw,
            everybody,
            (1.0, 1.0),
            60.0,
            np.random.default_rng(draw),
            death="os",
        )
        for index, name in enumerate(synthetic_fit.person_time.endpoints):
            before, after = cohort.endpoints[name], done.endpoints[name]
            stop, event = people["exit"].values[index], people["event"].values[index]
            by_question = np.isfinite(stop) & ~event & (stop < before.time[who])
            ended += int(by_question.sum())
            np.testing.assert_array_equal(
                after.time[who][by_question], before.time[who][by_question]
            )
            changed = after.time[who] > before.time[who]
            imputed += int(changed.sum())
            # Whoever is imputed had no event, and is imputed from there on.
            assert not before.event[who][changed].any()
            assert (after.time[who][changed] > stop[changed]).all()
        dead, relapsed = done.endpoints["os"], done.endpoints["rfs"]
        inside = np.isfinite(people["exit"].values).all(axis=0) & dead.event[who]
        own = relapsed.time[who][inside] > cohort.endpoints["rfs"].time[who][inside]
        late = relapsed.time[who][inside] > dead.time[who][inside]
        assert own.any()
        assert not (own & late).any()
    assert ended > 0
    assert imputed > 40


def test_several_endpoints_need_to_know_which_is_death(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    given = {"horizon": 40.0, "hazard_ratio_exposed": 1.0, "hazard_ratio_unexposed": 1.0, "seed": 1}
    for wrong in (None, "dfs"):
        with pytest.raises(SpecError, match="one of os, rfs"):
            bb.bias.informative_dropout(cohort, synthetic_fit, death=wrong, **given)  # type: ignore[arg-type]


def test_dropout_needs_exact_event_times(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    visited = replace(synthetic_fit.person_time, visits=xr.Dataset())
    with pytest.raises(EstimandError, match="some events here are found at visits"):
        bb.bias.informative_dropout(
            cohort,
            replace(synthetic_fit, person_time=visited),
            death="os",
            horizon=40.0,
            hazard_ratio_exposed=1.0,
            hazard_ratio_unexposed=1.0,
            seed=1,
        )


def test_pooled_draws_are_judged_by_their_chains() -> None:
    """Imputations may differ; chains of one imputation may not."""
    generator = np.random.default_rng(3)

    def drawn(shift: float, apart: float) -> xr.DataArray:
        log = shift + 0.3 * generator.normal(size=(2, 250, 1)) + np.array([0, apart])[:, None, None]
        return xr.DataArray(np.exp(log), dims=("chain", "draw", "endpoint"))

    assert _mixed([drawn(shift, 0.0) for shift in np.linspace(-1, 1, 10)])
    assert not _mixed([drawn(shift, 0.4) for shift in np.linspace(-1, 1, 10)])
    # Well mixed, but few.
    assert not _mixed([drawn(0.0, 0.0)[:, :40] for _ in range(2)])
