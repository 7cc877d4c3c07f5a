"""The study of borrowing: its patients and its sums, against other ways."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad

from tests.studies.borrowing import (
    ALONE,
    CURRENT,
    EXTERNAL,
    FACTORS,
    LOG_RATIO,
    MODELS,
    SCENARIOS,
    SHIPPED,
    External,
    page,
    shared_course,
    summary,
    table_of,
    times_of,
)


def test_survival_of_its_patients_is_the_integral() -> None:
    """Hazard 0.1 before month 4 and 0.04 after; a third of it after an exponential entry."""
    generator = np.random.default_rng(1)
    size = 200_000
    event, entered = times_of(generator, size, 1.0 / 3.0, 0.1, 0.04)

    def cumulative(time: float) -> float:
        return 0.1 * min(time, 4.0) + 0.04 * max(time - 4.0, 0.0)

    def survival(time: float) -> float:
        def given(entry: float) -> float:
            before = cumulative(min(entry, time))
            after = cumulative(time) - before
            return math.exp(-before - after / 3.0 - entry / 4.0) / 4.0

        return quad(given, 0.0, time)[0] + math.exp(-cumulative(time) - time / 4.0)

    for time in (2.0, 6.0, 15.0):
        expected = survival(time)
        # Four standard errors of a share.
        error = 4.0 * math.sqrt(expected * (1.0 - expected) / size)
        assert (event > time).mean() == pytest.approx(expected, abs=error)
    assert entered.mean() == pytest.approx(4.0, abs=4.0 * 4.0 / math.sqrt(size))


def test_scenarios_are_those_of_the_page() -> None:
    assert math.exp(LOG_RATIO) == pytest.approx(0.5)
    assert [one.ratio for one in SCENARIOS] == [0.5, 1.0, 2.0, 0.5, 0.5]
    hazards = [(0.06, 0.06)] * 3 + [(0.18, 0.18), (0.12, 0.03)]
    np.testing.assert_allclose([(one.early, one.late) for one in SCENARIOS], hazards)
    one, other = (table_of(3, External("any", ratio)) for ratio in (0.5, 2.0))
    current = one["source"] == "current"
    assert (int(current.sum()), int((~current).sum())) == (CURRENT, EXTERNAL) == (90, 300)
    pd.testing.assert_frame_equal(one[current], other[current])
    # Followed for 12 to 30 months.
    assert one.loc[one["event"] == 0, "time"].min() > 11.9
    assert 29.0 < one["time"].max() < 30.0


def test_a_shared_course_moves_the_ratio_unless_it_is_the_same() -> None:
    found = {factor: shared_course(factor, times=100) for factor in FACTORS}
    bias, error = found[1.0]
    assert abs(bias) < 4.0 * error
    # Those who have entered are later in follow-up, where the shared course is too low.
    assert found[4.0][0] > 10.0 * found[4.0][1]
    assert found[0.25][0] < -10.0 * found[0.25][1]
    assert 0.0 < found[2.0][0] < found[4.0][0]


def test_sums_by_hand() -> None:
    ends = {(1, ALONE): (-1.0, 0.0), (2, ALONE): (-0.5, 1.5), (1, MODELS[0]): (-1.0, -0.5)}
    ends[2, MODELS[0]] = (-0.69, 0.31)
    rows = pd.DataFrame(
        [
            {
                "seed": seed,
                "external": "" if model == ALONE else "x",
                "model": model,
                "covers": "" if model == ALONE else SHIPPED,
                "mean": (lower + upper) / 2.0,
                "lower": lower,
                "upper": upper,
                "converged": True,
                "events": 40,
                "baseline conflict": np.nan if model == ALONE else False,
                "phases conflict": np.nan if model == ALONE else seed == 2,
                "baseline apart": np.nan,
                "phases apart": np.nan,
                "baseline events": np.nan if model == ALONE else 10.0 * seed,
                "phases events": np.nan if model == ALONE else 20.0,
            }
            for (seed, model), (lower, upper) in ends.items()
        ]
    )
    table = summary(rows).set_index("model")
    alone, model = table.loc[ALONE], table.loc[MODELS[0]]
    # log 0.5 is -0.693: inside the first interval of either, outside the second.
    assert (alone["coverage"], model["coverage"]) == (0.5, 0.5)
    assert model["bias"] == pytest.approx((-0.75 - 0.19) / 2.0 + math.log(2.0))
    assert model["width"] == pytest.approx((0.5 / 1.0 + 1.0 / 2.0) / 2.0)
    assert model["baseline events"] == 15.0
    assert (model["baseline conflict"], model["phases conflict"]) == (0.0, 0.5)
    text = page(rows, "{table}")
    assert (
        f"| x | `{MODELS[0]}` | all | 2 | +0.22 (0.28) | 50% | 0.50 | 20.0 | 15.0 | 50% | 0% |"
        in text
    )
