"""Times at ranks and their neighbours, from bins, against the sorted times themselves."""

import numpy as np
import pytest

from bayesblina.core.arrays import Floats, Ints
from bayesblina.person_time.cells.ordered import bins_to_read, look_up, moments

BINS = 12


def bin_of(times: Floats) -> Ints:
    return np.floor(times).astype(np.int64)


def counted(times: Floats) -> Ints:
    return np.bincount(bin_of(times), minlength=BINS)


def test_bins_of_ranks_and_of_their_neighbours() -> None:
    """Events lie in bins 2 (two), 5 and 9; entries in 3 (two) and 7; a late begin in 6."""
    times = {
        "event": np.array([2.1, 2.2, 5.0, 9.0]),
        "entry 1": np.array([3.0, 3.5, 7.5]),
        "begin": np.array([6.0]),
    }
    counts = {name: counted(one) for name, one in times.items()}

    def read(**ranks: list[int]) -> dict[str, list[int]]:
        asked = {name.replace("_", " "): np.array(one) for name, one in ranks.items()}
        return {
            name: np.flatnonzero(one).tolist() for name, one in bins_to_read(counts, asked).items()
        }

    none: list[int] = []
    # Of an event its own bin and the next one that holds an event.
    assert read(event=[0]) == {"event": [2, 5], "entry 1": none, "begin": none}
    assert read(event=[1, 2]) == {"event": [2, 5, 9], "entry 1": none, "begin": none}
    assert read(event=[3]) == {"event": [9], "entry 1": none, "begin": none}
    # Of an entry all that lies in its own bin, and in the one before that holds anything.
    assert read(entry_1=[1]) == {name: [2, 3] for name in times}
    assert read(entry_1=[2]) == {name: [6, 7] for name in times}
    assert read(begin=[0]) == {name: [5, 6] for name in times}
    assert read(event=[3], begin=[0]) == {"event": [5, 6, 9], "entry 1": [5, 6], "begin": [5, 6]}
    # Nothing lies before the first.
    counts["begin"] = counted(np.array([1.0]))
    assert read(begin=[0]) == {name: [1] for name in times}


@pytest.mark.parametrize("seed", range(8))
def test_look_ups_are_those_of_sorted_times(seed: int) -> None:
    random = np.random.default_rng(seed)
    earliest = 0.5
    times = {
        name: np.sort(random.integers(6, 110, size) / 10.0)
        for name, size in (("event", 25), ("entry 0", 9), ("begin", 6))
    }
    times["begin"][0] = earliest
    ranks = {
        "event": np.unique(random.integers(0, 25, 4)),
        "entry 0": np.unique(random.integers(0, 9, 3)),
        "begin": np.array([1, 4]),
    }
    counts = {name: counted(one) for name, one in times.items()}
    values = {}
    for name, wanted in bins_to_read(counts, ranks).items():
        values[name] = np.unique(times[name][wanted[bin_of(times[name])]], return_counts=True)
    found = look_up(counts, values, ranks, bin_of=bin_of, earliest=earliest)
    pooled = np.concatenate(list(times.values()))
    for name, asked in ranks.items():
        at, before, after = found[name]
        expected = times[name][asked]
        assert at.tolist() == expected.tolist()
        if name == "event":
            events = times["event"]
            later = [events[events > one].min(initial=np.inf) for one in expected]
            assert after.tolist() == later
        else:
            earlier = [
                pooled[(pooled < one) & (pooled > earliest)].max(initial=-np.inf)
                for one in expected
            ]
            assert before.tolist() == earlier


def test_neighbours_differ_by_more_than_rounding() -> None:
    met = 0.1 + 0.2
    events = np.array([0.2, 0.3, met, 0.7])
    entries = np.array([0.3, met])
    counts = {"event": counted(events), "entry 0": counted(entries), "begin": counted(events[:0])}
    values = {
        "event": (events, np.ones(4, dtype=np.int64)),
        "entry 0": (entries, np.ones(2, dtype=np.int64)),
        "begin": (events[:0], np.zeros(0, dtype=np.int64)),
    }
    ranks = {"event": np.array([0, 1, 2, 3]), "entry 0": np.array([1])}
    found = look_up(counts, values, ranks, bin_of=bin_of, earliest=0.2 * (1.0 - 1e-12))
    assert found["event"][0].tolist() == events.tolist()
    assert found["event"][2].tolist() == [0.3, 0.7, 0.7, np.inf]
    # The event at 0.2 is nobody's neighbour: it lies at the earliest begin.
    assert found["event"][1].tolist() == [-np.inf, -np.inf, -np.inf, met]
    assert found["entry 0"][:, 0].tolist() == [met, -np.inf, 0.7]


def test_kinds_of_entry() -> None:
    assert moments((0, 1, 0, 2)) == {"entry 0": 0, "entry 1": 1, "entry 2": 2}
    assert moments((0,)) == {"entry 0": 0}
    assert moments(()) == {}
