"""Patients added up block by block: the same as in memory, whatever the size of a block."""

from typing import Any

import numpy as np
import pytest
from bayesblina.person_time.cells.streamed import _AtFirst, _bins_of, _Chosen, _Codes, _Values

import bayesblina as bb
from bayesblina.patients.scan import engines
from bayesblina.person_time.cells import streamed
from bayesblina.person_time.cells.ordered import BINS
from bayesblina.person_time.cells.survey import _add_to_bins
from tests.patients.test_scan import require_same
from tests.person_time.patients import DECLARED, QUESTION, table

pa = pytest.importorskip("pyarrow", reason="the extra `scale` is not installed")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few patients, and little that is held."""
    monkeypatch.setattr(engines, "ROWS", 7)
    monkeypatch.setattr(streamed, "HELD", 3)


@pytest.mark.parametrize("listed", [6, 5])
@pytest.mark.parametrize("transplant", ["phase", "censor"])
@pytest.mark.parametrize("covariates", [["site", "sex"], ["site", "score", "sex"]])
def test_blocks_sum_what_memory_sums(
    monkeypatch: pytest.MonkeyPatch, covariates: list[str], transplant: Any, listed: int
) -> None:
    """Six combinations of levels: listed, or looked up by bisection."""
    monkeypatch.setattr(streamed, "LISTED", listed)
    question = bb.Question(exposed="late", eligible_from="early", transplant=transplant, lag=0.5)
    declared = {**DECLARED, "covariates": covariates}
    patients = table()
    compress = True if "score" in covariates else None
    memory = bb.person_time(bb.read_cohort(patients, **declared), question, compress=compress)
    landmarks = [0.0, 1.25, 4.0]
    scan = bb.scan_cohort(patients, **declared)
    found = bb.person_time(scan, question, landmarks=landmarks)
    require_same(memory, found)
    for time in landmarks:
        np.testing.assert_allclose(found.at_risk(time), memory.at_risk(time), atol=1e-9)
    # Half the patients begin by then, some of them at that time.
    begins = memory.people["begin"].values
    assert (begins == 1.25).any()
    # The first ten, by their ids.
    assert [(one.endpoint, one.reason, one.size) for one in found.left_out] == [
        (one.endpoint, one.reason, one.size) for one in memory.left_out
    ]
    assert max(one.size for one in found.left_out) > 10
    for one, other in zip(found.left_out, memory.left_out, strict=True):
        assert one.patients == tuple(sorted(other.patients)[:10])


def test_all_who_contribute_are_the_sample_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = table()
    memory = bb.person_time(bb.read_cohort(patients, **DECLARED), QUESTION)
    scan = bb.scan_cohort(patients, **DECLARED)
    people = bb.person_time(scan, QUESTION).patients().people
    assert sorted(people["patient"].values) == sorted(memory.people["patient"].values)
    ordered = people["patient"].values
    own = memory.people.sel(patient=ordered)
    for name in ("begin", "exit", "event"):
        np.testing.assert_array_equal(people[name].values, own[name].values, err_msg=name)
    # Of more, the same few whatever comes first.
    monkeypatch.setattr(streamed, "SAMPLE", 5)
    monkeypatch.setattr(engines, "ROWS", 3)
    shuffled = patients.sample(frac=1.0, random_state=3)
    samples = [
        bb.person_time(bb.scan_cohort(one, **DECLARED), QUESTION).patients().people["patient"]
        for one in (patients, shuffled)
    ]
    assert samples[0].size == 5
    assert samples[0].values.tolist() == samples[1].values.tolist()
    assert samples[0].values.tolist() == ordered[:5].tolist()


def test_bins_rise_with_time() -> None:
    """1024 to each factor of 2; 0 is in the first, whatever its sign."""
    times = np.array([0.0, -0.0, 1.0, 1.0 + 1 / 2048, 1.0 + 1 / 1024, 2.0, 1e9])
    bins = _bins_of(times)
    assert bins.dtype == np.int64
    assert bins[:2].tolist() == [0, 0]
    assert np.diff(bins[2:6]).tolist() == [0, 1, 1023]
    assert bins[-1] < BINS


def test_times_are_counted_by_bin() -> None:
    counts = np.zeros(4, dtype=np.int64)
    _add_to_bins(np.array([1, 3, 1, 0]), np.array([True, True, True, False]), counts)
    _add_to_bins(np.array([1]), np.array([True]), counts)
    assert counts.tolist() == [0, 3, 0, 1]


def test_values_and_their_counts() -> None:
    held = _Values()
    assert [one.tolist() for one in held.counts()] == [[], []]
    parts: list[list[float]] = [[2.0, 1.0], [2.0], [5.0, 2.0, 1.0], [], [3.0]]
    for part in parts:
        held.add(np.array(part))
    values, counts = held.counts()
    assert values.tolist() == [1.0, 2.0, 3.0, 5.0]
    assert counts.tolist() == [2, 3, 1, 1]
    assert counts.dtype == np.int64


def test_values_are_held_as_counts_beyond_a_number() -> None:
    """Four are more than three; then none waits."""
    held = _Values()
    held.add(np.ones(3))
    assert (held._waiting, len(held._parts)) == (3, 1)
    held.add(np.ones(1))
    assert (held._waiting, held._parts, held._counts.tolist()) == (0, [], [4])
    held.add(np.ones(2))
    assert held._waiting == 2


def test_how_many_begin_first() -> None:
    """But for rounding; a new first makes those before it late."""
    found = _AtFirst()
    found.add(np.empty(0))
    assert (found.time, found.count) == (np.inf, 0)
    found.add(np.array([3.0, 2.0, 2.0 + 1e-13]))
    assert (found.time, found.count) == (2.0, 2)
    found.add(np.array([2.0 - 1e-13, 5.0]))
    assert (found.time, found.count) == (2.0, 3)
    found.add(np.array([7.0]))
    assert found.count == 3
    found.add(np.array([1.0, 2.0]))
    assert (found.time, found.count) == (1.0, 1)


@pytest.mark.parametrize("listed", [10, 9])
def test_combinations_that_occur(monkeypatch: pytest.MonkeyPatch, listed: int) -> None:
    monkeypatch.setattr(streamed, "LISTED", listed)
    found = _Codes(10)
    for codes in ([7, 2], [], [2, 9]):
        found.add(np.array(codes, dtype=np.int64))
    present = found.present()
    assert present.tolist() == [2, 7, 9]
    assert present.dtype == np.int64


def test_patients_with_the_smallest_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal hashes are taken in the order of ids; what is kept is cut down beyond ten times it."""
    monkeypatch.setattr(streamed, "SAMPLE", 3)
    chosen = _Chosen()
    hashes = np.random.default_rng(1).permutation(100) // 2
    ids = [f"p{row:03d}" for row in np.random.default_rng(2).permutation(100)]
    rows = np.arange(100) % 5 > 0
    for first in range(0, 100, 9):
        part = slice(first, first + 9)
        batch = pa.RecordBatch.from_pydict({"id": ids[part], "hash": hashes[part]})
        chosen.add(batch, hashes[part], rows[part])
        assert chosen._rows <= 30
    expected = sorted((hashes[row], ids[row]) for row in np.flatnonzero(rows))[:3]
    frame = chosen.frame(["id"])
    assert frame.columns.tolist() == ["id"]
    assert frame["id"].tolist() == [name for _, name in expected]


def test_nobody_is_chosen_of_nobody() -> None:
    chosen = _Chosen()
    batch = pa.RecordBatch.from_pydict({"id": ["a"], "hash": [1]})
    chosen.add(batch, np.array([1]), np.array([False]))
    frame = chosen.frame(["id", "hash"])
    assert frame.columns.tolist() == ["id", "hash"]
    assert frame.empty
