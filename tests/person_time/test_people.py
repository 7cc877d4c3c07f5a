"""Whose the rows are, and values that are made when they are asked for."""

import pickle

import numpy as np

from bayesblina.person_time.cells.people import Lazily, Persons


def test_rows_of_persons() -> None:
    own = Persons(ids=np.array(["a", "b", "c"]), of=np.arange(3))
    assert not own.in_pieces
    assert [found.tolist() for found in own.rows(np.array([2, 0]))] == [[2, 0], [0, 1]]
    # Rows 1, 2 and 4 are a's; those of each person stay in their order.
    pieces = Persons(ids=np.array(["b", "a", "c"]), of=np.array([0, 1, 1, 2, 1, 0]))
    assert pieces.size == 3
    assert pieces.in_pieces
    rows, place = pieces.rows(np.array([1, 0]))
    assert rows.tolist() == [1, 2, 4, 0, 5]
    assert place.tolist() == [0, 0, 0, 1, 1]


def test_many_rows_of_a_person_stay_in_order() -> None:
    """More rows than a sort that is not stable leaves in their order."""
    of = np.tile([1, 0], 500)
    rows, place = Persons(ids=np.array(["a", "b"]), of=of).rows(np.array([1, 0]))
    assert rows.tolist() == [*range(0, 1000, 2), *range(1, 1000, 2)]
    assert place.tolist() == [0] * 500 + [1] * 500


def test_a_value_is_made_once() -> None:
    made = []

    def make() -> int:
        made.append(1)
        return len(made)

    held = Lazily(make)
    assert not made
    assert (held(), held(), made) == (1, 1, [1])
    # It goes elsewhere as the value, made or not: what makes it here is no function of a module.
    assert pickle.loads(pickle.dumps(Lazily(make)))() == 2
    assert Lazily.of("there")() == "there"
