"""Illness-death mathematics against matrix exponentials, quadrature and a simulation."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import expm

from bayesblina.core.occupancy import follow, mean_survival, passing, time_after
from bayesblina.estimands.averages import Averages
from bayesblina.estimands.occupancies import _collect
from bayesblina.estimands.regimes import From, Never
from bayesblina.estimands.states import RegimeCourses, StateAverage
from bayesblina.estimands.windows import Window

RATES = st.one_of(st.just(0.0), st.sampled_from([0.3, 0.1, 1e-9]), st.floats(0.0, 3.0))


def generator(relapse: float, die: float, after: float) -> np.ndarray:
    return np.array(
        [
            [-(relapse + die), relapse, die, 0.0],
            [0.0, -after, 0.0, after],
            [0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0],
        ]
    )


@settings(max_examples=300, deadline=None)
@given(
    rates=st.lists(st.tuples(RATES, RATES, RATES), min_size=1, max_size=5),
    widths=st.lists(st.floats(0.01, 20.0), min_size=5, max_size=5),
)
@example(rates=[(0.2, 0.1, 0.3)], widths=[1.0] * 5)
@example(rates=[(0.2, 0.1, 0.3 + 1e-9)], widths=[7.0] * 5)
@example(rates=[(0.0, 0.0, 0.0), (0.5, 0.0, 0.5)], widths=[3.0] * 5)
def test_products_of_matrix_exponentials(
    rates: list[tuple[float, float, float]], widths: list[float]
) -> None:
    knots = np.concatenate([[0.0], np.cumsum(widths[: len(rates)])])
    relapse, die, after = np.array(rates).T
    epoch = np.zeros(len(rates), dtype=np.int64)
    course = follow(knots, relapse, die, after[None], epoch)
    state = np.array([1.0, 0.0, 0.0, 0.0])
    for piece, (one, width) in enumerate(zip(rates, np.diff(knots), strict=True)):
        state = state @ expm(generator(*one) * width)
        got = np.array(
            [
                course.remission[piece + 1],
                course.alive_after_relapse[piece + 1],
                course.dead_in_remission[piece + 1],
                course.dead_after_relapse[piece + 1],
            ]
        )
        np.testing.assert_allclose(got, state, atol=1e-12)
        assert abs(got.sum() - 1.0) < 1e-12


@settings(max_examples=150, deadline=None)
@given(
    x=st.floats(0.0, 60.0), apart=st.floats(-1.0, 1.0), scale=st.sampled_from([0, 1e-6, 1e-3, 1])
)
@example(x=0.0, apart=0.0, scale=0)
@example(x=12.0, apart=1.0, scale=1e-3)
def test_divided_differences(x: float, apart: float, scale: float) -> None:
    y = max(0.0, x + apart * scale * (1.0 + x))
    one, two = np.array([x]), np.array([y])
    inner, _ = quad(lambda u: np.exp(-x * u - y * (1 - u)), 0, 1, epsabs=1e-15, epsrel=1e-13)
    np.testing.assert_allclose(passing(one, two)[0], inner, rtol=1e-10, atol=1e-300)
    outer, _ = quad(
        lambda t: t * float(passing(one * t, two * t)[0]), 0, 1, epsabs=1e-15, epsrel=1e-12
    )
    np.testing.assert_allclose(time_after(one, two)[0], outer, rtol=1e-9)
    mean, _ = quad(lambda u: np.exp(-x * u), 0, 1, epsabs=1e-15)
    np.testing.assert_allclose(mean_survival(one)[0], mean, rtol=1e-10)


def test_times_are_integrals_of_probabilities() -> None:
    random = np.random.default_rng(1)
    knots = np.array([1.0, 2.5, 4.0, 9.0])
    relapse, die = random.uniform(0, 0.5, (2, 3))
    after = random.uniform(0, 0.8, (2, 3))
    epoch = np.array([0, 1, 1])
    course = follow(knots, relapse, die, after, epoch)

    def at(time: float, which: str) -> float:
        piece = int(np.searchsorted(knots, time, side="left")) - 1
        piece = max(piece, 0)
        cut = np.append(knots[: piece + 1], time)
        part = follow(
            cut,
            relapse[: piece + 1],
            die[: piece + 1],
            after[:, : piece + 1],
            epoch[: piece + 1],
        )
        return float(getattr(part, which)[-1])

    for which, total in (
        ("remission", course.time_in_remission),
        ("alive_after_relapse", course.time_after_relapse),
    ):
        expected = sum(
            quad(at, low, high, args=(which,), epsabs=1e-13)[0] for low, high in pairwise(knots)
        )
        np.testing.assert_allclose(total[-1], expected, atol=1e-10)


def test_a_million_simulated_patients() -> None:
    """Clock-forward courses drawn event by event; treatment starts at 3 in those in remission."""
    random = np.random.default_rng(7)
    size = 1_000_000
    cuts = np.array([0.0, 3.0, 6.0, 12.0])
    relapse, die = np.array([0.10, 0.05, 0.02]), np.array([0.04, 0.05, 0.01])
    # Rows: relapsed before the treatment, relapsed under it.
    after = np.array([[0.3, 0.2, 0.1], [0.3, 0.1, 0.05]])
    epoch = np.array([0, 1, 1])
    course = follow(cuts, relapse, die, after, epoch)

    def first(start: np.ndarray, hazards: np.ndarray) -> np.ndarray:
        """Times of events from `start` on; hazards by patient and piece, the last one open."""
        target = random.exponential(size=start.size)
        time = np.full(start.size, np.inf)
        for piece in range(3):
            low = np.maximum(start, cuts[piece])
            high = cuts[piece + 1]
            width = np.maximum(high - low, 0.0)
            passed = hazards[:, piece] * width
            hit = np.isinf(time) & (target <= passed) & (width > 0)
            time[hit] = low[hit] + target[hit] / hazards[hit, piece]
            target = np.where(np.isinf(time), target - passed, target)
        return time

    begin = np.zeros(size)
    one = first(begin, np.tile(relapse, (size, 1)))
    two = first(begin, np.tile(die, (size, 1)))
    relapsed = one < two
    where = np.flatnonzero(relapsed & np.isfinite(one))
    treated = (one[where] > 3.0).astype(int)
    three = first(one[where], after[treated])
    death = two.copy()
    death[where] = three
    for index, time in ((1, 3.0), (2, 6.0), (3, 12.0)):
        remission = np.minimum(one, two) > time
        alive = death > time
        shares = {
            "remission": remission.mean(),
            "alive_after_relapse": (alive & ~remission).mean(),
            "dead_in_remission": (~alive & ~relapsed).mean(),
            "dead_after_relapse": (~alive & relapsed).mean(),
        }
        for name, share in shares.items():
            expected = float(getattr(course, name)[index])
            error = 4 * np.sqrt(expected * (1 - expected) / size)
            assert abs(share - expected) < error, (name, time)


def test_states_by_subgroup_are_laid_out() -> None:
    """Of three subgroups and two regimes: each value says which it is of."""
    courses = [
        [StateAverage(courses=(group, regime), of_death=True) for regime in range(2)]  # type: ignore[arg-type]
        for group in range(3)
    ]
    regimes = (Never(), From(8.0))
    posterior = xr.Dataset(coords={"chain": [0, 1], "draw": [0, 1, 2]})
    fit: Any = SimpleNamespace(posterior=posterior)

    def evaluate(one: Any) -> Any:
        draws, times = np.arange(6.0)[:, None], np.arange(4.0)
        return 1000.0 * one[0] + 100.0 * one[1] + 10.0 * draws + times

    averages = Averages(
        members=[courses],  # type: ignore[list-item]
        endpoints=("os",),
        regimes=regimes,
        subgroups=("a", "b", "c"),
        description="patients",
        window=Window(start=0.0, last=9.0, unit="months"),
        error=0.0,
    )
    found = _collect(fit, averages, evaluate, ("time",))
    assert found.dims == ("chain", "draw", "subgroup", "regime", "time")
    assert found["subgroup"].values.tolist() == ["a", "b", "c"]
    assert found["regime"].values.tolist() == ["never", "from 8"]
    one = found.sel(chain=1, draw=2, subgroup="c", regime="from 8").values
    assert one.tolist() == [2150.0, 2151.0, 2152.0, 2153.0]
    everybody = replace(averages, members=[courses[:1]], subgroups=None)  # type: ignore[list-item]
    found = _collect(fit, everybody, evaluate, ("time",))
    assert found.dims == ("chain", "draw", "regime", "time")
    assert found.sel(chain=0, draw=1, regime="never").values.tolist() == [10.0, 11.0, 12.0, 13.0]


def test_members_may_weigh_differently_in_each_draw() -> None:
    values = np.arange(12.0).reshape(2, 3, 2)
    same: Any = SimpleNamespace(weight=np.array([0.5, 0.25, 0.25]))
    expected = (values * same.weight[:, None]).sum(axis=1)
    np.testing.assert_allclose(RegimeCourses.average(same, values, slice(0, 2)), expected)
    weight = np.array([[1.0, 0.0, 0.0], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    own: Any = SimpleNamespace(weight=weight)
    expected = (values * weight[1:, :, None]).sum(axis=1)
    np.testing.assert_allclose(RegimeCourses.average(own, values, slice(1, 3)), expected)
