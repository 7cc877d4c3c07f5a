"""Tables of visits, by hand: since when events that were found at one may have happened."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.subsets import take_patients

NAN = np.nan

# a relapses at the visit of month 6 and remits again; b never relapses, seen at the end of it all;
# c dies at 12; d relapses before any visit without it; e is censored at 8 and relapses later, which
# nobody counts; f relapses at no visit; g is never under observation; h has no visit.
PEOPLE = pd.DataFrame(
    [
        ("a", 6.0, 1, 10.0, 1, 1.0, 2.0),
        ("b", 9.0, 0, 9.0, 0, 1.0, NAN),
        ("c", 12.0, 1, 12.0, 1, 1.0, 3.0),
        ("d", 5.0, 1, 6.0, 0, 1.0, NAN),
        ("e", 8.0, 0, 9.0, 0, 1.0, NAN),
        ("f", 7.0, 1, 9.0, 0, 1.0, NAN),
        ("g", NAN, 0, 9.0, 0, NAN, NAN),
        ("h", 4.0, 0, 9.0, 0, 2.0, NAN),
    ],
    columns=["id", "rfs", "failed", "os", "died", "remission", "maintenance"],
)
VISITS = pd.DataFrame(
    [
        ("a", 0.5, "relapse"),  # the leukaemia before it remits
        ("a", 1.0, "CR"),
        ("a", 3.0, "CR"),
        ("a", 6.0, "relapse"),
        ("a", 8.0, "CRi"),
        ("b", 3.0, "CR"),
        ("b", 9.0, "CRi"),
        ("c", 3.0, "CR"),
        ("c", 11.0, "CR"),
        ("c", 11.5, "not evaluable"),
        ("d", 5.0, "relapse"),
        ("e", 4.0, "CR"),
        ("e", 8.5, "relapse"),
        ("f", 3.0, "CR"),
        ("g", 3.0, "relapse"),
    ],
    columns=["id", "month", "result"],
)
LAST = [3.0, 9.0, 12.0, NAN, 4.0, 3.0, NAN, NAN]


def visits(table: Any = VISITS, **other: Any) -> bb.Visits:
    said: dict[str, Any] = {
        "patient": "id",
        "time": "month",
        "result": "result",
        "negative": ["CR", "CRi"],
        "positive": ["relapse"],
        "ignore": ["not evaluable"],
    }
    return bb.Visits(table, **said | other)


def read(table: Any = VISITS, people: Any = PEOPLE, **other: Any) -> Cohort:
    rfs = bb.Endpoint(
        time="rfs", event="failed", entry="remission", recorded="visits", includes=["os"]
    )
    return bb.read_cohort(
        people,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="os", event="died"), "rfs": rfs},
        phases=bb.Phases(maintenance="maintenance"),
        visits=visits(table, **other),
    )


def more(*rows: tuple[str, float, str]) -> pd.DataFrame:
    return pd.concat([VISITS, pd.DataFrame(list(rows), columns=VISITS.columns)])


def told(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    return {repair.rule: repair.patients for repair in cohort.repairs}


def test_a_table_of_visits_says_since_when() -> None:
    cohort = read(VISITS.sample(frac=1.0, random_state=1))
    outcome = cohort.endpoints["rfs"]
    assert outcome.last_negative is not None
    np.testing.assert_array_equal(outcome.last_negative, LAST)
    assert cohort.endpoints["os"].last_negative is None
    assert told(cohort) == {
        "visits with a result that says nothing of the event were left out, as declared": ("c",),
        "visits before coming under observation for rfs say nothing of it": ("a",),
        "visits after the event of rfs say nothing of it": ("a",),
        "visits after the end of follow-up for rfs say nothing of it": ("e",),
        "events of rfs at no positive visit count as found at one; are they deaths, which "
        "includes would make exact?": ("f",),
    }
    lines = {
        line.what: line.patients
        for line in cohort.account().lines
        if line.step == "recorded" and line.endpoint == "rfs"
    }
    assert lines == {
        "events found at visits: at some time since the last one without the event": ("a", "f"),
        "events found at the first visit: at some time since coming under observation": ("d",),
        "exact event times among events found at visits, as of deaths": ("c",),
        "event-free: followed up until the last visit without the event, and for the share of the "
        "time since that exact events have among all": ("b", "e", "h"),
    }


def test_a_column_of_its_own_says_the_same() -> None:
    """And that of an endpoint beside it is left alone."""
    both = PEOPLE.assign(last=LAST, pfs=PEOPLE["rfs"], progressed=PEOPLE["failed"])
    shared: dict[str, Any] = {"entry": "remission", "includes": ["os"]}
    pfs: dict[str, Any] = {"recorded": "visits", "event_free_until": "last_contact"}
    cohort = bb.read_cohort(
        both,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died"),
            "rfs": bb.Endpoint(time="rfs", event="failed", last_negative="last", **shared),
            "pfs": bb.Endpoint(time="pfs", event="progressed", **pfs, **shared),
        },
        phases=bb.Phases(maintenance="maintenance"),
        visits=visits(),
    )
    assert told(cohort) != {}
    for name in ("rfs", "pfs"):
        np.testing.assert_array_equal(cohort.endpoints[name].last_negative, LAST)
    np.testing.assert_array_equal(
        cohort.endpoints["rfs"].known_free, [3.0, 9.0, 12.0, -np.inf, 4.0, 3.0, NAN, -np.inf]
    )
    np.testing.assert_array_equal(
        cohort.endpoints["pfs"].known_free, [3.0, 9.0, 12.0, -np.inf, 8.0, 3.0, NAN, 4.0]
    )


@pytest.mark.parametrize("starts_until", ["found", "event"])
def test_parts_of_a_cohort_keep_what_is_known(starts_until: Any) -> None:
    """a and d have the event in (3, 6] and (1, 5]; all of c and b is exact."""
    cohort = read()
    some = take_patients(cohort, np.array([0, 1, 2, 3]))
    np.testing.assert_array_equal(some.endpoints["rfs"].last_negative, LAST[:4])
    question = bb.Question(
        exposed="maintenance",
        eligible_from="entry",
        endpoints=("rfs",),
        starts_until=starts_until,
    )
    person_time = bb.person_time(some, question, cuts=[4.0])
    found = person_time.visits
    assert found is not None
    # By cell of interval and state: from 3 on in maintenance, from 1 on before it.
    parts = zip(found["part_cell"].values, found["part_length"].values, strict=True)
    assert list(parts) == [(1, 1.0), (3, 2.0), (0, 3.0), (2, 1.0)]
    exact = found["person_time"].values[0].sum(axis=-1)
    np.testing.assert_allclose(exact, [[1.0 + 3.0 + 2.0, 1.0 + 1.0], [5.0, 8.0]])
    np.testing.assert_array_equal(found["events"].values[0].sum(axis=-1), [[0, 0], [0, 1]])


@pytest.mark.parametrize(
    ("row", "column", "found", "patient"),
    [
        (("a", 4.0, "relapse"), "result", "positive results without an event of rfs", "a"),
        (("b", 9.0, "relapse"), "result", "positive results without an event of rfs", "b"),
        (("b", 4.0, "relapse"), "result", "positive results without an event of rfs", "b"),
        (("c", 5.0, "relapse"), "result", "positive results without an event of rfs", "c"),
        (("a", 6.0, "CR"), "result", "a positive and a negative result at one time", "a"),
        (("f", 7.0, "CR"), "result", "negative results at the time of the event of rfs", "f"),
        (("b", 10.0, "CR"), "result", "visits after the end of all follow-up", "b"),
        (("c", 13.0, "relapse"), "result", "visits after the end of all follow-up", "c"),
        (("z", 1.0, "CR"), "id", "patients who are not in the cohort", "z"),
        (("", 1.0, "CR"), "id", "missing ids", ""),
        (("b", 4.0, "bad"), "result", "results of which nothing is said ('aaa')", "b"),
        (("b", 4.0, ""), "result", "results of which nothing is said ('')", "b"),
        (("b", NAN, "CR"), "month", "missing or infinite times of visits", "b"),
        (("b", np.inf, "CR"), "month", "missing or infinite times of visits", "b"),
    ],
)
def test_what_contradicts_is_refused(
    row: tuple[str, float, str], column: str, found: str, patient: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(more(row))
    (problem,) = caught.value.problems
    assert (problem.column, problem.patients) == (column, (patient,))
    assert found in str(caught.value)
    assert problem.rows[-1] == len(VISITS) + 1


@pytest.mark.parametrize("result", ["CR", "relapse"])
def test_a_visit_on_the_day_of_death_says_nothing_of_it(result: str) -> None:
    cohort = read(more(("c", 12.0, result)))
    np.testing.assert_array_equal(cohort.endpoints["rfs"].last_negative, LAST)
    assert told(cohort) == told(read())


def test_all_problems_of_visits_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "marrow.csv"
    more(("z", 1.0, "CR"), ("a", 4.0, "relapse"), ("b", 10.0, "CR")).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"3 problems in marrow\.csv"):
        read(path)


def test_what_may_be_left_out_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "marrow.csv"
    more(("z", 1.0, "CR"), ("b", 10.0, "relapse"), ("b", NAN, "not evaluable")).to_csv(
        path, index=False
    )
    cohort = read(path, leave_out=["strangers", "after"])
    np.testing.assert_array_equal(cohort.endpoints["rfs"].last_negative, LAST)
    rules = told(cohort)
    assert rules["visits of patients who are not in the cohort were left out"] == ("z",)
    assert rules["visits after the end of all follow-up were left out"] == ("b",)
    assert list(cohort.file_hashes) == ["marrow.csv (visits)"]
    ignored = "visits with a result that says nothing of the event were left out, as declared"
    assert rules[ignored] == ("c", "b")


def test_times_that_are_one_day_are_one() -> None:
    """In single precision 9.1 months is another number, after the end of follow-up."""
    people = PEOPLE.assign(
        rfs=PEOPLE["rfs"].replace({9.0: 9.1, 6.0: 6.1}), os=PEOPLE["os"].replace({9.0: 9.1})
    )
    table = VISITS.assign(month=VISITS["month"].replace({9.0: 9.1, 6.0: 6.1}).astype(np.float32))
    cohort = read(table, people)
    expected = np.array(LAST)
    expected[1] = 9.1
    last = cohort.endpoints["rfs"].last_negative
    assert last is not None
    np.testing.assert_allclose(last, expected, rtol=1e-6)
    assert last[1] == 9.1
    nearly = read(pd.DataFrame([("d", 1.0 - 1e-5, "CR")], columns=VISITS.columns))
    last = nearly.endpoints["rfs"].last_negative
    assert last is not None
    assert last[3] == 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"negative": "CR"}, "negative must list texts"),
        ({"ignore": [1]}, "ignore must list texts"),
        ({"negative": []}, "need results without the event"),
        ({"positive": ()}, r"with it \(positive"),
        ({"ignore": ["CR"]}, "'CR' stands twice"),
        ({"leave_out": ["late"]}, "leave_out must list some of strangers, after"),
        ({"leave_out": "after"}, "leave_out must list"),
    ],
)
def test_what_cannot_be_said_of_visits(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        visits(**wrong)


def test_visits_and_endpoints_need_each_other() -> None:
    """Before the table is read: there is none here."""
    columns: dict[str, Any] = {"patient": "id", "unit": "months", "phases": bb.Phases(m="m")}
    readers: list[tuple[Any, Any, dict[str, Any], dict[str, Any]]] = [
        (bb.read_cohort, bb.Endpoint, {"time": "rfs"}, columns),
        (bb.read_dated_cohort, bb.DatedEndpoint, {"date": "rfs"}, {**columns, "origin": "first"}),
    ]
    for kind, name, said, options in readers:
        said["event"] = "failed"
        for wrong, table, message in (
            (name(**said, recorded="visits"), None, "needs to know since when"),
            (name(**said), visits(), "no endpoint waits for them"),
            (name(**said, last_negative="last"), visits(), "no endpoint waits for them"),
            (name(**said, recorded="visits"), VISITS, "must be Visits"),
        ):
            with pytest.raises(SpecError, match=message):
                kind("no such file.csv", endpoints={"rfs": wrong}, visits=table, **options)
    with pytest.raises(SpecError, match="study days count from a date, and these patients have"):
        read(counted="study days")
    with pytest.raises(DataError, match="month: no such column"):
        read(VISITS.rename(columns={"month": "day"}))
    with pytest.raises(SpecError, match="'id' is declared as visit's patient and as visit's time"):
        read(time="id")


def test_patients_in_an_engine_are_refused() -> None:
    with pytest.raises(SpecError, match="need patients in memory: read them with read_cohort"):
        bb.scan_cohort(
            PEOPLE.assign(last=LAST),
            patient="id",
            unit="months",
            endpoints={"rfs": bb.Endpoint(time="rfs", event="failed", last_negative="last")},
            phases=bb.Phases(maintenance="maintenance"),
        )


def dated(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Turn months, which are days here, into dates."""
    days = pd.Timestamp("2015-01-01") + pd.to_timedelta(table[column], unit="D")
    return table.assign(**{column: days.dt.strftime("%Y-%m-%d")})


def read_dates(
    table: pd.DataFrame | None = VISITS,
    people: pd.DataFrame = PEOPLE,
    includes: Any = ("os",),
    **other: Any,
) -> Cohort:
    for column in ("rfs", "os", "remission", "maintenance", "last"):
        if column in people and people[column].dtype == float:
            people = dated(people, column)
    own: dict[str, Any] = {"recorded": "visits"}
    if table is None:
        own = {"last_negative": "last"}
    if table is not None and not isinstance(table["month"].iloc[0], str):
        table = dated(table, "month")
    return bb.read_dated_cohort(
        people.assign(first="2015-01-01"),
        patient="id",
        origin="first",
        unit="days",
        endpoints={
            "os": bb.DatedEndpoint(date="os", event="died"),
            "rfs": bb.DatedEndpoint(
                date="rfs", event="failed", origin="remission", includes=includes, **own
            ),
        },
        phases=bb.Phases(maintenance="maintenance"),
        visits=None if table is None else visits(table),
        **other,
    )


WHOLE = VISITS[~VISITS["month"].isin([0.5, 8.5, 11.5])]


@pytest.mark.parametrize("same_day", ["refuse", "half day", "end of day"])
def test_dates_of_visits_are_at_the_time_at_which_follow_up_ends(same_day: Any) -> None:
    later = 1.0 * (same_day == "end of day")
    for cohort in (
        read_dates(WHOLE, same_day=same_day),
        read_dates(None, PEOPLE.assign(last=LAST), same_day=same_day),
    ):
        outcome = cohort.endpoints["rfs"]
        np.testing.assert_array_equal(outcome.last_negative, np.array(LAST) + later)
        np.testing.assert_array_equal(outcome.time, PEOPLE["rfs"] + later)
        assert outcome.recorded == "visits"


def test_a_visit_on_the_only_day_is_at_its_end() -> None:
    """Whose follow-up lasts half a day is event-free, or has the event, at its end."""
    people = PEOPLE.iloc[[0, 1, 4, 5, 7]].assign(remission=[6.0, 9.0, 1.0, 1.0, 2.0])
    table = VISITS[VISITS["id"].isin(people["id"]) & ~VISITS["month"].isin([0.5, 8.5])]
    outcome = read_dates(table, people, includes=(), same_day="half day").endpoints["rfs"]
    np.testing.assert_array_equal(outcome.last_negative, [NAN, 9.5, 4.0, 3.0, NAN])
    np.testing.assert_array_equal(outcome.time, [6.5, 9.5, 8.0, 7.0, 4.0])


def test_partial_dates_of_visits_stay_before_the_event() -> None:
    """A day later it would make the event exact, or contradict it."""
    rule = bb.Repairs(partial_dates="last")
    table = dated(WHOLE, "month")
    table.loc[table.index[1], "month"] = "2015-01"  # a's at day 3; the event is at day 6
    found = read_dates(table, repairs=rule).endpoints["rfs"].last_negative
    assert found is not None
    assert found[0] == 5.0
    people = dated(PEOPLE.assign(last=LAST), "last")
    people.loc[0, "last"] = "2015-01"
    found = read_dates(None, people, repairs=rule).endpoints["rfs"].last_negative
    assert found is not None
    assert found[0] == 5.0


def test_rows_of_courses_come_back_as_they_went() -> None:
    cohort = read()
    rows = cohort.to_counting_process()
    assert rows.columns[-1] == "last_negative"
    assert rows.loc[rows["endpoint"] == "os", "last_negative"].isna().all()
    options: dict[str, Any] = {
        "patient": "patient",
        "start": "start",
        "stop": "stop",
        "event": "event",
        "phase": "phase",
        "phases": ["maintenance"],
        "unit": "months",
        "endpoint": "endpoint",
        "includes": {"rfs": ["os"]},
    }
    again = bb.read_counting_process(rows, last_negative={"rfs": "last_negative"}, **options)
    assert again.endpoints["rfs"].recorded == "visits"
    np.testing.assert_array_equal(again.endpoints["rfs"].last_negative, LAST)
    pd.testing.assert_frame_equal(again.to_counting_process(), rows)
    from_visits = bb.read_counting_process(
        rows.drop(columns="last_negative"),
        recorded={"rfs": "visits"},
        event_free_until={"rfs": "last_contact"},
        visits=visits(),
        **options,
    )
    np.testing.assert_array_equal(from_visits.endpoints["rfs"].last_negative, LAST)
    assert from_visits.endpoints["rfs"].event_free_until == "last_contact"
    assert told(from_visits) == told(cohort)
    rows.loc[(rows["patient"] == "a") & (rows["start"] > 1), "last_negative"] = 2.0
    with pytest.raises(DataError, match="last_negative: values that change within a patient"):
        bb.read_counting_process(rows, last_negative={"rfs": "last_negative"}, **options)
    for wrong, message in (
        ({"last_negative": "last_negative"}, "must map endpoints to columns"),
        ({"last_negative": {"rsf": "last_negative"}}, "last_negative: no endpoint 'rsf'"),
        ({"event_free_until": {"rsf": "last_contact"}}, "event_free_until: no endpoint 'rsf'"),
        ({"recorded": {"rfs": "visits"}}, "needs to know since when"),
        ({"recorded": "exact", "last_negative": {"rfs": "last_negative"}}, "leave one of them"),
        ({"visits": visits()}, "no endpoint waits"),
    ):
        with pytest.raises(SpecError, match=message):
            bb.read_counting_process(rows, **options, **wrong)


def by_loops(row: Any, table: pd.DataFrame) -> float:
    """Take one patient's last visit without the event, visit by visit."""
    latest = NAN
    for visit in table[table["id"] == row.id].sort_values("month").itertuples():
        if visit.result != "CR" or visit.month < row.remission or visit.month > row.rfs:
            continue
        if row.failed and visit.month == row.rfs:
            continue
        latest = visit.month
    return row.rfs if row.failed and row.died and row.os == row.rfs else latest


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_visits_by_loops(data: st.DataObject) -> None:
    """Whole months; each patient's course is drawn first, and visits say what it says."""
    people, table = [], []
    for number in range(data.draw(st.integers(1, 4))):  # five of 0 and 1 are a flag
        entry, failed, died = (
            data.draw(st.integers(0, 4)),
            *data.draw(st.tuples(*[st.booleans()] * 2)),
        )
        rfs = data.draw(st.integers(entry + 1, 12))
        os = data.draw(st.integers(rfs, 14))
        failed |= died  # whoever is event-free dies of nothing that rfs would not count
        people.append(
            (f"P{number}", float(rfs), int(failed), float(os), int(died), float(entry), NAN)
        )
        exact = failed and died and os == rfs
        for month in data.draw(st.sets(st.integers(0, os), max_size=8)):
            # From the event on anything may be found, but at the event itself.
            free = entry <= month < rfs or (month == rfs and (exact or not failed))
            after = "relapse" if month == rfs else data.draw(st.sampled_from(["CR", "relapse"]))
            table.append((f"P{number}", float(month), "CR" if free else after))
    frame = pd.DataFrame(people, columns=PEOPLE.columns)
    rows = pd.DataFrame(table, columns=VISITS.columns)
    rows = rows.astype({"id": str, "month": float, "result": str})
    outcome = read(rows, frame).endpoints["rfs"]
    np.testing.assert_array_equal(
        outcome.last_negative, [by_loops(row, rows) for row in frame.itertuples()]
    )
