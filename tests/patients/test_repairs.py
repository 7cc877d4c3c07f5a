"""Repairs are made on request only, and change nobody else."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from tests.patients.builders import ENDPOINTS, patients, problems_of, read


def test_zero_times_are_repaired_on_request_only() -> None:
    table = patients(
        os_months=[10.5, 12, 0, 5], rfs_months=[9, 0, None, 4], remission_month=[2, None, None, 3]
    )
    assert [item[0] for item in problems_of(table)] == ["os_months", "rfs_months"]
    cohort = read(table, repairs=bb.Repairs(zero_times=0.02))
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [10.5, 12, 0.02, 5])
    np.testing.assert_array_equal(cohort.endpoints["rfs"].time, [9, 0.02, np.nan, 4])
    (repair,) = cohort.repairs
    assert (repair.rule, repair.patients, repair.count) == (
        "times of 0 became 0.02",
        ("1e5", "A 3"),
        2,
    )
    # A negative time is no time of 0.
    assert problems_of(patients(os_months=[10.5, 12, -1, 5]), repairs=bb.Repairs(zero_times=0.02))


def test_follow_up_that_ends_at_its_entry_is_repaired_alike() -> None:
    """Remission on the day of death: all that ends at that moment ends as much later."""
    table = patients(
        os_months=[10.5, 12, 8, 5],
        rfs_months=[9, 12, None, 4],
        remission_month=[2, 12 * (1 + 1e-12), None, 3],
        consolidation_month=[3, 11, None, None],
        maintenance_month=[None, None, None, None],
        maintenance_end=[None, None, None, None],
    ).astype({"maintenance_month": float, "maintenance_end": float})
    with pytest.raises(DataError, match="where the two are one time, ask for the repair zero_ti"):
        read(table)
    cohort = read(table, repairs=bb.Repairs(zero_times=0.02))
    np.testing.assert_array_equal(cohort.endpoints["rfs"].time, [9, 12.02, np.nan, 4])
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [10.5, 12.02, 8, 5])
    assert [(one.rule, one.patients) for one in cohort.repairs] == [
        ("times of 0 became 0.02", ()),
        ("follow-up that ended at its entry lasts 0.02", ("1e5",)),
    ]
    # Nobody is followed after death, and who ends at entry for another reason stays refused.
    assert "rfs: followed" not in repr(cohort.account())
    later = table.assign(remission_month=[2, 12.001, np.nan, 3])
    assert [one[0] for one in problems_of(later, repairs=bb.Repairs(zero_times=0.02))] == [
        "remission_month"
    ]


def test_a_last_visit_at_the_end_stays_there() -> None:
    """Of those who are event-free at their entry, and of those with an exact event there."""
    endpoints = dict(ENDPOINTS) | {
        "rfs": bb.Endpoint(
            time="rfs_months",
            event="relapse_or_death",
            entry="remission_month",
            last_negative="marrow_month",
        )
    }
    table = patients(
        rfs_months=[2, 12, None, 3],
        remission_month=[2, 1, None, 3],
        relapse_or_death=[0, 0, None, 1],
        marrow_month=[2.0, 11.0, None, 3.0],
    )
    outcome = read(table, endpoints=endpoints, repairs=bb.Repairs(zero_times=0.02)).endpoints["rfs"]
    np.testing.assert_allclose(outcome.time, [2.02, 12, np.nan, 3.02], rtol=1e-12)
    assert outcome.last_negative is not None
    np.testing.assert_allclose(outcome.last_negative, [2.02, 11, np.nan, 3.02], rtol=1e-12)


def test_a_phase_that_ends_at_the_end_ends_with_it() -> None:
    """Treated until the moment of death is treated at death; a phase that was replaced is not."""
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "t": [5.0, 5.0, 9.0],
            "e": [1, 1, 0],
            "entry": [5.0, 5.0, 0.0],
            "one": [1.0, 1.0, 1.0],
            "one_end": [5.0, 5.0, 5.0],
            "two": [np.nan, 5.0, 5.0],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints=bb.Endpoint(time="t", event="e", entry="entry"),
        phases=bb.Phases(one=bb.Phase(start="one", end="one_end"), two="two"),
        repairs=bb.Repairs(zero_times=0.5),
    )
    assert cohort.endpoints["survival"].time.tolist() == [5.5, 5.5, 9.0]
    assert cohort.phase_end[:, 0].tolist() == [5.5, 5.0, 5.0]
    with pytest.raises(SpecError, match=r"zero_times = 9\.5 months is longer than the shortest"):
        bb.read_cohort(
            table,
            patient="id",
            unit="months",
            endpoints=bb.Endpoint(time="t", event="e", entry="entry"),
            phases=bb.Phases(two="two"),
            repairs=bb.Repairs(zero_times=9.5),
        )


def test_rows_of_no_length_are_repaired_where_they_are_all_there_is() -> None:
    rows = pd.DataFrame(
        {
            "id": ["a", "b", "c", "c"],
            "start": [5.0, 0.0, 0.0, 4.0],
            "stop": [5.0, 9.0, 4.0, 9.0],
            "event": [1, 0, 0, 1],
            "phase": ["m", "", "", "m"],
        }
    )
    given: dict[str, Any] = {
        "patient": "id", "start": "start", "stop": "stop", "event": "event", "phase": "phase",
        "phases": ["m"], "unit": "months",
    }  # fmt: skip
    with pytest.raises(DataError, match="all of a patient's follow-up, ask for the repair"):
        bb.read_counting_process(rows, **given)
    repairs = bb.Repairs(zero_times=0.5)
    cohort = bb.read_counting_process(rows, repairs=repairs, **given)
    assert cohort.endpoints["survival"].time.tolist() == [5.5, 9.0, 9.0]
    assert cohort.repairs[1].patients == ("a",)
    rows.loc[3, ["start", "stop"]] = 4.0
    with pytest.raises(DataError, match="rows that end at or before they start"):
        bb.read_counting_process(rows, repairs=repairs, **given)


def test_a_scan_names_the_reader_that_repairs() -> None:
    table = pd.DataFrame({"id": ["a", "b"], "t": [0.0, 9.0], "e": [1, 0], "s": [np.nan, 12.0]})
    with pytest.raises(DataError) as caught:
        bb.scan_cohort(
            table,
            patient="id",
            unit="months",
            endpoints=bb.Endpoint(time="t", event="e"),
            phases=bb.Phases(m="s"),
        )
    said = [one.expected for one in caught.value.problems]
    assert all("read the patients with read_cohort and its repair" in one for one in said)
    assert len(said) == 2


def test_late_phases_are_dropped_on_request_only() -> None:
    table = patients(
        maintenance_month=[6, 12.5, 8, 3],
        maintenance_end=[9, 13, None, None],
        transplant_month=[None, None, 8.5, 5],
    )
    assert [(item[0], item[2]) for item in problems_of(table)] == [
        ("maintenance_month", ("1e5",)),
        ("transplant_month", ("A 3",)),
    ]
    cohort = read(table, repairs=bb.Repairs(drop_late_phases=True))
    nan = np.nan
    np.testing.assert_array_equal(cohort.phase_start, [[2, 6], [1, nan], [nan, 8], [nan, 3]])
    np.testing.assert_array_equal(cohort.phase_end[:, 1], [9, nan, nan, nan])
    assert cohort.transplant is not None
    np.testing.assert_array_equal(cohort.transplant, [nan, nan, nan, 5])
    (repair,) = cohort.repairs
    assert repair.patients == ("1e5", "A 3")


def test_a_repair_changes_nobody_it_need_not() -> None:
    """Phases at the end of follow-up, but for rounding, and of a patient without follow-up."""
    table = patients(
        os_months=[0.3, 12, 8, 5], rfs_months=[0.2, 12, None, 4], remission_month=[0.1, 1, None, 3],
        consolidation_month=[0.1 + 0.2, 1, 700, None], maintenance_month=[0.1 + 0.2, None, None, 3],
        maintenance_end=[None, None, None, None], transplant_month=[0.1 + 0.2, None, None, None],
    ).astype({"maintenance_end": float})  # fmt: skip
    both = bb.Repairs(zero_times=0.02, drop_late_phases=True)
    rfs = {"rfs": ENDPOINTS["rfs"]}
    assert [repair.count for repair in read(patients(), repairs=both).repairs] == [0, 0]
    with pytest.raises(DataError, match="after the end of follow-up"):
        read(table)
    late = read(table, repairs=both)
    assert [repair.patients for repair in late.repairs] == [(), ("A 3",)]
    assert late.phase_start[0].tolist() == [0.1 + 0.2, 0.1 + 0.2]
    table = table.assign(rfs_months=[0.3, 12, np.nan, 4])
    unknown = read(table, endpoints=rfs, repairs=both)
    assert [repair.count for repair in unknown.repairs] == [0, 0]
    assert unknown.phase_start[2, 0] == 700


@pytest.mark.parametrize("instead", [0.0, -1.0, np.inf, np.nan])
def test_a_repair_must_be_possible(instead: float) -> None:
    with pytest.raises(SpecError, match="zero_times must be a small time greater than 0"):
        bb.Repairs(zero_times=instead)


@pytest.mark.parametrize("rule", ["first", "middle", "last"])
def test_partial_dates_lie_within_those_known_of_the_patient(rule: Any) -> None:
    """Each partial date in March 2015 alone, the others known."""
    known = {
        "origin": "2015-03-05",
        "entry": "2015-03-10",
        "last": "2015-04-10",
        "from": "2015-03-12",
        "to": "2015-03-17",
    }
    bounds = {
        "origin": ("2015-03-01", "2015-03-10"),
        "entry": ("2015-03-05", "2015-03-31"),
        "last": ("2015-03-17", "2015-03-31"),
        "from": ("2015-03-05", "2015-03-17"),
        "to": ("2015-03-12", "2015-03-31"),
    }
    whole = {"first": "2015-03-01", "middle": "2015-03-15", "last": "2015-03-31"}[rule]
    for column, (low, high) in bounds.items():
        cells = known | {column: "2015-03"}
        cohort = bb.read_dated_cohort(
            pd.DataFrame({"id": ["a"], "event": [1], **{k: [v] for k, v in cells.items()}}),
            patient="id",
            origin="origin",
            unit="days",
            endpoints=bb.DatedEndpoint(date="last", event="event", origin="entry"),
            phases=bb.Phases(m=bb.Phase(start="from", end="to")),
            repairs=bb.Repairs(partial_dates=rule),
        )
        outcome = cohort.endpoints["survival"]
        got = {
            "entry": outcome.entry[0],
            "last": outcome.time[0],
            "from": cohort.phase_start[0, 0],
            "to": cohort.phase_end[0, 0],
        }
        right = min(max(whole, low), high)
        zero = pd.Timestamp(right if column == "origin" else known["origin"])
        for name, value in got.items():
            day = right if name == column else known[name]
            assert value == (pd.Timestamp(day) - zero).days, (rule, column, name)
        assert f"partial dates of {column} became" in cohort.repairs[0].rule
