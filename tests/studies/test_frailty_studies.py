"""The studies of effects of patients and groups in small: each has a number that it must give."""

from __future__ import annotations

import runpy

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from bayesblina.inference.convergence import Convergence
from tests.paths import STUDIES

TRUNCATION = runpy.run_path(str(STUDIES / "left_truncation.py"))
CONVERGENCE = runpy.run_path(str(STUDIES / "convergence.py"))


@pytest.mark.parametrize("given_entry", [False, True])
def test_likelihood_is_the_integral(given_entry: bool) -> None:
    sums = TRUNCATION["Sums"](
        events=np.array([1.0, 0.0, 3.0]),
        time=np.array([4.0, 9.0, 20.0]),
        before=np.array([6.0, 0.0, 2.0]),
    )
    log_rate, sd = -2.0, 0.8
    expected = 0.0
    for events, time, before in zip(sums.events, sums.time, sums.before, strict=True):

        def weight(b: float, spent: float) -> float:
            return float(np.exp(-np.exp(log_rate + b) * spent) * norm.pdf(b, scale=sd))

        def part(b: float, d: float = events, spent: float = time, v: float = before) -> float:
            return weight(b, spent + (v if given_entry else 0.0)) * float(
                np.exp(d * (log_rate + b))
            )

        expected += np.log(quad(part, -8, 8, epsabs=1e-12)[0])
        if given_entry:
            expected -= np.log(quad(weight, -8, 8, args=(before,), epsabs=1e-12)[0])
    got = TRUNCATION["log_likelihood"](sums, log_rate, sd, given_entry=given_entry)
    assert got == pytest.approx(expected, rel=1e-8)


def test_patients_observed_late_look_alike() -> None:
    def means(groups: int, size: int, *, from_: float | None, given_entry: bool) -> np.ndarray:
        sets = [
            TRUNCATION["simulate"](groups, size, fixed="before", seed=seed, from_=from_)
            for seed in range(4)
        ]
        found = [TRUNCATION["estimate"](one, given_entry=given_entry) for one in sets]
        return np.asarray(np.mean(found, axis=0))

    # Of 30 such sets one has a standard deviation of 0.05 (sd) and 0.04 (log rate).
    sd, log_rate = means(4000, 1, from_=None, given_entry=True)
    assert sd == pytest.approx(1.0, abs=4 * 0.05 / 2)
    assert log_rate == pytest.approx(np.log(0.1), abs=4 * 0.04 / 2)
    for groups, size in ((4000, 1), (400, 5)):
        sd, log_rate = means(groups, size, from_=10.0, given_entry=False)
        assert sd < 0.93
        assert log_rate < np.log(0.1) - 0.4


def test_simulated_patients_have_the_hazards_that_are_stated() -> None:
    """Events and expected ones, by hand: 0.144 a month to month 6, 0.09 later; 0.6 in the phase."""
    cohort = CONVERGENCE["cohort_of"](60_000, 4, sd=0.0, change=0.0, seed=2)
    one, start = cohort.endpoints["os"], cohort.phase_start[:, 0]
    start = np.where(np.isnan(start), np.inf, start)
    for late in (False, True):
        for low, high, rate in ((0.0, 6.0, 0.144), (6.0, np.inf, 0.09)):
            begin = np.maximum(low, start) if late else np.full(start.size, low)
            end = np.minimum(np.minimum(one.time, high), np.inf if late else start)
            expected = rate * (0.6 if late else 1.0) * np.maximum(end - begin, 0.0).sum()
            inside = one.event & (one.time > begin) & (one.time <= end)
            assert abs(inside.sum() - expected) < 4 * np.sqrt(expected)


def test_simulated_terms_have_the_phases_rates() -> None:
    events = CONVERGENCE["adverse_events"](400, patients=100, seed=3)
    rates = np.bincount(events.phase, minlength=3) / events.person_time.sum(axis=0) / 400
    # Means of log-normal factors of sd 1.2 and 0.4; their spread over 400 terms is the error.
    mean = np.array([0.08, 0.04, 0.015]) * np.exp((1.2**2 + 0.4**2) / 2)
    error = np.sqrt((np.exp(1.2**2 + 0.4**2) - 1) / 400)
    assert (np.abs(rates / mean - 1) < 4 * error).all()
    share = rates / rates.sum() / (mean / mean.sum())
    assert (np.abs(share - 1) < 4 * np.sqrt((np.exp(0.4**2) - 1) * 4 / 400)).all()


def test_the_page_has_the_worst_of_all_fits() -> None:
    rows = []
    for seed, value in enumerate((1.002, 1.02, 1.004)):
        names = ["largest R-hat", "smallest bulk ESS", "smallest tail ESS", "divergences"]
        criteria = pd.DataFrame(
            {
                "criterion": [*names, "smallest BFMI"],
                "value": [value, 1000.0 - seed, 900.0 + seed, float(seed), 0.9],
                "limit": "",
                "passed": [value < 1.01, True, True, seed == 0, True],
            }
        )
        outcome = Convergence(table=pd.DataFrame({"parameter": ["a", "b"]}), criteria=criteria)
        rows.append(CONVERGENCE["outcome_of"]("sites", seed, 1234, outcome))
    page = CONVERGENCE["report"](pd.DataFrame(rows))
    assert "| sites | 1,234 | 2 | 1 of 3 | 1.0200 | 998, 900 | 3 | 0.90 |" in page
    assert "--seeds 3" in page
