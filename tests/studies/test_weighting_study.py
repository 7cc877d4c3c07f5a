"""The study of weights: its simulation and truths against the same law by ordinary differences."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import expm
from scipy.optimize import brentq

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.product_limit import product_limit
from tests.paths import VALIDATION
from tests.studies import weighting as study

PAGE = VALIDATION / "weighting.md"

# The law of docs/validation/weighting.md, typed again.
DEATH, WORSE_DEATH, MARKER_DEATH = 0.03, math.exp(1.2), math.exp(0.6)
START, WORSE_START, MARKER_START = 0.12, math.exp(-1.5), math.exp(-0.5)
WORSENING, STARTED_WORSENING = 0.08, math.exp(-1.0)
RATIO = 0.5
STEP = 0.02
TIMES = np.arange(0.0, 30.0 + STEP / 2, STEP)


def generator(marker: int, start: float) -> Floats:
    """Rates between calm, worse, started calm and started worse; what is missing are deaths."""
    death = DEATH * MARKER_DEATH**marker
    begin = start
    worse = START * WORSE_START * MARKER_START**marker if start < 0 else start
    begin = START * MARKER_START**marker if start < 0 else start
    return np.array(
        [
            [-(death + WORSENING + begin), 0.0, 0.0, 0.0],
            [WORSENING, -(death * WORSE_DEATH + worse), 0.0, 0.0],
            [begin, 0.0, -(RATIO * death + WORSENING * STARTED_WORSENING), 0.0],
            [0.0, worse, WORSENING * STARTED_WORSENING, -RATIO * death * WORSE_DEATH],
        ]
    )


def alive(start: float) -> Floats:
    """Survival at all times of patients who start at a time, both markers together."""
    place = min(round(start / STEP), TIMES.size - 1)
    total = np.zeros(TIMES.size)
    for marker in (0, 1):
        step = expm(STEP * generator(marker, 0.0))
        state = np.array([1.0, 0.0, 0.0, 0.0])
        for index in range(TIMES.size):
            if index == place and start < 30.0:
                state = np.array([0.0, 0.0, state[0], state[1]])
            total[index] += state.sum() / 2.0
            state = step @ state
    return total


def in_follow_up(times: Floats) -> Floats:
    return np.clip((30.0 - times) / 18.0, 0.0, 1.0)


def log_ratio(at_risk: Floats, events: Floats, reference: Floats, others: Floats) -> float:
    """Where the expected score of the partial likelihood is 0."""

    def score(beta: float) -> float:
        share = at_risk * math.exp(beta) / (at_risk * math.exp(beta) + reference)
        return float((events - (events + others) * share).sum())

    return float(brentq(score, -3.0, 3.0))


@pytest.fixture(scope="module")
def truths() -> dict[str, float]:
    return study.truth(math.log(RATIO), patients=100_000)


def test_courses_follow_the_law() -> None:
    for start in (0.0, 5.0, study.NEVER):
        found = study.courses(
            np.random.default_rng(1), 100_000, math.log(RATIO), start=np.full(100_000, start)
        )
        expected = alive(start)
        for at in (6.0, 12.0, 24.0):
            # Four standard errors of a share among 100,000.
            got = float((found["death"] > at).mean())
            assert got == pytest.approx(expected[round(at / STEP)], abs=0.0064)
    assert found["censored"].min() == pytest.approx(12.0, abs=0.01)
    assert found["censored"].max() == pytest.approx(30.0, abs=0.01)
    # Starts as they come: those alive who have started, at some times.
    found = study.courses(np.random.default_rng(2), 400_000, math.log(RATIO))
    for at in (3.0, 12.0):
        states = np.mean([expm(at * generator(marker, -1.0))[:, 0] for marker in (0, 1)], axis=0)
        here = found["death"] > at
        worse, started = found["worse"] <= at, found["start"] <= at
        waits = (~worse & ~started, worse & ~started, ~worse & started, worse & started)
        for state, rows in zip(states, waits, strict=True):
            error = math.sqrt(state * (1.0 - state) / 400_000)
            assert float((here & rows).mean()) == pytest.approx(state, abs=4.0 * error)


def test_truths_of_the_arms_by_integration(truths: dict[str, float]) -> None:
    never = alive(study.NEVER)
    starts = np.mean([alive(start) for start in np.arange(0.1, 6.0, 0.2)], axis=0)
    for at in (12, 18):
        # Four standard errors of a difference of shares among 100,000 each.
        expected = starts[round(at / STEP)] - never[round(at / STEP)]
        assert truths[f"survival difference at {at}"] == pytest.approx(expected, abs=0.009)
    last = round(18.0 / STEP)
    area = float(np.trapezoid((starts - never)[: last + 1], dx=STEP))
    assert truths["restricted mean difference"] == pytest.approx(area, abs=0.12)
    middle = in_follow_up(TIMES[:-1] + STEP / 2.0)
    ratio = log_ratio(
        starts[:-1] * middle,
        -np.diff(starts) * middle,
        never[:-1] * middle,
        -np.diff(never) * middle,
    )
    # About 60,000 events in each arm: a standard error of 0.006.
    assert truths["log hazard ratio of the arms"] == pytest.approx(ratio, abs=0.024)


def test_truth_of_having_started_by_integration(truths: dict[str, float]) -> None:
    """Starts at the pooled rate of those who wait, whatever they are like."""
    seen = np.stack([np.eye(4)[0], np.eye(4)[0]])
    chance = seen.copy()
    steps = [expm(STEP * generator(marker, -1.0)) for marker in (0, 1)]
    sums = []
    for time in TIMES[:-1]:
        waiting = seen[:, :2].sum()
        rates = [START * np.array([1.0, WORSE_START]) * MARKER_START**marker for marker in (0, 1)]
        rate = sum(float(seen[marker, :2] @ rates[marker]) for marker in (0, 1)) / waiting
        follow = float(in_follow_up(np.array([time + STEP / 2.0]))[0])
        deaths = np.zeros(2)
        for marker in (0, 1):
            moves = generator(marker, rate)
            deaths -= STEP * (moves.sum(axis=0) * chance[marker]).reshape(2, 2).sum(axis=1)
        risk = chance.sum(axis=0).reshape(2, 2).sum(axis=1)
        sums.append(np.array([risk[1], deaths[1], risk[0], deaths[0]]) * follow)
        for marker in (0, 1):
            # The exponential to seven digits, which take far less time than sixteen.
            small = np.eye(4) + STEP / 1024.0 * generator(marker, rate)
            chance[marker] = np.linalg.matrix_power(small, 1024) @ chance[marker]
            seen[marker] = steps[marker] @ seen[marker]
    expected = log_ratio(*np.array(sums).T)
    assert truths["log hazard ratio of having started"] == pytest.approx(expected, abs=0.03)


def test_replicates_are_what_the_package_says() -> None:
    rows = study.replicate(5, math.log(RATIO), patients=150, draws=20)

    def values(method: str, what: str) -> list[float]:
        (row,) = (one for one in rows if (one["method"], one["what"]) == (method, what))
        return [float(str(row[name])) for name in ("estimate", "lower", "upper")]

    cohort, history = study.simulated(5, patients=150, log_hazard_ratio=math.log(RATIO))
    cox = bb.cox(cohort, study.QUESTION, adjusted=False)
    got = np.exp(values("Cox", "log hazard ratio of having started"))
    assert got == pytest.approx(cox[["estimate", "lower", "upper"]].iloc[0].tolist(), rel=1e-3)
    trial = bb.weighting.clone_censor_weight(
        cohort, study.QUESTION, endpoint="os", grace=6.0, history=history
    )
    effect = bb.weighting.weighted_effect(trial, seed=5, draws=20, times=[12.0, 18.0], horizon=18.0)
    expected = {
        (str(row["quantity"]), row["time"]): [row["estimate"], row["lower"], row["upper"]]
        for row in effect.table.to_dict("records")
    }
    for quantity, time, what in (
        ("survival_difference", 12.0, "survival difference at 12"),
        ("survival_difference", 18.0, "survival difference at 18"),
        ("rmst_difference", 18.0, "restricted mean difference"),
    ):
        got = np.array(values("clone, censor, weight", what))
        assert got == pytest.approx(expected[quantity, time], rel=1e-9)
    # Copies without weights: Greenwood's variances, by the package's own product limit.
    row = []
    for arm in (trial.basis.exposed, ~trial.basis.exposed):
        curve = product_limit(
            trial.basis.begin[arm],
            trial.basis.end[arm],
            trial.cohort.endpoints["os"].event[arm],
            begin=0.0,
            minimum=1,
            mass=0.95,
        )
        row.append(curve[curve["time"] <= 12.0].iloc[-1])
    one, low, high = values("clone, censor, no weights", "survival difference at 12")
    assert one == pytest.approx(float(row[0]["survival"] - row[1]["survival"]), abs=1e-12)
    variance = sum(greenwood(float(r["survival"]), float(r["lower"])) for r in row)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=1e-4)


def greenwood(survival: float, lower: float) -> float:
    """Variance of survival from the lower end of a band on the log-log scale."""
    width = math.log(math.log(lower) / math.log(survival)) / 1.959964
    return (width * survival * math.log(survival)) ** 2


def test_bias_and_coverage_by_hand() -> None:
    rows = pd.DataFrame(
        {
            "hazard ratio": 0.5,
            "what": "x",
            "method": "m",
            "estimate": [0.0, 1.0, 2.0, 3.0],
            "lower": [-1.0, 0.0, 1.5, 2.0],
            "upper": [2.92, 3.92, 5.42, 5.92],
        }
    )
    row = study.summary(rows, {0.5: {"x": 1.0}}).iloc[0]
    assert float(row["bias"]) == pytest.approx(0.5)
    assert float(row["its error"]) == pytest.approx(np.std([0, 1, 2, 3], ddof=1) / 2)
    assert float(row["mean width / 3.92"]) == pytest.approx(1.0)
    assert float(row["coverage"]) == pytest.approx(0.5)
    assert float(row["error of coverage"]) == pytest.approx(0.25)


def test_the_stored_page_is_of_these_settings() -> None:
    """Whatever the study's settings say stands in the page."""
    count = re.search(r"(\d+) cohorts of", PAGE.read_text(encoding="utf-8"))
    assert count is not None
    made = study.introduction(int(count.group(1)))
    stored = PAGE.read_text(encoding="utf-8").splitlines()
    assert len(made) == 3
    for line in made:
        assert line in stored


@pytest.mark.slow
def test_intervals_of_weighted_effects_cover() -> None:
    table = study.summary(
        study.run(60), {ratio: study.truth(math.log(ratio)) for ratio in study.HAZARD_RATIOS}
    )
    # 95 % less three standard errors of a coverage over 60 cohorts.
    assert table.loc[table["method"] == study.TRIAL, "coverage"].min() >= 0.86
    assert table.loc[table["method"] == "Cox", "coverage"].max() <= 0.8
