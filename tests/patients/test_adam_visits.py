"""Evaluations of ADaM, by hand: since when relapses may have happened."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.studies.study_file import read_study
from tests.patients.adam import NAN, OS, adex, adsl, adtte, put, read

RFS = bb.AdamEndpoint(paramcd="RFS", some_patients=True, recorded="visits", includes=["os"])
# Days from TRTSDT: P1 210, and relapse at 300; P2 30 and the last day, 365; P4 none that says it.
LAST = [210.0, 365.0, NAN, NAN]


def adrs(**changes: Any) -> pd.DataFrame:
    rows = [
        ("P1", "2014-12-20", "PD", "OVRLRESP"),
        ("P1", "2015-01-31", "CR", "OVRLRESP"),
        ("P1", "2015-07-30", "CRi", "OVRLRESP"),
        ("P1", "2015-10-28", "PD", "OVRLRESP"),
        ("P2", "2015-03-03", "CR", "OVRLRESP"),
        ("P2", "2016-02-01", "CR", "OVRLRESP"),
        ("P3", "2015-03-20", "PD", "OVRLRESP"),
        ("P4", "2015-08-01", "NE", "OVRLRESP"),
        ("P1", "2015-07-30", "PD", "INVRESP"),
    ]
    columns = ["USUBJID", "ADT", "AVALC", "PARAMCD"]
    return pd.DataFrame(rows, columns=columns).assign(**changes)


def visits(table: Any = None, **other: Any) -> bb.Visits:
    said: dict[str, Any] = {
        "patient": "USUBJID",
        "time": "ADT",
        "result": "AVALC",
        "negative": ["CR", "CRi"],
        "positive": ["PD"],
        "ignore": ["NE"],
    }
    return bb.Visits(adrs() if table is None else table, **said | other)


OVERALL = {"ADRS": {"PARAMCD": "OVRLRESP"}}


@pytest.mark.parametrize(("same_day", "later"), [("refuse", 0.0), ("end of day", 1.0)])
def test_evaluations_are_visits(same_day: Any, later: float) -> None:
    """At the time of their day at which follow-up ends."""
    cohort = read(
        ex=adex(),
        endpoints={"os": OS, "rfs": RFS},
        visits=visits(),
        filters=OVERALL,
        same_day=same_day,
    )
    outcome = cohort.endpoints["rfs"]
    np.testing.assert_array_equal(outcome.last_negative, np.array(LAST) + later)
    np.testing.assert_array_equal(outcome.time, np.array([300.0, 365.0, NAN, 365.0]) + later)
    rules = {repair.rule: repair.patients for repair in cohort.repairs}
    assert rules["ADRS rows whose PARAMCD is not OVRLRESP are left out (1 rows)"] == ("P1",)
    assert rules["visits before coming under observation for rfs say nothing of it"] == ("P1",)


def test_study_days_have_no_zero() -> None:
    """ADY of the same rows: P1 -12, 31, 211, 301; P2 31, 366; P3 20; P4 154; P1 211."""
    days = [-12, 31, 211, 301, 31, 366, 20, 154, 211]
    asked: dict[str, Any] = {"endpoints": {"os": OS, "rfs": RFS}, "filters": OVERALL}
    table = adrs(ADY=days).drop(columns="ADT")
    counted = visits(table, time="ADY", counted="study days")
    by_days, by_dates = (read(ex=adex(), visits=said, **asked) for said in (counted, visits()))
    np.testing.assert_array_equal(by_days.endpoints["rfs"].last_negative, LAST)
    assert [one.rule for one in by_days.repairs] == [one.rule for one in by_dates.repairs]
    for wrong in (0, 2.5):
        with pytest.raises(DataError, match="ADY: study days of 0, or with fractions"):
            read(
                ex=adex(),
                visits=visits(table.assign(ADY=wrong), time="ADY", counted="study days"),
                **asked,
            )
    with pytest.raises(SpecError, match="counted must be 'study days'"):
        visits(counted="days")


def test_evaluations_beside_aval_are_at_its_end() -> None:
    """AVAL counts the last day, in months of two digits here."""
    days = [361, 366, 31, 366, 271, 336, 306]
    table = adtte(AVAL=np.round(np.array(days) / 30.4375, 2), AVALU="MONTHS")
    rfs = bb.AdamEndpoint(paramcd="RFS", some_patients=True, recorded="visits")
    outcome = read(
        tte=table,
        ex=adex(),
        endpoints={"os": OS, "rfs": rfs},
        visits=visits(),
        filters=OVERALL,
        value="AVAL",
    ).endpoints["rfs"]
    last = outcome.last_negative
    assert last is not None
    np.testing.assert_array_equal(last[[0, 3]], [211.0, NAN])
    assert last[1] == outcome.time[1]


def test_adtte_may_name_the_last_evaluation_itself() -> None:
    column = [NAN] * 4 + ["2015-07-30", "2016-02-01", NAN]
    named = bb.AdamEndpoint(
        paramcd="RFS", some_patients=True, last_negative="LNEGDT", event_free_until="last_contact"
    )
    assert named.recorded == "visits"
    outcome = read(
        tte=adtte(LNEGDT=column), ex=adex(), endpoints={"os": OS, "rfs": named}
    ).endpoints["rfs"]
    np.testing.assert_array_equal(outcome.last_negative, LAST)
    np.testing.assert_array_equal(outcome.known_free, [210.0, 365.0, NAN, 365.0])
    with pytest.raises(DataError, match="LNEGDT: no such column"):
        read(ex=adex(), endpoints={"os": OS, "rfs": named})
    late = put(adtte(LNEGDT=column), 4, LNEGDT="2015-11-30")
    with pytest.raises(DataError, match="ADTTE RFS LNEGDT: a visit without the event after"):
        read(tte=late, ex=adex(), endpoints={"os": OS, "rfs": named})


def test_patients_who_are_left_out_have_no_visits() -> None:
    table = pd.concat(
        [adrs(), adrs().iloc[:1].assign(USUBJID="P9", ADT="2015-05-05", AVALC="what")]
    )
    people = pd.concat([adsl(), adsl().iloc[:1].assign(USUBJID="P9", SAFFL="N")])
    cohort = read(
        people,
        ex=adex(),
        endpoints={"os": OS, "rfs": RFS},
        visits=visits(table),
        filters=OVERALL,
        population="SAFFL",
    )
    np.testing.assert_array_equal(cohort.endpoints["rfs"].last_negative, LAST)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"visits": None}, "rfs: recorded='visits' needs to know since when"),
        ({"endpoints": {"os": OS}}, "no endpoint waits for them"),
        ({"visits": visits(patient="SUBJID")}, "know patients by USUBJID"),
        ({"filters": {"ADRX": {"PARAMCD": "OVRLRESP"}}}, "there are ADSL, ADTTE, ADEX and ADRS"),
    ],
)
def test_what_cannot_be_asked_of_evaluations(options: dict[str, Any], message: str) -> None:
    asked = {"endpoints": {"os": OS, "rfs": RFS}, "visits": visits(), "filters": OVERALL}
    with pytest.raises(SpecError, match=message):
        read(ex=adex(), **asked | options)
    with pytest.raises(SpecError, match="ADRS is read where visits"):
        read(ex=adex(), filters=OVERALL)


def test_contradictions_name_the_dataset() -> None:
    with pytest.raises(DataError, match=r"in ADRS:\n.*AVALC: positive results without"):
        read(ex=adex(), endpoints={"os": OS, "rfs": RFS}, visits=visits())


STUDY = """\
schema = 1

[adam]
adsl = "adsl.csv"
adtte = "adtte.csv"
adex = "adex.csv"
unit = "days"
phases = { consolidation = 3, maintenance = 6 }
filters = { ADRS = { PARAMCD = "OVRLRESP" } }

[adam.endpoints.os]
paramcd = "OS"

[adam.endpoints.rfs]
paramcd = "RFS"
some_patients = true
recorded = "visits"
includes = ["os"]
event_free_until = "last_contact"

[visits]
file = "adrs.csv"
patient = "USUBJID"
time = "ADT"
result = "AVALC"
negative = ["CR", "CRi"]
positive = ["PD"]
ignore = ["NE"]

[question]
exposed = "maintenance"
eligible_from = "consolidation"
starts_until = "found"
"""


def test_a_study_file_says_all_of_it(tmp_path: Path) -> None:
    for name, table in (("adsl", adsl()), ("adtte", adtte()), ("adex", adex()), ("adrs", adrs())):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    study = read_study(path)
    outcome = study.cohort().endpoints["rfs"]
    np.testing.assert_array_equal(outcome.last_negative, LAST)
    assert outcome.event_free_until == "last_contact"
    assert study.question().starts_until == "found"
    assert tmp_path / "adrs.csv" in study.files()
    for old, new, message in (
        ("[visits]", "[sensitivity]", "sensitivity"),
        ('recorded = "visits"\n', 'last_negative = "LNEGDT"\n', "visits: no endpoint waits"),
        ('recorded = "visits"\n', "", "visits: no endpoint waits for them"),
        ('recorded = "visits"', 'recorded = "exact"\nlast_negative = "x"', "leave one of them out"),
        ('"last_contact"', '"death"', "event_free_until"),
        ('"found"', '"ever"', "question.starts_until"),
        ('ignore = ["NE"]', 'leave_out = ["before"]', "visits.leave_out"),
    ):
        path.write_text(STUDY.replace(old, new))
        with pytest.raises(SpecError, match=message):
            read_study(path)
    path.write_text(STUDY[: STUDY.index("[visits]")] + STUDY[STUDY.index("[question]") :])
    with pytest.raises(SpecError, match=r"endpoints\.rfs: .*since when.*\[visits\]"):
        read_study(path)
