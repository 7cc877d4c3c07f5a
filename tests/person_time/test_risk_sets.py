"""Events and those at risk, against a loop over event times and patients, and sums by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.person_time import risk_sets
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.risk_sets import (
    RiskSets,
    find_risk_sets,
    holds_single_times,
    risk_sets_of_sums,
    same_states,
)

QUESTION = bb.Question(exposed="late", eligible_from="entry")
# In the order of their indicators: (0, 0), (0, 1), (1, 0).
SITES = ("n", "w", "s")


def patients(size: int = 60) -> pd.DataFrame:
    """Times of one decimal, so that many tie; some are seen late, some change their state."""
    random = np.random.default_rng(11)
    entry = np.where(random.random(size) < 0.3, random.integers(1, 10, size) / 10, 0.0)
    time = np.round(entry + random.integers(1, 60, size) / 10, 2)
    early, late = random.integers(1, 40, size) / 10, random.integers(20, 60, size) / 10
    return pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "entry": entry,
            "time": time,
            "died": random.random(size) < 0.6,
            "shorter": np.round(entry + (time - entry) / 2, 2),
            "failed": random.random(size) < 0.5,
            "early": np.where((early < late) & (early < time), early, np.nan),
            "late": np.where(late < time, late, np.nan),
            "site": np.array(SITES)[random.integers(0, 3, size)],
        }
    )


def exposed(table: pd.DataFrame, weights: Any = None) -> PersonTime:
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="died", entry="entry"),
            "rfs": bb.Endpoint(time="shorter", event="failed", entry="entry"),
        },
        phases=bb.Phases(early="early", late="late"),
        covariates=["site"],
    )
    return bb.person_time(cohort, QUESTION, cuts=[1.0, 3.0], weights=weights)


def people(table: pd.DataFrame) -> list[Any]:
    """Rows, with columns as attributes."""
    return list(table.itertuples())


def sizes(table: pd.DataFrame, weight: Floats, column: str, time: float, same: list[int]) -> Any:
    """Weights at risk just before a time by endpoint's own state and site, (state, site)."""
    found = np.zeros((max(same) + 1, 3))
    for row, one in enumerate(people(table)):
        if not one.entry < time <= getattr(one, column):
            continue
        state = 2 if one.late < time else 1 if one.early < time else 0
        found[same[state], SITES.index(one.site)] += weight[row]
    return found


def spread(one: RiskSets, endpoints: list[int], firsts: list[int]) -> Floats:
    """Numbers at risk laid out over (time, endpoint, state, site)."""
    found = np.zeros((one.times.size, len(endpoints), len(firsts), 3))
    for column in range(one.state.size):
        where = endpoints.index(int(one.endpoint[column])), firsts.index(int(one.state[column]))
        found[:, *where, one.pattern[column]] += one.at_risk[:, column]
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("endpoints", [[0], [1], [0, 1]])
@pytest.mark.parametrize("same", [[0, 1, 2], [0, 0, 1]])
@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("most", [4_000, 7])
def test_a_loop_over_times_and_patients(
    weighted: bool, endpoints: list[int], same: list[int], stratified: bool, most: int
) -> None:
    table = patients()
    weight = np.random.default_rng(4).uniform(0.2, 2.0, len(table)) if weighted else np.ones(60)
    person_time = exposed(table, weight if weighted else None)
    assert person_time.table["phase"].values.tolist() == ["before early", "early", "late"]
    strata = np.array([0, 1, 1]) if stratified else None
    cuts = np.array([1.0, 3.0])
    sets, grouped = find_risk_sets(
        person_time,
        endpoints,
        same=np.array(same),
        stratum_of=strata,
        cuts=cuts,
        most_times=most,
    )
    assert grouped is (most == 7)
    columns = [("time", "died"), ("shorter", "failed")]
    firsts = [same.index(number) for number in range(max(same) + 1)]
    keys = [(one.stratum, one.interval) for one in sets]
    assert keys == sorted(set(keys))
    assert len(keys) == (6 if stratified else 3)
    for one in sets:
        sites = [site for site in range(3) if strata is None or strata[site] == one.stratum]
        inside = table["site"].isin([SITES[site] for site in sites]).to_numpy()
        low, high = [0.0, 1.0, 3.0][one.interval], [1.0, 3.0, np.inf][one.interval]
        died: dict[float, float] = {}
        of_group = np.zeros((len(endpoints), len(firsts), 3))
        for place, endpoint in enumerate(endpoints):
            time, event = columns[endpoint]
            for row, patient in enumerate(people(table)):
                when = getattr(patient, time)
                if not (inside[row] and getattr(patient, event) and low < when <= high):
                    continue
                died[when] = died.get(when, 0.0) + weight[row]
                state = 2 if patient.late < when else 1 if patient.early < when else 0
                of_group[place, same[state], SITES.index(patient.site)] += weight[row]
        steps = sorted(died)
        at_risk = {
            when: np.stack(
                [
                    sizes(table[inside], weight[inside], columns[endpoint][0], when, same)
                    for endpoint in endpoints
                ]
            )
            for when in steps
        }
        # The last time of each group; each time by itself where there are none.
        if most > 7:
            np.testing.assert_allclose(one.times, steps, rtol=1e-12)
        assert one.times[-1] == pytest.approx(steps[-1])
        begin, found = 0, spread(one, endpoints, firsts)
        for index, last in enumerate(one.times):
            end = int(np.searchsorted(steps, last * (1 + 1e-9), side="right"))
            mine = steps[begin:end]
            count = sum(died[when] for when in mine)
            assert one.events[index] == pytest.approx(count, rel=1e-12)
            mean = sum(died[when] * at_risk[when] for when in mine) / count
            np.testing.assert_allclose(found[index], mean, atol=1e-10)
            begin = end
        got = np.zeros_like(of_group)
        for column in range(one.state.size):
            where = endpoints.index(int(one.endpoint[column])), firsts.index(int(one.state[column]))
            got[where][one.pattern[column]] += one.events_of[column]
        np.testing.assert_allclose(got, of_group, atol=1e-12)
        # Groups that nobody is ever in are left out, and rounding fills none.
        assert (one.at_risk != 0).any(axis=0).all()
        assert (one.at_risk >= 0).all() or grouped


def test_groups_hold_about_as_many_events() -> None:
    # Nobody's follow-up ends at another's, and all of it lies after the last start.
    table = patients(400).assign(time=7.0 + np.arange(400) / 100)
    sets, grouped = find_risk_sets(exposed(table), [0], same=np.arange(3), most_times=10)
    (one,) = sets
    assert grouped
    assert one.times.size == 10
    total = table["died"].sum()
    assert one.events.sum() == total
    assert np.abs(one.events - total / 10).max() <= 1.0
    # No more groups than fit into a table, but never fewer than fifty.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(risk_sets, "LARGEST_TABLE", 60 * 9)
        found, grouped = find_risk_sets(exposed(table), [0], same=np.arange(3))
        assert grouped
        assert found[0].times.size == 60
        patch.setattr(risk_sets, "LARGEST_TABLE", 9)
        found, _ = find_risk_sets(exposed(table), [0], same=np.arange(3))
        assert found[0].times.size == 50
    whole, grouped = find_risk_sets(exposed(table), [0], same=np.arange(3), most_times=int(total))
    assert not grouped
    assert whole[0].times.size == total


def test_without_events_there_are_none() -> None:
    table = patients().assign(died=lambda one: one["site"] != "n")
    found, grouped = find_risk_sets(
        exposed(table), [0], same=np.arange(3), stratum_of=np.array([0, 1, 1])
    )
    assert [one.stratum for one in found] == [1]
    assert not grouped


def sums(spacing: float | None = None) -> xr.Dataset:
    """Two endpoints, four short intervals, two states and two patterns."""
    events = np.zeros((2, 4, 2, 2))
    events[1, 0, 0, 0], events[1, 1, 0, 1], events[1, 3, 1, 1] = 2, 1, 4
    events[0] = 9.0
    time = np.arange(1.0, 33.0).reshape(2, 4, 2, 2)
    shape = ("endpoint", "interval", "phase", "pattern")
    finer = xr.Dataset(
        {"events": (shape, events), "person_time": (shape, time)},
        coords={
            "interval_start": ("interval", [0.0, 1.0, 2.0, 4.0]),
            "interval_stop": ("interval", [1.0, 2.0, 4.0, 8.0]),
        },
    )
    return finer if spacing is None else finer.assign(spacing=spacing)


def of_sums(finer: xr.Dataset, **more: Any) -> list[RiskSets]:
    person_time: Any = SimpleNamespace(finer=finer)
    return risk_sets_of_sums(person_time, [1], **({"same": np.array([0, 1])} | more))


def test_short_intervals_stand_for_their_events() -> None:
    (one,) = of_sums(sums())
    assert one.times.tolist() == [1.0, 2.0, 8.0]
    assert one.events.tolist() == [2.0, 1.0, 4.0]
    assert (one.stratum, one.interval) == (0, 0)
    assert one.endpoint.tolist() == [1] * 4
    assert one.state.tolist() == [0, 0, 1, 1]
    assert one.pattern.tolist() == [0, 1, 0, 1]
    assert one.events_of.tolist() == [2.0, 1.0, 0.0, 4.0]
    # Mean numbers at risk, and half of an event's own time, which has passed at the event.
    assert one.at_risk[0].tolist() == [17.0 + 0.5, 18.0, 19.0, 20.0]
    assert one.at_risk[1].tolist() == [21.0, 22.0 + 0.5, 23.0, 24.0]
    assert one.at_risk[2].tolist() == [29.0 / 4, 30.0 / 4, 31.0 / 4, 32.0 / 4 + 0.5]


def test_times_that_are_multiples_of_a_step() -> None:
    # One multiple in the first two intervals: exact. Four in the last: 3 of 8 lie after.
    (one,) = of_sums(sums(1.0))
    assert one.at_risk[0].tolist() == [17.0, 18.0, 19.0, 20.0]
    assert one.at_risk[2].tolist() == [29.0 / 4, 30.0 / 4, 31.0 / 4, 32.0 / 4 + 3.0 / 8.0]
    # None at all, and an interval that begins at a multiple but for rounding.
    assert risk_sets._missed(np.array([0.1]), np.array([0.9]), 1.0).tolist() == [0.5]
    met = np.array([(0.1 + 0.2) * (1.0 - 4e-16)])
    assert risk_sets._missed(met, np.array([0.6]), 0.3).tolist() == [0.0]
    assert not holds_single_times(sums())
    assert not holds_single_times(sums(1.0))
    assert not holds_single_times(sums(0.5))
    assert holds_single_times(sums(4.0))
    assert holds_single_times(sums().isel(interval=slice(0, 2)).assign(spacing=1.0))


def test_short_intervals_taken_together() -> None:
    one, other = of_sums(sums(), cuts=np.array([1.0]), share=2)
    assert (one.interval, other.interval) == (0, 1)
    assert one.times.tolist() == [1.0]
    # From 1 to 4 and from 4 on; the first of each interval opens it.
    assert other.times.tolist() == [4.0, 8.0]
    assert other.events.tolist() == [1.0, 4.0]
    expected = [(21 + 25) / 3, (22 + 26) / 3 + 0.5, (23 + 27) / 3, (24 + 28) / 3]
    assert other.at_risk[0].tolist() == pytest.approx(expected)


def test_strata_and_shared_hazards_of_sums() -> None:
    first, second = of_sums(sums(), stratum_of=np.array([0, 1]))
    assert (first.stratum, second.stratum) == (0, 1)
    assert first.times.tolist() == [1.0]
    assert first.pattern.tolist() == [0, 0]
    assert first.at_risk.tolist() == [[17.5, 19.0]]
    assert second.times.tolist() == [2.0, 8.0]
    assert second.at_risk[0].tolist() == [22.5, 24.0]
    (shared,) = of_sums(sums(), same=np.array([0, 0]))
    assert shared.state.tolist() == [0, 0]
    assert shared.at_risk[0].tolist() == [17.0 + 19.0 + 0.5, 18.0 + 20.0]
    # Several endpoints side by side; rounding of sums over nodes is no event.
    finer = sums()
    finer["events"].values[1, 2] = 0.1
    person_time: Any = SimpleNamespace(finer=finer)
    (both,) = risk_sets_of_sums(person_time, [1, 0], same=np.array([0, 1]))
    assert both.endpoint.tolist() == [1] * 4 + [0] * 4
    assert both.events.tolist() == [2 + 36, 1 + 36, 0.4 + 36, 4 + 36]
    assert of_sums(finer)[0].times.tolist() == [1.0, 2.0, 8.0]


def test_states_without_columns_are_all_the_same() -> None:
    assert same_states(np.empty((3, 0))).tolist() == [0, 0, 0]
    found = same_states(np.array([1.0, 1.0, 0.0]), np.array([[0.0], [1.0], [0.0]]))
    assert found.tolist() == [1, 2, 0]


def test_patients_of_compressed_covariates_stand_at_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in the shares that its covariate has of the nodes, a few patients at a time."""
    monkeypatch.setattr(risk_sets, "SPREAD", 17)
    table = patients().assign(age=np.random.default_rng(3).normal(50.0, 9.0, 60))
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died", entry="entry")},
        phases=bb.Phases(early="early", late="late"),
        covariates=["site", "age"],
    )
    person_time = bb.person_time(cohort, QUESTION, cuts=[1.0, 3.0], compress=True)
    assert person_time.compression is not None
    share = person_time.projection().toarray()
    (one,), _ = find_risk_sets(person_time, [0], same=np.arange(3))
    firsts = np.zeros((one.times.size, 3, share.shape[1]))
    firsts[:, one.state, one.pattern] = one.at_risk
    for index, time in enumerate(one.times):
        expected = np.zeros((3, share.shape[1]))
        for row, patient in enumerate(people(table)):
            if patient.entry < time <= patient.time:
                state = 2 if patient.late < time else 1 if patient.early < time else 0
                expected[state] += share[row]
        np.testing.assert_allclose(firsts[index], expected, atol=1e-9)
