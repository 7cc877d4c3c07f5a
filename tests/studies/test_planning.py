"""Designs: simulated as they say, analysed as the model does, searched."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesblina as bb
from bayesblina.cli import main
from bayesblina.core.errors import SpecError, StorageError
from bayesblina.studies.planning.characteristics import _solve_probit, operating_characteristics
from bayesblina.studies.planning.designs import StudyDesign
from tests.studies.planning_parts import DEMO

DESIGN = StudyDesign(
    patients=267,
    hazards=(0.02, 0.05, 0.03),
    cuts=(3.0, 12.0),
    start_hazards=(0.0, 0.05),
    start_cuts=(3.0,),
    hazard_ratio=0.5,
    follow_up=12.0,
    accrual=24.0,
    dropout=0.005,
)
WIDE = bb.HazardRatioPrior(hazard_ratio=(0.001, 1000.0))


def test_cohorts_have_the_hazards_of_their_design() -> None:
    """Events over person-time in every piece, in and out of the phase."""
    found = bb.planning.simulate_cohorts(DESIGN, cohorts=1500, seed=1)
    when = np.minimum(found.start, found.time)
    inside = found.start < found.time
    for low, high, rate in ((0.0, 3.0, 0.02), (3.0, 12.0, 0.05), (12.0, 99.0, 0.03)):
        here = found.event & (found.time > low) & (found.time <= high)
        before = np.clip(np.minimum(when, high) - low, 0, None).sum()
        whole = np.clip(np.minimum(found.time, high) - low, 0, None).sum()
        for events, spent, hazard in (
            ((here & ~inside).sum(), before, rate),
            ((here & inside).sum(), whole - before, rate * 0.5),
        ):
            assert abs(events - spent * hazard) < 4 * math.sqrt(max(spent * hazard, 1))
    # Starts: none before month 3, then 0.05 a month while at risk.
    starts = inside.sum()
    at_risk = np.clip(when - 3.0, 0, None).sum()
    assert found.start[inside].min() >= 3.0
    assert abs(starts - 0.05 * at_risk) < 4 * math.sqrt(0.05 * at_risk)
    assert found.time.max() <= 36.0
    # Dropout: leaving before the shortest administrative end.
    left = (~found.event & (found.time < 12.0)).sum()
    exposed = np.minimum(found.time, 12.0).sum()
    assert abs(left - 0.005 * exposed) < 4 * math.sqrt(0.005 * exposed)


def test_ten_thousand_cohorts_take_seconds() -> None:
    began = time.perf_counter()
    found = bb.planning.simulate_cohorts(DESIGN, cohorts=10_000, seed=2)
    assert found.time.shape == (10_000, 267)
    assert time.perf_counter() - began < 10.0


def test_type_one_error_and_coverage() -> None:
    """Under no effect and a flat prior a one-sided 2.5 % test has its level."""
    null = replace(DESIGN, hazard_ratio=1.0)
    row = operating_characteristics(null, replications=4000, seed=1, prior=WIDE).iloc[0]
    assert row["success"] == pytest.approx(0.025, abs=4 * math.sqrt(0.025 * 0.975 / 4000))
    assert row["coverage"] == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / 4000))
    assert abs(row["bias"]) < 4 * row["bias_mcse"] + 0.005
    assert row["analysed"] == 4000


def test_a_steep_baseline_makes_no_effect() -> None:
    """Patients enter while the hazard falls six-fold: eight intervals found 25 % successes."""
    falling = replace(
        DESIGN,
        patients=4000,
        hazards=(0.12, 0.02),
        cuts=(6.0,),
        start_hazards=(0.0, 0.1),
        hazard_ratio=1.0,
    )
    row = operating_characteristics(falling, replications=500, seed=1).iloc[0]
    # Four Monte-Carlo errors of 500 cohorts.
    assert row["success"] <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / 500)
    assert row["coverage"] >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / 500)
    assert abs(row["bias"]) < 4 * row["bias_mcse"]


def test_power_of_a_randomised_study_is_that_of_schoenfelds_formula() -> None:
    """Half are exposed from the first moment on, and the prior is flat."""
    tiny, hazard, ratio, until = 1e-6, 0.03, 0.7, 24.0
    design = StudyDesign(
        patients=300,
        hazards=(hazard,),
        start_hazards=(math.log(2.0) / tiny, 0.0),
        start_cuts=(tiny,),
        hazard_ratio=ratio,
        follow_up=until,
    )
    found = bb.planning.sample_size(design, power=0.8, seed=1, replications=1000, prior=WIDE)
    # Schoenfeld (1983), doi:10.2307/2531021; events by hand.
    events = (1.959964 + 0.841621) ** 2 / (0.25 * math.log(ratio) ** 2)
    share = 1.0 - 0.5 * (math.exp(-hazard * until) + math.exp(-hazard * ratio * until))
    assert events / share == pytest.approx(542.9, abs=0.1)
    assert found.lower <= events / share <= found.upper
    # The range is that of some 11,000 cohorts, of which one in five is no success.
    assert 1.01 < found.upper / found.lower < 1.08
    # The width that a normal estimate has of which the variance is that of four over the events.
    row = found.table.set_index("patients").loc[lambda one: one.index >= found.patients].iloc[0]
    assert math.log(row["width"]) == pytest.approx(
        2 * 1.959964 * math.sqrt(4.0 / row["events"]), rel=0.02
    )


def test_the_range_of_a_sample_size_covers_it() -> None:
    """Successes whose probit is linear in the square root of the size, drawn many times."""
    random = np.random.default_rng(1)
    sizes = np.array([20_000.0, 24_000.0, 26_000.0, 29_000.0, 32_000.0])
    # 80 % at exactly 25,000 patients.
    power = norm.cdf(norm.ppf(0.8) + 0.02 * (np.sqrt(sizes) - math.sqrt(25_000.0)))
    covered, found = [], []
    for successes in random.binomial(400, power, size=(1000, sizes.size)):
        patients, lower, upper = _solve_probit(sizes, successes.astype(float), 400, 0.8)
        covered.append(lower <= 25_000 <= upper)
        found.append(patients)
    assert np.mean(covered) == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / 1000))
    # Within four Monte-Carlo errors, and the skewness of a ratio.
    assert np.mean(found) == pytest.approx(25_000.0, abs=0.25 * np.std(found))
    with pytest.raises(SpecError, match="take more"):
        _solve_probit(sizes, np.array([9.0, 7.0, 8.0, 8.0, 8.0]), 10, 0.8)


def test_both_analyses_tell_the_same() -> None:
    small = replace(DESIGN, patients=120)
    quick = operating_characteristics(small, replications=12, seed=3).iloc[0]
    seen: list[tuple[int, int]] = []
    slow = operating_characteristics(
        small,
        replications=12,
        seed=3,
        analysis="model",
        progress=lambda done, total: seen.append((done, total)),
    ).iloc[0]
    assert quick["events"] == slow["events"]
    assert slow["bias"] == pytest.approx(quick["bias"], abs=0.03)
    assert slow["width"] == pytest.approx(quick["width"], rel=0.05)
    assert slow["converged"] == 1.0
    assert seen[-1] == (12, 12)


@pytest.mark.slow
def test_the_model_agrees_on_400_cohorts() -> None:
    quick, slow = (
        operating_characteristics(DEMO, replications=400, seed=2, analysis=analysis).iloc[0]
        for analysis in ("companion", "model")
    )
    assert slow["converged"] >= 0.99
    # The same cohorts: at most one in fifty is a success of one analysis only, by the error of
    # the draws and by what its baseline does.
    assert abs(slow["success"] - quick["success"]) <= 0.02
    assert abs(slow["bias"] - quick["bias"]) <= 0.01
    assert slow["width"] == pytest.approx(quick["width"], rel=0.02)


def test_the_prior_is_the_models() -> None:
    table = operating_characteristics(DEMO, replications=50, seed=1)
    primary = bb.load_model("primary")
    given = operating_characteristics(DEMO, replications=50, seed=1, prior=primary.phases.prior)
    pd.testing.assert_frame_equal(table, given)
    narrow = bb.HazardRatioPrior(hazard_ratio=(0.9, 1.1))
    held = operating_characteristics(
        DEMO, replications=50, seed=1, model=primary.with_priors(phases=narrow)
    )
    assert held["width"].iloc[0] < 0.5 * table["width"].iloc[0]
    with pytest.raises(SpecError, match="in model 'over_time' it varies"):
        operating_characteristics(DEMO, replications=50, seed=1, model="over_time")


def test_nobody_exposed_is_no_success() -> None:
    """By both analyses the same cohorts are left out of bias and coverage."""
    rare = replace(DESIGN, patients=6, hazards=(0.02,), cuts=(), start_hazards=(0.0, 0.03))
    row = operating_characteristics(rare, replications=400, seed=1).iloc[0]
    # None exposed, or no event.
    cohorts = bb.planning.simulate_cohorts(rare, cohorts=400, seed=_first_block(1))
    compared = np.isfinite(cohorts.start).any(axis=1) & cohorts.event.any(axis=1)
    assert 50 < compared.sum() < 350
    assert row["analysed"] == compared.sum()
    # Six patients convince nobody, and those who are left out do not count as if they did.
    assert row["success"] < 0.05
    few = operating_characteristics(rare, replications=8, seed=1)
    fitted = operating_characteristics(rare, replications=8, seed=1, analysis="model")
    assert 0 < few["analysed"].iloc[0] < 8
    assert few["analysed"].iloc[0] == fitted["analysed"].iloc[0]


def _first_block(seed: int) -> int:
    return int(np.random.SeedSequence([seed, 0]).generate_state(1)[0])


def test_assurance_averages_power_over_the_effect() -> None:
    effect = bb.HazardRatioPrior(hazard_ratio=(0.3, 0.9))
    assurance = operating_characteristics(DESIGN, replications=4000, seed=1, effect=effect).iloc[0]
    drawn = np.exp(np.random.default_rng(2).normal(effect.mean, effect.sd, 60))
    power = [
        operating_characteristics(
            replace(DESIGN, hazard_ratio=float(ratio)), replications=400, seed=3
        )["success"].iloc[0]
        for ratio in drawn
    ]
    error = math.sqrt(np.var(power) / 60 + assurance["success_mcse"] ** 2)
    assert abs(assurance["success"] - np.mean(power)) < 4 * error


def test_sample_size_is_where_the_power_is_reached() -> None:
    design = replace(DESIGN, hazard_ratio=0.6)
    found = bb.planning.sample_size(design, power=0.8, seed=1, replications=1000)
    assert found.table["patients"].is_monotonic_increasing
    assert found.lower < found.patients < found.upper
    assert repr(found).startswith(f"SampleSize({found.patients} patients for 80%")
    again = operating_characteristics(
        replace(design, patients=found.patients), replications=4000, seed=9
    ).iloc[0]
    # What the range of the size is worth in power, and the error of 4000 cohorts.
    ends = [
        operating_characteristics(replace(design, patients=size), replications=4000, seed=9)
        for size in (found.lower, found.upper)
    ]
    low, high = (float(end["success"].iloc[0]) for end in ends)
    assert low - 0.012 < 0.8 < high + 0.012
    assert low < again["success"] < high
    with pytest.raises(SpecError, match="cannot"):
        bb.planning.sample_size(
            replace(design, hazard_ratio=1.0, patients=40_000), power=0.8, seed=1, replications=5
        )
    with pytest.raises(SpecError, match="power must"):
        bb.planning.sample_size(design, power=1.0, seed=1)


def test_grids_of_designs() -> None:
    found = bb.design_grid(
        DESIGN, {"patients": [100, 300], "hazard_ratio": [0.5, 1.0]}, seed=1, replications=300
    )
    assert list(zip(found["patients"], found["hazard_ratio"], strict=True)) == [
        (100, 0.5),
        (100, 1.0),
        (300, 0.5),
        (300, 1.0),
    ]
    alone = operating_characteristics(replace(DESIGN, patients=300), replications=300, seed=1)
    assert found["success"].iloc[2] == alone["success"].iloc[0]
    with pytest.raises(SpecError, match="has no 'patient'"):
        bb.design_grid(DESIGN, {"patient": [1]}, seed=1)
    with pytest.raises(SpecError, match="give a list"):
        bb.design_grid(DESIGN, {"patients": 100}, seed=1)  # type: ignore[dict-item]
    with pytest.raises(SpecError, match="drawn from `effect`"):
        bb.design_grid(DESIGN, {"hazard_ratio": [0.5]}, seed=1, effect=WIDE)


def test_a_grid_is_kept_and_resumed_as_scenarios_are(tmp_path: Path) -> None:
    axes: dict[str, list[Any]] = {
        "patients": [60, 80],
        "hazard_ratio": [0.5, 0.7],
        "cuts": [(3.0, 12.0), (2.0, 9.0)],
    }
    given: dict[str, Any] = {"seed": 1, "replications": 50}
    plain = bb.design_grid(DESIGN, axes, **given)
    stored = bb.design_grid(DESIGN, axes, out=tmp_path / "a", workers=2, **given)
    pd.testing.assert_frame_equal(plain, stored)
    whole = (tmp_path / "a" / "scenarios.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "a" / "scenarios.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:50])
    again = bb.design_grid(DESIGN, axes, out=tmp_path / "a", resume=True, **given)
    pd.testing.assert_frame_equal(plain, again)
    assert (tmp_path / "a" / "scenarios.jsonl").read_bytes() == whole
    with pytest.raises(StorageError, match="replications differ"):
        bb.design_grid(DESIGN, axes, out=tmp_path / "a", resume=True, seed=1, replications=60)
    with pytest.raises(SpecError, match="no scenarios of an analysis but designs"):
        bb.load_sensitivity(tmp_path / "a")
    by_model = bb.design_grid(
        replace(DESIGN, patients=60),
        {"hazard_ratio": [0.5]},
        analysis="model",
        seed=1,
        replications=3,
    )
    assert by_model["analysed"].iloc[0] == 3


def test_impossible_designs() -> None:
    for changes, words in (
        ({"patients": 1}, "at least 2"),
        ({"hazards": (0.1,)}, "need 3 hazards"),
        ({"hazards": (0.0, 0.0, 0.0)}, "not all 0"),
        ({"cuts": (5.0, 3.0)}, "strictly increasing"),
        ({"hazard_ratio": 0.0}, "greater than 0"),
        ({"follow_up": -1.0}, "greater than 0"),
        ({"dropout": math.inf}, "finite"),
    ):
        with pytest.raises(SpecError, match=words):
            replace(DESIGN, **changes)
    for arguments, words in (
        ({"replications": 1}, "at least 2"),
        ({"success": 1.0}, "a probability"),
        ({"analysis": "exact"}, "'companion' or 'model'"),
    ):
        with pytest.raises(SpecError, match=words):
            operating_characteristics(DESIGN, seed=1, **arguments)
    with pytest.raises(SpecError, match="at least 1"):
        bb.planning.simulate_cohorts(DESIGN, cohorts=0, seed=1)


FILE = """
schema = 1

[design]
patients = 86
hazards = [0.05, 0.03]
cuts = [12.0]
start_hazards = [0.0, 0.1]
start_cuts = [3.0]
hazard_ratio = 0.5
accrual = 24.0
follow_up = 12.0

[analysis]
replications = 200

[sample_size]
power = 0.7

[grid]
patients = [86, 150]
hazard_ratio = [0.5, 1.0]
"""


def test_the_command_runs_a_design(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "design.toml", tmp_path / "out"
    path.write_text(FILE)
    assert main(["design", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Probability of success" in printed
    assert "70% is reached with" in printed
    size = pd.read_csv(out / "sample_size.csv").iloc[0]
    assert size["lower"] < size["patients"] < size["upper"]
    assert f"range {size['lower']:.0f} to {size['upper']:.0f})" in printed
    assert pd.read_csv(out / "sizes_tried.csv")["patients"].min() <= size["lower"]
    assert len(pd.read_csv(out / "grid.csv")) == 4
    one = pd.read_csv(out / "operating_characteristics.csv").iloc[0]
    design = StudyDesign(
        patients=86,
        hazards=(0.05, 0.03),
        cuts=(12.0,),
        start_hazards=(0.0, 0.1),
        start_cuts=(3.0,),
        hazard_ratio=0.5,
        accrual=24.0,
        follow_up=12.0,
    )
    expected = operating_characteristics(design, replications=200, seed=1).iloc[0]
    assert one["success"] == expected["success"]
    for old, new, words in (
        ("patients = 86\n", "patient = 86\n", "unknown key"),
        ("hazards = [0.05, 0.03]", "hazards = [0.05]", "need 2 hazards"),
        ("[grid]\n", "[grid]\nsize = [1]\n", "a design has no 'size'"),
        ("replications = 200", "effect = [0.3, 0.9]", "leave out one"),
        ("replications = 200", "prior = [2.0, 1.0]", "lower < upper"),
        ("replications = 200", 'method = "normal"', "companion"),
        ("replications = 200", 'model = "over_time"', "it varies"),
        ("schema = 1", "schema = ", "not valid TOML"),
    ):
        path.write_text(FILE.replace(old, new, 1))
        assert main(["design", str(path), "--out", str(out)]) == 2
        assert words in capsys.readouterr().err
    assert main(["design", str(tmp_path / "none.toml"), "--out", str(out)]) == 2
    path.write_text(FILE)
    assert main(["design", str(path), "--out", str(out)]) == 2
    assert "holds results of an earlier run" in capsys.readouterr().err
    assert main(["design", str(path), "--out", str(out), "--resume", "--quiet"]) == 0
