"""ADaM datasets to a cohort; every expectation counted by hand from four patients."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort

NAN = np.nan
OS = bb.AdamEndpoint(paramcd="OS")
RFS = bb.AdamEndpoint(paramcd="RFS", some_patients=True)
# Days from TRTSDT. P1: remission 30, cycle 3 at 90, cycle 6 at 240, relapse 300, death 360.
# P2: remission 30, cycle 4 (no cycle 3) at 90, censored 365. P3: death 30, no remission.
# P4: remission 60, cycle 6 (no earlier one) at 200, censored 365.
STARTS = [[90, 240], [90, NAN], [NAN, NAN], [NAN, 200]]


def adsl(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "USUBJID": ["P1", "P2", "P3", "P4"],
            "TRTSDT": ["2015-01-01", "2015-02-01", "2015-03-01", "2015-03-01"],
            "SAFFL": ["Y", "Y", "Y", "Y"],
            "AGEGR1": ["<55", "<55", "55+", "55+"],
        }
    ).assign(**changes)


def adtte(**changes: Any) -> pd.DataFrame:
    rows = [
        ("P1", "OS", "2015-01-01", "2015-12-27", 0),
        ("P2", "OS", "2015-02-01", "2016-02-01", 1),
        ("P3", "OS", "2015-03-01", "2015-03-31", 0),
        ("P4", "OS", "2015-03-01", "2016-02-29", 3),
        ("P1", "RFS", "2015-01-31", "2015-10-28", 0),
        ("P2", "RFS", "2015-03-03", "2016-02-01", 1),
        ("P4", "RFS", "2015-04-30", "2016-02-29", 2),
    ]
    columns = ["USUBJID", "PARAMCD", "STARTDT", "ADT", "CNSR"]
    return pd.DataFrame(rows, columns=columns).assign(**changes)


def adex(**changes: Any) -> pd.DataFrame:
    rows = [
        ("P1", "CYCLE 07", "2015-11-01"),
        ("P1", "CYCLE 06", "2015-08-29"),
        ("P1", "Cycle 3 Day 29", "2015-04-29"),
        ("P1", "Cycle 3 Day 1", "2015-04-01"),
        ("P1", "Cycle 1 Day 1", "2015-01-01"),
        ("P2", "cycle 2", "2015-03-15"),
        ("P2", "Cycle 4 Day 1", "2015-05-02"),
        ("P3", "Cycle 1 Day 1", "2015-03-01"),
        ("P4", "Cycle 6 Day 1", "2015-09-17"),
    ]
    return pd.DataFrame(rows, columns=["USUBJID", "AVISIT", "ASTDT"]).assign(**changes)


def put(table: pd.DataFrame, row: int, **cells: Any) -> pd.DataFrame:
    """Change single cells of one row."""
    table = table.astype(dict.fromkeys(cells, object))
    for column, value in cells.items():
        table.loc[row, column] = value
    return table


def add(table: pd.DataFrame, *cells: Any) -> pd.DataFrame:
    """Add one row."""
    row = pd.DataFrame([cells], columns=table.columns[: len(cells)])
    return pd.concat([table, row], ignore_index=True)


def read(sl: Any = None, tte: Any = None, ex: Any = None, **options: Any) -> Cohort:
    options = {"endpoints": {"os": OS, "rfs": RFS}, "unit": "days", **options}
    return bb.read_adam(
        adsl() if sl is None else sl,
        adtte() if tte is None else tte,
        adex() if ex is None else ex,
        **options,
    )


def problems_of(*tables: Any, **options: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    with pytest.raises(DataError) as caught:
        read(*tables, **options)
    return [(item.column, item.found, item.patients) for item in caught.value.problems]


def test_every_date_arrives_where_it_belongs() -> None:
    cohort = read(covariates=["AGEGR1"])
    assert cohort.patients.tolist() == ["P1", "P2", "P3", "P4"]
    os, rfs = cohort.endpoints["os"], cohort.endpoints["rfs"]
    np.testing.assert_array_equal(os.time, [360, 365, 30, 365])
    np.testing.assert_array_equal(os.entry, 0)
    assert os.event.tolist() == [True, False, True, False]
    # Delayed entry at STARTDT; P3, without a record, was never under observation.
    np.testing.assert_array_equal(rfs.time, [300, 365, NAN, 365])
    np.testing.assert_array_equal(rfs.entry, [30, 30, NAN, 60])
    assert rfs.event.tolist() == [True, False, False, False]
    # The first dose of any cycle from a phase's first up to the next phase's starts the phase.
    np.testing.assert_array_equal(cohort.phase_start, STARTS)
    assert cohort.phases == ("consolidation", "maintenance")
    assert cohort.covariates["AGEGR1"].levels == ("55+", "<55")
    assert cohort.repairs == ()
    assert cohort.exclusions == ()


# Follow-up.


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


# Who is in.


def test_population_flag() -> None:
    sl = adsl(SAFFL=["Y", "N", "", None])
    assert sl["SAFFL"].isna().sum() == 1
    cohort = read(sl, population="SAFFL")
    assert cohort.patients.tolist() == ["P1"]
    assert [(one.reason, one.patients) for one in cohort.exclusions] == [
        ("SAFFL is not Y", ("P2", "P3", "P4"))
    ]
    account = cohort.account()
    assert account.patients(step="read") == ("P1", "P2", "P3", "P4")
    assert account.patients(step="excluded", what="SAFFL is not Y") == ("P2", "P3", "P4")
    (observed,) = [
        line for line in account.lines if (line.step, line.endpoint) == ("observed", "os")
    ]
    assert (observed.patients, observed.events, observed.person_time) == (("P1",), 1, 360.0)
    assert read(adsl(), population="SAFFL").exclusions == ()
    assert read(sl).size == 4


@pytest.mark.parametrize("flag", ["y", "1", "Yes"])
def test_other_flags_are_refused(flag: str) -> None:
    found = problems_of(adsl(SAFFL=["Y", "Y", flag, "N"]), population="SAFFL")
    assert found == [("SAFFL", "flags other than Y and N", ("P3",))]


def test_rows_of_excluded_patients_do_not_matter() -> None:
    """The never-treated have no dates, and nobody cleans their data."""
    sl = put(adsl(SAFFL=["Y", "Y", "N", "Y"]), 2, TRTSDT=None)
    tte = put(adtte(), 2, STARTDT="2015", ADT=None, CNSR=9.5)
    tte = add(tte, "P3", "OS", None, None, None)
    ex = put(adex(), 7, AVISIT="Screening", ASTDT="soon")
    cohort = read(sl, tte, ex, population="SAFFL", repairs=bb.Repairs(partial_dates="first"))
    assert cohort.patients.tolist() == ["P1", "P2", "P4"]
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [360, 365, 365])
    assert [repair.patients for repair in cohort.repairs] == [()]


def test_nobody_is_left() -> None:
    with pytest.raises(DataError, match=r"1 problem in ADTTE:\n.* PARAMCD: no record of OS"):
        read(adsl(SAFFL="N"), population="SAFFL", endpoints={"os": OS})


@pytest.mark.parametrize("flags", [["Y", "Y", "Y", "Y"], ["Y", "N", "Y", "Y"]])
def test_a_patient_stands_once_in_adsl(flags: list[str]) -> None:
    """Also where only one of the rows is in the population."""
    sl = adsl(SAFFL=flags, USUBJID=["P1", "P1", "P3", "P4"])
    found = problems_of(sl, population="SAFFL")
    assert found == [("USUBJID", "ids that stand in more than one row", ("P1",))]


def test_patients_who_are_not_in_adsl() -> None:
    tte = add(adtte(), "P9", "OS", "2015-01-01", "2015-02-01", 0)
    assert problems_of(None, tte) == [("USUBJID", "patients who are not in ADSL", ("P9",))]
    ex = add(add(adex(), "P8", "Cycle 3", "2015-02-01"), "", "Cycle 3", "2015-02-01")
    with pytest.raises(DataError, match="1 problem in ADEX:") as caught:
        read(ex=ex)
    assert caught.value.problems[0].patients == ("P8", "")
    # A stranger's record of an endpoint that is not asked for is nobody's business.
    other = add(adtte(), "P9", "EFS", None, None, None)
    assert read(tte=other).size == 4


def test_missing_records() -> None:
    found = problems_of(endpoints={"rfs": bb.AdamEndpoint(paramcd="RFS")})
    assert found == [("PARAMCD", "patients without a record of RFS", ("P3",))]
    with pytest.raises(DataError, match=r"no record of RFSS. Nearest: RFS\.") as caught:
        read(endpoints={"a": bb.AdamEndpoint(paramcd="RFSS"), "b": bb.AdamEndpoint(paramcd="os")})
    assert [item.expected for item in caught.value.problems] == [
        "Nearest: RFS.",
        "There are: OS, RFS.",
    ]


def test_repeated_records() -> None:
    tte = add(adtte(), "P2", "RFS", "2015-03-03", "2016-02-01", 1)
    assert problems_of(None, tte) == [("USUBJID", "more than one record of RFS", ("P2",))]
    assert read(tte=tte, endpoints={"os": OS}).size == 4


# Phases.


@pytest.mark.parametrize(
    "number", ["{}", "Cycle {}", "CYCLE 0{}", "cycle{} day 15", "Post cycle {}"]
)
def test_ways_to_name_a_cycle(number: str) -> None:
    cycles = [7, 6, 3, 3, 1, 2, 4, 1, 6]
    cohort = read(ex=adex(AVISIT=[number.format(cycle) for cycle in cycles]))
    np.testing.assert_array_equal(cohort.phase_start, STARTS)


@pytest.mark.parametrize("numbers", [int, float])
def test_numbers_of_cycles(numbers: type) -> None:
    cycles: Any = np.array([7, 6, 3, 3, 1, 2, 4, 1, 6], dtype=numbers)
    cohort = read(ex=adex(CYCLE=cycles), cycle="CYCLE")
    np.testing.assert_array_equal(cohort.phase_start, STARTS)
    np.testing.assert_array_equal(
        read(ex=adex().drop(columns="AVISIT").assign(AVISITN=cycles)).phase_start, STARTS
    )


def test_cycles_of_two_digits_are_no_cycle_1() -> None:
    ex = add(adex(), "P3", "Cycle 10 Day 1", "2015-03-20")
    np.testing.assert_array_equal(read(ex=ex).phase_start[2], [NAN, 19])


@pytest.mark.parametrize("text", ["Follow-up", "", None, "Cycle", "Cycle three", "3.5", "Day 1"])
def test_rows_that_name_no_cycle_are_refused(text: Any) -> None:
    found = problems_of(None, None, put(adex(), 6, AVISIT=text))
    assert found == [("AVISIT", "rows that name no cycle", ("P2",))]


def test_epochs_name_phases() -> None:
    epochs = ["M", "M", "CONSOLIDATION", "CONSOLIDATION", "I", "I", "CONSOLIDATION", "I", "M"]
    ex = adex(EPOCH=epochs)
    options: Any = {"cycle": "EPOCH", "phases": {"c": "CONSOLIDATION", "m": "M"}}
    cohort = read(ex=ex, **options)
    assert cohort.phases == ("c", "m")
    np.testing.assert_array_equal(cohort.phase_start, STARTS)
    # A misspelt text would leave nobody in the phase.
    with pytest.raises(DataError, match=r"no row with 'CONSOLIDATON'\. Nearest: CONSOLIDATION\."):
        read(ex=ex, cycle="EPOCH", phases={"c": "CONSOLIDATON", "m": "M"})


def test_numbers_beside_texts() -> None:
    ex = put(put(adex(), 0, AVISIT="Maintenance"), 1, AVISIT="Maintenance")
    cohort = read(ex=ex, phases={"c": 3, "m": "Maintenance"})
    # Cycle 6 of P4 now belongs to c, which no later cycle ends.
    assert cohort.phase_start[3].tolist()[0] == 200
    np.testing.assert_array_equal(cohort.phase_start[:3], STARTS[:3])


def test_phases_from_dates_of_adsl() -> None:
    sl = adsl(
        CONSDT=["2015-04-01", "2015-05-02", None, ""],
        MAINDT=["2015-08-29", None, None, "2015-09-17"],
        SCTDT=[None, "2015-05-12", None, None],
    )
    cohort = bb.read_adam(
        sl,
        adtte(),
        endpoints={"os": OS, "rfs": RFS},
        unit="days",
        phases={"consolidation": "CONSDT", "maintenance": "MAINDT"},
        transplant="SCTDT",
    )
    np.testing.assert_array_equal(cohort.phase_start, STARTS)
    assert cohort.transplant is not None
    np.testing.assert_array_equal(cohort.transplant, [NAN, 100, NAN, NAN])
    # The user's own column is named, whatever is wrong.
    wrong = ["2015-03-01", "", "2015-04-01", ""]
    with pytest.raises(DataError) as caught:
        bb.read_adam(
            sl.assign(MAINDT=wrong, SCTDT="2017-01-01"),
            adtte(),
            endpoints={"os": OS},
            unit="days",
            phases={"consolidation": "CONSDT", "maintenance": "MAINDT"},
            transplant="SCTDT",
        )
    assert sorted((item.column, item.patients) for item in caught.value.problems) == [
        ("MAINDT", ("P1",)),
        ("MAINDT", ("P3",)),
        ("SCTDT", ("P1", "P2", "P3", "P4")),
    ]


def test_phases_in_the_wrong_order_are_refused() -> None:
    ex = add(adex(), "P4", "Cycle 5 Day 1", "2015-10-17")
    found = problems_of(None, None, ex)
    assert found == [
        ("ADEX start of maintenance", "maintenance starts before consolidation", ("P4",))
    ]


# Dates.


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


# Everything that is wrong with a dataset, at once.


@pytest.mark.parametrize(
    ("dataset", "dropped", "options"),
    [
        (0, ["USUBJID", "TRTSDT", "SAFFL"], {"population": "SAFFL"}),
        (0, ["TRTSDT", "AGEGR1", "SCTDT"], {"covariates": ["AGEGR1"], "transplant": "SCTDT"}),
        (1, ["USUBJID", "PARAMCD", "STARTDT", "CNSR"], {}),
        (2, ["USUBJID", "AVISIT"], {}),
    ],
)
def test_missing_columns(dataset: int, dropped: list[str], options: dict[str, Any]) -> None:
    tables = [adsl(SCTDT=""), adtte(), adex()]
    tables[dataset] = tables[dataset].drop(columns=dropped)
    name = ("ADSL", "ADTTE", "ADEX")[dataset]
    with pytest.raises(DataError, match=f"^{len(dropped)} problems in {name}:\n") as caught:
        read(*tables, **options)
    assert [item.column for item in caught.value.problems] == dropped


def test_all_problems_of_adsl() -> None:
    sl = adsl(
        USUBJID=["P1", "P1", "P3", "P4"],
        TRTSDT=["2015-01-01", "2015-02", None, "2015-03-01"],
        SAFFL=["Y", "Y", "Y", "?"],
        SCTDT=["soon", None, None, None],
        AGE=["50", "60", "old", "70"],
    )
    found = problems_of(
        sl, population="SAFFL", transplant="SCTDT", covariates={"AGE": "continuous"}
    )
    assert found == [
        ("USUBJID", "ids that stand in more than one row", ("P1",)),
        ("SAFFL", "flags other than Y and N", ("P4",)),
        ("SCTDT", "values that are not dates ('soon')", ("P1",)),
        ("TRTSDT", "partial dates ('2015-02')", ("P1",)),
        ("TRTSDT", "missing dates of origin", ("P3",)),
        ("AGE", "values that are not numbers ('old')", ("P3",)),
    ]


def test_all_problems_of_adtte() -> None:
    tte = put(put(adtte(), 0, STARTDT=None), 1, ADT="", CNSR="x")
    tte = add(tte, "P9", "OS", "2015-01-01", "2015-02-30", -1)
    tte = add(tte, "P4", "RFS", "2015-04-30", "2016-02-29", 2)
    none = bb.AdamEndpoint(paramcd="PFS")
    assert problems_of(None, tte, endpoints={"os": OS, "pfs": none, "rfs": RFS}) == [
        ("PARAMCD", "no record of PFS", ()),
        ("USUBJID", "patients who are not in ADSL", ("P9",)),
        ("ADT", "values that are not dates ('2015-02-30')", ("P9",)),
        ("STARTDT", "missing dates", ("P1",)),
        ("CNSR", "values that are not numbers ('x')", ("P2",)),
        ("CNSR", "values other than 0, 1, 2 and so on", ("P2", "P9")),
        ("ADT", "missing dates", ("P2",)),
        ("USUBJID", "more than one record of RFS", ("P4",)),
    ]


def test_all_problems_of_adex() -> None:
    ex = put(put(adex(), 0, AVISIT="Unscheduled"), 1, ASTDT=None)
    ex = put(put(ex, 5, USUBJID="P7"), 6, ASTDT="2015-05-32")
    assert problems_of(None, None, ex) == [
        ("USUBJID", "patients who are not in ADSL", ("P7",)),
        ("AVISIT", "rows that name no cycle", ("P1",)),
        ("ASTDT", "values that are not dates ('2015-05-32')", ("P2",)),
        ("ASTDT", "missing dates of doses", ("P1",)),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "moons"}, "unit must be one of days, weeks, months, years, got 'moons'"),
        ({"endpoints": {}}, "endpoints must map names to AdamEndpoint values"),
        ({"endpoints": {"os": "OS"}}, "endpoints must map names to AdamEndpoint values"),
        ({"value": "aval"}, "value must be 'dates' or 'AVAL', got 'aval'"),
        ({"phases": {"m": 6, "c": 3}}, "the cycles must rise"),
        ({"phases": {"c": 3, "m": 3}}, "the cycles must rise"),
        ({"phases": ["c", "m"]}, "phases must map names"),
        ({"phases": {"transplant": 3}}, "'transplant' has a meaning of its own"),
        ({"covariates": "AGEGR1"}, "covariates must be a list of columns"),
    ],
)
def test_impossible_calls(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(**options)


def test_cycles_need_adex() -> None:
    with pytest.raises(SpecError, match=r"without ADEX each needs a date column of ADSL"):
        bb.read_adam(adsl(), adtte(), endpoints={"os": OS}, unit="days")


def test_synthetic_is_carried() -> None:
    table = adsl()
    table.attrs["synthetic"] = True
    assert read(table, population="SAFFL").synthetic
    assert not read(adsl()).synthetic


# AVAL against the dates, and which of them ends follow-up.


def analysed(**changes: Any) -> pd.DataFrame:
    """Records with AVAL = ADT - STARTDT + 1 in days."""
    table = adtte()
    days = (pd.to_datetime(table["ADT"]) - pd.to_datetime(table["STARTDT"])).dt.days + 1
    return table.assign(AVAL=days.astype(str), AVALU="DAYS").assign(**changes)


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


# Rows that count.


def test_filters_choose_rows_and_count_the_others() -> None:
    tte = add(adtte(ANL01FL="Y"), "P2", "OS", "2015-02-01", "2015-06-01", 0, "")
    found = problems_of(None, tte)
    assert found == [("USUBJID", "more than one record of OS", ("P2",))]
    ex = add(adex(PARAMCD="DOSE"), "P3", "Cycle 3 Day 1", "2015-03-20", "PLDOSE")
    cohort = read(None, tte, ex, filters={"ADTTE": {"ANL01FL": "Y"}, "ADEX": {"PARAMCD": ["DOSE"]}})
    assert cohort.endpoints["os"].time.tolist() == [360, 365, 30, 365]
    np.testing.assert_array_equal(cohort.phase_start, STARTS)
    assert [(repair.rule, repair.patients) for repair in cohort.repairs] == [
        ("ADEX rows whose PARAMCD is not DOSE are left out (1 rows)", ("P3",)),
        ("ADTTE rows whose ANL01FL is not Y are left out (1 rows)", ("P2",)),
    ]
    young = read(filters={"ADSL": {"AGEGR1": "<55"}})
    assert young.patients.tolist() == ["P1", "P2"]
    assert [one.reason for one in young.exclusions] == ["AGEGR1 is not <55"]
    with pytest.raises(DataError, match=r"no row with 'DOES'\. Nearest: DOSE"):
        read(None, tte, ex, filters={"ADEX": {"PARAMCD": "DOES"}, "ADTTE": {"ANL01FL": "Y"}})
    other = add(ex, "P1", "Follow-up", "2015-12-01", "PLDOSE")
    with pytest.raises(DataError, match="AVISIT: no row with 'Follow-up'"):
        read(ex=other, filters={"ADEX": {"PARAMCD": "DOSE"}}, phases={"late": "Follow-up"})
    with pytest.raises(DataError, match="ANL02FL: no such column"):
        read(filters={"ADTTE": {"ANL02FL": "Y"}})
    wrong: Any
    for wrong in ({"ADAE": {"A": "Y"}}, {"ADEX": {"A": 1}}, {"ADEX": "A"}, {"ADEX": {"A": []}}):
        with pytest.raises(SpecError, match="filters"):
            read(filters=wrong)


@pytest.mark.parametrize("flag", ["N", ""])
def test_rows_that_are_not_for_analysis_are_told_where_they_count(flag: str) -> None:
    """Nobody chose: the records count, as they did, and the account says whose."""
    tte = adtte(ANL01FL="Y")
    tte.loc[(tte["USUBJID"] == "P2") & (tte["PARAMCD"] == "OS"), "ANL01FL"] = flag
    # Of endpoints that are not read nothing is told.
    tte = add(tte, "P1", "PFS", "2015-02-01", "2015-06-01", 0, flag)
    cohort = read(tte=tte, ex=adex(ANL01FL=flag or "Y"))
    rule = "rows whose ANL01FL is not Y count"
    told = {repair.rule.partition(" (")[0]: repair for repair in cohort.repairs}
    one = told[f"ADTTE {rule}"]
    assert one.patients == ("P2",)
    assert "(1 rows; filters={'ADTTE': {'ANL01FL': 'Y'}})" in one.rule
    assert (f"ADEX {rule}" in told) == (flag == "N")
    assert cohort.account().patients(step="repaired", what=one.rule) == ("P2",)
    assert cohort.endpoints["os"].time.tolist() == [360, 365, 30, 365]
    # With a filter, with Y alone, or where nobody filled the flag in, there is nothing to tell.
    for quiet in (adtte(ANL01FL="Y"), adtte(ANL01FL=""), adtte()):
        assert read(tte=quiet).repairs == ()


def test_doses_of_0_are_what_is_said() -> None:
    """Skipped doses start no phase; a placebo's do."""
    ex = adex(EXDOSE=[15.0, 15.0, 15.0, 0.0, 15.0, 15.0, 0.0, 15.0, 15.0])
    found = problems_of(None, None, ex)
    assert found == [("EXDOSE", "doses of 0", ("P1", "P2"))]
    skipped = read(ex=ex, zero_doses="leave out")
    np.testing.assert_array_equal(
        skipped.phase_start, [[118, 240], [NAN, NAN], [NAN, NAN], [NAN, 200]]
    )
    placebo = read(ex=ex, zero_doses="count")
    np.testing.assert_array_equal(placebo.phase_start, STARTS)
    assert [(one.rule, one.patients) for one in (*skipped.repairs, *placebo.repairs)] == [
        ("ADEX doses of 0 are left out (2 rows)", ("P1", "P2")),
        ("ADEX doses of 0 count as doses (2 rows)", ("P1", "P2")),
    ]
    # Doses of no phase are nobody's business.
    early = adex(EXDOSE=[15.0, 15.0, 15.0, 15.0, 0.0, 0.0, 15.0, 0.0, 15.0])
    np.testing.assert_array_equal(read(ex=early).phase_start, STARTS)
    assert problems_of(None, None, put(early, 3, EXDOSE=-1))[0][1] == "negative doses"


@pytest.mark.parametrize("text", ["Bicycle 3", "Recycle 3", "Cycle 3.5", "C3D", "ABC3D1"])
def test_what_is_no_cycle(text: str) -> None:
    found = problems_of(None, None, put(adex(), 6, AVISIT=text))
    assert found == [("AVISIT", "rows that name no cycle", ("P2",))]


@pytest.mark.parametrize("text", ["C4D1", "c04d15", "CYCLE_4", "Cycle-04", "Part B Cycle 4 Day 8"])
def test_more_ways_to_name_a_cycle(text: str) -> None:
    assert read(ex=put(adex(), 6, AVISIT=text)).phase_start[1, 0] == 90


def test_follow_up_without_phases() -> None:
    cohort = bb.read_adam(adsl(), adtte(), endpoints={"os": OS}, unit="days", phases={})
    assert cohort.phases == ()
    assert cohort.phase_start.shape == (4, 0)
    rows = cohort.to_counting_process()
    assert rows["phase"].tolist() == ["all follow-up"] * 4
    assert rows["stop"].tolist() == [360, 365, 30, 365]
    question = bb.Question(exposed="maintenance", eligible_from="entry")
    with pytest.raises(SpecError, match="maintenance"):
        bb.person_time(cohort, question)


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
