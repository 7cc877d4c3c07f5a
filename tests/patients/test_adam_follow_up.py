"""Follow-up out of ADTTE: dates, AVAL, its units and CNSR; counted by hand from four patients."""

from typing import Any

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from tests.patients.adam import (
    NAN,
    OS,
    STARTS,
    add,
    adex,
    adsl,
    adtte,
    analysed,
    problems_of,
    put,
    read,
)


@pytest.mark.parametrize(
    ("unit", "time"), [("days", 365.25), ("weeks", 365.25 / 7), ("months", 12.0), ("years", 1.0)]
)
@pytest.mark.parametrize(
    ("avalu", "aval"),
    [
        ("DAYS", 365.25),
        ("Day", 365.25),
        ("weeks", 52.17857142857143),
        ("MONTHS", 12.0),
        ("month", 12.0),
        ("YEARS", 1.0),
        (" years ", 1.0),
    ],
)
def test_avalu_to_every_unit(avalu: str, aval: float, unit: str, time: float) -> None:
    table = adtte(AVAL=aval, AVALU=avalu).drop(columns="ADT")
    cohort = read(tte=table, unit=unit, value="AVAL", endpoints={"os": OS})
    np.testing.assert_allclose(cohort.endpoints["os"].time, time, rtol=1e-14)
    # Dates are days, whatever AVAL's unit.
    days = {"days": 1, "weeks": 7, "months": 30.4375, "years": 365.25}[unit]
    np.testing.assert_allclose(cohort.phase_start, np.array(STARTS) / days, rtol=1e-14)


def test_units_may_differ_between_records_and_entry_adds() -> None:
    """RFS of P1: enters on day 30, 2 months of 30.4375 days later the end."""
    table = adtte(AVAL=[360, 12, 30, 1, 2, 48, 10], AVALU=["DAYS", "MONTHS", "DAYS", "YEARS",
                  "MONTHS", "WEEKS", "MONTHS"]).drop(columns="ADT")  # fmt: skip
    cohort = read(tte=table, value="AVAL")
    np.testing.assert_allclose(cohort.endpoints["os"].time, [360, 365.25, 30, 365.25])
    np.testing.assert_allclose(
        cohort.endpoints["rfs"].time, [30 + 60.875, 30 + 336, NAN, 60 + 304.375]
    )


@pytest.mark.parametrize(
    ("avalu", "shown"), [("HOURS", "'HOURS'"), (None, "''"), ("", "''"), ("month(s)", "'MONTH(S)'")]
)
def test_unknown_units_are_named(avalu: Any, shown: str) -> None:
    table = put(adtte(AVAL=100, AVALU="DAYS").drop(columns="ADT"), 1, AVALU=avalu)
    found = problems_of(None, table, value="AVAL")
    assert found == [("AVALU", f"unknown units ({shown})", ("P2",))]


def test_which_of_dates_and_aval() -> None:
    both = adtte(AVAL=100, AVALU="DAYS")
    # They count the last day otherwise: neither is taken unasked.
    with pytest.raises(SpecError, match="ADTTE has both ADT and AVAL"):
        read(tte=both)
    assert read(tte=both, value="dates").endpoints["os"].time.tolist() == [360, 365, 30, 365]
    kept = put(both, 0, USUBJID="P1").drop(columns="ADT")
    early = {"phases": {"consolidation": 3}, "repairs": bb.Repairs(drop_late_phases=True)}
    assert read(tte=kept, **early).endpoints["os"].time.tolist() == [100] * 4
    assert problems_of(None, kept, value="dates") == [("ADT", "no such column", ())]
    for column in ("AVAL", "AVALU"):
        table = kept.drop(columns=column)
        assert problems_of(None, table, value="AVAL") == [(column, "no such column", ())]
    missing = put(kept, 2, AVAL=None)
    assert problems_of(None, missing, value="AVAL") == [("AVAL", "missing values", ("P3",))]


def test_a_dose_on_the_day_of_death() -> None:
    """P3: dies on day 30 after the first dose of cycle 3 on that day; AVAL counts both ends."""
    doses = add(adex(), "P3", "Cycle 3 Day 1", "2015-03-31")
    days = [361, 366, 31, 366, 271, 336, 306]  # ADT - STARTDT + 1
    by_aval = read(tte=adtte(AVAL=days, AVALU="DAYS"), ex=doses, value="AVAL")
    by_dates = read(ex=doses, value="dates")
    assert by_aval.endpoints["os"].time.tolist() == [361, 366, 31, 366]
    np.testing.assert_array_equal(by_aval.endpoints["rfs"].time, [301, 366, NAN, 366])

    def rows(cohort: Cohort) -> list[list[Any]]:
        table = cohort.to_counting_process(endpoint="os").query("patient == 'P3'")
        return table[["start", "stop", "event", "phase"]].to_numpy().tolist()

    assert rows(by_aval) == [[0, 30, 0, "before consolidation"], [30, 31, 1, "consolidation"]]
    assert rows(by_dates) == [[0, 30, 1, "before consolidation"]]


@pytest.mark.parametrize(
    ("cnsr", "event"), [(0, True), ("0", True), (1, False), (2, False), (3.0, False)]
)
def test_cnsr_0_is_the_event(cnsr: Any, event: bool) -> None:
    cohort = read(tte=put(adtte(), 1, CNSR=cnsr))
    assert cohort.endpoints["os"].event.tolist() == [True, event, True, False]


@pytest.mark.parametrize("cnsr", [-1, 0.5, None, "", "inf", "Y"])
def test_other_values_of_cnsr_are_refused(cnsr: Any) -> None:
    found = problems_of(None, put(adtte(), 1, CNSR=cnsr))
    assert {(column, who) for column, _, who in found} == {("CNSR", ("P2",))}
    assert "values other than 0, 1, 2 and so on" in {text for _, text, _ in found}


def test_another_origin() -> None:
    """From randomisation, five days before the first dose: all times are five days later."""
    dates = ["2014-12-27", "2015-01-27", "2015-02-24", "2015-02-24"]
    cohort = read(adsl(RANDDT=dates), origin="RANDDT")
    np.testing.assert_array_equal(cohort.endpoints["os"].entry, 5)
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [365, 370, 35, 370])
    np.testing.assert_array_equal(cohort.phase_start, np.array(STARTS) + 5)


def test_observation_before_the_origin_is_refused() -> None:
    found = problems_of(None, put(adtte(), 1, STARTDT="2015-01-31"))
    assert found == [("ADTTE OS STARTDT", "negative or infinite entry times", ("P2",))]
    before = problems_of(None, put(adtte(), 5, ADT="2015-03-02"))
    assert [(column, who) for column, _, who in before] == [("ADTTE RFS STARTDT", ("P2",))]


@pytest.mark.parametrize(("unit", "factor"), [("WEEKS", 7), ("MONTHS", 30.4375), ("YEARS", 365.25)])
def test_a_wrong_unit_of_aval_is_found(unit: str, factor: float) -> None:
    """Days called weeks were seven times too long."""
    found = problems_of(None, analysed(AVALU=unit), value="AVAL", endpoints={"os": OS})
    ((column, text, patients),) = found
    assert (column, patients) == ("AVAL", ("P1", "P2", "P3", "P4"))
    assert text == f"differs from ADT - STARTDT + 1 ({factor:.3g} times as long, in the median)"
    other = analysed(AVAL=analysed()["AVAL"].astype(float) / factor)
    assert problems_of(None, other, value="AVAL")[0][0] == "AVAL"
    # By dates it is not used, and told.
    cohort = read(tte=analysed(AVALU=unit), value="dates")
    assert cohort.endpoints["os"].time.tolist() == [360, 365, 30, 365]
    told = {repair.rule: repair.patients for repair in cohort.repairs}
    assert told["AVAL differs from ADT - STARTDT + 1, and is not used"] == ("P1", "P2", "P3", "P4")


@pytest.mark.parametrize(
    ("unit", "divisor", "digits"),
    [("DAYS", 1, 0), ("WEEKS", 7, 1), ("MONTHS", 30.4375, 1), ("MONTHS", 30, 2), ("YEARS", 365, 2)],
)
@pytest.mark.parametrize("last_day", [0, 1])
def test_rounded_values_and_both_conventions_agree(
    unit: str, divisor: float, digits: int, last_day: int
) -> None:
    days = analysed()["AVAL"].astype(float) - 1 + last_day
    values = (days / divisor).map(lambda one: f"{one:.{digits}f}")
    cohort = read(tte=analysed(AVAL=values, AVALU=unit), value="AVAL")
    np.testing.assert_allclose(cohort.endpoints["os"].time, np.array([360, 365, 30, 365]), atol=8.0)


def test_value_unit_where_there_is_no_avalu() -> None:
    table = analysed().drop(columns="AVALU")
    cohort = read(tte=table, value="AVAL", value_unit="days")
    assert cohort.endpoints["os"].time.tolist() == [361, 366, 31, 366]
    with pytest.raises(DataError, match="say value_unit='days'"):
        read(tte=table, value="AVAL")
    assert problems_of(None, table, value="AVAL", value_unit="weeks")[0][0] == "AVAL"
    blank = put(analysed(), 1, AVALU="")
    assert read(tte=blank, value="AVAL", value_unit="days").endpoints["os"].time[1] == 366
    found = problems_of(None, analysed(), value="AVAL", value_unit="months")
    assert ("AVALU", "units other than the months of value_unit") in {one[:2] for one in found}


def test_what_the_choice_of_value_moves_is_counted() -> None:
    """P3 dies on the day of the first dose of cycle 3: on treatment by AVAL, not by dates."""
    doses = add(adex(), "P3", "Cycle 3 Day 1", "2015-03-31")
    for value, other in (("dates", "AVAL"), ("AVAL", "ADT")):
        cohort = read(tte=analysed(), ex=doses, value=value)
        told = {repair.rule: repair.patients for repair in cohort.repairs}
        assert told[f"the event would be in another phase by {other}"] == ("P3",)
        untouched = read(tte=analysed(), value=value)
        assert untouched.repairs[-1].patients == ()
    # With the end of the day dates are what AVAL is.
    late = read(tte=analysed(), ex=doses, value="dates", same_day="end of day")
    assert late.endpoints["os"].time.tolist() == [361, 366, 31, 366]
    assert late.repairs[-1].patients == ()


def test_follow_up_that_ends_on_its_first_day() -> None:
    """P3 dies on the day of the origin, P4 relapses on the day of remission."""
    tte = put(put(adtte(), 2, ADT="2015-03-01"), 6, ADT="2015-04-30", CNSR=0)
    with pytest.raises(DataError, match=r"^2 problems in ADTTE:") as caught:
        read(tte=tte)
    for problem in caught.value.problems:
        assert problem.expected == "Correct the dates, or say same_day='half day' or 'end of day'."
    half = read(tte=tte, same_day="half day")
    np.testing.assert_array_equal(half.endpoints["os"].time, [360, 365, 0.5, 365])
    np.testing.assert_array_equal(half.endpoints["rfs"].time, [300, 365, NAN, 60.5])
    assert half.repairs[0].patients == ("P3", "P4")
    # Where it is said already, it does not repair follow-up that ends before it begins.
    before = put(tte, 6, ADT="2015-04-28")
    for same_day in ("half day", "end of day"):
        with pytest.raises(DataError) as caught:
            read(tte=before, same_day=same_day)
        assert "same_day" not in str(caught.value)
        assert "follow-up ends before it begins" in str(caught.value)
    late = read(tte=tte, same_day="end of day")
    np.testing.assert_array_equal(late.endpoints["os"].time, [361, 366, 1, 366])
    np.testing.assert_array_equal(late.endpoints["rfs"].time, [301, 366, NAN, 61])
    np.testing.assert_array_equal(late.phase_start, STARTS)
    with pytest.raises(SpecError, match="same_day is for dates"):
        read(tte=analysed(), value="AVAL", same_day="end of day")


def test_time_from_a_date_of_adsl() -> None:
    """ADTTE without STARTDT: what AVAL counts from is never guessed."""
    dates = ["2014-12-27", "2015-01-27", "2015-02-24", "2015-02-24"]
    table = adtte().drop(columns="STARTDT")
    with pytest.raises(DataError, match=r"AdamEndpoint\(origin="):
        read(adsl(RANDDT=dates), table, endpoints={"os": OS})
    randomised = {"os": bb.AdamEndpoint(paramcd="OS", origin="RANDDT")}
    cohort = read(adsl(RANDDT=dates), table, endpoints=randomised, origin="RANDDT")
    np.testing.assert_array_equal(cohort.endpoints["os"].entry, 0)
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [365, 370, 35, 370])
    values = table.drop(columns="ADT").assign(AVAL=100, AVALU="DAYS")
    treated = {"os": bb.AdamEndpoint(paramcd="OS", origin="TRTSDT")}
    late = read(adsl(RANDDT=dates), values, endpoints=treated, origin="RANDDT", phases={})
    np.testing.assert_array_equal(late.endpoints["os"].entry, 5)
    np.testing.assert_array_equal(late.endpoints["os"].time, 105)
