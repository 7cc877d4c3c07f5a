"""Cut points and overlaps against brute force, over all the ties that can occur."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import (
    cuts_between,
    default_cuts,
    entry_ranks,
    event_ranks,
    interval_from,
    interval_of,
    number_of_entry_cuts,
    number_of_intervals,
    person_time_by_group,
    person_time_by_interval,
    round_cuts,
    round_up,
    snap,
    snap_to,
    split,
    validate_cuts,
)

relaxed = settings(deadline=None)

GROUPS = 3
# Few distinct times, so that most of them tie with a cut; most are not exact in binary.
GRID: Floats = np.arange(40, dtype=np.float64) * np.float64(0.1)
cut_lists = st.sets(st.integers(1, 39), max_size=8).map(lambda ranks: GRID[sorted(ranks)])
grid_times = st.integers(0, 39).map(lambda rank: float(GRID[rank]))
grid_or_any = st.one_of(grid_times, st.floats(0, 5))


class Case(NamedTuple):
    """Episodes that are not empty, by group, and two sets of cuts."""

    start: Floats
    stop: Floats
    group: Ints
    cuts: Floats
    more: Floats

    def person_time(self, cuts: Floats) -> Floats:
        return person_time_by_group(self.start, self.stop, self.group, groups=GROUPS, cuts=cuts)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    ends = draw(st.lists(st.tuples(grid_or_any, grid_or_any), max_size=25))
    one, other, cuts, more = snap(
        [
            np.array([pair[0] for pair in ends]),
            np.array([pair[1] for pair in ends]),
            draw(cut_lists),
            draw(cut_lists),
        ]
    )
    kept = one != other
    start, stop = np.minimum(one, other)[kept], np.maximum(one, other)[kept]
    groups = st.lists(st.integers(0, GROUPS - 1), min_size=start.size, max_size=start.size)
    return Case(start, stop, np.array(draw(groups), dtype=np.int64), cuts, more)


def overlaps(start: Floats, stop: Floats, cuts: Floats) -> Floats:
    """Length of every episode in every interval, one at a time."""
    edges = [0.0, *cuts, np.inf]
    lengths = np.zeros((start.size, cuts.size + 1))
    for row in range(start.size):
        for column in range(cuts.size + 1):
            length = min(stop[row], edges[column + 1]) - max(start[row], edges[column])
            lengths[row, column] = max(length, 0.0)
    return lengths


@relaxed
@given(cases())
def test_exposure_is_the_sum_of_overlaps(case: Case) -> None:
    got = case.person_time(case.cuts)
    expected = np.zeros((GROUPS, case.cuts.size + 1))
    np.add.at(expected, case.group, overlaps(case.start, case.stop, case.cuts))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert got.sum() == pytest.approx((case.stop - case.start).sum(), rel=1e-9)
    # A cell that no episode touches holds exactly nothing, and none holds less than nothing.
    np.testing.assert_array_equal(got[expected == 0], 0.0)
    assert (got >= 0).all()


@relaxed
@given(cases())
def test_split_lists_every_overlap_once(case: Case) -> None:
    episode, interval, length = split(case.start, case.stop, case.cuts)
    assert (length > 0).all()
    cells = list(zip(episode.tolist(), interval.tolist(), strict=True))
    assert cells == sorted(set(cells))
    dense = np.zeros((case.start.size, case.cuts.size + 1))
    np.add.at(dense, (episode, interval), length)
    expected = overlaps(case.start, case.stop, case.cuts)
    np.testing.assert_allclose(dense, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dense.sum(axis=1), case.stop - case.start, rtol=1e-9)
    by_group = np.zeros((GROUPS, case.cuts.size + 1))
    np.add.at(by_group, (case.group[episode], interval), length)
    np.testing.assert_allclose(by_group, case.person_time(case.cuts), rtol=1e-9, atol=1e-12)


@relaxed
@given(cases())
def test_more_cuts_merge_back_to_the_same(case: Case) -> None:
    fine = np.union1d(case.cuts, case.more)
    merged = np.zeros((case.cuts.size + 1, GROUPS))
    np.add.at(merged, interval_of(np.append(fine, np.inf), case.cuts), case.person_time(fine).T)
    np.testing.assert_allclose(merged.T, case.person_time(case.cuts), rtol=1e-9, atol=1e-12)


@relaxed
@given(cases(), st.integers(0, 2**32 - 1))
def test_order_of_episodes_does_not_matter(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(case.start.size)
    shuffled = case._replace(
        start=case.start[order], stop=case.stop[order], group=case.group[order]
    )
    np.testing.assert_allclose(
        shuffled.person_time(case.cuts), case.person_time(case.cuts), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("width", [0.1, 0.3, 0.7, 2.3])
def test_many_starts_at_a_cut_leave_nothing_before_it(width: float) -> None:
    """Summed one by one, widths differ from their product by rounding, to either side."""
    for count in range(1, 40):
        start = np.full(count, width)
        got = person_time_by_group(
            start, start + 1.0, np.zeros(count, np.int64), groups=1, cuts=np.array([width])
        )
        assert got[0, 0] == 0.0
        assert got[0, 1] == pytest.approx(count)


def test_delayed_entry_counts_from_entry() -> None:
    got = person_time_by_group(
        np.array([2.5, 4.0]),
        np.array([7.0, 6.0]),
        np.array([0, 1]),
        groups=2,
        cuts=np.array([2.0, 4.0, 6.0]),
    )
    np.testing.assert_array_equal(got, [[0.0, 1.5, 2.0, 1.0], [0.0, 0.0, 2.0, 0.0]])


@relaxed
@given(st.lists(grid_or_any, max_size=20), cut_lists)
def test_a_time_at_a_cut_belongs_to_the_earlier_interval(times: list[float], cuts: Floats) -> None:
    got = interval_of(times, cuts)
    edges = np.array([-np.inf, *cuts, np.inf])
    assert got.tolist() == [sum(cut < time for cut in cuts) for time in times]
    assert (edges[got] < times).all()
    assert (times <= edges[got + 1]).all()


@relaxed
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.lists(st.integers(-9, 9), min_size=30, max_size=30),
)
def test_snap_makes_near_ties_exact_and_keeps_the_rest(ranks: list[int], noise: list[int]) -> None:
    exact = np.array(ranks) * 0.1
    noisy = exact * (1.0 + np.array(noise[: exact.size]) * 1e-11)
    before = noisy.copy()
    first, second = snap([noisy, exact])
    np.testing.assert_array_equal(noisy, before)
    np.testing.assert_array_equal(first, second)
    assert np.unique(first).size == len(set(ranks))
    np.testing.assert_allclose(first, exact, rtol=1e-9)
    # The smallest of its run, and nothing left to snap.
    for rank in set(ranks):
        run = np.array(ranks) == rank
        assert first[run][0] == min(noisy[run].min(), exact[run].min())
    np.testing.assert_array_equal(snap([first])[0], first)


def test_snap_knows_famous_near_ties() -> None:
    assert 0.1 + 0.2 != 0.3
    (got, table) = snap([np.array([0.1 + 0.2, np.nan, np.inf, 0.0]), np.array([[0.3], [0.31]])])
    np.testing.assert_array_equal(got, [0.3, np.nan, np.inf, 0.0])
    np.testing.assert_array_equal(table, [[0.3], [0.31]])


@pytest.mark.parametrize(("distance", "tied"), [(0.5e-9, True), (2e-9, False)])
@pytest.mark.parametrize("time", [1e-3, 1.0, 4e4])
def test_snap_is_relative(time: float, distance: float, *, tied: bool) -> None:
    (got,) = snap([np.array([time, time * (1.0 + distance)])])
    assert (got[0] == got[1]) == tied


@relaxed
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=120),
    st.lists(st.lists(st.integers(1, 60), max_size=40), max_size=3),
    st.integers(1, 3),
)
def test_default_cuts_lie_between_different_times(
    ranks: list[int], entered: list[list[int]], endpoints: int
) -> None:
    times = np.array(ranks) * 0.7
    entries = [np.array(one) * 0.7 for one in entered]
    cuts = default_cuts(times, endpoints=endpoints, entry_times=entries)
    assert (np.diff(cuts) > 0).all()
    assert (cuts < times.max()).all()
    pooled = np.unique(np.concatenate([times, *entries]))
    assert not np.isin(cuts, times).any()
    # Each is the middle of two neighbours: of event times, or of all times.
    for cut in cuts:
        middles = [
            (one[one > cut].min(initial=np.inf) + one[one < cut].max(initial=-np.inf)) / 2.0
            for one in (np.unique(times), pooled)
        ]
        assert np.isclose(middles, cut, rtol=1e-12).any()
    # Without entries every interval has events.
    alone = default_cuts(times, endpoints=endpoints)
    assert set(interval_of(times, alone)) == set(range(alone.size + 1))
    assert alone.size < number_of_intervals(times.size / endpoints)
    np.testing.assert_allclose(
        default_cuts(
            30.4375 * times,
            endpoints=endpoints,
            entry_times=[30.4375 * one for one in entries],
        ),
        30.4375 * cuts,
        rtol=1e-12,
    )


def test_default_cuts_share_the_events_out() -> None:
    times = np.random.default_rng(1).permutation(np.arange(1.0, 101.0))
    cuts = default_cuts(times)
    counts = np.bincount(interval_of(times, cuts))
    assert counts.size == number_of_intervals(100) > 10
    assert np.ptp(counts) <= 2
    assert default_cuts(times, parts=2).tolist() == [50.5]
    assert default_cuts(times, parts=1).size == 0
    assert default_cuts(np.full(50, 3.0)).size == 0
    assert default_cuts([]).size == 0


def test_default_cuts_where_patients_enter() -> None:
    events = [1.0, 4.0, 6.0, 9.0]
    # All enter at once: one cut, just before, next to the event before.
    assert default_cuts(events, parts=1, entry_times=[np.full(80, 3.0)]).tolist() == [2.0]
    # Quantiles of twenty: the 1st, 4th, 7th, 10th, 13th, 16th and 19th, each before its quantile.
    entered = 4.0 + np.arange(1, 21) / 10.0
    expected = 4.0 + (np.array([1, 4, 7, 10, 13, 16, 19]) - 0.5) / 10.0
    # The first one's neighbour is the event at 4, the last one's that at 5.8 before it.
    np.testing.assert_allclose(default_cuts(events, parts=1, entry_times=[entered]), expected)
    # Nobody's time lies before, or no event after: no cut.
    assert default_cuts(events, parts=1, entry_times=[[0.5], [12.0], []]).size == 0
    # Kinds are taken apart: few who enter one state are seen beside many who enter another.
    both = default_cuts(events, parts=1, entry_times=[np.full(80, 3.0), [8.0]])
    assert both.tolist() == [2.0, 7.0]


@relaxed
@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_number_of_intervals_grows_slowly(one: float, other: float) -> None:
    fewer, more = sorted((one, other))
    assert 1 <= number_of_intervals(fewer) <= number_of_intervals(more)
    assert number_of_intervals(more) <= max(1.0, more / 3)
    assert number_of_intervals(more) <= 100
    if 2_000 <= fewer <= 20_000:  # the third root, up to rounding
        assert abs(number_of_intervals(8 * fewer) - 2 * number_of_intervals(fewer)) <= 2


@relaxed
@given(cut_lists)
def test_good_cuts_come_back_as_a_copy(cuts: Floats) -> None:
    got = validate_cuts(cuts)
    np.testing.assert_array_equal(got, cuts)
    assert got.dtype == np.float64
    assert not np.shares_memory(got, cuts)
    np.testing.assert_array_equal(validate_cuts(tuple(cuts)), cuts)


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ("soon", "cuts must be numbers, got 'soon'"),
        ([3, "x"], "cuts must be numbers"),
        ([[3.0, 6.0]], "flat sequence, got 2 dimensions"),
        (5.0, "flat sequence, got 0 dimensions"),
        ([0.0, 3.0], "leave out 0 and infinity"),
        ([-1.0], "greater than 0"),
        ([3.0, np.inf], "finite"),
        ([np.nan], "finite"),
        ([6.0, 3.0], "strictly increasing"),
        ([3.0, 3.0], "strictly increasing"),
        ([0.3, 0.1 + 0.2], "strictly increasing"),
    ],
)
def test_impossible_cuts_are_refused(cuts: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        validate_cuts(cuts)


def test_default_cuts_do_not_part_times_that_differ_by_noise() -> None:
    """Many patients are not compared with one another: their times come with noise."""
    times = np.repeat([1.0, 2.0, 3.0, 4.0], 100)
    noise = np.random.default_rng(1).integers(-3, 4, times.size) * 1e-13
    cuts = default_cuts(times * (1.0 + noise))
    np.testing.assert_allclose(cuts, [1.5, 2.5, 3.5], rtol=1e-12)


def test_numbers_of_intervals_and_of_cuts_at_entries() -> None:
    # One part for three events up to twenty; from 1,493 events on the third root, up to a hundred.
    counts = (0, 2, 3, 5, 6, 59, 60, 1_400, 1_600, 8_100, 1e6)
    found = [number_of_intervals(events) for events in counts]
    assert found == [1, 1, 1, 1, 2, 19, 20, 20, 20, 35, 100]
    assert number_of_intervals(-1.0) == 1
    assert [number_of_entry_cuts(parts) for parts in (1, 28, 31, 32, 100)] == [7, 7, 7, 8, 25]


def test_ranks_are_those_of_shares() -> None:
    """The smallest value that a share of all do not exceed: 2.5 of ten is the third."""
    assert event_ranks(10, parts=4).tolist() == [2, 4, 7]
    # A share that is whole but for rounding is whole: 0.1 * 30 is 3.
    assert event_ranks(30, parts=10).tolist() == [2, 5, 8, 11, 14, 17, 20, 23, 26]
    assert event_ranks(2, parts=4).tolist() == [0, 1]
    assert event_ranks(0, parts=4).tolist() == []
    assert event_ranks(5, parts=1).tolist() == []
    # Seven shares from 0.05 to 0.95 of a hundred.
    assert entry_ranks(100, parts=20).tolist() == [4, 19, 34, 49, 64, 79, 94]
    assert entry_ranks(1, parts=20).tolist() == [0]
    assert entry_ranks(10, parts=40).size == 10


def test_cuts_lie_between_and_before_the_last() -> None:
    low = np.array([1.0, 1.0, -np.inf, 5.0, 8.0, 9.0, -3.0])
    high = np.array([2.0, 2.0 + 1e-10, 0.5, np.inf, 9.0, 11.0, 2.0])
    # Equal but for rounding, without a neighbour, at the last event, and below 0.
    assert cuts_between(np.stack([low, high]), 10.0).tolist() == [1.5, 8.5]
    assert cuts_between(np.stack([low, high]), 10.0 * (1.0 + 1e-6)).tolist() == [1.5, 8.5, 10.0]
    assert cuts_between(np.stack([low, high]), 10.0 * (1.0 + 1e-10)).tolist() == [1.5, 8.5]
    assert cuts_between(np.array([[1.0, 1.0], [2.0, 2.0 + 1e-7]]), 9.0).size == 2


def test_a_time_moves_to_the_nearest_that_is_it_but_for_rounding() -> None:
    met = 0.1 + 0.2
    others = np.array([[np.nan, 0.3], [np.inf, 4.0]])
    assert snap_to(met, others) == 0.3
    assert snap_to(4.0 * (1.0 - 1e-10), others) == 4.0
    assert snap_to(4.0 * (1.0 + 1e-8), others) == 4.0 * (1.0 + 1e-8)
    assert snap_to(5e4 * (1.0 + 5e-10), np.array([5e4])) == 5e4
    assert snap_to(1e-3 + 5e-10, np.array([1e-3])) == 1e-3 + 5e-10
    assert snap_to(2.0, np.array([np.nan])) == 2.0
    # The nearer of two.
    assert snap_to(1.0, np.array([1.0 + 9e-10, 1.0 - 3e-10])) == 1.0 - 3e-10


@relaxed
@given(st.lists(grid_or_any, max_size=20), cut_lists)
def test_a_time_at_a_cut_opens_the_later_interval(times: list[float], cuts: Floats) -> None:
    got = interval_from(times, cuts)
    assert got.tolist() == [sum(cut <= time for cut in cuts) for time in times]
    assert got.dtype == np.int64


def test_cuts_that_times_meet_by_rounding() -> None:
    """On either side: 0.1 + 0.2 is 0.3."""
    met = 0.1 + 0.2
    for time, cut in ((met, 0.3), (0.3, met)):
        assert interval_of([time], np.array([cut])).tolist() == [0]
        assert interval_from([time], np.array([cut])).tolist() == [1]
    assert interval_of([0.3 * (1.0 + 1e-8)], np.array([0.3])).tolist() == [1]
    assert interval_from([0.3 * (1.0 - 1e-8)], np.array([0.3])).tolist() == [0]
    with pytest.raises(SpecError, match="strictly increasing"):
        validate_cuts([1.0, 1.0 + 5e-10])
    with pytest.raises(SpecError, match="strictly increasing"):
        validate_cuts([5e4, 5e4 + 1e-5])
    assert validate_cuts([1.0, 1.0 + 2e-9]).size == 2
    assert validate_cuts([5e4, 5e4 + 1e-4]).size == 2


def test_person_time_from_sums_at_the_ends_of_episodes() -> None:
    """One group, two moments; episodes (1, 5] of weights 1 and 3, and (2, 3] of weights 1 and 2."""
    cuts = np.array([2.0, 4.0])
    # Distances of stops from the left edges of their intervals, less those of starts.
    partial = np.array([[[[-1.0, -3.0], [1.0, 2.0], [1.0, 3.0]]]])
    passed = np.array([[[[-1.0, -3.0], [0.0, 0.0], [1.0, 3.0]]]])
    opened = np.array([[[1, 1, -1, -1]]])
    found = person_time_by_interval(partial, passed, opened, cuts)
    assert found[0, 0].tolist() == [[1.0, 3.0], [3.0, 8.0], [1.0, 3.0]]
    assert partial[0, 0, 0].tolist() == [-1.0, -3.0]
    # Two that begin at 1, and end at 5 and at 7.
    ends = np.array([-2.0, 0.0, 1.0, 1.0])[None, None, :, None]
    two = person_time_by_interval(
        ends, ends, np.array([[[2, 0, 0, -1, -1]]]), np.array([2.0, 4.0, 6.0])
    )
    assert two.ravel().tolist() == [2.0, 4.0, 3.0, 1.0]
    # Where nobody is at risk there is exactly nothing, whatever rounding leaves.
    noise = partial + np.array([[[[0.0, 0.0], [0.0, 0.0], [1e-16, 0.0]]]])
    none = person_time_by_interval(noise, passed, np.array([[[1, 0, -1, 0]]]), cuts)
    assert none[0, 0].tolist() == [[1.0, 3.0], [3.0, 8.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("time", "expected"),
    [(0.0, 0.0), (7.996, 8.0), (8.0, 8.0), (8.0 + 1e-11, 8.0), (101.0, 110.0), (0.0123, 0.013)],
)
def test_times_chosen_from_patients_are_rounded_up(time: float, expected: float) -> None:
    assert round_up(time) == pytest.approx(expected, rel=1e-12)


def test_cuts_chosen_from_patients_are_rounded() -> None:
    """By hand: each part keeps events, and no cut has more than two digits."""
    times = np.array([2.113, 7.994, 7.998, 13.91, 13.918, 30.0])
    assert round_cuts(np.array([7.996, 13.914]), times).tolist() == [8.0, 14.0]
    # 14.06 and 14.1 are 14 both; nothing happens between 7.6 and 7.9; 31 is after all events.
    assert round_cuts(np.array([14.06, 14.1]), times).tolist() == [14.0]
    assert round_cuts(np.array([7.61, 7.92]), times).tolist() == [7.6]
    assert round_cuts(np.array([7.61, 30.9]), times).tolist() == [7.6]
    # 10 would have no event after it, or none before: there is time on both sides of 9.9 and 10.
    assert round_cuts(np.array([9.975]), np.array([9.97, 9.98])).tolist() == [9.9]
    assert round_cuts(np.array([10.15]), np.array([10.1, 10.2])).tolist() == [10.0]
