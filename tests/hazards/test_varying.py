"""Effects that vary, and hazards that differ between strata and groups: against brute force."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.hazards.log_hazards import log_hazard, relative_of
from tests.hazards.family import (
    histories,
    with_posterior,
)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), lag=st.sampled_from([0.0, 1.0, 2.5]))
def test_time_since_entry_is_cut_exactly(seed: int, lag: float) -> None:
    """Against a loop over patients; and pieces add up to the phase."""
    patients = histories(seed)
    question = bb.Question(exposed="late", eligible_from="entry", lag=lag)
    edges = [0.0, 2.0, 5.0, np.inf]
    cuts = [3.0, 7.0]
    try:
        whole = bb.person_time(patients, question, cuts=cuts)
    except bb.errors.DataError:
        return
    cut = bb.person_time(patients, question, cuts=cuts, phase_cuts=edges[1:-1])
    since = cut.table["since"].values
    exposed = cut.table["role"].values == "exposed"
    assert set(cut.table["treatment"].values) == set(whole.table["phase"].values)
    bounds = [0.0, *cuts, np.inf]
    one = patients.endpoints["os"]
    for state in np.flatnonzero(exposed):
        piece = edges.index(since[state])
        for interval in range(3):
            spent, died = 0.0, 0
            for index in range(patients.size):
                begun = patients.phase_start[index, 0]
                if np.isnan(begun):
                    continue
                low = max(begun + lag, begun + edges[piece], bounds[interval], one.entry[index])
                high = min(begun + edges[piece + 1], bounds[interval + 1], one.time[index])
                spent += max(0.0, high - low)
                died += int(one.event[index] and low < one.time[index] <= high)
            cell = (
                cut.table[["events", "person_time"]]
                .isel(endpoint=0, interval=interval, phase=int(state))
                .sum("pattern")
            )
            assert float(cell["person_time"]) == pytest.approx(spent, abs=1e-9)
            assert int(cell["events"]) == died
    for name in ("events", "person_time"):
        pieces = cut.table[name].values[:, :, exposed].sum(axis=2)
        phase = whole.table[name].values[:, :, whole.table["role"].values == "exposed"].sum(axis=2)
        np.testing.assert_allclose(pieces, phase, atol=1e-9)


def test_hazard_ratios_by_step() -> None:
    fit = with_posterior("since_entry")
    got = bb.hazard_ratio(fit, over="step")
    assert got["begins"].values[0] == 0.0
    np.testing.assert_allclose(
        np.log(got["hazard_ratio"].values),
        fit.posterior["log_hazard_ratio_by_piece"].values,
        atol=1e-12,
    )
    # In an interval: pieces' hazards weighted by the person-time in them.
    by_interval = bb.hazard_ratio(fit, over="interval")["hazard_ratio"].values[0]
    table = fit.person_time.table
    states = np.flatnonzero(table["role"].values == "exposed")
    spent = table["person_time"].sum("pattern").values[:, :, states]
    ratio = np.exp(fit.posterior["log_hazard_ratio_by_piece"].values[0])
    for interval in range(table.sizes["interval"]):
        for endpoint in range(2):
            weight = spent[endpoint, interval]
            if not weight.sum():
                weight = spent[endpoint].sum(axis=0)
            expected = ratio[:, endpoint] @ weight / weight.sum()
            np.testing.assert_allclose(by_interval[:, endpoint, interval], expected, rtol=1e-10)
    with pytest.raises(EstimandError, match="by step"):
        bb.hazard_ratio(with_posterior("primary"), over="step")


def test_hazard_ratios_over_time_and_their_average() -> None:
    fit = with_posterior("over_time")
    logs = fit.posterior["log_hazard_ratio_by_interval"].values
    by_interval = bb.hazard_ratio(fit, over="interval")["hazard_ratio"].values
    np.testing.assert_allclose(np.log(by_interval), logs, atol=1e-12)
    events = fit.person_time.table["events"].sum(("phase", "pattern")).values
    expected = (logs * events / events.sum(axis=1, keepdims=True)).sum(axis=-1)
    average = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values)
    np.testing.assert_allclose(average, expected, atol=1e-12)


def test_hazard_ratios_by_subgroup() -> None:
    fit = with_posterior("by_subgroup")
    logs = fit.posterior["log_hazard_ratio_by_subgroup"].values
    got = bb.hazard_ratio(fit, by="age_group")
    assert got["hazard_ratio"].dims == ("chain", "draw", "endpoint", "subgroup")
    np.testing.assert_allclose(np.log(got["hazard_ratio"].values), logs, atol=1e-12)
    assert list(got["subgroup"].values) == list(fit.design.subgroups)
    table = fit.person_time.table
    level = fit.design.class_of
    events = np.stack(
        [table["events"].values[..., level == g].sum(axis=(1, 2, 3)) for g in range(3)], axis=1
    )
    expected = (logs * events).sum(axis=-1) / events.sum(axis=1)
    average = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values)
    np.testing.assert_allclose(average, expected, atol=1e-12)
    with pytest.raises(EstimandError, match="does not differ by 'prior_salvage'"):
        bb.hazard_ratio(fit, by="prior_salvage")


def brute_survival(
    fit: bb.Fit, draw: int, endpoint: str, start: float, landmark: float, time: float
) -> float:
    """Average survival of those at risk at the landmark, by loops over patients and pieces."""
    person_time, posterior = fit.person_time, fit.posterior.isel(chain=0, draw=draw)
    one = person_time.people.sel(endpoint=endpoint)
    table, design = person_time.table, fit.design
    edges = [0.0, *person_time.cuts, np.inf]
    since = table["since"].values
    exposed = np.flatnonzero(table["role"].values == "exposed")
    total, count = 0.0, 0
    for index in range(person_time.people.sizes["patient"]):
        if not (one["begin"].values[index] <= landmark < one["exit"].values[index]):
            continue
        pattern = int(one["pattern"].values[index])
        count += 1
        relative = 0.0
        if design.term_names:
            slope = posterior["coefficient"].sel(endpoint=endpoint).values
            relative += float(slope @ design.terms[pattern])
        if "group_effect" in posterior:
            effect = posterior["group_effect"].sel(endpoint=endpoint).values
            relative += float(effect[design.group_of[pattern]])
        if "patient_effect" in posterior:
            relative += float(posterior["patient_effect"].values[pattern])
        baseline = posterior["log_baseline"].sel(endpoint=endpoint)
        if "stratum" in baseline.dims:
            baseline = baseline.isel(stratum=int(design.class_of[pattern]))
        points = sorted(
            {landmark, time, *(t for t in [*edges, start, *(start + since)] if landmark < t < time)}
        )
        passed = 0.0
        for low, high in pairwise(points):
            middle = (low + high) / 2
            interval = int(np.searchsorted(person_time.cuts, middle))
            log = float(baseline.values[interval])
            if middle > start:
                if "log_hazard_ratio_by_piece" in posterior:
                    piece = int((start + since[exposed] < middle).sum()) - 1
                    ratios = posterior["log_hazard_ratio_by_piece"].sel(endpoint=endpoint)
                    log += float(ratios.values[piece])
                elif "log_hazard_ratio_by_interval" in posterior:
                    ratios = posterior["log_hazard_ratio_by_interval"].sel(endpoint=endpoint)
                    log += float(ratios.values[interval])
                elif "log_hazard_ratio_by_subgroup" in posterior:
                    ratios = posterior["log_hazard_ratio_by_subgroup"].sel(endpoint=endpoint)
                    log += float(ratios.values[design.class_of[pattern]])
                else:
                    log += float(posterior["log_hazard_ratio"].sel(endpoint=endpoint).values[0])
            passed += math.exp(log + relative) * (high - low)
        total += math.exp(-passed)
    return total / count


VARYING = ("stratified", "over_time", "since_entry", "by_subgroup", "frailty", "patient_frailty")


@pytest.mark.parametrize("name", VARYING)
def test_survival_is_the_brute_force_average(name: str) -> None:
    fit = with_posterior(name, draws=4)
    times = [9.0, 16.0, 30.0]
    curves = bb.survival(fit, regimes=[bb.Never(), bb.From(8.0)], times=times, landmark=8.0)
    for endpoint in fit.person_time.endpoints:
        for draw in range(4):
            for time in times:
                for regime, start in (("never", np.inf), ("from 8", 8.0)):
                    expected = brute_survival(fit, draw, endpoint, start, 8.0, time)
                    got = curves["survival"].sel(endpoint=endpoint, regime=regime, time=time)
                    assert float(got.values[0, draw]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", ["stratified", "by_subgroup", "since_entry"])
def test_means_and_quantiles_of_mixtures(name: str) -> None:
    fit = with_posterior(name, draws=8)
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(8.0)]
    last = min(float(np.nanmax(one)) for one in fit.person_time.people["exit"].values)
    grid = np.linspace(8.0, last, 20_001)
    curves = bb.survival(fit, regimes=regimes, times=grid, landmark=8.0)["survival"]
    mean = bb.rmst(fit, horizon=last, regimes=regimes, landmark=8.0)["rmst"]
    values = curves.values
    trapezoid = np.trapezoid(values, grid, axis=-1)
    # The trapezoid's error is below step ** 2 / 12 x length x the largest second derivative.
    np.testing.assert_allclose(mean.values, trapezoid, rtol=1e-4, atol=2e-3)
    quantile = bb.survival_quantile(fit, survival=0.6, regimes=regimes, landmark=8.0)
    reached = quantile["reached"].values
    assert (values[~reached][..., -1] > 0.6).all()
    # The curve itself at each quantile's time.
    times = np.unique(quantile["quantile"].values[reached])
    exact = bb.survival(fit, regimes=regimes, times=times, landmark=8.0)["survival"].values
    for place in np.argwhere(reached):
        column = np.searchsorted(times, quantile["quantile"].values[tuple(place)])
        assert exact[tuple(place)][column] == pytest.approx(0.6, abs=1e-9)


def test_marginal_hazard_of_a_mixture_is_the_slope() -> None:
    fit = with_posterior("stratified", draws=5)
    times = np.array([9.3, 20.1])
    step = 1e-5
    around = np.concatenate([times - step, times + step])
    order = np.argsort(around)
    curves = bb.survival(fit, times=around[order], landmark=8.0)["survival"].values
    both = np.log(curves[..., np.argsort(order)])
    slope = -(both[..., 2:] - both[..., :2]) / (2 * step)
    hazard = bb.hazard(fit, times=times, landmark=8.0)["hazard"].values
    np.testing.assert_allclose(hazard, slope, rtol=1e-4, atol=1e-6)


# Groups.


def between(edges: np.ndarray, low: np.ndarray, high: float) -> np.ndarray:
    """Time in each interval between times and one later time."""
    ends = np.clip(high, edges[:-1], edges[1:])
    return np.asarray(ends - np.clip(low[:, None], edges[:-1], edges[1:]))


def test_new_patients_are_of_new_groups() -> None:
    """Against plain sums over the distribution of groups, on a fine grid of their effects."""
    for name, sd_name in (("frailty", "group_sd"), ("patient_frailty", "patient_sd")):
        fit = with_posterior(name, draws=3)
        person: dict[str, str | float] = {"prior_salvage": "yes", "marrow_blasts": 50.0}
        if name == "patient_frailty":
            person["age_group"] = "55+"
        else:
            with pytest.raises(EstimandError, match="belong to new ones"):
                bb.survival(fit, population={**person, "age_group": "55+"})
        got = bb.survival(fit, times=[20.0], landmark=8.0, population=person)["survival"]
        posterior, design = fit.posterior, fit.design
        person_time = fit.person_time
        names = [str(term) for term in person_time.table["term"].values]
        raw = np.array(
            [[{"age_group[55+]": 1.0, "prior_salvage[yes]": 1.0}.get(n, 0.0) for n in names]]
        )
        raw[0, names.index("marrow_blasts")] = 50.0
        edges = np.array([0.0, *person_time.cuts, 1e9])
        effect = np.linspace(-12.0, 12.0, 4801)
        density = stats.norm.pdf(effect)
        for endpoint in person_time.endpoints:
            found = np.exp(log_hazard(posterior, design, endpoint=endpoint).shared[:, 0, :, 0])
            begin = person_time.people["begin"].sel(endpoint=endpoint).values
            # They come under observation as the patients of the fit do.
            entry = begin[begin <= 8.0]
            slope = relative_of(posterior, design, design.standardised(raw), endpoint=endpoint)
            for draw in range(3):
                where = posterior[sd_name].isel(chain=0, draw=draw)
                sd = float(where.values[0] if name != "frailty" else where.sel(endpoint=endpoint))
                relative = np.exp(slope[draw, 0] + sd * effect)
                before = between(edges, entry, 8.0) @ found[draw]
                after = between(edges, np.full(1, 8.0), 20.0) @ found[draw]
                free = np.exp(-before[:, None] * relative).mean(axis=0) * density
                expected = (free * np.exp(-after * relative)).sum() / free.sum()
                value = float(got.sel(endpoint=endpoint).values[0, draw, 0, 0])
                assert value == pytest.approx(expected, abs=1e-5)
