"""ADaM datasets to a cohort; every expectation counted by hand from four patients."""

from typing import Any

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from tests.patients.adam import NAN, OS, RFS, STARTS, add, adex, adsl, adtte, problems_of, put, read


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
