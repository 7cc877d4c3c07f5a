"""The synthetic study: exact counts, and a consistent life for everybody."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.person_time.transitions import find_transitions
from bayesblina.studies.simulate import (
    Truth,
    blinatumomab_cohort,
    blinatumomab_table,
    treatment_stays,
)
from tests.studies.simulated import QUESTION, RETREATED, TRANSPLANTS

table_of: Any = blinatumomab_table


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

    relapse, second = table["relapse_month"], table["second_remission_month"]
    responded = remission.notna()
    later = ["rfs_months", "relapse_or_death"]
    assert table.loc[responded, later].notna().all(axis=None)
    never = [*later, "consolidation_month", "transplant_month", "relapse_month"]
    assert table.loc[~responded, never].isna().all(axis=None)
    assert table.loc[consolidation.isna(), "maintenance_month"].isna().all()
    one = table[responded]
    assert (one["remission_month"] > 0).all()
    assert (one["remission_month"] < one["rfs_months"]).all()
    assert (one["rfs_months"] <= one["os_months"]).all()
    assert (remission <= consolidation)[consolidation.notna()].all()
    assert (consolidation < maintenance)[maintenance.notna()].all()
    assert (remission < transplant)[transplant.notna()].all()
    # A relapse is an event before death; treatment after it starts in second remission.
    assert (rfs[relapse.notna()] == relapse[relapse.notna()]).all()
    assert (table.loc[relapse.notna(), "relapse_or_death"] == 1).all()
    assert (relapse < os)[relapse.notna()].all()
    assert (relapse < second)[second.notna()].all()
    for start in (consolidation, maintenance, transplant, second):
        assert (start < os)[start.notna()].all()
    for start in (consolidation, maintenance, transplant):
        assert ((start < rfs) | (start > second))[start.notna()].all()
    # Whoever is maintained in remission is not transplanted before the relapse; after a transplant
    # no phase begins.
    both = maintenance.notna() & transplant.notna()
    assert (maintenance < second)[both].all()
    assert (second < transplant)[both].all()
    assert (consolidation < transplant)[consolidation.notna() & transplant.notna()].all()

    # Death ends relapse-free survival, and who is relapse-free to the end is censored for both.
    failed = one["relapse_or_death"] == 1
    assert (one.loc[~failed, "rfs_months"] == one.loc[~failed, "os_months"]).all()
    assert (one.loc[~failed, "died"] == 0).all()
    assert one.loc[~failed, "relapse_month"].isna().all()
    dead = failed & one["relapse_month"].isna()
    assert (one.loc[dead, "rfs_months"] == one.loc[dead, "os_months"]).all()
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
    seed=st.integers(0, 2**63 - 1),
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
    assert bb.person_time(cohort, QUESTION).synthetic
    assert bb.simon_makuch(cohort, QUESTION).attrs["synthetic"]
    for described in (bb.simulate, blinatumomab_cohort, blinatumomab_table, bb.simulate.Truth):
        assert "ynthetic" in str(described.__doc__)


def test_courses_with_phases_after_relapse_are_legal() -> None:
    """Every transition has its time at risk; death after relapse also in a later phase."""
    seen = 0
    truth = Truth(retreated_share=RETREATED)
    for seed in range(6):
        cohort, _ = blinatumomab_cohort(seed, truth=truth)
        relapse = blinatumomab_table(seed, truth=truth)["relapse_month"].to_numpy()
        for transplant in TRANSPLANTS:
            question = dataclasses.replace(QUESTION, transplant=transplant)
            found = find_transitions(cohort, question, death="os", relapse_free="rfs")
            assert all(one.events for one in found.values())
            after = found["death after relapse"]
            retreated = cohort.phase_start[after.patient, 1] > relapse[after.patient]
            seen += int((retreated & (after.phase == after.phases.index("maintenance"))).sum())
    assert seen > 0


def test_treatment_has_interruptions() -> None:
    table = blinatumomab_table(3)
    stays = treatment_stays(table, seed=5)
    assert stays.attrs["synthetic"]
    pd.testing.assert_frame_equal(stays, treatment_stays(table, seed=5))
    assert (stays["start"] < stays["stop"]).all()
    # One stay at a time, in order, and none after the end of follow-up.
    for _, one in stays.groupby("patient_id"):
        assert (one["start"].to_numpy()[1:] >= one["stop"].to_numpy()[:-1]).all()
    rows = table.set_index("patient_id").loc[stays["patient_id"]]
    assert (stays["stop"].to_numpy() <= rows["os_months"].to_numpy() + 1e-12).all()
    begun = stays.groupby(["phase", "patient_id"])["start"].min()
    for phase in ("consolidation", "maintenance"):
        expected = table.set_index("patient_id")[f"{phase}_month"].dropna()
        pd.testing.assert_series_equal(
            begun[phase].sort_index(), expected.sort_index(), check_names=False
        )
    assert (begun["induction"] == 0.0).all()
    assert len(begun["induction"]) == 267
    # 28 days on, and 56 off in maintenance: from one start to the next at least 84 days.
    day = 365.25 / 12
    first = stays.groupby(["phase", "patient_id", "cycle"])["start"].min().reset_index()
    gap = first.groupby(["phase", "patient_id"])["start"].diff() * day
    by_cycle = first.groupby(["phase", "patient_id"])["cycle"].diff()
    for phase, days in (("induction", 42), ("consolidation", 42), ("maintenance", 84)):
        mine = (first["phase"] == phase) & gap.notna()
        assert (gap[mine] >= days * by_cycle[mine] - 1e-9).all()
        assert (np.isclose(gap[mine], days)).mean() > 0.5
        assert (gap[mine] > days + 0.1).any()
    on = ((stays["stop"] - stays["start"]) * day).to_numpy()
    assert on.max() == pytest.approx(28.0)
    cycles = stays.groupby(["phase", "patient_id", "cycle"]).size()
    assert 0.05 < (cycles == 2).mean() < 0.2
