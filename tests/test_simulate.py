"""The synthetic study: exact counts, a consistent life for everybody, and a truth that is true."""

import copy
import importlib.util
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import bayesblina as bb
from bayesblina.classical import median_time
from bayesblina.cohort import Cohort
from bayesblina.errors import SpecError
from bayesblina.simulate import PiecewiseHazard, Truth, blinatumomab_cohort, blinatumomab_table

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
STUDY = Path(__file__).parent / "studies" / "calibrate_simulation.py"
PROCESSES = ("os", "rfs", "no_remission")
# How many synthetic studies a large cohort is worth.
TIMES = 200
# Two-sided probability of more than four standard errors.
FAR = 2 * norm.sf(4.0)


def large(truth: Truth | None = None, *, seed: int = 1, times: int = TIMES) -> Cohort:
    return blinatumomab_cohort(
        seed,
        n_patients=267 * times,
        n_consolidation=86 * times,
        n_maintenance=36 * times,
        truth=truth,
    ).cohort


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


def check_lives(table: pd.DataFrame) -> None:
    """Check that every row is a life that can be lived, as documented."""
    os, rfs = table["os_months"], table["rfs_months"]
    remission, consolidation = table["remission_month"], table["consolidation_month"]
    maintenance, transplant = table["maintenance_month"], table["transplant_month"]
    assert table["patient_id"].is_unique
    assert table["patient_id"].str.startswith("SYN-").all()
    assert (os > 0).all()
    assert np.isfinite(os).all()
    assert table["died"].isin([0, 1]).all()

    responded = remission.notna()
    later = ["rfs_months", "relapse_or_death"]
    assert table.loc[responded, later].notna().all(axis=None)
    assert (
        table.loc[~responded, [*later, "consolidation_month", "transplant_month"]]
        .isna()
        .all(axis=None)
    )
    assert table.loc[consolidation.isna(), "maintenance_month"].isna().all()
    one = table[responded]
    assert (one["remission_month"] > 0).all()
    assert (one["remission_month"] < one["rfs_months"]).all()
    assert (one["rfs_months"] <= one["os_months"]).all()
    assert (remission <= consolidation)[consolidation.notna()].all()
    assert (consolidation < maintenance)[maintenance.notna()].all()
    for start in (consolidation, maintenance, transplant):
        assert (start < rfs)[start.notna()].all()
    assert (remission < transplant)[transplant.notna()].all()
    assert not (maintenance.notna() & transplant.notna()).any()
    assert (consolidation < transplant)[consolidation.notna() & transplant.notna()].all()

    # Death ends relapse-free survival, and who is relapse-free to the end is censored for both.
    failed = one["relapse_or_death"] == 1
    assert (one.loc[~failed, "rfs_months"] == one.loc[~failed, "os_months"]).all()
    assert (one.loc[~failed, "died"] == 0).all()
    assert (one.loc[failed & (one["rfs_months"] == one["os_months"]), "died"] == 1).all()

    assert table["age_group"].isin(["18-34", "35-54", "55+"]).all()
    assert table["prior_salvage"].isin(["no", "yes"]).all()
    assert table["marrow_blasts"].between(5, 100).all()


@pytest.mark.parametrize("seed", range(20))
def test_counts_are_exactly_the_published_ones(seed: int) -> None:
    cohort, _ = blinatumomab_cohort(seed)
    assert cohort.size == 267
    assert cohort.phases == ("consolidation", "maintenance")
    assert np.isfinite(cohort.phase_start).sum(axis=0).tolist() == [86, 36]
    assert tuple(cohort.endpoints) == ("os", "rfs")
    kinds = {name: covariate.kind for name, covariate in cohort.covariates.items()}
    assert kinds == {
        "age_group": "categorical",
        "prior_salvage": "categorical",
        "marrow_blasts": "continuous",
    }


@pytest.mark.parametrize("seed", range(20))
def test_lives_are_consistent(seed: int) -> None:
    table = blinatumomab_table(seed)
    assert len(table) == 267
    check_lives(table)
    assert table["os_months"].max() <= 36.0
    assert (table.loc[table["died"] == 0, "os_months"] >= 12.0).all()
    counts = table[["remission_month", "transplant_month"]].notna().sum()
    assert 86 < counts["remission_month"] < 160
    assert counts["transplant_month"] > 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**64),
    n_patients=st.integers(1, 300),
    share_consolidation=st.floats(0, 0.3),
    share_maintenance=st.floats(0, 0.4),
)
def test_any_size_is_consistent(
    seed: int, n_patients: int, share_consolidation: float, share_maintenance: float
) -> None:
    n_consolidation = int(share_consolidation * n_patients)
    n_maintenance = int(share_maintenance * n_consolidation)
    table = blinatumomab_table(
        seed,
        n_patients=n_patients,
        n_consolidation=n_consolidation,
        n_maintenance=n_maintenance,
    )
    check_lives(table)
    counts = table[["patient_id", "consolidation_month", "maintenance_month"]].notna().sum()
    assert counts.tolist() == [n_patients, n_consolidation, n_maintenance]
    if n_patients >= 10:  # with fewer, a median follow-up below one day can happen
        cohort, _ = blinatumomab_cohort(
            seed,
            n_patients=n_patients,
            n_consolidation=n_consolidation,
            n_maintenance=n_maintenance,
        )
        assert cohort.size == n_patients


def test_a_seed_determines_the_study() -> None:
    pd.testing.assert_frame_equal(blinatumomab_table(7), blinatumomab_table(7))
    pd.testing.assert_frame_equal(table_of(np.int64(7)), blinatumomab_table(7))
    one, other = blinatumomab_table(7), blinatumomab_table(8)
    assert not np.isclose(one["os_months"], other["os_months"]).any()


def test_it_says_that_it_is_synthetic() -> None:
    table = blinatumomab_table(2)
    assert table.attrs == {"synthetic": True}
    cohort, _ = blinatumomab_cohort(2)
    assert cohort.synthetic
    assert "267 synthetic patients" in repr(cohort)
    assert bb.expose(cohort, QUESTION).synthetic
    assert bb.simon_makuch(cohort, QUESTION).attrs["synthetic"]
    for described in (bb.simulate, blinatumomab_cohort, blinatumomab_table, bb.simulate.Truth):
        assert "ynthetic" in str(described.__doc__)


def test_true_log_hazard_ratios_are_returned() -> None:
    _, truth = blinatumomab_cohort(3)
    assert dict(truth.log_hazard_ratio) == {"os": np.log(0.45), "rfs": np.log(0.7)}
    own = Truth(log_hazard_ratio={"os": -0.2, "rfs": -0.1})
    assert blinatumomab_cohort(3, truth=own).truth is own


@pytest.mark.parametrize(
    "truth",
    [
        Truth(),
        Truth(
            log_hazard_ratio={"rfs": 0, "os": 0.25},
            transplant_hazard=0,
            follow_up=(24, 24),
            baseline={
                "os": PiecewiseHazard(cuts=(), hazards=(0.01,)),
                "rfs": PiecewiseHazard(cuts=(5, 10), hazards=(0.03, 0.04, 0.05)),
                "no_remission": PiecewiseHazard(cuts=(2,), hazards=(0.1, 0.2)),
            },
        ),
    ],
)
def test_truth_comes_back_as_it_was(truth: Truth) -> None:
    values = json.loads(json.dumps(truth.as_dict()))
    assert Truth.from_dict(values) == truth
    assert Truth.from_dict(values).as_dict() == truth.as_dict()
    assert pickle.loads(pickle.dumps(truth)) == truth
    assert copy.deepcopy(truth) == truth
    pd.testing.assert_frame_equal(
        blinatumomab_table(1, truth=Truth.from_dict(values)), blinatumomab_table(1, truth=truth)
    )


def test_truth_is_read_only() -> None:
    given_ratios = {"os": -0.2, "rfs": -0.1}
    truth = Truth(log_hazard_ratio=given_ratios)
    given_ratios["os"] = 5.0
    assert truth.log_hazard_ratio["os"] == -0.2
    for mapping in (
        truth.log_hazard_ratio,
        truth.baseline,
        truth.covariate_log_hazard_ratios["os"],
        truth.remission_log_odds,
    ):
        with pytest.raises(TypeError):
            mapping["os"] = 0.0  # type: ignore[index]


# Called as nobody who checks types would.
cohort_of: Callable[..., Any] = blinatumomab_cohort
table_of: Callable[..., Any] = blinatumomab_table
hazard_of: Callable[..., Any] = PiecewiseHazard
truth_of: Callable[..., Any] = Truth


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: table_of(-1), "seed must be an integer from 0 on, got -1"),
        (lambda: cohort_of(1.5), "seed must be an integer from 0 on, got 1.5"),
        (lambda: table_of("1"), "seed must be an integer from 0 on, got '1'"),
        (lambda: table_of(True), "seed must be an integer from 0 on, got True"),
        (lambda: table_of(1, n_patients=9.0), "n_patients must be an integer"),
        (lambda: table_of(1, n_maintenance=-1), "n_maintenance must be an integer"),
        (lambda: table_of(1, n_maintenance=87), "got 87, 86, 267"),
        (lambda: table_of(1, n_consolidation=268), "got 36, 268, 267"),
        (
            lambda: table_of(1, n_patients=0, n_consolidation=0, n_maintenance=0),
            "at least one patient",
        ),
        (
            lambda: table_of(1, n_patients=86),
            r"at best \d\d reached .* consolidation \(86 wanted\) .* ask for fewer",
        ),
        (
            lambda: table_of(1, n_maintenance=86),
            r"at best \d+ reached .* and \d\d that of maintenance \(86 wanted\)",
        ),
        (lambda: hazard_of(cuts=(1.0,), hazards=(1.0,)), "1 cuts make 2 pieces, but 1"),
        (lambda: hazard_of(cuts=(2.0, 1.0), hazards=(1.0,) * 3), "strictly increasing"),
        (lambda: hazard_of(cuts=(0.0,), hazards=(1.0, 1.0)), "must be positive"),
        (lambda: hazard_of(cuts=(), hazards=(0.0,)), "hazards must be positive"),
        (lambda: hazard_of(cuts=(np.inf,), hazards=(1.0, 1.0)), "cuts must be finite"),
        (lambda: hazard_of(cuts=(), hazards=("high",)), "made of numbers"),
        (lambda: hazard_of(cuts=None, hazards=(1.0,)), "cuts must be made of numbers"),
        (lambda: truth_of(log_hazard_ratio={"os": 0.0}), "missing: rfs; unknown: none"),
        (
            lambda: truth_of(log_hazard_ratio={"os": 0.0, "rfs": 0.0, "efs": 0.0}),
            "missing: none; unknown: efs",
        ),
        (lambda: truth_of(log_hazard_ratio={"os": np.nan, "rfs": 0.0}), "must be finite"),
        (lambda: truth_of(log_hazard_ratio=0.5), "log_hazard_ratio must map os, rfs, got 0.5"),
        (lambda: truth_of(baseline={}), "missing: os, rfs, no_remission"),
        (
            lambda: truth_of(baseline=dict.fromkeys(PROCESSES, 0.1)),
            r"baseline\['os'\] must be a PiecewiseHazard",
        ),
        (
            lambda: truth_of(covariate_log_hazard_ratios={name: {} for name in PROCESSES}),
            r"covariate_log_hazard_ratios\['os'\] must name exactly age_group",
        ),
        (lambda: truth_of(remission_log_odds={"intercept": 0.0}), "missing: age_group"),
        (lambda: truth_of(transplant_hazard=-0.1), "transplant_hazard must be at least 0"),
        (lambda: truth_of(transplant_hazard=None), "transplant_hazard must be made of numbers"),
        (lambda: truth_of(transplant_log_hazard_ratio=np.inf), "must be finite"),
        (lambda: truth_of(follow_up=(2.0, 36.0)), "after the last possible remission at 2.3"),
        (lambda: truth_of(follow_up=(36.0, 12.0)), "follow_up must be a shortest and a longest"),
        (lambda: truth_of(follow_up=(12.0,)), "follow_up must be a shortest and a longest"),
        (lambda: truth_of(log_hazard_ratio={"os": 1.0, "rfs": 0.0}), "raise the rfs hazards"),
        (lambda: Truth.from_dict({}), "truth must name exactly log_hazard_ratio"),
        (lambda: Truth.from_dict(truth_of().as_dict() | {"more": 1}), "unknown: more"),
        (
            lambda: Truth.from_dict(
                truth_of().as_dict() | {"baseline": {name: {"cuts": []} for name in PROCESSES}}
            ),
            r"baseline\['os'\] must name exactly cuts, hazards; missing: hazards",
        ),
        (
            lambda: truth_of().cumulative_hazard("efs", pd.DataFrame(), [1.0]),
            "unknown endpoint 'efs'",
        ),
    ],
)
def test_errors_say_what_is_wrong(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_cumulative_hazard_by_hand() -> None:
    hazard = PiecewiseHazard(cuts=(2, 5), hazards=(0.1, 0.2, 0.4))
    assert hazard.cumulative([[0, 1, 2], [3, 5, 10]]) == pytest.approx(
        np.array([[0, 0.1, 0.2], [0.4, 0.8, 2.8]])
    )
    truth = Truth(
        log_hazard_ratio={"os": np.log(0.5), "rfs": np.log(0.5)},
        baseline={
            "os": PiecewiseHazard(cuts=(), hazards=(0.05,)),
            "rfs": hazard,
            "no_remission": hazard,
        },
    )
    patients = pd.DataFrame(
        {"age_group": ["18-34", "55+"], "prior_salvage": "no", "marrow_blasts": [50.0, 60.0]}
    )
    relative = np.array([1.0, 1.30 * 1.005**10])
    found = truth.cumulative_hazard("rfs", patients, [3.0, 10.0], maintenance_start=5.0)
    assert found == pytest.approx(relative[:, None] * [0.4, 0.8 + 0.5 * 2.0])


def test_maintained_patients_die_at_the_true_hazard() -> None:
    """Events less cumulative hazard since maintenance is a martingale."""
    truth = Truth()
    table = blinatumomab_table(4, n_patients=5340, n_consolidation=1720, n_maintenance=720)
    table = table[table["maintenance_month"].notna()]
    for endpoint, time, event in (
        ("os", "os_months", "died"),
        ("rfs", "rfs_months", "relapse_or_death"),
    ):
        expected = 0.0
        for row in range(len(table)):
            one = table.iloc[[row]]
            start = float(one["maintenance_month"].iloc[0])
            path = truth.cumulative_hazard(
                endpoint, one, [start, float(one[time].iloc[0])], maintenance_start=start
            )
            expected += float(path[0, 1] - path[0, 0])
        assert abs(table[event].sum() - expected) < 4 * np.sqrt(expected)


def test_survival_in_remission_is_the_true_one() -> None:
    """Without maintenance and transplant, from a landmark: the mean of the patients' curves."""
    truth = Truth(transplant_hazard=0.0)
    table = blinatumomab_table(
        5, n_patients=20_000, n_consolidation=0, n_maintenance=0, truth=truth
    )
    assert table["transplant_month"].isna().all()
    for endpoint, time, event in (
        ("os", "os_months", "died"),
        ("rfs", "rfs_months", "relapse_or_death"),
    ):
        at_risk = table[table["remission_month"].notna() & (table[time] > 3.0)]
        path = truth.cumulative_hazard(endpoint, at_risk, [3.0, 6.0, 9.0, 12.0])
        expected = np.exp(-(path[:, 1:] - path[:, :1]))
        # Nobody is censored before month 12, so that survival is a share.
        for month, curve in zip((6.0, 9.0, 12.0), expected.T, strict=True):
            alive = 1.0 - (at_risk[event] * (at_risk[time] <= month)).mean()
            error = np.sqrt((curve * (1 - curve)).sum()) / len(at_risk)
            assert abs(alive - curve.mean()) < 4 * error


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
        assert found is not None
        assert found == pytest.approx(median, rel=0.05), key
    maintained = curves.get_group(("os", "maintenance"))
    assert median_time(maintained) is None
    assert maintained["time"].iloc[-1] > 35.5
    assert maintained["lower"].iloc[-1] > 0.5


def test_median_survival_with_maintenance_is_rarely_reached() -> None:
    reached = 0
    for seed in range(40):
        curves = bb.simon_makuch(blinatumomab_cohort(seed).cohort, QUESTION)
        one = curves[(curves["endpoint"] == "os") & (curves["group"] == "maintenance")]
        reached += median_time(one) is not None
    assert reached <= 16


@pytest.mark.parametrize("ratios", [None, {"os": 0.0, "rfs": 0.0}])
def test_truth_is_recovered(
    study: ModuleType, pooled: Cohort, ratios: dict[str, float] | None
) -> None:
    truth = Truth() if ratios is None else Truth(log_hazard_ratio=ratios)
    cohort = pooled if ratios is None else large(truth, times=60)
    for name, (estimate, error) in study.log_hazard_ratios(cohort, QUESTION).items():
        assert error < 0.06
        assert abs(estimate - truth.log_hazard_ratio[name]) < 4 * error
    wrong = study.log_hazard_ratios(study.ever_never(cohort), QUESTION)
    for name, (estimate, error) in wrong.items():
        assert estimate < truth.log_hazard_ratio[name] - max(10 * error, 0.4)


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
