"""Hidden counts cannot be worked out: from sums and orders, and from what is computed of them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.classical.comparison import COX
from bayesblina.classical.ladder import MANTEL_BYAR
from bayesblina.core.masking import Masked, mask, mask_account
from bayesblina.core.masking.tables import mask_flow, mask_ladder, mask_loo
from bayesblina.core.tables.numbers import BAYESIAN, COMPANION, OWN
from bayesblina.output.report.hiding import about_others, account, without_few
from bayesblina.output.report.page import render
from bayesblina.output.report.results import Results, read_results
from bayesblina.patients.cohort import Cohort
from tests.core.attacks import account_of, information, recovered

QUESTION = bb.Question(exposed="m", eligible_from="entry")
NONE = float("nan")


def cohort(exposed_events: int, *, patients: int = 80, seed: int = 3) -> Cohort:
    """Make a cohort of which just so many patients die in the later phase."""
    generator = np.random.default_rng([seed, exposed_events])
    time = np.round(generator.uniform(4.0, 40.0, patients), 3)
    start = np.where(np.arange(patients) % 3 == 0, np.round(time * 0.4, 3), np.nan)
    died = (np.arange(patients) % 2 == 0) & np.isnan(start)
    died[np.flatnonzero(~np.isnan(start))[:exposed_events]] = True
    table = pd.DataFrame({"id": range(patients), "t": time, "d": died.astype(int), "m": start})
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(m="m"),
    )


def of_rungs(ladder: pd.DataFrame) -> float:
    """Work out the exposed phase's events from the intervals of two rungs."""
    rows = ladder[ladder["endpoint"] == "os"].set_index("method")
    peto, cox = (information(rows["lower"][name], rows["upper"][name]) for name in RUNGS)
    return recovered(peto, cox, float(rows["estimate"][COX]))


RUNGS = (MANTEL_BYAR, COX)


def test_the_attack_works_on_what_is_not_masked() -> None:
    for events in (1, 2, 3, 4):
        ladder = bb.classical.bias_ladder(cohort(events), QUESTION)
        assert of_rungs(ladder) == pytest.approx(events, abs=0.3)


def small(demo: Path, exposed_events: int) -> Results:
    """Results whose account and ladder are those of a cohort with few events in the phase."""
    one = cohort(exposed_events)
    results = read_results(demo)
    person_time = bb.person_time(one, QUESTION, cuts=[12.0])
    flow = (one.account(cuts=[12.0]) + person_time.account()).table
    ladder = bb.classical.bias_ladder(one, QUESTION, landmarks=[8.0])
    own = ladder[ladder["method"] == COX].iloc[0]
    last = [dict(own, method=name, note="posterior median") for name in (COMPANION, BAYESIAN)]
    ladder = pd.concat([ladder, pd.DataFrame(last)], ignore_index=True)
    rest = results.tables["bias_ladder"]
    ladder = pd.concat([ladder, rest[rest["endpoint"] == "rfs"]], ignore_index=True)
    return replace(results, tables={**results.tables, "patient_flow": flow, "bias_ladder": ladder})


@pytest.fixture(scope="module")
def pages(demo: tuple[Path, Any]) -> dict[int, str]:
    return {events: render(small(demo[0], events)) for events in (1, 4, 7)}


def numbers_of(text: str, endpoint: str) -> list[str]:
    """Find every number that a page has of an endpoint, by key, in words, or in its drawings."""
    found = [key for key in re.findall(r'data-key="([^"]*)"', text) if f"/{endpoint}" in key]
    found += re.findall(rf"{endpoint}[^<]*: [^<]*hazard ratio[^<]*?\d\.\d+ \(", text, re.I)
    found += re.findall(rf"<desc[^>]*>{endpoint}: [^<]*\d", text)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert data is not None
    return found + [name for name in json.loads(data[1])["curves"] if f"{endpoint}: " in name]


def test_no_estimate_is_left_where_few_events_stand_behind_it(pages: dict[int, str]) -> None:
    """An interval alone tells them, too: its precision is about 1 / (1 / d + 1 / rest)."""
    for events in (1, 4):
        assert numbers_of(pages[events], "os") == []
        assert "masked: <b><bdi>os</bdi></b>" in pages[events]
        assert numbers_of(pages[events], "rfs")
    assert numbers_of(pages[7], "os")
    assert "masked: <b>" not in pages[7]


def test_nothing_finer_than_what_is_shown_is_in_the_page(demo: tuple[Path, Any]) -> None:
    text = render(read_results(demo[0]))
    shown = re.findall(r'<data value="([^"]*)"[^>]*>([^<]*)</data>', text)
    assert len(shown) > 100
    for value, words in shown:
        assert float(value) == pytest.approx(float(words.replace("&lt;", "").replace("&gt;", "")))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert data is not None
    for one in json.loads(data[1])["curves"].values():
        for curve in one["curves"]:
            for name in ("lower", "median", "upper"):
                decimals = [len(repr(value).partition(".")[2]) for value in curve[name]]
                # 0.9995 stands for what is above 0.999.
                assert max(decimals) <= 4
    body = text[: text.index('<section id="methods"')]
    assert not re.search(r"(?<![\w.])\d+\.\d{5,}", re.sub(r"<style>.*?</style>", "", body))


def test_a_rung_with_few_events_on_one_side_is_masked(demo: tuple[Path, Any]) -> None:
    """7 die in the phase of whom fewer than 5 after a landmark: that rung alone would tell."""
    results = small(demo[0], 7)
    ladder = results.tables["bias_ladder"]
    few = ladder["events_exposed"].between(1, 4) | ladder["events_reference"].between(1, 4)
    assert few.any()
    flow = account(results.tables["patient_flow"], exposed="m", minimum=5)
    assert flow.masking.few == frozenset()
    left = without_few(results, minimum=5).results.tables["bias_ladder"]
    own = left["method"].isin([BAYESIAN, COMPANION])
    assert left["masked"].tolist() == (few & ~own).tolist()
    assert left.loc[left["masked"], ["estimate", "lower", "upper"]].isna().all(axis=None)
    assert left.loc[~left["masked"], "estimate"].notna().any()


def test_other_rungs_are_masked_where_any_number_of_events_by_phase_is(
    demo: tuple[Path, Any],
) -> None:
    """40 events less 37 and 3: two of them are hidden, and the ladder would tell which they are."""
    results = small(demo[0], 7)
    left = mask_ladder(results.tables["bias_ladder"], 5, closed={"os"}, own=OWN)
    os = left[left["endpoint"] == "os"].set_index("method")
    assert os.loc[[MANTEL_BYAR, COX], "masked"].all()
    assert not os.loc[[COMPANION, BAYESIAN], "masked"].any()
    with pytest.raises(KeyError):
        # What is left of the formula's parts is one inverse variance.
        of_rungs(left[~left["masked"]])


def test_observed_curves_do_not_tell_who_is_at_risk(demo: tuple[Path, Any]) -> None:
    """A jump of the curve is one over the number at risk: rounding leaves many numbers possible."""
    text = render(read_results(demo[0]))
    drawn = 0
    for chart in re.findall(r'<svg[^>]*class="chart survival".*?</svg>', text, flags=re.DOTALL):
        none, everybody = (
            float(re.findall(rf'<text x="[^"]*" y="([^"]*)"[^>]*>{label}</text>', chart)[0])
            for label in ("0.0", "1.0")
        )
        curves = re.findall(
            r'<g class="observed">(?:<title>[^<]*</title>)?<path d="M ([^"]*)"', chart
        )
        for curve in curves:
            heights = np.array([float(pair.split()[1]) for pair in curve.split(" L ")])
            # Places have two decimals, and a hundredth of survival is more than one unit high.
            hundredths = (heights - heights[0]) / (none - everybody) * 100.0
            np.testing.assert_allclose(hundredths, hundredths.round(), atol=0.02)
            drawn += heights.size
    assert drawn > 50


def test_every_minimum_leaves_a_page(demo: tuple[Path, Any]) -> None:
    """With all endpoints withheld it still says who was there and why nothing else is shown."""
    text = render(read_results(demo[0]), minimum_count=200)
    assert numbers_of(text, "os") == numbers_of(text, "rfs") == []
    assert "<bdi>os</bdi>, <bdi>rfs</bdi>" in text
    assert "nan" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL).lower().split()


def test_scenarios_with_few_events_are_left_out(demo: tuple[Path, Any]) -> None:
    from bayesblina.studies.what_if.reading import Sensitivity

    columns = {"scenario": "x", "status": "converged", "reason": "", "median": 0.5}
    rows = [
        {**columns, "endpoint": "os", "events": 40.0, "events_exposed": 9.0, "key": "a"},
        {**columns, "endpoint": "os", "events": 12.0, "events_exposed": 9.0, "key": "b"},
        {**columns, "endpoint": "os", "events": 40.0, "events_exposed": 3.0, "key": "c"},
        {**columns, "endpoint": None, "key": "d", "status": "failed"},
    ]
    found = Sensitivity(table=pd.DataFrame(rows), axes=(), synthetic=True)
    results = replace(small(demo[0], 7), sensitivity=found)
    left = without_few(results, minimum=5)
    assert left.results.sensitivity is not None
    assert left.results.sensitivity.table["key"].tolist() == ["a", "d"]
    assert left.scenarios == 2
    whole = without_few(results, minimum=1)
    assert whole.results.sensitivity is found


def test_sentences_of_withheld_endpoints_are_left_out() -> None:
    words = ["os: few events", "os, m: hazard ratio 0.36", "rfs: os is not it", "both"]
    assert about_others(words, ["os"]) == ("rfs: os is not it", "both")


# Sums and orders.


def test_a_hidden_count_may_not_be_known_to_be_more_than_one() -> None:
    """12 = a + b and 10 = b + c, c at least 1: b is at most 9, and so a at least 3."""
    counts = {"first": 12, "a": 3, "b": 9, "second": 10, "c": 1}
    sums = [("first", ["a", "b"]), ("second", ["b", "c"])]
    hidden = mask(counts, sums, minimum=5).hidden
    assert {"a", "b", "c"} < hidden
    assert hidden & {"first", "second"}


def test_a_part_is_not_more_than_its_whole() -> None:
    """100 less those eligible, who are at most the 97 under observation, are 3 or more."""
    counts = {"read": 100, "left": 4, "eligible": 96, "observed": 97}
    sums = [("read", ["left", "eligible"])]
    assert mask(counts, sums, minimum=5).hidden == {"left", "eligible"}
    ordered = mask(counts, sums, minimum=5, orders=[("eligible", "observed")])
    assert ordered.hidden > {"left", "eligible"}


def test_states_that_are_compared_are_summed_before_they_are_called_few() -> None:
    rows = [
        ("eligible", "os", "", "at risk", 60, 30),
        ("in phase", "os", "c", "reference", 60, 20),
        ("in phase", "os", "d", "reference", 20, 3),
        ("in phase", "os", "m", "exposed", 30, 7),
        ("eligible", "rfs", "", "at risk", 60, 12),
        ("in phase", "rfs", "c", "reference", 60, 12),
        ("in phase", "rfs", "m", "exposed", 3, 0),
    ]
    columns = ["step", "endpoint", "phase", "what", "patients", "events"]
    table = pd.DataFrame(rows, columns=columns).assign(person_time=9.0)
    found = mask_account(table, minimum=5)
    # 23 events in all reference phases are not few, but the ladder would tell 3 of 30.
    assert found.few == {"rfs"}
    assert found.closed == {"os"}
    assert mask_account(table, minimum=1).few == frozenset()


# What a whole has more than its part.


def test_patients_without_an_event_are_a_count() -> None:
    """18 of 20 in the phase have the event: two do not, and neither the sum may tell them."""
    table = account_of(
        ("eligible", "os", "", "at risk", 60, 40),
        ("in phase", "os", "c", "reference", 60, 22),
        ("in phase", "os", "m", "exposed", 20, 18),
    )
    found = mask_account(table, minimum=5)
    # The events by phase are what is compared; without the number of patients they tell nothing.
    assert found.masked.hidden == {"2.patients"}
    assert 2 in found.times
    assert len(found.times) == 2
    assert found.closed == found.few == frozenset()
    assert mask_flow(table, found)["patients"].tolist() == [60, 60, "*"]
    # Who is at risk in the phase at some time was in it.
    at_risk = pd.DataFrame(
        {"endpoint": "os", "group": "m", "landmark": 0.0, "time": [2.0, 4.0], "at_risk": [20, 17]}
    )
    both = mask_account(table, minimum=5, at_risk=at_risk).masked
    assert both.hidden == {"2.patients", "0.at_risk"}
    # Where everybody was in it, the events go: what follows from them alone goes with them.
    table["patients"] = 20
    table["events"] = [18, 0, 18]
    found = mask_account(table, minimum=5)
    assert found.masked.hidden == {"0.events", "2.events"}
    assert found.closed == {"os"}
    assert not found.masked.shows(18)


@pytest.mark.parametrize(
    ("patients", "events", "hidden"),
    [
        # Everybody, or nobody, has it: as little a small count as 0 is.
        (20, 20, False),
        (20, 0, False),
        (20, 19, True),
        (20, 16, True),
        (20, 15, False),
    ],
)
def test_all_and_none_are_not_few(patients: int, events: int, hidden: bool) -> None:
    table = account_of(("eligible", "os", "", "at risk", patients, events))
    found = mask_account(table, minimum=5).masked
    assert found.hidden == ({"0.events"} if hidden else frozenset())
    assert found.shows_part(events, patients) == (not hidden)


def test_those_of_a_phase_do_not_tell_the_few_who_never_came_to_it() -> None:
    """38 of 40 eligible patients were ever in it: the two others are as few as any."""
    table = account_of(
        ("eligible", "os", "", "at risk", 40, 20),
        ("in phase", "os", "c", "reference", 40, 10),
        ("in phase", "os", "m", "exposed", 38, 10),
    )
    assert mask_account(table, minimum=5).masked.hidden == {"2.patients"}
    # Where everybody came to it there is nobody else.
    everybody = table.assign(patients=[40, 40, 40])
    assert mask_account(everybody, minimum=5).masked.hidden == frozenset()


def test_a_rest_is_audited_as_what_is_shown_is() -> None:
    """12 of 13 and 5 of 9, 17 together: 5 may not be shown, or the first had 12."""
    counts = {"all": 17, "a": 12, "a patients": 13, "b": 5, "b patients": 9}
    sums = [("all", ["a", "b"])]
    orders = [("a", "a patients"), ("b", "b patients")]
    hidden = mask(counts, sums, minimum=5, orders=orders).hidden
    assert "a" in hidden
    assert hidden & {"all", "b"}
    # As a bound only, where nobody in particular is the rest, nothing is small.
    bounds = [("a", "a patients")]
    assert mask(counts, sums, minimum=4, bounds=bounds).hidden == frozenset()


def test_leave_one_out_does_not_tell_who_was_left_aside() -> None:
    table = pd.DataFrame({"patients": [86, 86], "evaluated": [84, 86], "patients_above_limit": 9})
    shown = mask_loo(table, Masked(minimum=5))
    assert shown["evaluated"].tolist() == ["*", 86]
    assert shown["patients_above_limit"].tolist() == [9, 9]


def test_how_events_are_recorded_adds_up() -> None:
    """Three at their first visit would follow from all events and those recorded otherwise."""
    rows = [
        ("read", "", "patients in a table", 60, NONE),
        ("observed", "rfs", "under observation", 60, 20),
        ("recorded", "rfs", "at visits", 11, 11),
        ("recorded", "rfs", "at the first visit", 3, 3),
        ("recorded", "rfs", "exact", 6, 6),
        ("recorded", "rfs", "event-free", 40, 0),
    ]
    table = pd.DataFrame(rows, columns=["step", "endpoint", "what", "patients", "events"])
    table = table.assign(phase="", person_time=NONE)
    hidden = mask_account(table, minimum=5).masked.hidden
    assert {"3.patients", "3.events", "4.patients", "4.events"} <= hidden
    assert not {"0.patients", "1.patients", "1.events", "2.patients", "5.patients"} & hidden
