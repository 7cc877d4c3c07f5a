"""What tables show beside hidden counts: no sum, no order, no sentence and no curve tells them."""

import numpy as np
import pandas as pd

from bayesblina.core.masking import MASK, Masked, mask_account
from bayesblina.core.masking.tables import (
    coarse_times,
    mask_borrowing,
    mask_safety,
    read_observed,
    without_counts,
)
from bayesblina.patients.account import Account
from tests.core.attacks import account_of


def test_numbers_at_risk_are_audited_with_the_account() -> None:
    """43 less those eligible, of whom 39 are at risk later, are at most 4 who were left out."""
    rows = [
        ("read", "", "", "patients", 43, None),
        ("left out", "os", "", "never reached c", 3, None),
        ("eligible", "os", "", "at risk", 40, 20),
    ]
    table = account_of(*rows)
    risk = pd.DataFrame(
        {"endpoint": "os", "group": ["m", "no m"], "landmark": 0.0, "time": 2.0}
    ).assign(at_risk=[14, 25])
    alone = mask_account(table, minimum=5)
    assert alone.masked.hidden == {"1.patients", "2.patients"}
    both = mask_account(table, minimum=5, at_risk=risk)
    # One of the two is hidden as well, or the number read: else 4 would be the most.
    assert both.masked.hidden & {"0.at_risk", "1.at_risk", "0.patients"}


def test_observed_curves_are_read_where_enough_events_have_come() -> None:
    """20 patients, one event a month from 1 to 12: read at 5 and 10, which takes the last two."""
    time = np.arange(13.0)
    survival = np.cumprod(np.r_[1.0, 1 - 1 / (20.0 - np.arange(12))])
    rows = pd.DataFrame(
        {"time": time, "survival": survival, "at_risk": 20 - np.r_[0, np.arange(12)]}
    ).assign(events=np.r_[0, np.ones(12)])
    at, values = read_observed(rows, time, minimum=5)
    # 8 to 12: at least 5 at the end, and 7 of the 12 in the second part.
    assert at.tolist() == time.tolist()
    expected = np.interp(time, [0.0, 5.0, 12.0], survival[[0, 5, 12]]).round(2)
    np.testing.assert_array_equal(values, expected)
    # With 3 events in all there is nothing to read; with none a line.
    few = rows[rows["time"] <= 3]
    assert read_observed(few, time, minimum=5)[0].size == 0
    flat = rows.assign(events=0.0, survival=1.0)
    assert read_observed(flat, time, minimum=5)[1].tolist() == [1.0] * 13
    # 4 events after the 9th month are few: the curve ends where they and 5 more are left.
    at, _ = read_observed(rows.assign(at_risk=np.where(time > 9, 3, 9)), time, minimum=5)
    assert at[-1] == 7.0


def test_words_keep_no_small_count_and_no_exact_time() -> None:
    few = Masked(minimum=5, hidden=frozenset(), values=frozenset({33}))
    words = "os2: 2 of 33 patients (12 events, 0.36, 1,204 rows) until 35.70473, from 8 on"
    assert without_counts(words, few) == (
        f"os2: {MASK} of {MASK} patients (12 events, 0.36, 1,204 rows) until 35.7, from 8 on"
    )


def test_times_of_curves_are_nobodys_own() -> None:
    table = pd.DataFrame({"time": [365.25, 35.70473], "horizon": [35.70473, 2.0]})
    shown = coarse_times(table, landmarks=[365.25])
    assert shown["time"].tolist() == [365.25, 35.7]
    assert shown["horizon"].tolist() == [35.7, 2.0]


def test_person_time_of_a_hidden_phase_does_not_follow_from_safety() -> None:
    """A phase's person-time that the account hides, with its rate, is not in the other table."""
    row = {"phase": "c", "patients": 86, "with_event": 71, "share": 0.826, "events": 169}
    row |= {"person_time": 510.01, "rate_per_year_median": 3.98}
    shown = mask_safety(
        pd.DataFrame([row]),
        Masked(minimum=5, hidden=frozenset(), values=frozenset()),
        timeless={"c"},
    ).iloc[0]
    assert shown["person_time"] == MASK
    assert np.isnan(shown["rate_per_year_median"])
    assert shown["events"] == 169


def test_person_time_of_one_phase_is_not_hidden_alone() -> None:
    """Of all phases together it is in the account: the others less that would be it."""
    rows = [
        {"phase": name, "patients": 90, "with_event": 50, "events": 80, "person_time": time}
        for name, time in (("a", 900.0), ("c", 510.0), ("m", 300.0))
    ]
    shown = mask_safety(pd.DataFrame(rows), Masked(minimum=5), timeless={"c"})
    assert shown["person_time"].tolist() == [900, MASK, MASK]
    # Two that are hidden anyway need no third.
    shown = mask_safety(pd.DataFrame(rows), Masked(minimum=5), timeless={"a", "m"})
    assert shown["person_time"].tolist() == [MASK, 510, MASK]


def test_patients_that_the_account_hides_are_not_in_safety() -> None:
    """39 are observed in a phase in which 38 are at risk: one more would tell as much."""
    rows = [
        {"phase": name, "patients": patients, "with_event": 20, "events": 30}
        for name, patients in (("c", 90), ("m", 39))
    ]
    shown = mask_safety(pd.DataFrame(rows), Masked(minimum=5), untold={"m"})
    assert shown["patients"].tolist() == [90, MASK]
    assert shown["with_event"].tolist() == [20, MASK]
    assert shown["events"].tolist() == [30, MASK]


def test_an_account_of_nobody_hides_nothing() -> None:
    empty = Account(lines=(), unit="months").table
    assert mask_account(empty, minimum=5).masked.hidden == frozenset()


def test_transitions_add_up_to_the_events_of_their_endpoints() -> None:
    """57 events of relapse-free survival less 54 relapses are 3 deaths in remission."""
    table = account_of(
        ("read", "", "", "patients", 120, None),
        ("observed", "os", "", "under observation", 120, 30),
        ("observed", "rfs", "", "under observation", 120, 57),
        ("order", "os", "", "followed after an event of rfs", 54, 27),
        ("eligible", "relapse", "", "at risk", 120, 54),
        ("eligible", "death in remission", "", "at risk", 120, 3),
        ("eligible", "death after relapse", "", "at risk", 54, 27),
    )
    hidden = mask_account(table, minimum=5).masked.hidden
    # One way is rfs less relapses, the other os less deaths after relapse: both are closed.
    assert "5.events" in hidden
    assert hidden & {"2.events", "4.events"}
    assert hidden & {"1.events", "6.events"}
    # And deaths after relapse stand a second time, among those who are followed after it.
    assert ("6.events" in hidden) == ("3.events" in hidden) or "1.events" in hidden


def test_those_who_lie_so_to_an_event_have_it() -> None:
    """Of 33 deaths 30 came to those censored for relapse: at most 3 followed a relapse."""
    rows = [
        ("read", "", "", "patients", 90, None),
        ("observed", "os", "", "under observation", 90, 33),
        ("observed", "rfs", "", "under observation", 90, 55),
        ("order", "os", "", "followed after an event of rfs (includes: not declared)", 55, 2),
        ("order", "rfs", "", "censored before an event of os (includes: not declared)", 30, 0),
    ]
    hidden = mask_account(account_of(*rows), minimum=5).masked.hidden
    assert "3.events" in hidden
    assert hidden & {"1.events", "4.patients"}
    # With fewer who are censored 2 may as well be 5, and nothing else need be hidden.
    rows[4] = (*rows[4][:4], 20, 0)
    assert mask_account(account_of(*rows), minimum=5).masked.hidden == {"3.events"}


def test_person_time_is_told_of_phases_whose_starts_alone_are_hidden() -> None:
    """Starts have no person-time: those that are hidden hide none of adverse events."""
    folder_table = account_of(
        ("read", "", "", "patients", 90, None),
        ("phase start", "os", "c", "during follow-up", 3, None),
        ("eligible", "os", "", "at risk", 90, 33),
        ("in phase", "os", "c", "reference", 90, 33),
    )
    found = mask_account(folder_table, minimum=5)
    assert 1 in found.times
    assert not {2, 3} & found.times


def test_external_patients_tell_no_small_count() -> None:
    """40 events less 37 of current patients are the 3 of a source that is left out."""
    table = pd.DataFrame(
        {
            "endpoint": ["os", "os", "rfs", "rfs"],
            "source": ["a", "b", "a", "b"],
            "patients": [30, 25, 30, 25],
            "events": [3, 12, 9, 12],
            "hazard_ratio": 1.2,
            "current_events": [37.0, 37.0, 40.0, 40.0],
            "effective_events": 4.2,
            "effective_events_error": 0.3,
        }
    )
    shown = mask_borrowing(table, Masked(minimum=5))
    assert list(zip(shown["endpoint"], shown["source"], strict=True)) == [
        ("os", "b"),
        ("rfs", "a"),
        ("rfs", "b"),
    ]
    assert shown["current_events"].isna().tolist() == [True, False, False]
    assert shown["effective_events"].isna().tolist() == [True, False, False]
    # 23 of 25: two have not the event. And 4 current events are those of all less the sources'.
    assert len(mask_borrowing(table.assign(events=23), Masked(minimum=5))) == 2
    assert mask_borrowing(table.assign(current_events=4.0), Masked(minimum=5)).empty
    pd.testing.assert_frame_equal(mask_borrowing(table, Masked(minimum=1)), table)


def test_what_follows_anyway_does_not_tell_a_hidden_number() -> None:
    """90 less 83 are 7: a mask there would say that 7 and 3 are the 10 events not in c."""
    table = account_of(
        ("read", "", "", "patients", 90, None),
        ("left out", "os", "", "never reached c", 7, None),
        ("eligible", "os", "", "at risk", 83, 35),
        ("in phase", "os", "c", "reference", 83, 25),
        ("in phase", "os", "m", "exposed", 30, 7),
        ("in phase", "os", "l", "reference", 8, 3),
    )
    masked = mask_account(table, minimum=5).masked
    assert masked.hidden == {"4.events", "5.events"}
    # In a sentence 7 tells of the one as of the other.
    assert not masked.shows(7)
