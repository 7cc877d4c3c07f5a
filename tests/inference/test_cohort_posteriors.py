"""Posteriors of many cohorts at once: against integration, R and the package's own companion."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import bayesblina as bb
from bayesblina.core.arrays import Bools, Floats
from bayesblina.inference.cohort_posteriors import _distance, cohort_posteriors
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.model_data import person_time_for
from bayesblina.studies.planning.designs import Cohorts, StudyDesign, as_cohort, simulate_cohorts

DESIGN = StudyDesign(
    patients=86,
    hazards=(0.1, 0.03),
    cuts=(4.0,),
    start_hazards=(0.0, 0.1),
    start_cuts=(2.0,),
    hazard_ratio=0.5,
    accrual=24.0,
    follow_up=12.0,
)


def draw_cohort(
    patients: int, random: np.random.Generator, *, whole: bool, event_in: str
) -> tuple[Floats, Floats, Bools]:
    """One cohort; times may be whole, and events only out of the phase, or in it."""
    time = random.exponential(10.0, patients)
    start = np.where(random.random(patients) < 0.6, random.exponential(5.0, patients), np.inf)
    event = random.random(patients) < 0.6
    if whole:
        time, start = np.ceil(time), np.ceil(start)
    start = np.where(start < time, start, np.inf)
    # Something to compare.
    time[:2], start[:2], event[:2] = (30.0, 31.0), (1.0, np.inf), (event_in == "in", False)
    if event_in != "both":
        event &= np.isfinite(start) == (event_in == "in")
        event[2], time[2], start[2] = True, 20.0, 2.0 if event_in == "in" else np.inf
    return time, start, event


def integral(
    time: Floats, start: Floats, event: Bools, mean: float, sd: float
) -> Callable[[int, float], float]:
    """Integrals of powers times the density, up to a point: adaptive, with a loop over events."""

    def log_density(log_ratio: float) -> float:
        found = -0.5 * ((log_ratio - mean) / sd) ** 2
        for i in np.flatnonzero(event):
            at_risk = time >= time[i]
            inside = at_risk & (start < time[i])
            weight = inside.sum() * math.exp(log_ratio) + (at_risk & ~inside).sum()
            found += (log_ratio if inside[i] else 0.0) - math.log(weight)
        return found

    grid = mean + np.linspace(-9.0, 9.0, 361) * sd
    values = np.array([log_density(point) for point in grid])
    top, where = float(values.max()), float(grid[values.argmax()])

    def integrate(power: int, until: float) -> float:
        until = min(until, float(grid[-1]))
        inner = (where - 3.0, where, where + 3.0)
        edges = [float(grid[0]), *(x for x in inner if grid[0] < x < until), until]
        return sum(
            float(
                quad(
                    lambda x: x**power * math.exp(log_density(x) - top),
                    low,
                    high,
                    epsabs=1e-10,
                    epsrel=1e-10,
                )[0]
            )
            for low, high in pairwise(edges)
        )

    return integrate


@pytest.mark.parametrize(
    ("whole", "event_in", "sd"),
    [
        (False, "both", 0.82),
        (True, "both", 0.82),
        (False, "out", 0.82),
        (True, "in", 0.82),
        (False, "both", 3.5),
        (False, "in", 3.5),
    ],
)
def test_against_integration(whole: bool, event_in: str, sd: float) -> None:
    random = np.random.default_rng([1, int(whole), len(event_in)])
    cohorts = [draw_cohort(12, random, whole=whole, event_in=event_in) for _ in range(2)]
    time, start, event = (np.stack(parts) for parts in zip(*cohorts, strict=True))
    found = cohort_posteriors(time, start, event, prior_mean=0.2, prior_sd=sd)
    # Without events on one side a density has a long, flat tail, and the grid is coarse for it.
    error = 1e-6 if sd < 1.0 else 1e-3
    for i, cohort in enumerate(cohorts):
        up_to = integral(*cohort, 0.2, sd)
        mass = up_to(0, math.inf)
        mean = up_to(1, math.inf) / mass
        spread = math.sqrt(up_to(2, math.inf) / mass - mean**2)
        assert found.mean[i] == pytest.approx(mean, abs=error * spread)
        assert found.sd[i] == pytest.approx(spread, rel=error)
        assert found.below_zero[i] == pytest.approx(up_to(0, 0.0) / mass, abs=error)
        assert up_to(0, float(found.lower[i])) / mass == pytest.approx(0.025, abs=error)
        assert up_to(0, float(found.upper[i])) / mass == pytest.approx(0.975, abs=error)


def test_grids_end_where_nothing_is_left() -> None:
    """Densities of three shapes, from first guesses that are far too near and far too far."""

    def drop_at(away: Floats) -> Floats:
        return np.array([away[0] ** 2 / 2.0, away[1], math.expm1(min(away[2], 500.0))])

    for guess in (0.01, 1.0, 300.0):
        drop = drop_at(_distance(drop_at, np.full(3, guess)))
        assert (drop >= 26.0).all()
        assert (drop <= 60.0).all()


def test_a_posterior_that_is_the_prior() -> None:
    """Nobody is in the phase while there are events: they say nothing."""
    found = cohort_posteriors(
        np.array([[1.0, 2.0, 5.0, 6.0]]),
        np.array([[np.inf, np.inf, 3.0, np.inf]]),
        np.array([[True, True, False, False]]),
        prior_mean=-0.3,
        prior_sd=0.7,
    )
    assert found.mode[0] == pytest.approx(-0.3, abs=1e-9)
    assert found.mean[0] == pytest.approx(-0.3, abs=1e-9)
    assert found.sd[0] == pytest.approx(0.7, rel=1e-9)
    assert found.lower[0] == pytest.approx(-0.3 - 1.959963984540054 * 0.7, abs=1e-6)
    assert found.upper[0] == pytest.approx(-0.3 + 1.959963984540054 * 0.7, abs=1e-6)
    assert found.below_zero[0] == pytest.approx(norm.cdf(0.3 / 0.7), abs=1e-6)


def test_the_mode_under_a_flat_prior_is_coxphs() -> None:
    """A start at another's event comes after it, and tied events see all at risk.

    library(survival)
    start <- c(0,0,2,0,0,3,0,0,1,0,0,0,4)
    stop  <- c(5,2,7,3,3,6,5,1,8,9,2,4,9)
    event <- c(1,0,1,1,0,1,1,0,0,0,1,0,1)
    x     <- c(0,0,1,0,0,1,0,0,1,0,0,0,1)
    f <- coxph(Surv(start, stop, event) ~ x, ties = "breslow",
               control = coxph.control(eps = 1e-12, toler.chol = 1e-14, iter.max = 50))
    print(format(c(coef(f), sqrt(vcov(f))), digits = 12))
    """
    found = cohort_posteriors(
        np.array([[5.0, 7.0, 3.0, 6.0, 5.0, 8.0, 9.0, 2.0, 9.0]]),
        np.array([[np.inf, 2.0, np.inf, 3.0, np.inf, 1.0, np.inf, np.inf, 4.0]]),
        np.array([[True, True, True, True, True, False, False, True, True]]),
        prior_mean=0.0,
        prior_sd=1e5,
    )
    assert found.mode[0] == pytest.approx(-0.401009729346, abs=1e-6)


def test_the_packages_companion_says_the_same() -> None:
    cohorts = simulate_cohorts(DESIGN, cohorts=10, seed=1)
    primary = bb.load_model("primary")
    prior = primary.phases.prior
    found = cohort_posteriors(
        cohorts.time, cohorts.start, cohorts.event, prior_mean=prior.mean, prior_sd=prior.sd
    )
    question = bb.Question(exposed="exposed", eligible_from="entry")
    draws = 4000
    for i in range(10):
        person_time = person_time_for(primary, as_cohort(cohorts, i, DESIGN), question)
        companion = partial_posterior(primary, person_time, seed=i, draws=draws)
        assert companion.draws is not None
        logs = companion.draws["log_hazard_ratio"].values.ravel()
        # Four Monte-Carlo errors of independent draws.
        assert found.mean[i] == pytest.approx(logs.mean(), abs=4 * found.sd[i] / draws**0.5)
        assert found.sd[i] == pytest.approx(logs.std(), rel=4 * (0.5 / draws) ** 0.5)
        below = found.below_zero[i]
        error = max(below * (1.0 - below), 1e-4) ** 0.5 / draws**0.5
        assert below == pytest.approx((logs < 0).mean(), abs=4 * error)


def test_cohorts_do_not_touch_each_other() -> None:
    """Alone and among others with more events, and beyond one block, a cohort has one posterior."""
    cohorts = simulate_cohorts(DESIGN, cohorts=1500, seed=2)
    whole = cohort_posteriors(
        cohorts.time, cohorts.start, cohorts.event, prior_mean=0.0, prior_sd=0.8
    )
    for i in (0, 700, 1499):
        alone = cohort_posteriors(
            cohorts.time[[i]], cohorts.start[[i]], cohorts.event[[i]], prior_mean=0.0, prior_sd=0.8
        )
        for name in ("mode", "mean", "sd", "lower", "upper", "below_zero"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(whole, name)[i], abs=1e-5)


def test_nothing_to_compare() -> None:
    """Nobody in the phase; no event; everybody in it from the beginning; and one that is fine."""
    infinite = np.inf
    cohorts = Cohorts(
        time=np.array([[1.0, 2.0, 3.0]] * 4),
        start=np.array(
            [[infinite] * 3, [0.5, infinite, 1.0], [0.0, 0.0, 0.0], [0.5, infinite, infinite]]
        ),
        event=np.array([[True] * 3, [False] * 3, [True] * 3, [True] * 3]),
        hazard_ratio=np.ones(4),
    )
    found = cohort_posteriors(
        cohorts.time, cohorts.start, cohorts.event, prior_mean=0.0, prior_sd=0.8
    )
    assert np.isfinite(found.mean).tolist() == [False, False, False, True]
    assert np.isnan(found.below_zero[:3]).all()
