"""Dates to times, by hand: what a day is, when it starts, and what is no date."""

import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort

NAN = np.nan
NEVER_STARTED = "maintenance ends before it starts, or without having started"
ENDPOINTS = {
    "os": bb.DatedEndpoint(date="last_seen", event="died"),
    "rfs": bb.DatedEndpoint(date="relapse", event="failed", origin="remission"),
}
PHASES = bb.Phases(consolidation="cons", maintenance=bb.Phase(start="main_start", end="main_end"))
DATES = ("first_dose", "last_seen", "relapse", "remission", "cons", "main_start", "main_end", "sct")


def patients(**changes: Any) -> pd.DataFrame:
    """Days from the first dose. a: remission 31, consolidation 59, maintenance 90 to 120, relapse
    151, death 181. b: remission and transplant 29, last seen 366 (a leap year). c: death 1.
    """
    return pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "first_dose": ["2015-01-01", "2016-02-01", "2015-12-31"],
            "last_seen": ["2015-07-01", "2017-02-01", "2016-01-01"],
            "died": [1, 0, 1],
            "relapse": ["2015-06-01", "2017-02-01", ""],
            "failed": [1, 0, None],
            "remission": ["2015-02-01", "2016-03-01", None],
            "cons": ["2015-03-01", "", None],
            "main_start": ["2015-04-01", None, None],
            "main_end": ["2015-05-01", None, None],
            "sct": [None, "2016-03-01", None],
        }
    ).assign(**changes)


def read(table: Any = None, **options: Any) -> Cohort:
    options = {
        "patient": "id",
        "origin": "first_dose",
        "unit": "days",
        "endpoints": ENDPOINTS,
        "phases": PHASES,
        "transplant": "sct",
        **options,
    }
    return bb.read_dated_cohort(patients() if table is None else table, **options)


def problems_of(table: Any, **options: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    with pytest.raises(DataError) as caught:
        read(table, **options)
    return [(item.column, item.found, item.patients) for item in caught.value.problems]


def cell(column: str, patient: str, value: Any) -> pd.DataFrame:
    table = patients().astype({column: object})
    table.loc[table["id"] == patient, column] = value
    return table


def assert_days(cohort: Cohort, days: float = 1.0) -> None:
    """Check all times against those counted by hand, in units of so many days."""
    os, rfs = cohort.endpoints["os"], cohort.endpoints["rfs"]
    assert cohort.transplant is not None
    for found, expected in (
        (os.time, [181, 366, 1]),
        (os.entry, [0, 0, 0]),
        (rfs.time, [151, 366, NAN]),
        (rfs.entry, [31, 29, NAN]),
        (cohort.phase_start, [[59, 90], [NAN, NAN], [NAN, NAN]]),
        (cohort.phase_end, [[NAN, 120], [NAN, NAN], [NAN, NAN]]),
        (cohort.transplant, [NAN, 29, NAN]),
    ):
        np.testing.assert_allclose(found, np.array(expected) / days, rtol=1e-15)
    assert os.event.tolist() == [True, False, True]
    assert rfs.event.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("unit", "days"), [("days", 1), ("weeks", 7), ("months", 30.4375), ("years", 365.25)]
)
def test_units(unit: str, days: float) -> None:
    cohort = read(unit=unit)
    assert_days(cohort, days)
    assert cohort.unit == unit
    assert cohort.phase_ends_known
    assert cohort.repairs == ()


def test_no_entry_no_end_no_transplant() -> None:
    cohort = read(
        endpoints=ENDPOINTS["os"], phases=bb.Phases(consolidation="cons"), transplant=None
    )
    assert list(cohort.endpoints) == ["survival"]
    assert (cohort.phase_ends_known, cohort.transplant) == (False, None)


# What dates may look like.


def stamps(table: pd.DataFrame, **more: Any) -> pd.DataFrame:
    """The same dates as pandas timestamps."""
    return table.assign(**{name: pd.to_datetime(table[name], **more) for name in DATES})


def python(table: pd.DataFrame, kind: Any) -> pd.DataFrame:
    def convert(value: Any) -> Any:
        return kind(*map(int, value.split("-"))) if value else None

    made = {name: pd.Series([convert(v) for v in table[name]], dtype=object) for name in DATES}
    return table.assign(**made)


def at_night(table: pd.DataFrame, zone: str) -> pd.DataFrame:
    """Half an hour after or before midnight, of a zone: the day is the local one."""
    moments = {"first_dose": " 00:30", "last_seen": " 23:30"}
    shifted = table.assign(**{name: table[name] + text for name, text in moments.items()})
    out = stamps(shifted)
    return out.assign(**{name: out[name].dt.tz_localize(zone) for name in moments})


@pytest.mark.parametrize(
    "table",
    [
        patients(),
        patients().map(lambda value: f" {value} " if isinstance(value, str) else value),
        patients(last_seen=["2015-07-01T23:59:59.9", "2017-02-01 00:00", "2016-01-01T12:00Z"]),
        patients(first_dose=pd.Categorical(patients()["first_dose"])),
        stamps(patients()),
        at_night(patients(), "America/New_York"),
        at_night(patients(), "Asia/Tokyo"),
        python(patients(), datetime.date),
        python(patients(), datetime.datetime),
        python(patients(), pd.Timestamp),
        pl.DataFrame(python(patients(), datetime.date).to_dict("list")),
        stamps(patients()).astype(dict.fromkeys(DATES, "timestamp[us][pyarrow]")),
        python(patients(), datetime.date).astype(dict.fromkeys(DATES, "date32[pyarrow]")),
    ],
    ids=["ISO", "blanks", "hours", "categories", "timestamps", "west", "east", "dates",
         "datetimes", "objects", "polars", "arrow timestamps", "arrow dates"],
)  # fmt: skip
def test_clothes_of_dates(table: Any) -> None:
    assert_days(read(table))


@pytest.mark.parametrize(
    "text",
    [
        "31/03/2015",
        "03/31/2015",
        "31-03-2015",
        "2015/03/31",
        "20150331",
        "31.03.2015",
        "31MAR2015",
        "2015-3-31",
        "15-03-31",
        "March 2015",
        "UNK",
        "2015-02-29",
        "2015-03-32",
        "2015-00-01",
        "٢٠١٥-٠٣-٣١",
    ],
)
@pytest.mark.parametrize("rule", ["refuse", "middle"])
def test_other_texts_are_no_dates(text: str, rule: Any) -> None:
    """Day or month first is never guessed."""
    found = problems_of(cell("cons", "a", text), repairs=bb.Repairs(partial_dates=rule))
    assert found == [("cons", f"values that are not dates ({text[:20]!r})", ("a",))]


def test_the_last_days_of_february_exist_in_leap_years_only() -> None:
    assert read(cell("last_seen", "b", "2020-02-29")).endpoints["os"].time[1] == 4 * 365 + 1 + 28
    for year in (2017, 2100 - 200):
        found = problems_of(cell("last_seen", "b", f"{year}-02-29"))
        assert found[0] == ("last_seen", f"values that are not dates ('{year}-02-29')", ("b",))


@pytest.mark.parametrize(
    "values", [[16525, 16800, 16802], [20150331.0, 2.0, 3.0], [True, False, True]]
)
def test_numbers_are_no_dates(values: list[Any]) -> None:
    found = problems_of(patients(last_seen=values), endpoints={"os": ENDPOINTS["os"]})
    assert found == [("last_seen", "numbers where dates were expected", ("a", "b", "c"))]


def test_a_column_without_any_date_may_have_any_type() -> None:
    cohort = read(patients(cons=NAN, sct=pd.Series([None] * 3, dtype="Int64")))
    assert np.isnan(cohort.phase_start[:, 0]).all()


@pytest.mark.parametrize("date", ["9999-12-31", "1899-12-31", "2100-01-01", "1111-11-11"])
@pytest.mark.parametrize("column", ["main_end", "last_seen"])
def test_placeholders(date: str, column: str) -> None:
    year, month, day = map(int, date.split("-"))
    as_object = cell(column, "a", datetime.date(year, month, day))
    for table in (cell(column, "a", date), as_object):
        found = problems_of(table)
        assert found[0] == (column, "dates before 1900 or after 2099", ("a",))


def test_a_column_with_two_roles_is_reported_once() -> None:
    """Consolidation starts with remission here."""
    table = cell("remission", "a", "2015-02")
    found = problems_of(table, phases=bb.Phases(consolidation="remission"))
    assert found == [("remission", "partial dates ('2015-02')", ("a",))]


# Order of dates.


def test_missing_origin() -> None:
    for value in (None, "", pd.NaT):
        found = problems_of(cell("first_dose", "b", value))
        assert found[0] == ("first_dose", "missing dates of origin", ("b",))
        assert {who for _, _, who in found} == {("b",)}


@pytest.mark.parametrize(
    ("column", "patient", "date", "found"),
    [
        ("last_seen", "b", "2016-01-31", "negative or infinite times"),
        ("remission", "b", "2016-01-31", "negative or infinite entry times"),
        ("remission", "b", "2017-02-01", "entry at or after the end of follow-up for rfs"),
        ("remission", "b", "2017-02-02", "entry at or after the end of follow-up for rfs"),
        ("cons", "a", "2014-12-31", "negative or infinite starts"),
        ("cons", "a", "2015-07-02", "consolidation starts after the end of follow-up"),
        ("main_end", "a", "2015-03-31", NEVER_STARTED),
        ("main_end", "b", "2016-03-31", NEVER_STARTED),
        ("main_start", "a", "2015-02-28", "maintenance starts before consolidation"),
        ("sct", "b", "2016-01-31", "negative or infinite times"),
        ("sct", "b", "2017-02-02", "transplant after the end of follow-up"),
    ],
)  # fmt: skip
def test_impossible_orders(column: str, patient: str, date: str, found: str) -> None:
    assert (column, found, (patient,)) in problems_of(cell(column, patient, date))


# The day on which follow-up starts.


def one_day() -> pd.DataFrame:
    """c dies on the day of the first dose; b's relapse is on the day of remission."""
    table = cell("last_seen", "c", "2015-12-31")
    table.loc[1, "relapse"] = "2016-03-01"
    return table


def test_same_day_is_refused() -> None:
    found = problems_of(one_day())
    assert [(column, who) for column, _, who in found] == [
        ("last_seen", ("c",)),
        ("remission", ("b",)),
    ]
    assert found[0][1] == "times of 0: nobody is at risk at the origin itself"


@pytest.mark.parametrize(("unit", "days"), [("days", 1), ("months", 30.4375)])
def test_half_a_day(unit: str, days: float) -> None:
    cohort = read(one_day(), same_day="half day", unit=unit)
    os, rfs = cohort.endpoints["os"], cohort.endpoints["rfs"]
    np.testing.assert_allclose(os.time * days, [181, 366, 0.5])
    np.testing.assert_allclose(rfs.time * days, [151, 29.5, NAN])
    np.testing.assert_allclose(rfs.entry * days, [31, 29, NAN])
    (repair,) = cohort.repairs
    assert (repair.rule, repair.patients) == (
        "follow-up that ended on its first day lasts half a day",
        ("b", "c"),
    )
    assert cohort.account().patients(step="repaired") == ("b", "c")
    # Nobody needs it: nothing is changed, and that is said.
    assert_days(read(same_day="half day"))
    assert [one.count for one in read(same_day="half day").repairs] == [0]


def test_end_of_day() -> None:
    """Follow-up ends one day later; entries, phases and transplants start as before."""
    cohort = read(one_day(), same_day="end of day")
    os, rfs = cohort.endpoints["os"], cohort.endpoints["rfs"]
    np.testing.assert_array_equal(os.time, [182, 367, 1])
    np.testing.assert_array_equal(os.entry, 0)
    np.testing.assert_array_equal(rfs.time, [152, 30, NAN])
    np.testing.assert_array_equal(rfs.entry, [31, 29, NAN])
    assert cohort.phase_start[0].tolist() == [59, 90]
    assert cohort.transplant is not None
    assert cohort.transplant[1] == 29
    assert cohort.repairs == ()


@pytest.mark.parametrize(
    ("same_day", "rows"),
    [
        ("refuse", [[0, 181, 1, "before consolidation"]]),
        ("half day", [[0, 181, 1, "before consolidation"]]),
        ("end of day", [[0, 181, 0, "before consolidation"], [181, 182, 1, "consolidation"]]),
    ],
)
def test_a_phase_that_starts_on_the_day_of_death(same_day: Any, rows: list[Any]) -> None:
    table = patients(cons=["2015-07-01", "", ""], main_start=None, main_end=None)
    found = read(table, same_day=same_day).to_counting_process(endpoint="os")
    mine = found[found["patient"] == "a"][["start", "stop", "event", "phase"]]
    assert mine.to_numpy().tolist() == rows


@pytest.mark.parametrize("same_day", ["refuse", "half day", "end of day"])
def test_who_is_treated_until_death_dies_on_treatment(same_day: Any) -> None:
    """A phase ends as follow-up does; where another starts on its last day it ends there."""
    both = bb.Phases(
        consolidation=bb.Phase(start="cons", end="cons_end"),
        maintenance=bb.Phase(start="main_start", end="main_end"),
    )
    table = patients(cons_end=["2015-04-01", None, None], main_end=["2015-07-01", None, None])
    cohort = read(table, phases=both, same_day=same_day)
    later = float(same_day == "end of day")
    assert cohort.phase_end[0].tolist() == [90.0, 181.0 + later]
    question = bb.Question(
        exposed="maintenance", eligible_from="entry", phase_end="current", transplant="ignore"
    )
    assert float(bb.mantel_byar(cohort, question)["observed"].sel(endpoint="os")) == 1
    # c starts, ends and dies on the first day of all.
    if same_day != "refuse":
        table = one_day().astype({"main_start": object, "main_end": object})
        table.loc[2, ["main_start", "main_end"]] = "2015-12-31"
        cohort = read(table, same_day=same_day)
        assert cohort.phase_end[2, 1] == cohort.endpoints["os"].time[2] > 0


def test_follow_up_before_its_start_is_not_lengthened() -> None:
    table = cell("last_seen", "c", "2015-12-30")
    for same_day in ("refuse", "half day", "end of day"):
        found = problems_of(table, same_day=same_day)
        assert [(column, who) for column, _, who in found] == [("last_seen", ("c",))]


def test_partial_dates_by_rule() -> None:
    """Of 2016-03 and 2017; a date of which all is known stays."""
    table = cell("remission", "b", "2016-03").assign(last_seen=["2015-07-01", "2018", "2016-01-01"])
    assert problems_of(table) == [
        ("last_seen", "partial dates ('2018')", ("b",)),
        ("remission", "partial dates ('2016-03')", ("b",)),
    ]
    years = 29 + 306 + 365  # 2018-01-01
    for rule, entry, last in (
        ("first", 29, years),
        ("middle", 29 + 14, years + 181),
        ("last", 29 + 30, years + 364),
    ):
        cohort = read(table, repairs=bb.Repairs(partial_dates=rule))  # type: ignore[arg-type]
        assert cohort.endpoints["rfs"].entry[1] == entry
        assert cohort.endpoints["os"].time.tolist() == [181, last, 1]
        assert [(one.patients, one.count) for one in cohort.repairs] == [(("b",), 1)]
    with pytest.raises(SpecError, match="partial_dates must be 'refuse', 'first', 'middle' or"):
        bb.Repairs(partial_dates="random")  # type: ignore[arg-type]


def test_all_problems_at_once() -> None:
    table = cell("first_dose", "c", "").assign(
        last_seen=["2015-07-01", "1/2/2017", "2016-01-01"],
        died=[1, 2, 1],
        cons=["9999-12-31", "", ""],
        sct=["", "2015", ""],
    )
    assert {(column, who) for column, _, who in problems_of(table)} == {
        ("first_dose", ("c",)),
        ("last_seen", ("b",)),
        ("died", ("b",)),
        ("cons", ("a",)),
        ("sct", ("b",)),
        ("main_start", ("a",)),
    }


def test_missing_columns() -> None:
    table = patients().drop(columns=["first_dose", "remission", "main_end", "sct"])
    assert [column for column, _, _ in problems_of(table)] == [
        "first_dose",
        "remission",
        "main_end",
        "sct",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"same_day": "half"}, "same_day must be 'refuse', 'half day' or 'end of day', got 'half'"),
        ({"unit": "moons"}, "unit must be one of days, weeks, months, years, got 'moons'"),
        ({"endpoints": bb.Endpoint(time="last_seen", event="died")}, "must be a DatedEndpoint"),
        ({"phases": {"cons": "cons"}}, "phases must be a Phases value"),
        ({"covariates": "died"}, "covariates must be a list of columns"),
    ],
)
def test_impossible_calls(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(**options)
