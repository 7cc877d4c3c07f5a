"""The study of planning: its own code against other ways, and its page against its code."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm

import bayesblina as bb
from bayesblina.inference.cohort_posteriors import cohort_posteriors
from bayesblina.studies.planning.designs import as_cohort, simulate_cohorts
from tests.paths import VALIDATION
from tests.studies import planning_parts as study
from tests.studies.planning_page import introduction, page

PAGE = VALIDATION / "planning.md"
# Two-sided 97.5 % point of the normal distribution, from a table.
NORMAL = 1.959964


def test_its_prior_and_its_design_are_the_packages() -> None:
    assert bb.load_model("primary").phases.prior.sd == pytest.approx(study.PRIOR_SD, rel=1e-12)
    tutorial = (PAGE.parents[2] / "examples" / "simulating_a_design.md").read_text()
    scope: dict[str, Any] = {"bb": bb}
    exec(tutorial[tutorial.index("design = bb") : tutorial.index("```\n\nIn words")], scope)
    assert scope["design"] == study.DEMO


def test_patients_drawn_by_hand_have_the_hazards_of_their_design() -> None:
    design = replace(study.DEMO, patients=8000)
    table = study.draw_by_hand(design, np.random.default_rng(1))
    stop, start = table["months"].to_numpy(), table["start"].fillna(np.inf).to_numpy()
    died = table["died"].to_numpy() == 1
    inside, change = start < stop, np.minimum(start, stop)
    for low, high, rate in ((0.0, 12.0, 0.05), (12.0, 99.0, 0.03)):
        here = died & (stop > low) & (stop <= high)
        before = (np.clip(np.minimum(change, high) - low, 0.0, None)).sum()
        whole = (np.clip(np.minimum(stop, high) - low, 0.0, None)).sum()
        for events, expected in (
            ((here & ~inside).sum(), before * rate),
            ((here & inside).sum(), (whole - before) * rate * 0.5),
        ):
            assert abs(events - expected) < 4 * math.sqrt(expected)
    entered = 0.1 * np.clip(change - 3.0, 0.0, None).sum()
    assert abs(inside.sum() - entered) < 4 * math.sqrt(entered)
    assert start.min() >= 3.0
    assert stop.max() <= 36.0
    left = 0.005 * np.minimum(stop, 12.0).sum()
    assert abs((~died & (stop < 12.0)).sum() - left) < 4 * math.sqrt(left)


def test_cox_and_prior_against_integration() -> None:
    cohort = as_cohort(simulate_cohorts(study.DEMO, cohorts=1, seed=3), 0, study.DEMO)
    row = bb.cox(cohort, study.QUESTION).iloc[0]
    found = study.by_cox(cohort)
    estimate = math.log(row["estimate"])
    error = (math.log(row["upper"]) - estimate) / NORMAL

    def density(log_ratio: float) -> float:
        return float(
            norm.pdf(log_ratio, estimate, error) * norm.pdf(log_ratio, 0.0, math.log(5.0) / NORMAL)
        )

    whole = quad(density, -6.0, 6.0)[0]
    assert found["estimate"] == pytest.approx(estimate, rel=1e-12)
    assert found["mean"] == pytest.approx(
        quad(lambda x: x * density(x), -6.0, 6.0)[0] / whole, abs=1e-6
    )
    assert found["below_zero"] == pytest.approx(quad(density, -6.0, 0.0)[0] / whole, abs=1e-6)
    for name, share in (("lower", 0.025), ("upper", 0.975)):
        below = quad(density, -6.0, found[name])[0] / whole
        assert below == pytest.approx(share, abs=1e-5)
    assert found["wald"] == float(row["upper"] <= 1.0)


def test_a_posterior_by_hand_against_the_package() -> None:
    """Points are 0.01 apart, some fifty to an sd; quantiles between them err by the square."""
    for seed in (5, 6, 7):
        table = study.draw_by_hand(study.DEMO, np.random.default_rng(seed))
        found = study.by_hand(table)
        exact = cohort_posteriors(
            table["months"].to_numpy()[None],
            table["start"].fillna(np.inf).to_numpy()[None],
            table["died"].to_numpy()[None] == 1,
            prior_mean=0.0,
            prior_sd=math.log(5.0) / NORMAL,
        )
        assert found["mean"] == pytest.approx(exact.mean[0], abs=1e-6)
        for name in ("lower", "upper", "below_zero"):
            assert found[name] == pytest.approx(getattr(exact, name)[0], abs=5e-4)


def test_what_is_said_of_own_rows() -> None:
    rows = pd.DataFrame(
        {
            "mean": [-1.0, -0.5, math.nan, 0.1],
            "lower": [-2.0, -0.6, math.nan, -1.0],
            "upper": [-0.1, -0.4, math.nan, 1.0],
            "below_zero": [0.98, 0.974, math.nan, 0.4],
        }
    )
    found = study.summary(rows, -0.7)
    assert found["replications"] == 4
    assert found["success"] == 0.25
    assert found["success_mcse"] == pytest.approx(0.25)
    assert found["bias"] == pytest.approx((-0.3 + 0.2 + 0.8) / 3)
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["width"] == pytest.approx((math.exp(1.9) + math.exp(0.2) + math.exp(2.0)) / 3)


def test_eight_intervals_are_a_penalised_maximum() -> None:
    cohorts = simulate_cohorts(study.DEMO, cohorts=1, seed=4)
    (mean,), (sd,) = study.eight_intervals(cohorts)
    time, start, event = cohorts.time[0], cohorts.start[0], cohorts.event[0]
    cuts = np.quantile(time[event], np.linspace(0.0, 1.0, 9)[1:-1])

    def loss(log_ratio: float) -> float:
        found = 0.5 * (log_ratio / (math.log(5.0) / NORMAL)) ** 2
        for low, high in zip([0.0, *cuts], [*cuts, np.inf], strict=True):
            deaths, weighted = 0, 0.0
            for i in range(time.size):
                end, enter = min(time[i], high), min(max(start[i], low), high, time[i])
                if end > low:
                    weighted += (enter - low) + math.exp(log_ratio) * (end - enter)
                if event[i] and low < time[i] <= high:
                    deaths += 1
                    found -= log_ratio * (start[i] < time[i])
            found += deaths * math.log(weighted)
        return found

    best = minimize_scalar(loss, bracket=(-2.0, 0.0, 2.0), options={"xtol": 1e-10}).x
    assert mean == pytest.approx(best, abs=1e-5)
    step = 1e-3
    curvature = (loss(best + step) - 2.0 * loss(best) + loss(best - step)) / step**2
    assert sd == pytest.approx(curvature**-0.5, rel=1e-4)


def test_schoenfelds_numbers() -> None:
    """246.8 events at 0.7 and 120.3 at 0.6; of those followed 45.5 % and 43.2 % have one."""
    assert study.schoenfeld_size(0.7) == pytest.approx(246.79 / 0.45458, rel=1e-4)
    assert study.schoenfeld_size(0.6) == pytest.approx(120.32 / 0.43203, rel=1e-4)
    # An effect that is next to none leaves the shares at one half.
    assert study.integrated_size(0.99) == pytest.approx(study.schoenfeld_size(0.99), rel=1e-3)
    assert study.integrated_size(0.6) == pytest.approx(_summed_size(0.6), rel=1e-4)
    cohorts = simulate_cohorts(study.randomised(0.7), cohorts=100, seed=1)
    share = np.isfinite(cohorts.start).mean()
    assert share == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(cohorts.start.size))
    assert cohorts.event.mean() == pytest.approx(0.45458, abs=4 * 0.5 / math.sqrt(30_000))


def _summed_size(ratio: float) -> float:
    """Number of patients for 80 % power, month by month in small steps."""
    moments = (np.arange(24_000) + 0.5) / 1000.0
    out, inside = 0.5 * np.exp(-0.03 * moments), 0.5 * np.exp(-0.03 * ratio * moments)
    share = inside / (out + inside)
    each = (0.03 * (out + ratio * inside) * share * (1.0 - share)).sum() / 1000.0
    return float((NORMAL + 0.841621) ** 2 / math.log(ratio) ** 2 / each)


def test_the_stored_page_is_of_this_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(introduction())
    for seed, cohorts in ((study.MANY_SEED, study.MANY), (study.OWN_SEED, study.OWN)):
        assert f"| {seed} | {cohorts} |" in text
    assert f"{study.SIZES_REPLICATIONS} cohorts of each size tried; the last line" in text
    assert f"the last line {study.SIZES_MANY}." in text
    for seed in study.SIZES:
        assert f"\n| {seed} | 2" in text
    # A row of the first table anew: the same seed, but for rounding at the threshold.
    patients, replications = 86, study.TYPE_ONE[86]
    design = study.type_one_design("falling", patients)
    row = bb.planning.operating_characteristics(
        design, seed=study.TYPE_ONE_SEED, replications=replications
    ).iloc[0]
    (line,) = (one for one in text.splitlines() if one.startswith("| falling | 86 |"))
    cells = [cell.strip() for cell in line.split("|")[3:]]
    assert float(cells[0].split("%")[0]) / 100 == pytest.approx(row["success"], abs=4e-4)
    assert float(cells[1].split("%")[0]) / 100 == pytest.approx(row["coverage"], abs=4e-4)
    assert float(cells[2].split(" ")[0]) == pytest.approx(row["bias"], abs=1e-4)
    design = replace(study.DEMO, hazard_ratio=0.5)
    row = bb.planning.operating_characteristics(
        design, seed=study.FITS_SEED, replications=study.FITS
    ).iloc[0]
    (line,) = (one for one in text.splitlines() if "0.5 | companion, the same" in one)
    assert f"| {study.FITS_SEED} | {study.FITS} | {row['success']:.2%}" in line


def test_the_page_says_what_it_is_given() -> None:
    some, many = study.SIZES_REPLICATIONS, study.SIZES_MANY
    found = {"success": 0.024, "success_mcse": 0.001, "coverage": 0.95, "coverage_mcse": 0.002}
    found |= {"bias": 0.1, "bias_mcse": 0.01, "replications": 400, "converged": 0.9975}
    ways: tuple[str, ...] = ("companion", "companion, the same cohorts", "companion, flat prior")
    ways += ("model, the same cohorts", "Cox and prior, the same cohorts")
    ways += ("own loop, Cox and prior", "own loop, Cox alone", "own loop, grid")
    parts = {
        "type_one": pd.DataFrame(
            [
                {**found, "baseline": "falling", "patients": 86, "old_success": 0.2}
                | {"old_coverage": 0.7, "success": success}
                for success in (0.024, 0.0269, 0.0271)
            ]
        ),
        "seconds": pd.DataFrame(
            [{"patients": 86, "simulation": 1.0, "eight intervals": 1.0, "companion": 3.0}]
        ),
        "sizes": pd.DataFrame(
            [
                {"seed": 1, "replications": some, "patients": 290, "lower": 285, "upper": 295},
                {"seed": 2, "replications": some, "patients": 290, "lower": 289, "upper": 295},
                {"seed": 99, "replications": many, "patients": 288, "lower": 287, "upper": 289},
            ]
        ),
        "schoenfeld": pd.DataFrame(
            [{"hazard_ratio": 0.7, "formula": 542.9, "patients": 545, "lower": 540, "upper": 550}]
        ),
    }
    for name, ratio in (("power", 0.5), ("level", 1.0)):
        rows = [
            {
                **found,
                "way": way,
                "seed": 1,
                "width": 4.0,
            }
            for way in ways
        ]
        rows[-1] |= {"success": 0.03}
        parts[name] = pd.DataFrame(rows).assign(hazard_ratio=ratio)
        fits = parts[name]["way"].str.startswith("model")
        parts[name], parts[f"{name} by model"] = parts[name][~fits], parts[name][fits]
    short = parts["power by model"].assign(way="model, 500 draws after 500", converged=0.7)
    parts["power by short fits"] = short
    text = page(parts)
    assert "1 of 3 designs have more than 2.5 % successes and two errors" in text
    assert "| 86 | 1.00 | 1.00 | 3.00 | 2.0 |" in text
    assert "1 of 2 ranges hold the 288" in text
    assert "| 0.7 | 542.9 | 544.7 | 545 | 540 to 550 |" in text
    assert "differs from the companion by +0.60% (error 0.14%)" in text
    assert "So Cox and prior has 0.0 points less power" in text
    assert "the model from the companion of the same cohorts by +0.00%" in text
    assert "| 0.5 | model, the same cohorts | 1 | 400 | 2.40% ± 0.10% | +0.100 ± 0.010 " in text
    assert "99.75%" in text
