"""Step functions against loops over rows, weights of every size, and fractions by hand."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from bayesblina.core import product_limit as limits
from bayesblina.core.arrays import Floats

# Five rows; two begin late. Deaths at 2 (two of them), 4 and 6; the last row goes on to 7.
START = np.array([0.0, 0.0, 0.0, 1.0, 3.0])
STOP = np.array([2.0, 2.0, 4.0, 6.0, 7.0])
EVENT = np.array([True, True, True, True, False])
WEIGHT = np.array([0.5, 1.5, 1.0, 2.0, 0.25])
TIMES = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0])
Z = NormalDist().inv_cdf(0.95)


def test_who_is_at_risk_before_and_after_times() -> None:
    before = [((time > START) & (time <= STOP)) for time in TIMES]
    after = [((time >= START) & (time < STOP)) for time in TIMES]
    order = np.random.default_rng(1).permutation(5)
    start, stop = START[order], STOP[order]
    assert limits.count_at_risk(start, stop, TIMES).tolist() == [row.sum() for row in before]
    just_after = limits.count_at_risk(start, stop, TIMES, just="after")
    assert just_after.tolist() == [row.sum() for row in after]
    found = limits.weigh_at_risk(start, stop, WEIGHT[order], TIMES)
    np.testing.assert_allclose(found, [WEIGHT[row].sum() for row in before], rtol=1e-12)
    # Sums of weights that cancel only up to rounding leave nothing where nobody is.
    nobody = limits.weigh_at_risk(
        np.zeros(3), np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]), np.array([4.0])
    )
    assert nobody.tolist() == [0.0]
    assert limits.count_events(STOP[EVENT], np.array([1.0, 2.0, 4.0, 6.0, 7.0])).tolist() == [
        0,
        2,
        1,
        1,
        0,
    ]


def curve(how: Any, **more: Any) -> pd.DataFrame:
    given: dict[str, Any] = {"begin": None, "minimum": 1, "mass": 0.9}
    found: pd.DataFrame = how(START, STOP, EVENT, **(given | more))
    return found


def test_a_curve_by_hand() -> None:
    found = curve(limits.product_limit)
    assert found.columns.tolist() == ["time", "survival", "lower", "upper", "at_risk", "events"]
    assert found["time"].tolist() == [0.0, 2.0, 4.0, 6.0, 7.0]
    # At 2 two of four die, at 4 one of three, at 6 one of two.
    survival = np.array([1 / 2, 1 / 3, 1 / 6])
    np.testing.assert_allclose(found["survival"], [1.0, *survival, survival[-1]], rtol=1e-12)
    assert found["at_risk"].tolist() == [3, 4, 3, 2, 1]
    assert found["events"].tolist() == [0, 2, 1, 1, 0]
    assert found["at_risk"].dtype == found["events"].dtype == np.int64
    variance = np.cumsum([2 / (4 * 2), 1 / (3 * 2), 1 / (2 * 1)])
    width = Z * np.sqrt(variance) / -np.log(survival)
    lower, upper = survival ** np.exp(width), survival ** np.exp(-width)
    np.testing.assert_allclose(found["lower"][1:4], lower, rtol=1e-9)
    np.testing.assert_allclose(found["upper"][1:4], upper, rtol=1e-9)
    assert found["lower"].isna().tolist() == [True, False, False, False, False]
    assert found["lower"].iloc[-1] == pytest.approx(lower[-1])


def test_a_sum_of_hazards_by_hand() -> None:
    found = curve(limits.sum_of_hazards)
    total = np.cumsum([2 / 4, 1 / 3, 1 / 2])
    expected = [0.0, *total, total[-1]]
    np.testing.assert_allclose(found["cumulative_hazard"], expected, rtol=1e-12)
    error = np.sqrt(np.cumsum([2 / 4**2, 1 / 3**2, 1 / 2**2]))
    factor = np.exp(Z * error / total)
    np.testing.assert_allclose(found["lower"][1:4], total / factor, rtol=1e-9)
    np.testing.assert_allclose(found["upper"][1:4], total * factor, rtol=1e-9)
    assert math.isnan(found["lower"][0])


def test_weights_are_shares_of_patients() -> None:
    found = curve(limits.product_limit, weight=WEIGHT)
    risk = np.array([0.5 + 1.5 + 1.0 + 2.0, 1.0 + 2.0 + 0.25, 2.0 + 0.25])
    died = np.array([2.0, 1.0, 2.0])
    survival = np.cumprod(1.0 - died / risk)
    np.testing.assert_allclose(found["survival"][1:4], survival, rtol=1e-12)
    np.testing.assert_allclose(found["at_risk"], [3.0, *risk, 0.25], rtol=1e-12)
    np.testing.assert_allclose(found["events"], [0.0, *died, 0.0], rtol=1e-12)
    squares = np.array([0.25 + 2.25 + 1.0 + 4.0, 1.0 + 4.0 + 0.0625, 4.0 + 0.0625])
    variance = np.cumsum(died / risk / (risk**2 / squares * (1.0 - died / risk)))
    width = Z * np.sqrt(variance) / -np.log(survival)
    np.testing.assert_allclose(found["lower"][1:4], survival ** np.exp(width), rtol=1e-9)
    hazards = curve(limits.sum_of_hazards, weight=WEIGHT)
    total = np.cumsum(died / risk)
    np.testing.assert_allclose(hazards["cumulative_hazard"][1:4], total, rtol=1e-12)
    error = np.sqrt(np.cumsum(died / risk * squares / risk**2))
    np.testing.assert_allclose(hazards["upper"][1:4], total * np.exp(Z * error / total), rtol=1e-9)
    # Weights of 1 are none.
    plain, ones = (curve(limits.product_limit, weight=weight) for weight in (None, np.ones(5)))
    pd.testing.assert_frame_equal(plain, ones, check_dtype=False)


def test_small_risk_sets_do_not_count_until_one_is_large_enough() -> None:
    start, stop = np.array([0.0, 1.0, 1.0]), np.array([0.5, 2.0, 3.0])
    event = np.array([True, True, True])
    weight = np.array([2.0, 1.0, 3.0])
    for minimum, weights, times, share in (
        (1, None, [0.5, 2.0, 3.0], [1.0, 0.5, 1.0]),
        (2, None, [2.0, 3.0], [0.5, 1.0]),
        (2, weight, [2.0, 3.0], [0.25, 1.0]),
        (3, None, [], []),
        (3, weight, [], []),
    ):
        found = limits.product_limit(
            start, stop, event, begin=None, minimum=minimum, mass=0.9, weight=weights
        )
        survival = np.cumprod(1.0 - np.array(share)).tolist()
        after = [] if times else [1.0]
        assert found["time"].tolist() == [0.0, *times, *([] if times else [3.0])]
        assert found["survival"].tolist() == [1.0, *survival, *after]
        # Nothing is known of how sure a curve at 0 is.
        defined = [0.0 < one < 1.0 for one in found["survival"]]
        assert found["upper"].notna().tolist() == defined


def test_a_whole_weighted_risk_set_has_the_event() -> None:
    """Sums of the same weights in another order."""
    weight = np.array([0.1, 0.2, 0.3, 0.7, 0.6])
    found = limits.product_limit(
        np.zeros(5),
        np.array([1.0, 2.0, 2.0, 2.0, 1.0]),
        np.ones(5, dtype=bool),
        begin=0.0,
        minimum=1,
        mass=0.9,
        weight=weight,
    )
    assert found["survival"].iloc[-1] == 0.0


def test_where_a_curve_begins_and_ends() -> None:
    late = curve(limits.product_limit, begin=1.5)
    assert late["time"].tolist() == [1.5, 2.0, 4.0, 6.0, 7.0]
    assert late["at_risk"].tolist() == [4, 4, 3, 2, 1]
    # Who begins there is present, who ends there is not; it ends with the last event.
    at = curve(limits.product_limit, begin=2.0)
    assert at["at_risk"][0] == 2
    third = limits.product_limit(
        START[:4], STOP[:4], EVENT[:4], begin=1.0, minimum=1, mass=0.9, weight=WEIGHT[:4]
    )
    assert third["time"].tolist() == [1.0, 2.0, 4.0, 6.0]
    assert third["at_risk"][0] == 5.0
    nobody = limits.product_limit(
        START, STOP, np.zeros(5, dtype=bool), begin=None, minimum=1, mass=0.9
    )
    assert nobody["time"].tolist() == [0.0, 7.0]
    assert nobody["survival"].tolist() == [1.0, 1.0]
    assert nobody["at_risk"].tolist() == [3, 1]
    assert nobody[["lower", "upper"]].isna().all(axis=None)


def looped(
    who: NDArray[np.int64], counts: NDArray[np.int64], times: Floats, minimum: int, weight: Floats
) -> Floats:
    """Curves of studies in which patient i was drawn counts[i] times."""
    curves = np.ones((counts.shape[0], times.size))
    for row, drawn in enumerate(counts):
        value, large, steps = 1.0, False, {}
        for time in np.unique(STOP[EVENT]):
            inside = (time > START) & (time <= STOP)
            size = drawn[who[inside]].sum()
            large = large or size >= minimum
            if large and size:
                each = drawn[who] * weight
                died = EVENT & (time == STOP)
                value *= 1.0 - min(each[died].sum() / each[inside].sum(), 1.0)
            steps[time] = value
        for column, time in enumerate(times):
            passed = [one for step, one in steps.items() if step <= time]
            curves[row, column] = passed[-1] if passed else 1.0
    return curves


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("minimum", [1, 3])
@pytest.mark.parametrize("block", [1, 40, 2_000_000])
def test_a_bootstrap_band_is_that_of_single_studies(
    monkeypatch: pytest.MonkeyPatch, weighted: bool, minimum: int, block: int
) -> None:
    monkeypatch.setattr(limits, "BLOCK", block)
    # Two rows are one patient's; the sixth patient has none here.
    who = np.array([0, 1, 2, 3, 2])
    weight = WEIGHT if weighted else np.ones(5)
    times, patients, replicates = np.array([1.0, 2.0, 5.0, 6.0, 9.0]), 6, 23
    lower, upper = limits.bootstrap_band(
        START,
        STOP,
        EVENT,
        who,
        times=times,
        patients=patients,
        minimum=minimum,
        mass=0.8,
        generator=np.random.default_rng(5),
        replicates=replicates,
        weight=weight if weighted else None,
    )
    generator = np.random.default_rng(5)
    counts = generator.multinomial(patients, np.full(patients, 1 / patients), size=replicates)
    curves = looped(who, counts, times, minimum, weight)
    np.testing.assert_allclose(lower, np.quantile(curves, 0.1, axis=0), atol=1e-12)
    np.testing.assert_allclose(upper, np.quantile(curves, 0.9, axis=0), atol=1e-12)
