"""Follow-up cut at calendar dates, against R and against a count of every day."""

from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.core.masking import mask_account
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.rules import DAYS_PER_UNIT
from bayesblina.person_time.cells import PersonTime
from tests.paths import DATA
from tests.person_time.counts import many
from tests.person_time.patients import DECLARED
from tests.person_time.patients import table as every_kind

CUTS = ("2012-01-01", "2016-01-01")
CALENDAR = bb.Calendar(origin="origin", cuts=CUTS)
QUESTION = bb.Question(exposed="phase", eligible_from="entry")
PATIENTS: dict[str, Any] = {
    "patient": "id",
    "unit": "days",
    "endpoints": {"os": bb.Endpoint(time="days", event="died")},
    "phases": bb.Phases(phase="start"),
}


def made_up(**changes: Any) -> pd.DataFrame:
    return pd.read_csv(DATA / "calendar.csv").assign(**changes)


def read(table: pd.DataFrame, **options: Any) -> Cohort:
    return bb.read_cohort(table, **{**PATIENTS, "calendar": CALENDAR, **options})


def by_period(person_time: PersonTime, name: str, periods: int) -> Any:
    """Sums over (endpoint, interval, phase, period)."""
    table = person_time.table
    terms = [str(term) for term in table["term"].values]
    levels = bb.Calendar(cuts=CUTS).levels
    columns = [terms.index(f"period[{levels[index]}]") for index in range(1, periods)]
    inside = table["design"].values[:, columns]
    member = np.column_stack([1.0 - inside.sum(axis=1), inside])
    return table[name].values @ member


# tests/data/calendar.R: interval, phase, period, days at risk, deaths.
OF_R = (
    *((0, 0, 0, 2666, 1), (1, 0, 0, 2740, 1), (2, 0, 0, 279, 0), (0, 1, 0, 288, 0)),
    *((1, 1, 0, 559, 0), (2, 1, 0, 203, 0), (0, 0, 1, 4715, 1), (1, 0, 1, 8358, 4)),
    *((2, 0, 1, 4325, 3), (0, 1, 1, 14, 0), (1, 1, 1, 2125, 2), (2, 1, 1, 2520, 3)),
    *((0, 0, 2, 2304, 1), (1, 0, 2, 6798, 1), (2, 0, 2, 3357, 1), (1, 1, 2, 1687, 1)),
    (2, 1, 2, 4112, 5),
)


def test_cells_are_those_of_r() -> None:
    cohort = read(made_up())
    person_time = bb.person_time(cohort, QUESTION, cuts=[180.0, 730.0])
    days, deaths = np.zeros((2, 3, 2, 3))
    for interval, phase, period, time, died in OF_R:
        days[interval, phase, period], deaths[interval, phase, period] = time, died
    np.testing.assert_allclose(by_period(person_time, "person_time", 3)[0], days, rtol=1e-12)
    np.testing.assert_array_equal(by_period(person_time, "events", 3)[0], deaths)
    # R's pyears, over all intervals.
    np.testing.assert_array_equal(days.sum(axis=0), [[5685, 17398, 12459], [1050, 4659, 5799]])


def test_cox_is_that_of_r() -> None:
    cohort = read(made_up(), covariates={"age": "continuous"})
    table = bb.cox(cohort, QUESTION, adjusted=True)
    assert np.log(table["estimate"].iloc[0]) == pytest.approx(0.7912934011179, rel=1e-6)
    lower, upper = (np.log(float(table[name].iloc[0])) for name in ("lower", "upper"))
    error = (upper - lower) / (2 * 1.959963984540054)
    assert error == pytest.approx(0.474420835942, rel=1e-6)
    # Patients, not the rows that they are cut into.
    assert table["patients"].tolist() == [60]
    without = bb.cox(read(made_up(), covariates=["age"], calendar=None), QUESTION, adjusted=True)
    assert np.log(without["estimate"].iloc[0]) == pytest.approx(0.7866509132903, rel=1e-6)


def test_rows_by_hand() -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "origin": ["2011-12-22", "2011-12-02", "2012-01-01"],
            # The first dies on the day of the cut; the second starts the phase on it.
            "days": [10, 1500, 20],
            "died": [1, 0, 1],
            "start": [None, 30, 5],
        }
    )
    cohort = read(table)
    levels = CALENDAR.levels
    assert levels == ("before 2012-01-01", "2012-01-01 to 2016-01-01", "from 2016-01-01")
    assert cohort.patients.tolist() == ["a", *(f"b, {level}" for level in levels), "c"]
    assert cohort.persons is not None
    assert cohort.persons.tolist() == ["a", "b", "b", "b", "c"]
    outcome, period = cohort.endpoints["os"], cohort.covariates["period"]
    assert outcome.entry.tolist() == [0, 0, 30, 1491, 0]
    assert outcome.time.tolist() == [10, 30, 1491, 1500, 20]
    assert outcome.event.tolist() == [True, False, False, False, True]
    assert period.levels == levels
    assert period.values.tolist() == [0, 0, 1, 2, 1]
    np.testing.assert_array_equal(cohort.phase_start[:, 0], [np.nan, np.nan, 30, 30, 5])


TIMES = st.integers(min_value=1, max_value=60)
OFFSETS = st.integers(min_value=-70, max_value=10)


ANCHOR: dict[str, Any] = {
    "origin": -20,
    "days": 60,
    "died": 1,
    "entry": 3,
    "relapse": 50,
    "relapsed": 1,
}
ANCHOR |= {"start": 30, "end": None, "sct": None}


@st.composite
def people(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Patients of days around two cuts, 2012-01-01 and twenty days later."""
    # Two who are there in all periods, so that there always is something to compare.
    rows: list[dict[str, Any]] = [dict(ANCHOR), dict(ANCHOR) | {"start": None}]
    for _ in range(draw(st.integers(min_value=1, max_value=8))):
        time = draw(TIMES)
        entry = draw(st.none() | st.integers(min_value=0, max_value=60))
        entry = None if entry is None or entry >= time else entry
        relapse = None if entry is None else draw(st.integers(entry + 1, time))
        start = draw(st.none() | st.integers(min_value=0, max_value=time))
        end = None if start is None else draw(st.none() | st.integers(start, time))
        rows.append(
            {
                "origin": draw(OFFSETS),
                "days": time,
                "died": draw(st.integers(0, 1)),
                "entry": entry,
                "relapse": relapse,
                "relapsed": None if relapse is None else draw(st.integers(0, 1)),
                "start": start,
                "end": end,
                "sct": draw(st.none() | st.integers(0, time)),
            }
        )
    return rows


def count_days(rows: list[dict[str, Any]], transplant: str) -> tuple[Counter[Any], Counter[Any]]:
    """Walk through every patient's every day: days and events by endpoint, interval, state, period.

    Day d is the time (d - 1, d].
    """
    days: Counter[Any] = Counter()
    events: Counter[Any] = Counter()
    for row in rows:
        follow_up = {"os": (0, row["days"], row["died"])}
        if row["relapse"] is not None:
            follow_up["rfs"] = (row["entry"], row["relapse"], row["relapsed"])
        for name, (first, last, event) in follow_up.items():
            for day in range(first + 1, last + 1):
                gone = row["sct"] is not None and day > row["sct"]
                if gone and transplant == "censor":
                    break
                begun = row["start"] is not None and day > row["start"]
                ended = begun and row["end"] is not None and day > row["end"]
                state = "off treatment" if ended else "phase" if begun else "before phase"
                state = "transplant" if gone and transplant == "phase" else state
                on = row["origin"] + day
                cell = (name, sum(day > cut for cut in (7, 25)), state, (on > 0) + (on > 20))
                days[cell] += 1
                events[cell] += int(event and day == last)
    return days, +events


@many
@given(
    people(), st.sampled_from(["censor", "phase", "ignore"]), st.sampled_from(["days", "months"])
)
def test_cells_equal_a_count_of_days(
    rows: list[dict[str, Any]], transplant: Any, unit: str
) -> None:
    per_unit = DAYS_PER_UNIT[unit]
    table = (
        pd.DataFrame(rows).astype({"died": float}).assign(id=[f"p{i}" for i in range(len(rows))])
    )
    zero = [date(2012, 1, 1) + timedelta(days=int(days)) for days in table["origin"]]
    # As a table writes months: six digits, or all of them.
    for name in ("days", "entry", "relapse", "start", "end", "sct"):
        table[name] = table[name].astype(float) / per_unit
    cuts = ["2012-01-01", "2012-01-21"]
    cohort = bb.read_cohort(
        table.assign(origin=[day.isoformat() for day in zero]),
        patient="id",
        unit=unit,
        endpoints={
            "os": bb.Endpoint(time="days", event="died"),
            "rfs": bb.Endpoint(time="relapse", event="relapsed", entry="entry"),
        },
        phases=bb.Phases(phase=bb.Phase(start="start", end="end")),
        transplant="sct",
        calendar=bb.Calendar(origin="origin", cuts=cuts),
    )
    person_time = bb.person_time(
        cohort,
        bb.Question(
            exposed="phase", eligible_from="entry", phase_end="current", transplant=transplant
        ),
        cuts=np.array([7.0, 25.0]) / per_unit,
    )
    days, events = count_days(rows, transplant)
    people, episodes = person_time.people, person_time.episodes
    period = cohort.covariates["period"].values[
        [list(cohort.patients).index(who) for who in people["patient"].values]
    ]
    found: Counter[Any] = Counter()
    for index, name in enumerate(person_time.endpoints):
        grid = person_time.patient_cells(name).toarray().reshape(period.size, 3, -1)
        for row, interval, state in zip(*np.nonzero(grid), strict=True):
            phase = str(person_time.table["phase"].values[state])
            found[name, int(interval), phase, int(period[row])] += grid[row, interval, state]
        assert int(person_time.table["contributors"].values[index]) == len(
            {row["id"] for row in _contributors(rows, name, transplant)}
        )
    assert {cell: round(time * per_unit, 6) for cell, time in found.items()} == dict(days)
    at: Counter[Any] = Counter()
    phases = person_time.table["phase"].values
    for name in person_time.endpoints:
        for row, cell in zip(*person_time.event_cells(name), strict=True):
            interval, state = divmod(int(cell), phases.size)
            at[name, interval, str(phases[state]), int(period[row])] += 1
    assert at == events
    assert episodes.sizes["episode"] >= person_time.persons.size


def _contributors(rows: list[dict[str, Any]], name: str, transplant: str) -> list[dict[str, Any]]:
    """Who has a day at risk."""
    numbered = [{**row, "id": index} for index, row in enumerate(rows)]
    return [
        row for row in numbered if any(cell[0] == name for cell in count_days([row], transplant)[0])
    ]


def test_periods_add_up_to_whole_patients() -> None:
    """Whatever is asked, summed over periods it is what it is without them; and whole is whole."""
    asked: tuple[dict[str, Any], ...] = (
        {"exposed": "late", "eligible_from": "early", "transplant": "phase", "lag": 0.5},
        {"exposed": "late", "eligible_from": "early", "transplant": "censor", "landmark": 3.0},
        {"exposed": "early", "eligible_from": "entry", "transplant": "ignore", "landmark": 5.0},
    )
    size = 400
    origin = pd.Timestamp("2015-06-01") + pd.to_timedelta(np.arange(size) % 900, unit="D")
    table = every_kind(size).assign(origin=origin)
    calendar = bb.Calendar(origin="origin", cuts=["2016-01-01", "2016-07-01", "2017-03-01"])
    whole = bb.read_cohort(table, **DECLARED)
    cohort = bb.read_cohort(table, **DECLARED, calendar=calendar)
    assert cohort.size > 1.5 * size
    for item in asked:
        question = bb.Question(**item)
        uncut = bb.person_time(whole, question, cuts=[2.0, 6.0, 12.0])
        cut = bb.person_time(cohort, question, cuts=[2.0, 6.0, 12.0])
        for name in ("events", "person_time"):
            np.testing.assert_allclose(
                cut.table[name].sum("pattern"), uncut.table[name].sum("pattern"), rtol=1e-9
            )
        for name in ("contributors", "visitors", "first_begin", "last_exit"):
            np.testing.assert_allclose(cut.table[name], uncut.table[name])
        pd.testing.assert_frame_equal(cut.account().table, uncut.account().table)
        assert [(one.reason, one.patients) for one in cut.left_out] == [
            (one.reason, one.patients) for one in uncut.left_out
        ]
        # Cuts are placed by the same entries and events.
        np.testing.assert_allclose(
            bb.person_time(cohort, question).cuts, bb.person_time(whole, question).cuts
        )
        assert cut.period == "period"
        assert uncut.period is None


def test_whole_patients_are_as_they_were() -> None:
    table = every_kind(200).assign(origin="2015-12-01")
    calendar = bb.Calendar(origin="origin", cuts=["2016-01-01", "2016-07-01"])
    before = bb.read_cohort(table, **DECLARED)
    after = bb.read_cohort(table, **DECLARED, calendar=calendar).whole()
    assert after.patients.tolist() == before.patients.tolist()
    for name, outcome in before.endpoints.items():
        # Nothing is kept of the time of those who never were under observation.
        seen = np.isfinite(outcome.entry)
        for part in ("time", "event", "entry"):
            np.testing.assert_array_equal(
                getattr(after.endpoints[name], part)[seen], getattr(outcome, part)[seen]
            )
        assert np.isnan(after.endpoints[name].entry[~seen]).all()
    for part in ("phase_start", "phase_end", "transplant"):
        np.testing.assert_array_equal(getattr(after, part), getattr(before, part))
    assert (after.period, after.persons, list(after.covariates)) == (None, None, [])
    assert before.whole() is before


def test_accounts_count_patients() -> None:
    cohort = read(made_up())
    table = cohort.account().table
    uncut = read(made_up(), calendar=None).account().table
    of_periods = table["step"] == "period"
    pd.testing.assert_frame_equal(table[~of_periods], uncut)
    periods = table[of_periods]
    assert periods["what"].tolist() == list(CALENDAR.levels)
    assert periods["events"].tolist() == [2, 13, 9]
    np.testing.assert_allclose(periods["person_time"].astype(float), [6735, 22057, 18258])
    assert periods["patients"].max() <= 60
    assert periods["patients"].sum() == cohort.size
    zero = pd.to_datetime(made_up()["origin"])
    end = zero + pd.to_timedelta(made_up()["days"], unit="D")
    moments = [pd.Timestamp(cut) for cut in CUTS]
    rows = 60 + sum(np.count_nonzero((zero < moment) & (end > moment)) for moment in moments)
    assert repr(cohort) == (
        f"Cohort(60 patients in {rows} rows by period, days; os: 24 events; phases phase: 18)"
    )


def test_small_counts_by_period_are_hidden_with_another() -> None:
    """Events of all periods but one, and of all together, tell those of the one."""
    table = read(made_up()).account().table
    shown = mask_account(table, minimum=5)
    hidden = {int(name.split(".")[0]) for name in shown.masked.hidden if name.endswith(".events")}
    periods = set(table.index[table["step"] == "period"])
    assert len(hidden & periods) >= 2


def test_time_of_few_in_a_period_does_not_follow() -> None:
    """The time of a period with few patients is all of it less that of the others."""
    table = made_up()
    early = pd.to_datetime(table["origin"]) < pd.Timestamp("2011-12-01")
    keep = ~early | (table["id"] == "p0")
    account = read(table[keep].reset_index(drop=True)).account().table
    masked = mask_account(account, minimum=5)
    times = [index for index in masked.times if account["step"][index] == "period"]
    assert account["patients"][times].min() == 1
    assert len(times) == 2


@pytest.mark.parametrize("measure", ["current", "ever", "cumulative", "since_entry", "episode"])
def test_stays_go_on_in_the_next_period(measure: Any) -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "months": [20.0, 18.0, 9.0],
            "died": [1, 1, 0],
            "origin": ["2015-07-01", "2015-01-01", "2016-02-01"],
        }
    )
    stays = pd.DataFrame(
        {
            "id": ["a", "a", "b", "a"],
            "from": [1.0, 5.0, 9.0, 15.0],
            "to": [3.0, 9.0, 16.0, 19.0],
            "drug": ["blin"] * 4,
        }
    )
    courses = bb.Courses(
        table=stays, patient="id", start="from", stop="to", phase="drug", phases=["blin"]
    )
    options: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": bb.Endpoint(time="months", event="died"),
        "phases": courses,
    }
    steps = {"cumulative": [2.0, 5.0], "since_entry": [2.0, 5.0], "episode": None}
    question = bb.Question(
        exposed="blin", eligible_from="entry", measure=measure, steps=steps.get(measure)
    )
    whole = bb.person_time(bb.read_cohort(table, **options), question, cuts=[4.0])
    calendar = bb.Calendar(origin="origin", cuts=["2015-12-01", "2016-03-15"])
    cut = bb.person_time(bb.read_cohort(table, **options, calendar=calendar), question, cuts=[4.0])
    for name in ("events", "person_time"):
        np.testing.assert_allclose(
            cut.table[name].sum("pattern"), whole.table[name].sum("pattern"), rtol=1e-9
        )


def test_other_readers_cut_alike() -> None:
    table = made_up()
    zero = pd.to_datetime(table["origin"])
    dated = table.assign(
        last=zero + pd.to_timedelta(table["days"], unit="D"),
        begun=zero + pd.to_timedelta(table["start"], unit="D"),
    )
    expected = read(table)
    by_date = bb.read_dated_cohort(
        dated,
        patient="id",
        origin="origin",
        unit="days",
        endpoints={"os": bb.DatedEndpoint(date="last", event="died")},
        phases=bb.Phases(phase="begun"),
        calendar=bb.Calendar(cuts=CUTS),
    )
    rows = (
        read(table, calendar=None)
        .to_counting_process()
        .merge(table[["id", "origin"]], left_on="patient", right_on="id")
    )
    by_rows = bb.read_counting_process(
        rows,
        patient="patient",
        start="start",
        stop="stop",
        event="event",
        phase="phase",
        phases=["phase"],
        endpoint="endpoint",
        unit="days",
        calendar=CALENDAR,
    )
    adam = bb.read_adam(
        dated.rename(columns={"id": "USUBJID", "origin": "TRTSDT", "begun": "PHASEDT"}),
        pd.DataFrame(
            {
                "USUBJID": dated["id"],
                "PARAMCD": "OS",
                "STARTDT": zero,
                "ADT": dated["last"],
                "CNSR": 1 - dated["died"],
            }
        ),
        endpoints={"os": bb.AdamEndpoint(paramcd="OS")},
        unit="days",
        phases={"phase": "PHASEDT"},
        calendar=bb.Calendar(cuts=CUTS),
    )
    for cohort in (by_date, by_rows, adam):
        assert cohort.patients.tolist() == expected.patients.tolist()
        np.testing.assert_allclose(cohort.endpoints["os"].time, expected.endpoints["os"].time)
        np.testing.assert_array_equal(cohort.phase_start, expected.phase_start)
        np.testing.assert_array_equal(
            cohort.covariates["period"].values, expected.covariates["period"].values
        )


def test_rows_are_those_that_r_takes() -> None:
    """R's survSplit makes 104 of them; they are read back without the covariate."""
    cohort = read(made_up())
    rows = cohort.to_counting_process(endpoint="os")
    assert len(rows) == 104
    assert rows["patient"].nunique() == 60
    assert rows["period"].cat.categories.tolist() == list(CALENDAR.levels)
    again = bb.read_counting_process(
        rows.drop(columns="period").merge(
            made_up()[["id", "origin"]], left_on="patient", right_on="id"
        ),
        patient="patient",
        start="start",
        stop="stop",
        event="event",
        phase="phase",
        phases=["phase"],
        endpoint="endpoint",
        unit="days",
        calendar=CALENDAR,
    )
    assert again.patients.tolist() == cohort.patients.tolist()


def test_rounded_times_meet_the_cut() -> None:
    """An event on the day of a cut, as six digits of months write it, is not in the next period."""
    days = 1000
    for months in (round(days / DAYS_PER_UNIT["months"], 3), days / DAYS_PER_UNIT["months"]):
        origin = (date(2012, 1, 1) - timedelta(days=days)).isoformat()
        table = pd.DataFrame(
            {
                "id": ["a", "b", "c"],
                "days": [months, 90.0, 40.5],
                "died": [1, 0, 1],
                "start": [None, months, 1.25],
                "origin": [origin, origin, "2015-12-31"],
            }
        )
        cohort = read(table, unit="months")
        assert "a" in cohort.patients.tolist()
        second = cohort.patients.tolist().index("b, 2012-01-01 to 2016-01-01")
        assert cohort.endpoints["os"].entry[second] == cohort.phase_start[second, 0] == months
        assert not cohort.repairs


@pytest.mark.parametrize(
    ("cuts", "said"),
    [
        ([], "at least one date"),
        ("2012-01-01", "at least one date"),
        (["2012"], "whole dates"),
        (["2012-1-1"], "whole dates"),
        (["20120101"], "whole dates"),
        ([2012], "whole dates"),
        ([datetime(2012, 1, 1)], "whole dates"),
        (["1850-01-01"], "from 1900 to 2099"),
        (["2016-01-01", "2012-01-01"], "in order"),
        (["2012-01-01", "2012-01-01"], "in order"),
        ([f"{year}-01-01" for year in range(1950, 2005)], "55 cuts"),
    ],
)
def test_impossible_cuts_are_refused(cuts: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        bb.Calendar(cuts=cuts)


def test_impossible_calls_are_refused() -> None:
    table = made_up()
    with pytest.raises(SpecError, match="name the column with the calendar date"):
        read(table, calendar=bb.Calendar(cuts=CUTS))
    with pytest.raises(SpecError, match="must be a Calendar"):
        read(table, calendar={"cuts": CUTS})
    with pytest.raises(SpecError, match="must be a name"):
        bb.Calendar(cuts=CUTS, name="")
    with pytest.raises(SpecError, match="without a calendar no column here holds dates"):
        read(table, calendar=None, date_format="SAS")
    with pytest.raises(SpecError, match="has a covariate 'age' already"):
        read(
            table,
            covariates=["age"],
            calendar=bb.Calendar(origin="origin", cuts=CUTS, name="age"),
        )
    with pytest.raises(SpecError, match="declared as"):
        read(table, calendar=bb.Calendar(origin="days", cuts=CUTS))
    with pytest.raises(SpecError, match="times count from 'begun' here"):
        bb.read_dated_cohort(
            table,
            patient="id",
            origin="begun",
            unit="days",
            endpoints={"os": bb.DatedEndpoint(date="last", event="died")},
            phases=bb.Phases(phase="start"),
            calendar=CALENDAR,
        )


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (None, "missing dates of origin"),
        ("2012", "partial dates"),
        ("soon", "values that are not dates"),
        (2012.5, "numbers where dates were expected"),
    ],
)
def test_impossible_origins_are_told(origin: Any, said: str) -> None:
    table = made_up()
    wrong = [origin] * len(table) if isinstance(origin, float) else [*table["origin"][:-1], origin]
    with pytest.raises(DataError, match=said):
        read(table.assign(origin=wrong))


def test_origins_are_read_as_dates_are() -> None:
    table = made_up()
    days = pd.to_datetime(table["origin"])
    sas = (days - pd.Timestamp("1960-01-01")).dt.days
    expected = read(table)
    for origin, how in (
        (days, {}),
        (sas, {"date_format": "SAS"}),
        (days.dt.strftime("%d.%m.%Y"), {"date_format": "%d.%m.%Y"}),
    ):
        cohort = read(table.assign(origin=origin), **how)
        np.testing.assert_array_equal(cohort.endpoints["os"].entry, expected.endpoints["os"].entry)
    partial = table.assign(origin=table["origin"].where(table["id"] != "p40", "2016-07"))
    cohort = read(partial, repairs=bb.Repairs(partial_dates="first"))
    assert [(repair.rule.split(" became")[0], repair.patients) for repair in cohort.repairs] == [
        ("partial dates of origin", ("p40",))
    ]


def test_a_period_without_follow_up_is_told() -> None:
    calendar = bb.Calendar(origin="origin", cuts=["1990-01-01", "2012-01-01"])
    with pytest.raises(DataError, match="no follow-up before 1990-01-01"):
        read(made_up(), calendar=calendar)


def test_never_observed_patients_stay_counted() -> None:
    table = made_up(first=[None, *[0] * 59])
    table.loc[0, ["days", "died"]] = None
    cohort = read(table, endpoints={"os": bb.Endpoint(time="days", event="died", entry="first")})
    person_time = bb.person_time(cohort, QUESTION)
    assert cohort.whole().size == 60
    assert [(one.reason, one.patients) for one in person_time.left_out] == [
        ("never under observation for this endpoint", ("p0",))
    ]
