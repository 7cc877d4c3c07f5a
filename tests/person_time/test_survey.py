"""Passes over blocks of a scan: in one process, or by parts that are put together."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.patients.scan.passes import packed, unpacked
from bayesblina.person_time.binding import bind
from bayesblina.person_time.cells import ranks as ranks_of_times
from bayesblina.person_time.cells.blocks import Blocks
from bayesblina.person_time.cells.patterns import Terms
from bayesblina.person_time.cells.ranks import TimesInBins, order_statistics
from bayesblina.person_time.cells.summing import Grouping, GroupSums
from bayesblina.person_time.cells.survey import Survey, merged_spread, survey
from bayesblina.person_time.follow_up import effect_kinds
from bayesblina.person_time.segments import course_of
from tests.patients.test_scan import COLUMNS

pa = pytest.importorskip("pyarrow", reason="the extra `scale` is not installed")
pytest.importorskip("ibis", reason="the extra `scale` is not installed")


def blocks_of(table: Any, question: bb.Question, **columns: Any) -> Blocks:
    scan = bb.scan_cohort(table, **columns)
    course = course_of(scan, question)
    return Blocks(scan, course, bind(question, scan), effect_kinds(course.phase_names, question))


def halves(partial: Any, batch: Any, cut: int) -> tuple[Any, Any]:
    """Add all patients up at once, and in two processes whose sums are put together."""
    together, apart = partial(), partial()
    together.add(batch)
    for part in (batch[:cut], batch[cut:]):
        there = partial()
        there.add(part)
        apart.merge(unpacked(packed(there.state())))
    return together, apart


def all_of(table: Any) -> Any:
    """Read a table of an engine as one block."""
    return table.to_pyarrow().combine_chunks().to_batches()[0]


def test_the_spread_of_blocks_is_that_of_all() -> None:
    generator = np.random.default_rng(1)
    # Far apart from each other, and of several sizes: most of the variance is between blocks.
    sizes = [7, 5, 3, 40]
    parts = [
        generator.normal(mean, 1.0, n) for mean, n in zip((0, 900, 50, -9), sizes, strict=True)
    ]
    # Whoever's follow-up ends as it begins does not count.
    out = np.repeat([False, True, False, False], sizes)
    table = pd.DataFrame(
        {
            "id": np.arange(55),
            "time": 5.0,
            "event": 1,
            "start": np.where(out, np.nan, 2.0),
            "marker": np.concatenate(parts),
        }
    )
    blocks = blocks_of(
        table,
        bb.Question(exposed="late", eligible_from="late"),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["marker"],
    )
    batch = all_of(blocks._coded.mutate(hash=blocks._coded["id"].hash()))
    whole, merged = (Survey(blocks.asked, continuous=1, combinations=1) for _ in range(2))
    for first, size in zip(np.cumsum([0, *sizes]).tolist(), sizes, strict=False):
        whole.add(batch[first : first + size])
        part = Survey(blocks.asked, continuous=1, combinations=1)
        part.add(batch[first : first + size])
        merged.merge(unpacked(packed(part.state())))
    together = np.concatenate([parts[0], parts[2], parts[3]])
    for spread in (whole, merged):
        assert spread.sd[0] == pytest.approx(together.std(), rel=1e-12)
        assert (spread.low[0], spread.high[0]) == (together.min(), together.max())
        assert spread.bounds[0].reasons.tolist() == [0, 5, 0, 0, 0, 0, 0, 50]
        assert spread.left_out(0, 1) == ("7", "8", "9", "10", "11")


def test_the_spread_of_one_patient_is_her_value() -> None:
    """Whoever is merged first, and nobody before her or after."""
    nobody, one = np.zeros((3, 1)), np.array([[1.0], [7.0], [0.0]])
    for first, second in ((nobody, one), (one, nobody)):
        assert merged_spread(first, second).tolist() == one.tolist()
    assert merged_spread(nobody, nobody).tolist() == nobody.tolist()
    # 7 and 3 lie 2 from their mean.
    both = merged_spread(one, np.array([[1.0], [3.0], [0.0]]))
    assert both.tolist() == [[2.0], [5.0], [8.0]]


@pytest.mark.parametrize("eligible", ["consolidation", "entry"])
def test_parts_put_together_come_to_what_all_come_to(eligible: str) -> None:
    table = bb.simulate.blinatumomab_table(
        5, n_patients=7000, n_consolidation=2250, n_maintenance=940
    )
    columns = COLUMNS | {"covariates": ["age_group", "marrow_blasts"]}
    question = bb.Question(exposed="maintenance", eligible_from=eligible, transplant="censor")
    blocks = blocks_of(table, question, **columns)
    batch = all_of(blocks._coded.mutate(hash=blocks._coded["id"].hash()))
    looks = halves(lambda: Survey(blocks.asked, continuous=1, combinations=3), batch, cut=2345)
    seen, other = looks
    assert other.codes.tolist() == seen.codes.tolist() == [0, 1, 2]
    assert other.earliest == seen.earliest
    assert sorted(seen.bins) == ["begin", "entry 0", "entry 1", "event"]
    for moment, bins in seen.bins.items():
        assert bins.any() or moment == "entry 0"
        np.testing.assert_array_equal(other.bins[moment], bins)
    for one, two in zip(seen.bounds, other.bounds, strict=True):
        assert two.reasons.tolist() == one.reasons.tolist()
        assert two.time_at_risk == pytest.approx(one.time_at_risk, rel=1e-12)
        for name in ("first_begin", "last_begin", "last_exit", "events"):
            assert getattr(two, name) == getattr(one, name)
    for reason in range(6):
        assert other.left_out(1, reason) == seen.left_out(1, reason)
        assert len(seen.left_out(1, reason)) == min(10, seen.bounds[1].reasons[reason])
    assert other.sample(blocks.columns()).equals(seen.sample(blocks.columns()))
    assert len(seen.sample(["id"])) == 2000
    # The two tables that the passes read of those who may become eligible, and of the others.
    read = survey(blocks)
    np.testing.assert_array_equal(read.bins["event"], seen.bins["event"])
    assert [one.reasons.tolist() for one in read.bounds] == [
        one.reasons.tolist() for one in seen.bounds
    ]
    assert [read.left_out(1, one) for one in range(6)] == [
        seen.left_out(1, one) for one in range(6)
    ]
    some = {moment: np.flatnonzero(bins)[::2] for moment, bins in seen.bins.items()}
    times, same = halves(lambda: TimesInBins(blocks.asked, some), batch, cut=2345)
    for moment, (values, often) in times.counts().items():
        np.testing.assert_array_equal(same.counts()[moment], (values, often))
        assert often.sum() == seen.bins[moment][some[moment]].sum()
        assert often.dtype == np.int64


def test_sums_of_parts_are_put_together() -> None:
    table = bb.simulate.blinatumomab_table(
        5, n_patients=3000, n_consolidation=960, n_maintenance=400
    )
    question = bb.Question(exposed="maintenance", eligible_from="entry", transplant="censor")
    blocks = blocks_of(table, question, **COLUMNS)
    grouping = Grouping(
        codes=np.arange(6),
        group=np.array([1, 0, 2, 1, 0, 2]),
        terms=_terms(3),
        described=(),
        compression=None,
    )
    sums = halves(
        lambda: GroupSums(
            blocks.asked, grouping, (), np.array([3.0, 8.0]), np.array([6.0, 9.0]), 6
        ),
        all_of(blocks._coded),
        cut=1000,
    )
    for one, two in zip(*(part.tallies() for part in sums), strict=True):
        assert one.events.sum() > 500
        np.testing.assert_array_equal(two.events, one.events)
        np.testing.assert_allclose(two.person_time, one.person_time, rtol=1e-12, atol=1e-9)
        np.testing.assert_array_equal(two.first, one.first)
        np.testing.assert_array_equal(two.longest, one.longest)
        np.testing.assert_array_equal(two.visitors, one.visitors)
    assert sums[0].patients.sum() == 3000.0
    np.testing.assert_array_equal(sums[1].patients, sums[0].patients)
    np.testing.assert_array_equal(sums[1].at_risk, sums[0].at_risk)


def test_times_are_counted_before_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten patients, one by one, each has an event and a beginning: three at most may wait."""
    monkeypatch.setattr(ranks_of_times, "HELD", 3)
    table = pd.DataFrame(
        {"id": np.arange(10), "time": [5.0, 6.0] * 5, "died": 1, "start": [2.0, None] * 5}
    )
    blocks = blocks_of(
        table,
        bb.Question(exposed="late", eligible_from="entry"),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died")},
        phases=bb.Phases(late="start"),
    )
    batch = all_of(blocks._coded.mutate(hash=blocks._coded["id"].hash()))
    seen = Survey(blocks.asked, continuous=0, combinations=1)
    seen.add(batch)
    times = TimesInBins(
        blocks.asked, {moment: np.flatnonzero(bins) for moment, bins in seen.bins.items()}
    )
    for row in range(10):
        times.add(batch[row : row + 1])
        assert sum(values.size for values, _ in times._parts["event"]) <= 4
    values, often = times.counts()["event"]
    assert (values.tolist(), often.tolist()) == ([5.0, 6.0], [5, 5])


def _terms(groups: int) -> Terms:
    return Terms(names=(), continuous=(), design=np.zeros((groups, 0)))


def test_order_statistics_and_their_neighbours_are_exact() -> None:
    generator = np.random.default_rng(1)
    size = 6000
    entry = np.where(generator.random(size) < 0.5, 0.5, 0.5 + generator.exponential(1.0, size))
    time = np.round(entry + generator.exponential(5.0, size), 2) + 0.01
    start = np.round(generator.exponential(3.0, size), 1) + 0.003
    start[(start >= time) | (generator.random(size) < 0.5)] = np.nan
    died = generator.random(size) < 0.7
    table = pd.DataFrame(
        {"id": np.arange(size), "time": time, "died": died.astype(int), "entry": entry}
    ).assign(start=start)
    blocks = blocks_of(
        table,
        bb.Question(exposed="late", eligible_from="entry"),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died", entry="entry")},
        phases=bb.Phases(late="start"),
    )
    ranks = {
        "event": np.array([0, 1, 17, 2000, died.sum() - 1]),
        "entry 1": np.array([3, 250, 499]),
        "begin": np.array([4000, 5999]),
    }
    found = order_statistics(blocks, survey(blocks), ranks)
    events, entered = time[died], start[start > entry]
    pooled = np.concatenate([events, entered, entry[entry > 0.5]])
    for moment, values in (("event", events), ("entry 1", entered), ("begin", entry)):
        expected = np.sort(values)[ranks[moment]]
        np.testing.assert_array_equal(found[moment][0], expected)
        for index, value in enumerate(expected):
            if moment == "event":
                after = events[events > value * (1.0 + 1e-9)].min(initial=np.inf)
                assert found[moment][2, index] == after
            else:
                before = pooled[(pooled < value * (1.0 - 1e-9)) & (pooled > 0.5)]
                assert found[moment][1, index] == before.max(initial=-np.inf)
