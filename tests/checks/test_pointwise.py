"""Patients left out one at a time: against sums by hand, ArviZ, and what samples of all give."""

import importlib
import math
import tracemalloc
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

import bayesblina as bb
from bayesblina.checks import pointwise
from bayesblina.checks.pointwise import (
    contributing,
    has_total,
    leave_one_out_total,
    log_likelihood_of,
    log_likelihoods,
    profiles,
    smoothed,
)
from bayesblina.core.arrays import Floats
from bayesblina.hazards.build import build_model, draw_prior
from bayesblina.hazards.likelihood import patient_log_likelihood, total_log_likelihood
from bayesblina.inference.convergence import ess_mean
from bayesblina.inference.fitting import Fit
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort

pytestmark = pytest.mark.filterwarnings("ignore:Estimated shape parameter")

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
SMALL = bb.Question(exposed="late", eligible_from="entry")
CUTS = [2.0, 5.0]
SIZE = 400


@cache
def small_table() -> pd.DataFrame:
    """Patients with a phase that starts at a time of its own, entries, and two endpoints."""
    random = np.random.default_rng(3)
    time = random.exponential(5.0, SIZE) + 0.1
    start = random.exponential(4.0, SIZE)
    entry = np.where(random.random(SIZE) < 0.3, 0.5 * time, 0.0)
    unseen = random.random(SIZE) < 0.1
    return pd.DataFrame(
        {
            "id": [f"p{index:04d}" for index in range(SIZE)],
            "time": time,
            "event": (random.random(SIZE) < 0.7).astype(int),
            "relapse": np.where(unseen, np.nan, time * random.uniform(0.6, 1.0, SIZE)),
            "relapsed": np.where(unseen, np.nan, random.random(SIZE) < 0.8),
            "entry": np.where(unseen, np.nan, 0.5 * entry),
            "start": np.where(start < 0.6 * time, start, np.nan),
            "score": random.normal(size=SIZE),
            "site": random.choice(["x", "y", "z"], SIZE),
        }
    )


def small_cohort(table: pd.DataFrame, covariates: list[str]) -> Cohort:
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="event"),
            "rfs": bb.Endpoint(time="relapse", event="relapsed", entry="entry"),
        },
        phases=bb.Phases(late="start"),
        covariates=covariates,
    )


@cache
def small_fit(*, compress: bool = False, weighted: bool = False) -> Fit:
    return bb.fit(
        small_cohort(small_table(), ["score", "site"]),
        SMALL,
        seed=1,
        cuts=CUTS,
        compress=compress,
        weights=np.linspace(0.5, 2.0, SIZE) if weighted else None,
        draws=150,
        tune=300,
        progress=False,
    )


def by_hand(fit: Fit, row: pd.Series, endpoint: str, draw: int) -> float:
    """One patient's log-likelihood in one draw of the first chain, piece by piece."""
    one = fit.posterior.sel(endpoint=endpoint).isel(chain=0, draw=draw)
    columns = {"os": ("time", "event", None), "rfs": ("relapse", "relapsed", "entry")}[endpoint]
    stop, event = row[columns[0]], row[columns[1]]
    begin = 0.0 if columns[2] is None else row[columns[2]]
    if not math.isfinite(stop):
        return 0.0
    raw = [row["score"], float(row["site"] == "y"), float(row["site"] == "z")]
    design = fit.design
    assert design.term_names == ("score", "site[y]", "site[z]")
    shift = sum(
        (value - design.centre[index]) / design.scale[index] * float(one["coefficient"][index])
        for index, value in enumerate(raw)
    )
    started = row["start"]
    inner = [time for time in (*CUTS, started) if begin < time < stop]
    knots = [begin, *sorted(inner), stop]
    total, last = 0.0, 0.0
    for left, right in pairwise(knots):
        middle = (left + right) / 2
        last = float(one["log_baseline"][int(np.searchsorted(CUTS, middle))]) + shift
        if middle > started:
            last += float(one["log_hazard_ratio"][0])
        total -= (right - left) * math.exp(last)
    return total + (last if event else 0.0)


@pytest.mark.parametrize("compress", [False, True])
def test_log_likelihoods_of_patients_are_the_sums_by_hand(compress: bool) -> None:
    fit = small_fit(compress=compress)
    assert (fit.person_time.compression is not None) == compress
    table = small_table()
    some = np.array([7, 0, 399, 31, 32, 33])
    for endpoint in ("os", "rfs"):
        ((part, values),) = log_likelihoods(fit, some, endpoint=endpoint)
        assert (part.start, part.stop) == (0, 6)
        for index, patient in enumerate(some):
            for draw in (0, 99):
                expected = by_hand(fit, table.iloc[patient], endpoint, draw)
                assert values[0, draw, index] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    # All endpoints together.
    ((_, both),) = log_likelihoods(fit, some)
    each = [next(log_likelihoods(fit, some, endpoint=name))[1] for name in ("os", "rfs")]
    np.testing.assert_allclose(both, each[0] + each[1], rtol=1e-12)


def test_weights_multiply() -> None:
    fit = small_fit(weighted=True)
    found = patient_log_likelihood(fit.posterior, fit.person_time, fit.design, endpoint="os")
    weight = np.linspace(0.5, 2.0, SIZE)
    for patient in (0, 200, 399):
        expected = weight[patient] * by_hand(fit, small_table().iloc[patient], "os", 5)
        assert float(found[0, 5, patient]) == pytest.approx(expected, rel=1e-9)
    total = total_log_likelihood(fit.posterior, fit.person_time, fit.design, endpoint="os")
    np.testing.assert_allclose(total, found.sum("patient").values.ravel(), rtol=1e-10)


def test_who_contributes() -> None:
    fit = small_fit()
    seen = np.flatnonzero(np.isfinite(small_table()["relapse"]))
    np.testing.assert_array_equal(contributing(fit.person_time, "rfs"), seen)
    np.testing.assert_array_equal(contributing(fit.person_time, "os"), np.arange(SIZE))
    np.testing.assert_array_equal(contributing(fit.person_time, None), np.arange(SIZE))
    assert seen.size < SIZE


# Blocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
def test_blocks_hold_so_many_numbers_and_give_the_same(
    compress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = small_fit(compress=compress)
    rows = np.arange(SIZE)[::-3]
    whole = pointwise.pointwise(fit, rows=rows)
    # 600 draws: 17 patients at a time, and the rest.
    monkeypatch.setattr(pointwise, "BLOCK", 600 * 17 + 599)
    sizes = [values.size for _, values in log_likelihoods(fit, rows)]
    assert sizes == [600 * 17] * 7 + [600 * 15]
    parts = pointwise.pointwise(fit, rows=rows)
    for name in ("rows", "elpd", "lpd", "pareto_k"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9)
    # At least one patient, however many draws.
    monkeypatch.setattr(pointwise, "BLOCK", 5)
    assert [values.shape[2] for _, values in log_likelihoods(fit, rows[:3])] == [1, 1, 1]


def test_memory_follows_the_block_not_the_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each patient is a pattern here; no array is as long as there are patients times draws."""
    fit = small_fit()
    patterns, draws = fit.person_time.table.sizes["pattern"], 600
    assert patterns == SIZE
    assert has_total(fit)
    whole = patterns * draws * 8
    monkeypatch.setattr(pointwise, "BLOCK", 4 * draws)
    rows = np.arange(SIZE)
    for _ in log_likelihoods(fit, rows[:4]):
        pass
    tracemalloc.start()
    try:
        for _ in log_likelihoods(fit, rows):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < whole


# Profiles -----------------------------------------------------------------------------------------


def few_patients(*changes: dict[str, Any]) -> Cohort:
    """Copies of one patient, each with some of it changed, and others for contrast."""
    same: dict[str, Any] = {
        "time": 6.0,
        "event": 1,
        "relapse": 4.0,
        "relapsed": 1,
        "entry": 0.5,
        "start": 1.0,
        "score": 0.25,
        "site": "x",
    }
    rest = small_table().iloc[:6].drop(columns="id").to_dict("records")
    rows = [same | change for change in changes] + rest
    table = pd.DataFrame(rows).assign(id=[f"p{index}" for index in range(len(rows))])
    return small_cohort(table, ["score", "site"])


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"time": 6.5},
        {"event": 0},
        {"relapse": 4.25},
        {"relapsed": 0},
        {"entry": 0.25},
        {"relapse": np.nan, "relapsed": np.nan, "entry": np.nan},
        {"start": 1.25},
        {"start": np.nan},
        {"score": 0.5},
        {"site": "y"},
    ],
    ids="+".join,
)
def test_whoever_differs_in_anything_has_another_profile(
    change: dict[str, Any], compress: bool
) -> None:
    cohort = few_patients({}, change, {})
    person_time = bb.person_time(cohort, SMALL, cuts=CUTS, compress=compress)
    first, profile = profiles(person_time, np.arange(cohort.size))
    assert profile[0] == profile[2] != profile[1]
    assert first.size == cohort.size - 1
    np.testing.assert_array_equal(profile[first], np.arange(first.size))
    # Of some patients, in any order: positions are those in the person-time.
    rows = np.array([2, 5, 1, 0])
    first, profile = profiles(person_time, rows)
    assert set(first.tolist()) < {0, 1, 2, 5}
    assert profile[0] == profile[3]
    assert np.unique(profile).size == 3
    assert first[profile[1]] == 5
    assert first[profile[2]] == 1


def test_weights_make_profiles() -> None:
    cohort = few_patients({}, {}, {})
    weights = np.ones(cohort.size)
    weights[1] = 2.0
    person_time = bb.person_time(cohort, SMALL, cuts=CUTS, weights=weights)
    _, profile = profiles(person_time, np.arange(cohort.size))
    assert profile[0] == profile[2] != profile[1]


def test_a_profile_is_worked_out_once_and_counts_its_patients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = small_table().iloc[:40]
    copies = np.repeat(np.arange(40), np.arange(40) % 3 + 1)
    many = table.iloc[np.random.default_rng(1).permutation(copies)]
    many = many.assign(id=[f"p{index:04d}" for index in range(len(many))])
    fit = bb.fit(
        small_cohort(many, ["score", "site"]),
        SMALL,
        seed=1,
        cuts=CUTS,
        draws=150,
        tune=300,
        progress=False,
    )
    asked = []
    direct = patient_log_likelihood

    def spied(*given: Any, rows: Any, **named: Any) -> xr.DataArray:
        asked.append(rows.size)
        return direct(*given, rows=rows, **named)

    monkeypatch.setattr(pointwise, "patient_log_likelihood", spied)
    found = pointwise.pointwise(fit)
    assert asked == [40]
    every = np.arange(found.elpd.size)
    elpd, _, pareto_k = arviz_of(fit, None, every)
    np.testing.assert_allclose(found.elpd, elpd, rtol=1e-9)
    np.testing.assert_allclose(found.pareto_k, pareto_k, rtol=1e-6)
    assert leave_one_out_total(fit).elpd == pytest.approx(float(elpd.sum()), rel=1e-9)


# ArviZ --------------------------------------------------------------------------------------------


def arviz_of(fit: Fit, endpoint: str | None, rows: NDArray[np.int64]) -> tuple[Floats, ...]:
    """Log densities without and with patients, and Pareto k, with ArviZ's smoothing."""
    array_stats = importlib.import_module("arviz_stats.base").array_stats
    values = patient_log_likelihood(fit.posterior, fit.person_time, fit.design, endpoint=endpoint)
    weights = fit.person_time.people["weight"].values[rows]
    found = []
    for row, weight in zip(rows, weights, strict=True):
        one = values.isel(patient=int(row)).values
        size = one.size
        efficiency = ess_mean(np.exp(one)[:, :, None], split=False)[0] / size
        # ArviZ rounds the length of the tail down, R up: the efficiency with which both agree.
        tail = math.ceil(min(0.2 * size, 3.0 * math.sqrt(size / efficiency)))
        efficiency = 9.0 * size / (tail + 1e-6) ** 2
        log_weights, pareto_k = array_stats.psislw(one, r_eff=efficiency, axis=(0, 1))
        elpd = weight * logsumexp(log_weights + one / weight)
        lpd = weight * (logsumexp(one / weight) - math.log(size))
        found.append((elpd, lpd, float(pareto_k)))
    return tuple(np.array(found).T)


@pytest.mark.parametrize("endpoint", [None, "os", "rfs"])
@pytest.mark.parametrize("kind", ["exact", "compressed", "weighted"])
def test_leaving_one_out_is_that_of_arviz(kind: str, endpoint: str | None) -> None:
    fit = small_fit(compress=kind == "compressed", weighted=kind == "weighted")
    each = pointwise.pointwise(fit, endpoint=endpoint)
    some = np.arange(0, each.rows.size, 9)
    elpd, lpd, pareto_k = arviz_of(fit, endpoint, each.rows[some])
    np.testing.assert_allclose(each.elpd[some], elpd, rtol=1e-9)
    np.testing.assert_allclose(each.lpd[some], lpd, rtol=1e-9)
    # The tail's shape is fitted numerically: draws that differ in the last digit move it a little.
    np.testing.assert_allclose(each.pareto_k[some], pareto_k, rtol=1e-6, atol=1e-9)
    # 600 draws.
    assert each.limit == pytest.approx(1.0 - 1.0 / math.log10(600), rel=1e-12)
    total = leave_one_out_total(fit, endpoint=endpoint)
    size = contributing(fit.person_time, endpoint).size
    assert (total.patients, total.evaluated, total.sampling_se) == (size, size, 0.0)
    assert total.elpd == pytest.approx(math.fsum(each.elpd), rel=1e-10)
    assert total.p_loo == pytest.approx(math.fsum(each.lpd - each.elpd), rel=1e-7)
    assert total.se == pytest.approx(math.sqrt(size) * each.elpd.std(ddof=1), rel=1e-9)
    assert total.largest_pareto_k == each.pareto_k.max()
    assert total.above_limit == int((each.pareto_k > each.limit).sum())


def test_smoothed_weights() -> None:
    """They add up to 1, and below the tail are the reciprocals of the likelihoods."""
    values = np.random.default_rng(1).normal(size=(2, 300, 3))
    log_weights, pareto_k = smoothed(values)
    assert log_weights.shape == (3, 600)
    np.testing.assert_allclose(logsumexp(log_weights, axis=1), 0.0, atol=1e-12)
    # Importance weights that are log-normal with sd 1 have moments of every order.
    assert (pareto_k < 0.7).all()
    # Below the tail, a fifth of the draws at most, weights are 1 / likelihood.
    order = np.argsort(-values[:, :, 0].ravel())[:400]
    exact = -values[:, :, 0].ravel()[order] - log_weights[0][order]
    np.testing.assert_allclose(exact, exact[0], atol=1e-9)


# Totals and samples -------------------------------------------------------------------------------


def test_totals_are_sums_over_patients() -> None:
    fit = small_fit()
    for endpoint in (None, "os", "rfs"):
        each = patient_log_likelihood(fit.posterior, fit.person_time, fit.design, endpoint=endpoint)
        direct = each.sum("patient").values.ravel()
        found = log_likelihood_of(fit, endpoint=endpoint)
        np.testing.assert_allclose(found, direct, rtol=1e-10)


@pytest.mark.parametrize("name", ["patient_frailty", "mixture_cure"])
def test_totals_where_single_patients_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their effects are integrated out and some are cured: no sum by cell gives the total."""
    definition, cohort = bb.load_model(name), small_cohort(small_table().iloc[:60], ["site"])
    # Patients have one effect on all endpoints, and a death ends both.
    question = replace(SMALL, endpoints=("os",)) if name == "patient_frailty" else SMALL
    person_time = person_time_for(definition, cohort, question, cuts=CUTS)
    # Draws from the prior do as well, and take no compiling.
    prior = draw_prior(build_model(definition, person_time), seed=1, draws=160)
    fit = replace(
        small_fit(),
        definition=definition,
        person_time=person_time,
        draws=xr.DataTree.from_dict({"/posterior": prior}),
    )
    assert not has_total(fit)
    direct = patient_log_likelihood(fit.posterior, fit.person_time, fit.design)
    # In blocks, each with its own patients' covariates and effects.
    monkeypatch.setattr(pointwise, "BLOCK", 160 * 7)
    np.testing.assert_allclose(
        log_likelihood_of(fit), direct.sum("patient").values.ravel(), rtol=1e-9
    )
    # Nobody is sampled: nothing stands for the others.
    monkeypatch.setattr(pointwise, "LARGEST", 10)
    assert leave_one_out_total(fit).evaluated == 60


def test_a_sample_is_taken_of_more_patients_only(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = small_fit()
    monkeypatch.setattr(pointwise, "SAMPLE", 80)
    monkeypatch.setattr(pointwise, "LARGEST", SIZE)
    assert leave_one_out_total(fit).evaluated == SIZE
    monkeypatch.setattr(pointwise, "LARGEST", SIZE - 1)
    assert leave_one_out_total(fit).evaluated == 80
    # An endpoint to which fewer contribute.
    seen = contributing(fit.person_time, "rfs").size
    assert leave_one_out_total(fit, endpoint="rfs").evaluated == seen
    one, again, other = (leave_one_out_total(fit, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert one.elpd != other.elpd
    # A sample of everybody is no sample.
    monkeypatch.setattr(pointwise, "SAMPLE", SIZE)
    everybody = leave_one_out_total(fit)
    monkeypatch.setattr(pointwise, "LARGEST", SIZE)
    exact = leave_one_out_total(fit)
    assert everybody.sampling_se == 0.0
    for name in ("elpd", "se", "p_loo"):
        assert getattr(everybody, name) == pytest.approx(getattr(exact, name), rel=1e-9)


@pytest.mark.parametrize(("compress", "endpoint"), [(False, None), (True, "rfs")])
def test_samples_estimate_the_sum_as_well_as_they_say(
    endpoint: str | None, compress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many samples: no bias, and standard errors that are those of the estimates.

    The differences of all patients are known here, and so are mean and variance of the mean of a
    sample without replacement, exactly; tolerances are 4 errors of as many repetitions.
    """
    whole, sample, repeats = small_fit(compress=compress), 80, 120
    some = whole.posterior.isel(draw=slice(None, None, 3))
    fit = replace(whole, draws=xr.DataTree.from_dict({"/posterior": some}))
    each = pointwise.pointwise(fit, endpoint=endpoint)
    size = each.rows.size
    middle = fit.posterior.mean(("chain", "draw")).expand_dims(chain=[0], draw=[0])
    own = patient_log_likelihood(
        middle, fit.person_time, fit.design, endpoint=endpoint, rows=each.rows
    ).values.ravel()
    difference = each.elpd - own
    exact = float(each.elpd.sum())
    sd = size * difference.std(ddof=1) * math.sqrt((1 - sample / size) / sample)
    # What each patient gives is known: samples only choose among them.
    monkeypatch.setattr(pointwise, "SAMPLE", sample)
    monkeypatch.setattr(pointwise, "LARGEST", 100)
    found = [leave_one_out_total(fit, endpoint=endpoint, seed=seed) for seed in range(repeats)]
    assert {one.evaluated for one in found} == {sample}
    assert {one.patients for one in found} == {size}
    errors = np.array([one.elpd for one in found]) - exact
    assert abs(errors.mean()) < 4 * sd / math.sqrt(repeats)
    # The sum at the middle makes the sample far better than one of the predictions alone.
    plain = size * each.elpd.std(ddof=1) * math.sqrt((1 - sample / size) / sample)
    assert sd < 0.2 * plain
    # Spread of a variance: from its fourth moment, as the estimates themselves show it.
    squares = errors**2
    assert abs(squares.mean() - sd**2) < 4 * squares.std() / math.sqrt(repeats)
    stated = np.array([one.sampling_se for one in found]) ** 2
    assert abs(stated.mean() - sd**2) < 4 * stated.std() / math.sqrt(repeats)
    inside = np.abs(errors) < 1.96 * np.sqrt(stated)
    # A skewed difference and 80 patients: 2 % less than the nominal 95 % are allowed.
    error = 4 * math.sqrt(0.95 * 0.05 / repeats)
    assert 0.93 - error < inside.mean() < 0.95 + error
    # The other sums have no bias either.
    for name, values in (("p_loo", each.lpd - each.elpd), ("se", each.elpd)):
        got = np.array([getattr(one, name) for one in found])
        wanted = values.sum() if name == "p_loo" else size * values.var(ddof=1)
        got = got if name == "p_loo" else got**2
        assert abs(got.mean() - wanted) < 4 * got.std() / math.sqrt(repeats), name
    worst = max(one.largest_pareto_k for one in found)
    assert worst <= each.pareto_k.max() * (1 + 1e-6)


def test_a_scan_whose_sample_is_everybody_gives_the_exact_sum() -> None:
    """Sums from an engine and the few patients that it read: no other numbers than in memory."""
    pytest.importorskip("ibis", reason="the extra `scale` is not installed")
    table = bb.simulate.blinatumomab_table(5, n_patients=600, n_consolidation=200, n_maintenance=90)
    columns: dict[str, Any] = {
        "patient": "patient_id",
        "unit": "months",
        "endpoints": {
            "os": bb.Endpoint(time="os_months", event="died"),
            "rfs": bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        "phases": bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        "transplant": "transplant_month",
        "covariates": ["age_group"],
    }
    fit = bb.fit(
        bb.read_cohort(table, **columns),
        QUESTION,
        seed=1,
        cuts=[6.0, 12.0],
        draws=150,
        tune=300,
        progress=False,
    )
    scan = bb.person_time(bb.scan_cohort(table, **columns), QUESTION, cuts=[6.0, 12.0])
    other = replace(fit, person_time=scan)
    assert not scan.complete
    for endpoint in (None, "os", "rfs"):
        one = leave_one_out_total(fit, endpoint=endpoint)
        two = leave_one_out_total(other, endpoint=endpoint)
        assert two.evaluated == two.patients == one.patients
        assert two.sampling_se == 0.0
        for name in ("elpd", "se", "p_loo"):
            assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-8), name
