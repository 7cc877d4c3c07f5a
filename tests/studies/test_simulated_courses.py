"""Courses of the synthetic study have the hazards of its truth, and are those of leukaemia."""

import dataclasses
import importlib.util
import itertools
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.classical.curves import median_time
from bayesblina.patients.cohort import Cohort
from bayesblina.studies.simulate import (
    Truth,
    blinatumomab_cohort,
    blinatumomab_table,
)
from tests.paths import STUDIES
from tests.studies.simulated import FAR, QUESTION, RETREATED, TREATED, Floats, large

STUDY = STUDIES / "calibrate_simulation.py"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location(STUDY.stem, STUDY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[STUDY.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pooled() -> Cohort:
    return large()


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return blinatumomab_table(4, n_patients=5340, n_consolidation=1720, n_maintenance=720)


def test_maintained_patients_leave_remission_at_the_true_hazard(many: pd.DataFrame) -> None:
    """Events less cumulative hazard since maintenance is a martingale."""
    truth = Truth()
    table = many[many["maintenance_month"] < many["rfs_months"]]
    start = table["maintenance_month"].to_numpy()
    never = truth.cumulative_hazard(table, np.append(start, table["rfs_months"]))
    rows = np.arange(len(table))
    expected = np.exp(truth.log_hazard_ratio["rfs"]) * (
        never[rows, rows + len(table)] - never[rows, rows]
    )
    assert len(table) > 650
    events = table["relapse_or_death"].sum()
    assert abs(events - expected.sum()) < 4 * np.sqrt(expected.sum())


def expected_deaths(table: pd.DataFrame, begin: Floats) -> Floats:
    """Cumulative hazard after relapse since `begin`, by patient, its parts written out."""
    relapse, stop = table["relapse_month"].to_numpy(), table["os_months"].to_numpy()
    relative = (
        np.select([table["age_group"] == "35-54", table["age_group"] == "55+"], [1.10, 1.40], 1.0)
        * np.where(table["prior_salvage"] == "yes", 1.30, 1.0)
        * 1.003 ** (table["marrow_blasts"].to_numpy() - 50.0)
        * np.exp(-0.47 * np.log2(relapse / 6.0))
    )
    transplant = table["transplant_month"].to_numpy()
    since = {
        "second remission": (table["second_remission_month"].to_numpy(), 0.40),
        "transplant after relapse": (np.where(transplant > relapse, transplant, np.nan), 0.60),
        "maintenance": (table["maintenance_month"].to_numpy(), 0.60),
    }
    months = np.stack([begin, *(np.where(np.isnan(one), stop, one) for one, _ in since.values())])
    edges = np.sort(np.clip(np.vstack([months, stop]), begin, stop), axis=0)
    total = np.zeros(stop.size)
    for start, end in itertools.pairwise(edges):
        factor = np.ones(stop.size)
        for month, ratio in since.values():
            factor = np.where(month <= start, factor * ratio, factor)
        total += 0.105 * relative * factor * (end - start)
    return total


def test_deaths_after_relapse_have_the_true_hazard() -> None:
    """Deaths less their cumulative hazard are a martingale, whatever has happened by its start."""
    table = blinatumomab_table(
        6,
        n_patients=10_680,
        n_consolidation=3440,
        n_maintenance=1440,
        truth=Truth(retreated_share=RETREATED),
    )
    table = table[table["relapse_month"].notna()]
    month = {
        name: table[f"{name}_month"].to_numpy()
        for name in ("relapse", "second_remission", "transplant", "maintenance")
    }
    relapse = month["relapse"]
    for begin in (
        relapse,
        np.where(month["maintenance"] < relapse, relapse, np.nan),
        np.where(month["transplant"] < relapse, relapse, np.nan),
        month["second_remission"],
        *(
            np.where(month[one] > relapse, month[one], np.nan)
            for one in ("transplant", "maintenance")
        ),
    ):
        rows = np.isfinite(begin)
        died = table["died"].to_numpy()[rows].sum()
        expected = expected_deaths(table[rows], begin[rows]).sum()
        assert died > 50
        assert abs(died - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("truth", [Truth(), Truth.without_confounding()])
def test_survival_in_remission_is_the_true_one(truth: Truth) -> None:
    """Without maintenance and transplant, from a landmark: the mean of the patients' curves."""
    truth = dataclasses.replace(truth, transplant_hazard=dict.fromkeys(TREATED, 0.0))
    table = blinatumomab_table(5, n_patients=8_000, n_consolidation=0, n_maintenance=0, truth=truth)
    assert table["transplant_month"].isna().all()
    at_risk = table[table["remission_month"].notna() & (table["rfs_months"] > 3.0)]
    for endpoint, time, event in (
        ("os", "os_months", "died"),
        ("rfs", "rfs_months", "relapse_or_death"),
    ):
        expected = truth.survival(endpoint, at_risk, [6.0, 9.0, 12.0], landmark=3.0)
        # Nobody is censored before month 12, so that survival is a share.
        for month, curve in zip((6.0, 9.0, 12.0), expected.T, strict=True):
            alive = 1.0 - (at_risk[event] * (at_risk[time] <= month)).mean()
            error = np.sqrt((curve * (1 - curve)).sum()) / len(at_risk)
            assert abs(alive - curve.mean()) < 4 * error


def test_courses_are_those_of_leukaemia(study: ModuleType, many: pd.DataFrame) -> None:
    found = study.after_relapse(many)
    assert 0.80 < found.share < 0.88
    assert 4.0 < found.survival[study.EVERYBODY] < 7.0
    by_month = list(found.survival.values())[1:5]
    assert by_month == sorted(by_month)
    assert found.survival["after maintenance"] > found.survival[study.EVERYBODY]
    assert found.count[study.EVERYBODY] == sum(list(found.count.values())[1:5])
    assert study.steepest(Truth()) < 1.5
    assert 0.5 < study.dependence(Truth(), patients=3000) < 0.75
    begun = {
        name: (many[f"{name}_month"] > many["relapse_month"]).sum()
        for name in ("consolidation", "maintenance", "transplant")
    }
    # Of 1,720 places 86, as far as there are patients; maintenance is for continued remission.
    assert 50 <= begun["consolidation"] <= 86
    assert begun["maintenance"] == 0
    assert begun["transplant"] > 100


def test_maintenance_after_a_relapse_is_not_before_it(study: ModuleType) -> None:
    table = blinatumomab_table(
        3,
        n_patients=2670,
        n_consolidation=860,
        n_maintenance=360,
        truth=Truth(retreated_share=RETREATED),
    )
    relapsed = table[table["relapse_month"].notna()]
    later = (relapsed["maintenance_month"] > relapsed["relapse_month"]).sum()
    assert later > 20
    found = study.after_relapse(table)
    assert found.count["after maintenance"] == relapsed["maintenance_month"].notna().sum() - later


def test_a_transplant_in_remission_has_deaths_of_its_own(many: pd.DataFrame) -> None:
    """The share of deaths among the ends of a remission: log odds 1.9 higher after a transplant."""
    ended = many[(many["relapse_or_death"] == 1) & many["remission_month"].notna()]
    odds = -2.35 + np.select(
        [ended["age_group"] == "35-54", ended["age_group"] == "55+"], [0.2, 0.6], 0.0
    )
    odds = odds + np.where(ended["prior_salvage"] == "yes", 0.1, 0.0)
    transplanted = (ended["transplant_month"] < ended["rfs_months"]).to_numpy()
    share = 1.0 / (1.0 + np.exp(-(odds + 1.9 * transplanted)))
    dies = ended["relapse_month"].isna().to_numpy()
    for rows in (transplanted, ~transplanted):
        error = np.sqrt((share[rows] * (1.0 - share[rows])).sum())
        assert abs(dies[rows].sum() - share[rows].sum()) < 4 * error


def test_pooled_medians_are_the_published_ones(pooled: Cohort) -> None:
    curves = bb.simon_makuch(pooled, QUESTION, mass=1.0 - FAR).groupby(["endpoint", "group"])
    for key, median in (
        (("os", "no maintenance"), 15.5),
        (("rfs", "maintenance"), 14.5),
        (("rfs", "no maintenance"), 9.8),
    ):
        curve = curves.get_group(key)
        at = curve[curve["time"] <= median].iloc[-1]
        assert at["lower"] < 0.5 < at["upper"], key
        found = median_time(curve)
        assert found == pytest.approx(median, rel=0.05), key
    maintained = curves.get_group(("os", "maintenance"))
    assert median_time(maintained) == np.inf
    assert maintained["time"].iloc[-1] > 35.5
    assert maintained["lower"].iloc[-1] > 0.5


def test_median_survival_with_maintenance_is_rarely_reached() -> None:
    reached = 0
    for seed in range(40):
        curves = bb.simon_makuch(blinatumomab_cohort(seed).cohort, QUESTION)
        one = curves[(curves["endpoint"] == "os") & (curves["group"] == "maintenance")]
        reached += np.isfinite(median_time(one))
    assert reached <= 16


@pytest.mark.parametrize("ratio", [np.log(0.7), 0.0])
def test_truth_is_recovered_without_confounding(study: ModuleType, ratio: float) -> None:
    truth = Truth.without_confounding(log_hazard_ratio=ratio)
    cohort = large(truth, times=60)
    for name, (estimate, error) in study.log_hazard_ratios(cohort, QUESTION).items():
        assert error < 0.06
        assert abs(estimate - truth.log_hazard_ratio[name]) < 4 * error
    wrong = study.log_hazard_ratios(study.ever_never(cohort), QUESTION)
    for name, (estimate, error) in wrong.items():
        assert estimate < truth.log_hazard_ratio[name] - max(10 * error, 0.4)


def test_relapse_confounds_overall_survival_only(study: ModuleType, pooled: Cohort) -> None:
    """Even where maintenance does nothing, those in remission live longer than the others."""
    null = Truth(maintenance_log_hazard_ratio=dict.fromkeys(TREATED, 0.0))
    for truth, cohort in ((Truth(), pooled), (null, large(null, times=60))):
        found = study.log_hazard_ratios(cohort, QUESTION)
        estimate, error = found["rfs"]
        assert abs(estimate - truth.log_hazard_ratio["rfs"]) < 4 * error
        estimate, error = found["os"]
        assert estimate < truth.log_hazard_ratio["os"] - 5 * error
    assert abs(null.log_hazard_ratio["os"]) < 1e-9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WHOLE_ARM", 9.0),
        ("RELAPSES", (0.9, 1.0)),
        ("AFTER_RELAPSE", (10.0, 20.0)),
        ("STEEPEST", 1.1),
        ("TOLERANCE", 1e-4),
        ("MAJORITY", 0.9),
    ],
)
def test_the_study_holds_only_what_it_asks(
    study: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    never = {key: np.array([np.inf] * 4 + [20.0]) for key in study.PUBLISHED}
    found = study.Seeds(medians=never, events={}, shares={})
    met = {key: np.inf if one is None else one * 1.01 for key, one in study.PUBLISHED.items()}
    relapses = study.Relapses(share=0.83, survival={study.EVERYBODY: 5.5}, count={})
    assert study.holds(found, met, 7.7, relapses, 1.4)
    monkeypatch.setattr(study, name, value)
    assert not study.holds(found, met, 7.7, relapses, 1.4)


def test_calibration_study_runs(study: ModuleType) -> None:
    text, _ = study.report(20)
    assert text.startswith("# The synthetic study")
    assert "SYNTHETIC patients throughout" in text
    assert "`uv run python tests/studies/calibrate_simulation.py --seeds 20`" in text
    assert "| nan" not in text
    # The report that is kept was made by the same study, and the calibration held.
    kept = (STUDY.parents[2] / "docs" / "validation" / "synthetic_study.md").read_text("utf-8")
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [line for line in kept.splitlines() if line.startswith("#")]
    assert "**met**" in kept
