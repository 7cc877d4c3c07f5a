"""The account of patients hides small counts, and what would tell them."""

from itertools import product

import pandas as pd
from hypothesis import given
from hypothesis import settings as setting
from hypothesis import strategies as st

from bayesblina.core.episodes import POSITIONS
from bayesblina.core.masking import MASK, Sum, is_small, mask
from bayesblina.output.report.hiding import account


def test_a_part_that_is_hidden_takes_another_along() -> None:
    counts = {"all": 267, "in": 265, "out": 2}
    assert mask(counts, [("all", ["in", "out"])], minimum=5).hidden == {"in", "out"}
    assert mask(counts, [("all", ["in", "out"])], minimum=1).hidden == frozenset()


def test_two_hidden_parts_of_a_small_rest_are_not_enough() -> None:
    # 90 - 88 = 2 leaves one patient each.
    counts = {"all": 90, "a": 1, "b": 1, "c": 88}
    assert mask(counts, [("all", ["a", "b", "c"])], minimum=5).hidden == {"a", "b", "c"}


def test_equal_counts_are_hidden_together() -> None:
    counts = {"all": 90, "a": 3, "b": 87, "elsewhere": 87}
    assert "elsewhere" in mask(counts, [("all", ["a", "b"])], minimum=5).hidden


@setting(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=4),
    st.lists(st.integers(0, 9), min_size=2, max_size=3),
    st.integers(2, 5),
)
def test_no_sum_gives_a_small_count_away(first: list[int], second: list[int], minimum: int) -> None:
    """Against every value that the hidden counts could have, tried one by one."""
    counts = {f"a{index}": value for index, value in enumerate(first)}
    counts |= {f"b{index}": value for index, value in enumerate(second)}
    counts["a"] = sum(first)
    counts["b"] = sum(second) + first[0]
    sums: list[Sum] = [
        ("a", [f"a{index}" for index in range(len(first))]),
        # The same part in another sum, as a patient left out of two endpoints.
        ("b", ["a0", *(f"b{index}" for index in range(len(second)))]),
    ]
    found = mask(counts, sums, minimum=minimum)
    assert {name for name, value in counts.items() if is_small(value, minimum)} <= found.hidden
    # Wholes that are hidden follow from their parts; so only parts are tried.
    parts = [name for name in sorted(found.hidden) if name not in ("a", "b")]
    if len(parts) > 4:
        return
    known = {name: value for name, value in counts.items() if name not in found.hidden}
    possible: dict[str, set[int]] = {name: set() for name in found.hidden}
    for values in product(range(1, 14), repeat=len(parts)):
        tried = known | dict(zip(parts, values, strict=True))
        totals = {whole: sum(tried[part] for part in of) for whole, of in sums}
        if all(known.get(whole, total) == total for whole, total in totals.items()):
            for name, value in (tried | totals).items():
                if name in possible:
                    possible[name].add(value)
    for name in found.hidden:
        if is_small(counts[name], minimum):
            assert min(possible[name]) == 1 or name in ("a", "b")
            assert max(possible[name]) >= minimum, (counts, found.hidden, name)


def _flow(rows: list[tuple[str, str, str, str, int, int | None, float | None]]) -> pd.DataFrame:
    columns = ["step", "endpoint", "phase", "what", "patients", "events", "person_time"]
    return pd.DataFrame(rows, columns=columns)


def test_the_account_is_masked() -> None:
    table = _flow(
        [
            ("read", "", "", "patients in x", 100, None, None),
            ("observed", "os", "", "under observation", 100, 60, 900.0),
            ("left out", "os", "", "never reached c", 12, None, None),
            ("left out", "os", "", "died before", 2, None, None),
            ("eligible", "os", "", "at risk", 86, 40, 800.0),
            ("in phase", "os", "c", "reference", 86, 37, 500.0),
            ("in phase", "os", "m", "exposed", 30, 3, 300.0),
        ]
    )
    found = account(table, exposed="m", minimum=5)
    patients = [row["patients"] for row in found.rows]
    # 100 - 12 - 86 = 2, and 40 - 37 = 3, must not follow from what is left.
    assert patients == ["100", "100", MASK, MASK, "86", "86", "30"]
    assert [row["events"] for row in found.rows] == ["", "60", "", "", "40", MASK, MASK]
    # An interval of few events would tell them, whatever is said of the others.
    assert found.masking.few == {"os"}
    assert "os" in found.masking.closed
    assert account(table, exposed="m", minimum=1).rows[3]["patients"] == "2"
    (endpoint, steps), *_ = found.chains
    assert (endpoint, steps[-1]["words"]) == ("os", f"ever in m, {MASK} events in it")


def test_those_under_observation_do_not_tell_who_is_left_out() -> None:
    """33 under observation less 30 at risk are 3 who never reached the phase."""
    table = _flow(
        [
            ("read", "", "", "patients in x", 50, None, None),
            ("observed", "rfs", "", "under observation", 33, 27, 371.0),
            ("observed", "rfs", "", "never under observation", 17, None, None),
            ("left out", "rfs", "", "never under observation for this endpoint", 17, None, None),
            ("left out", "rfs", "", "never reached c", 3, None, None),
            ("eligible", "rfs", "", "at risk", 30, 21, 265.0),
        ]
    )
    rows = account(table, exposed="m", minimum=5).rows
    assert rows[4]["patients"] == MASK
    assert MASK in (rows[1]["patients"], rows[5]["patients"])


def test_starts_of_phases_do_not_tell_hidden_ones() -> None:
    """86 - 84 with time at risk, and 88 - 84 - 2 of the other endpoint, must not follow."""
    within, late = POSITIONS["within"], POSITIONS["late"]
    table = _flow(
        [
            ("phase start", "os", "c", within, 84, None, None),
            ("phase start", "os", "c", POSITIONS["boundary"], 2, None, None),
            ("phase start", "os", "m", within, 40, None, None),
            ("phase start", "rfs", "m", within, 37, None, None),
            ("phase start", "rfs", "m", late, 3, None, None),
            ("eligible", "os", "", "at risk", 86, 41, 800.0),
            ("in phase", "os", "c", "reference", 86, 21, 500.0),
            ("in phase", "os", "m", "exposed", 40, 20, 300.0),
        ]
    )
    found = account(table, exposed="m", minimum=5)
    patients = [row["patients"] for row in found.rows]
    assert [patients[index] for index in (1, 4)] == [MASK, MASK]
    # Without either of these two the small ones would be a difference.
    assert MASK in (patients[0], patients[5])
    assert MASK in (patients[2], patients[3])
    # Late starts are in no phase: 40 of 43 must not be held for all.
    alone = account(table.iloc[[3, 4]], exposed="m", minimum=5)
    assert [row["patients"] for row in alone.rows] == ["37", MASK]


def test_person_time_of_hidden_patients_is_hidden_with_another() -> None:
    table = _flow(
        [
            ("eligible", "os", "", "at risk", 86, 40, 800.0),
            ("in phase", "os", "c", "reference", 86, 37, 500.0),
            ("in phase", "os", "m", "exposed", 3, 3, 300.0),
        ]
    )
    found = account(table, exposed="m", minimum=5)
    assert [row["person_time"] for row in found.rows].count(MASK) == 2
