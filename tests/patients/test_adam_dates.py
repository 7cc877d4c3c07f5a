"""Dates of ADaM datasets: whole, partial, impossible, and as they are delivered."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from tests.patients.adam import NAN, OS, STARTS, add, adex, adsl, adtte, problems_of, put, read


@pytest.mark.parametrize(
    ("text", "first", "middle", "last"),
    [
        # TRTSDT is 2015-02-01. 2016 is a leap year: 29 February is day 365 + 28.
        ("2016-02", 365, 365 + 14, 365 + 28),
        ("2015-02", 0, 14, 27),
        ("2015-04", 59, 59 + 14, 59 + 29),
        ("2016", 334, 334 + 182, 334 + 365),
    ],
)
def test_partial_dates_by_rule(text: str, first: float, middle: float, last: float) -> None:
    tte = put(adtte(), 1, ADT=text)
    assert problems_of(None, tte) == [("ADT", f"partial dates ({text!r})", ("P2",))]
    for rule, day in (("first", first), ("middle", middle), ("last", last)):
        repairs = bb.Repairs(partial_dates=rule, zero_times=0.5, drop_late_phases=True)  # type: ignore[arg-type]
        cohort = read(tte=tte, repairs=repairs, endpoints={"os": OS})
        assert cohort.endpoints["os"].time[1] == (day or 0.5)
        repair = cohort.repairs[0]
        assert (repair.rule, repair.patients, repair.count) == (
            f"partial dates of ADT became the {rule} possible day, within known dates",
            ("P2",),
            1,
        )


def test_partial_dates_of_every_dataset_are_counted_once() -> None:
    sl = adsl(TRTSDT=["2015-01-01", "2015-02", "2015-03-01", "2015-03-01"])
    tte = put(put(adtte(), 0, ADT="2015-12"), 1, ADT="2016-02")
    ex = put(adex(), 8, ASTDT="2015-09")
    cohort = read(sl, tte, ex, repairs=bb.Repairs(partial_dates="first"))
    assert cohort.endpoints["os"].time.tolist() == [334, 365, 30, 365]
    assert cohort.phase_start[3, 1] == 184
    (repair,) = cohort.repairs
    assert sorted(repair.patients) == ["P1", "P2", "P4"]
    assert sorted(cohort.account().patients(step="repaired")) == ["P1", "P2", "P4"]
    first = problems_of(sl, tte, ex)
    assert first == [("TRTSDT", "partial dates ('2015-02')", ("P2",))]


@pytest.mark.parametrize(
    "text", ["2015-02-30", "2015-13-01", "2015-00-10", "31DEC2015", "31/12/2015", "2015-1-9"]
)
@pytest.mark.parametrize("rule", ["refuse", "last"])
def test_impossible_dates(text: str, rule: Any) -> None:
    repairs = bb.Repairs(partial_dates=rule)
    found = problems_of(None, put(adtte(), 1, ADT=text), repairs=repairs)
    assert found == [("ADT", f"values that are not dates ({text!r})", ("P2",))]


@pytest.mark.parametrize("end", ["2015-12-27T23:59", "2015-12-27 23:59:59.5", "2015-12-27T00:01Z"])
def test_the_time_of_day_is_not_used(end: str) -> None:
    assert read(tte=put(adtte(), 0, ADT=end)).endpoints["os"].time[0] == 360
    stamps = pd.to_datetime(adtte()["ADT"] + " 23:59")
    starts = pd.to_datetime(adtte()["STARTDT"] + " 12:00")
    np.testing.assert_array_equal(
        read(tte=adtte(ADT=stamps, STARTDT=starts)).endpoints["os"].time, [360, 365, 30, 365]
    )


@pytest.mark.parametrize(
    ("dataset", "column"), [(0, "TRTSDT"), (1, "STARTDT"), (1, "ADT"), (2, "ASTDT")]
)
def test_sas_numbers_are_no_dates(dataset: int, column: str) -> None:
    """Days since 1960, exported without their format."""
    tables = [adsl(), adtte(), adex()]
    days = (pd.to_datetime(tables[dataset][column]) - pd.Timestamp("1960-01-01")).dt.days
    tables[dataset] = tables[dataset].assign(**{column: days.astype(float)})
    found = problems_of(*tables)
    assert {(name, text) for name, text, _ in found} == {
        (column, "numbers where dates were expected")
    }


# Dates as they are delivered.


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("seconds", [False, True])
def test_numbers_of_sas_by_a_stated_format(as_text: bool, seconds: bool) -> None:
    def sas(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
        for column in columns:
            days = (pd.to_datetime(table[column]) - pd.Timestamp("1960-01-01")).dt.days
            values = days * 86400 + 3600 if seconds else days
            table[column] = values.astype(str) if as_text else values.astype(float)
        return table

    tables = (sas(adsl(), "TRTSDT"), sas(adtte(), "STARTDT", "ADT"), sas(adex(), "ASTDT"))
    cohort = read(*tables, date_format="SAS datetime" if seconds else "SAS")
    np.testing.assert_array_equal(cohort.phase_start, STARTS)
    np.testing.assert_array_equal(cohort.endpoints["rfs"].time, [300, 365, NAN, 365])


def test_texts_by_a_stated_format_beside_iso() -> None:
    tte = adtte(ADT=pd.to_datetime(adtte()["ADT"]).dt.strftime("%d%b%Y").str.upper())
    found = problems_of(None, tte, endpoints={"os": OS})
    assert found[0][:2] == (
        "ADT",
        "values that are not dates ('27DEC2015', '01FEB2016', '31MAR2015')",
    )
    cohort = read(tte=tte, date_format="%d%b%Y")
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [360, 365, 30, 365])
    for pattern in ("%d%b%y", "%b%Y", "DATE9.", ""):
        with pytest.raises(SpecError, match="date_format must be"):
            read(tte=tte, date_format=pattern)


@pytest.mark.parametrize(
    "text", ["2016-02-01T00:30+02:00", "2016-02-01T23:30:00-05:00", "2016-02-01T10:00+0530"]
)
def test_the_day_is_the_one_that_is_written(text: str) -> None:
    assert read(tte=put(adtte(), 1, ADT=text)).endpoints["os"].time[1] == 365


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo", "Europe/London"])
@pytest.mark.parametrize("as_text", [False, True])
def test_local_midnights_in_utc_are_told(zone: str, as_text: bool) -> None:
    """Each such date would be a day early."""
    local = pd.to_datetime(adtte()["ADT"]).dt.tz_localize(zone)
    stored: Any = local.dt.tz_convert("UTC")
    if as_text:
        stored = stored.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    found = problems_of(None, adtte(ADT=stored), endpoints={"os": OS})
    assert ("ADT", "times of day that are midnight in another time zone") in {
        one[:2] for one in found
    }
    assert read(tte=adtte(ADT=local)).endpoints["os"].time.tolist() == [360, 365, 30, 365]


def test_partial_dates_lie_within_known_ones() -> None:
    """In one month: origin on the 1st, remission on the 10th, doses on the 12th, death."""
    sl = adsl(TRTSDT=["2015-01-01", "2015-02-01", "2015-03-20", "2015-03-01"])
    tte = put(adtte(), 2, STARTDT="2015-03-20", ADT="2015-03")
    ex = add(adex().drop(index=7), "P3", "Cycle 3 Day 1", "2015-03-25")
    days = {}
    for rule in ("first", "middle", "last"):
        repairs = bb.Repairs(partial_dates=rule, zero_times=0.5)
        days[rule] = read(sl, tte, ex, repairs=repairs).endpoints["os"].time[2]
        before = read(sl, tte, adex().drop(index=7), repairs=repairs)
        assert before.endpoints["os"].time[2] == {"first": 0.5, "middle": 0.5, "last": 11}[rule]
    # Not before the dose that was given.
    assert days == {"first": 5, "middle": 5, "last": 11}
    # A dose in the month of the origin, and one in the month of death.
    ex = put(put(adex(), 3, ASTDT="2015-01"), 1, ASTDT="2015-12")
    for rule, starts in (("first", [0, 334]), ("middle", [14, 348]), ("last", [30, 360])):
        repairs = bb.Repairs(partial_dates=rule)  # type: ignore[arg-type]
        cohort = read(ex=ex.drop(index=[0, 2]), repairs=repairs)
        assert cohort.phase_start[0].tolist() == starts
        assert cohort.repairs[0].rule == (
            f"partial dates of ASTDT became the {rule} possible day, within known dates"
        )
    # What is known contradicts it: told as ever.
    wrong = problems_of(
        None, put(adtte(), 2, ADT="2015-02"), repairs=bb.Repairs(partial_dates="last")
    )
    assert {column for column, _, _ in wrong} == {"ADTTE OS time"}
