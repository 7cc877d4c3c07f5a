"""One pass over patients, by hand: who is at risk, in which state, and sums in every cell."""

from typing import Any

import numba
import numpy as np
import pytest
from numpy.polynomial import chebyshev

from bayesblina.core.arrays import Floats
from bayesblina.core.episodes import (
    AT_RISK,
    NEVER_ELIGIBLE,
    NEVER_OBSERVED,
    OVER_BY_LANDMARK,
    OVER_BY_START,
    TOO_LATE,
    TRANSPLANTED,
    Mark,
)
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.rules import tie_of
from bayesblina.person_time import passes
from bayesblina.person_time.passes import constant
from bayesblina.person_time.segments import Course
from bayesblina.person_time.tabulation import (
    AtRisk,
    BlockPart,
    Tally,
    Tallying,
    at_risk,
    bounds_of,
    entries_of,
    merged,
    merged_bounds,
    moments_by_group,
    part_of,
)

MET = 0.1 + 0.2  # 0.3 but for rounding
NEVER = np.nan


def course(*marks: tuple[Any, int, float, int], states: int = 3, **more: Any) -> Course:
    """Kind, phase, offset and state of each mark."""
    names = tuple(f"state {state}" for state in range(states))
    given: dict[str, Any] = {"eligible_phase": None, "landmark": None}
    return Course(
        states=names,
        phase_names=names,
        since=(0.0,) * states,
        marks=tuple(
            Mark(kind=kind, phase=phase, offset=offset, state=state)
            for kind, phase, offset, state in marks
        ),
        censor_at_transplant=more.pop("censor_at_transplant", False),
        tie=tie_of("months"),
        **(given | more),
    )


def part(
    time: list[float],
    starts: list[list[float]],
    *,
    event: list[bool] | None = None,
    entry: list[float] | None = None,
    ends: list[list[float]] | None = None,
    transplant: list[float] | None = None,
) -> BlockPart:
    size = len(time)
    outcome = Outcome(
        time=np.array(time),
        event=np.array([True] * size if event is None else event),
        entry=np.zeros(size) if entry is None else np.array(entry),
    )
    start = np.array(starts, dtype=np.float64)
    return BlockPart(
        rows=slice(0, size),
        size=size,
        endpoints={"os": outcome},
        phase_start=start,
        phase_end=np.full(start.shape, np.nan) if ends is None else np.array(ends),
        transplant=None if transplant is None else np.array(transplant),
    )


def told(found: AtRisk) -> list[tuple[Any, ...]]:
    """Begin, stop and event of who contributes; the reason of who does not."""
    rows = zip(found.begin, found.stop, found.event, found.reason, strict=True)
    return [
        (begin, stop, bool(event)) if reason == AT_RISK else (int(reason),)
        for begin, stop, event, reason in rows
    ]


def test_from_entry_to_the_end() -> None:
    block = part(
        [9.0, 9.0, NEVER, 2.0, MET, 0.3, 5.0],
        [[NEVER]] * 7,
        entry=[0.0, 2.0, NEVER, 2.0, 0.3, MET, 5.5],
        event=[True, False, False, True, True, True, True],
    )
    found = at_risk(block, course(), "os")
    over = (OVER_BY_START,)
    assert told(found) == [(0, 9, True), (2, 9, False), (NEVER_OBSERVED,), over, over, over, over]
    # Nothing is known of who does not contribute.
    assert np.isnan(found.begin[2:]).all()
    assert np.isnan(found.stop[2:]).all()
    assert not found.event[2:].any()
    assert found.event.dtype == np.bool_


def test_from_a_phase() -> None:
    block = part(
        [9.0, 9.0, 9.0, 2.0, MET],
        [[1.0, 3.0], [1.0, NEVER], [NEVER, 2.0], [0.0, 2.0], [0.0, 0.3]],
        entry=[0.5, 0.5, 4.0, 0.0, 0.0],
    )
    second = course(eligible_phase=1)
    over = (OVER_BY_START,)
    expected = [(3, 9, True), (NEVER_ELIGIBLE,), (4, 9, True), over, over]
    assert told(at_risk(block, second, "os")) == expected
    first = told(at_risk(block, course(eligible_phase=0), "os"))
    assert first == [(1, 9, True), (1, 9, True), (NEVER_ELIGIBLE,), (0, 2, True), (0, MET, True)]


def test_from_a_landmark() -> None:
    block = part(
        [9.0, 0.2, 0.3, MET, 9.0, 9.0, 0.4],
        [[NEVER]] * 7,
        entry=[0.0, 0.0, 0.0, 0.0, MET, 0.31, 0.3],
    )
    over = (OVER_BY_LANDMARK,)
    found = told(at_risk(block, course(landmark=0.3), "os"))
    assert found == [
        (0.3, 9, True),
        over,
        over,
        over,
        (0.3, 9, True),
        (TOO_LATE,),
        (0.3, 0.4, True),
    ]
    # At 0 too, and before the landmark nobody is late.
    assert told(at_risk(block, course(landmark=0.0), "os"))[0] == (0, 9, True)
    assert told(at_risk(block, course(landmark=MET), "os"))[2] == over


def test_until_a_transplant() -> None:
    block = part(
        [9.0, 9.0, 4.0, MET, 9.0, 9.0, 9.0, 4.0],
        [[NEVER]] * 8,
        entry=[1.0, 1.0, 1.0, 0.0, 0.3, 1.0, 1.0, 1.0],
        transplant=[5.0, NEVER, 5.0, 0.3, MET, 0.5, 1.0, 4.0],
    )
    out = (TRANSPLANTED,)
    expected = [(1, 5, False), (1, 9, True), (1, 4, True), (0, MET, True), out, out, out]
    censored = course(censor_at_transplant=True)
    assert told(at_risk(block, censored, "os")) == [*expected, (1, 4, True)]
    ignored = told(at_risk(block, course(), "os"))
    assert ignored[0] == (1, 9, True)
    assert ignored[4:] == [(0.3, 9, True), (1, 9, True), (1, 9, True), (1, 4, True)]


def spent(block: BlockPart, asked: Course, cuts: list[float] | None = None, **more: Any) -> Tally:
    """Sums of a block; all patients in one group."""
    summed = Tallying(asked, cuts=np.array(cuts or []), groups=1)
    summed.add(block, at_risk(block, asked, "os"), np.zeros(block.size, dtype=np.int32), **more)
    return summed.tally()


def by_state(block: BlockPart, asked: Course) -> list[float]:
    """Person-time of one patient by state."""
    found: list[float] = spent(block, asked).person_time[:, 0, 0, 0].tolist()
    return found


TWO = (("start", 0, 0.0, 1), ("start", 1, 0.0, 2))


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ([2.0, 5.0], [2, 3, 4]),
        ([2.0, NEVER], [2, 7, 0]),
        # The first phase was left out, or falls together with the second.
        ([NEVER, 5.0], [5, 0, 4]),
        ([5.0, 5.0], [5, 0, 4]),
        ([5.0 * (1 + 1e-12), 5.0], [5, 0, 4]),
        ([6.0, 5.0], [5, 0, 4]),
        ([NEVER, NEVER], [9, 0, 0]),
        # At the end of follow-up, or less than a hundredth of a day from it.
        ([2.0, 9.0], [2, 7, 0]),
        ([2.0, 8.9998], [2, 7, 0]),
        ([2.0, 9.0002], [2, 7, 0]),
        ([2.0, 8.999], [2, 6.999, 0.001]),
        ([2.0, 12.0], [2, 7, 0]),
        ([0.0, 5.0], [0, 5, 4]),
    ],
)
def test_states_by_their_marks(starts: list[float], expected: list[float]) -> None:
    assert by_state(part([9.0], [starts]), course(*TWO)) == pytest.approx(expected, abs=1e-12)


def test_marks_at_the_begin_leave_nothing_before_them() -> None:
    found = by_state(part([9.0], [[MET, NEVER]], entry=[0.3]), course(*TWO))
    assert found == [0.0, pytest.approx(8.7), 0.0]


def test_how_near_the_end_is_near_grows_with_the_digits() -> None:
    """Six digits: from 100 months on half of the last is 0.0005, from 1,000 on 0.005."""
    for end, near, apart in ((50.0, 3e-4, 4e-4), (200.0, 4e-4, 6e-4), (2_000.0, 4e-3, 6e-3)):
        assert by_state(part([end], [[end - near, NEVER]]), course(*TWO)) == [end, 0, 0]
        found = by_state(part([end], [[end - apart, NEVER]]), course(*TWO))
        assert found == pytest.approx([end - apart, apart, 0])
    for end, apart in ((100.0, 4.9e-4), (1_000.0, 4.9e-3)):
        assert by_state(part([end], [[end - apart, NEVER]]), course(*TWO)) == [end, 0, 0]


def test_lags_ends_and_transplants_mark_states() -> None:
    marks = (
        ("start", 0, 0.0, 1),
        ("end", 0, 0.0, 3),
        ("start", 1, 1.5, 2),
        ("end", 1, 0.0, 3),
        ("transplant", 0, 0.0, 4),
    )
    asked = course(*marks, states=5)
    block = part([9.0], [[1.0, 4.0]], ends=[[3.0, 7.0]], transplant=[8.0])
    # Off treatment from 3 to 5.5, and from 7 on.
    assert by_state(block, asked) == [1, 2, 1.5, 3.5, 1]
    block = part([9.0], [[1.0, NEVER]], ends=[[NEVER, NEVER]], transplant=[NEVER])
    assert by_state(block, asked) == [1, 8, 0, 0, 0]


def test_entries_are_changes_of_effect() -> None:
    asked = course(*TWO)
    block = part(
        [9.0, 9.0, 9.0, 2.0, 9.0],
        [[2.0, 5.0], [NEVER, 3.0], [4.0, 9.0], [1.0, NEVER], [1.0, 7.0]],
        entry=[0.0, 0.0, 0.0, 2.0, 6.0],
    )
    risk = at_risk(block, asked, "os")
    each = [one.tolist() for one in entries_of(block, risk, asked, [0, 1, 2])]
    assert each == [[], [2.0, 4.0], [5.0, 3.0, 7.0]]
    # States that share an effect are not entered from one another.
    shared = [one.tolist() for one in entries_of(block, risk, asked, [0, 0, 1])]
    assert shared == [[], [5.0, 3.0, 7.0]]
    back = [one.tolist() for one in entries_of(block, risk, asked, [0, 1, 0])]
    assert back == [[5.0, 7.0], [2.0, 4.0]]
    none = entries_of(block, risk, course(states=1), [0])
    assert [one.tolist() for one in none] == [[]]


# Two patients of the first group, one of the second, and one who does not contribute.
BLOCK = part(
    [9.0, 4.0, 6.0, 1.0],
    [[2.0, 5.0], [2.0, NEVER], [NEVER, 1.0], [NEVER, NEVER]],
    event=[True, False, True, True],
    entry=[0.0, 1.0, 0.5, 1.0],
)
GROUP = np.array([0, 0, 1, 1], dtype=np.int32)
CUTS = np.array([2.0, 6.0])
# By state, group and interval: (0, 2], (2, 6], (6, inf).
EXPECTED = np.array(
    [
        [[2 + 1, 0, 0], [0.5, 0, 0]],
        [[0, 3 + 2, 0], [0, 0, 0]],
        [[0, 1, 3], [1, 4, 0]],
    ]
)


def tallied(asked: Course, **more: Any) -> Tallying:
    degrees = more.pop("degrees", ())
    summed = Tallying(asked, cuts=CUTS, groups=2, degrees=degrees)
    summed.add(BLOCK, at_risk(BLOCK, asked, "os"), GROUP, **more)
    return summed


def test_sums_in_every_cell() -> None:
    found = tallied(course(*TWO)).tally()
    assert found.person_time[..., 0].tolist() == EXPECTED.tolist()
    events = np.zeros((3, 2, 3))
    # At a cut an event belongs to the earlier interval.
    events[2, 0, 2] = events[2, 1, 1] = 1.0
    assert found.events[..., 0].tolist() == events.tolist()
    assert found.visitors.tolist() == [3, 2, 2]
    assert found.first.tolist() == [0.0, 2.0, 1.0]
    assert found.longest.tolist() == [2.0, 3.0, 5.0]


def test_events_in_one_cell_add_up() -> None:
    """The first patient does not contribute: the second is the first in each state."""
    block = part(
        [1.0, 5.0, 5.5, 5.0],
        [[NEVER, NEVER], [2.0, NEVER], [2.0, NEVER], [NEVER, NEVER]],
        entry=[1.0, 0.0, 0.0, 0.0],
        event=[True, True, True, False],
    )
    found = spent(block, course(*TWO), [2.0])
    assert found.visitors.tolist() == [3, 2, 0]
    assert found.events[:, 0, :, 0].tolist() == [[0, 0], [0, 2], [0, 0]]
    weighted = spent(block, course(*TWO), [2.0], weight=np.array([1.0, 2.0, 0.5, 1.0]))
    assert weighted.events[1, 0, 1, 0] == 2.5


def test_weights_multiply() -> None:
    weight = np.array([2.0, 0.5, 3.0, 7.0])
    found = tallied(course(*TWO), weight=weight).tally()
    expected = EXPECTED * np.array([1.0, 3.0])[:, None]
    expected[0, 0, 0] = 2 * 2 + 0.5
    expected[1, 0, 1] = 2 * 3 + 0.5 * 2
    expected[2, 0] *= 2.0
    assert found.person_time[..., 0].tolist() == expected.tolist()
    assert found.events[2, :, :, 0].tolist() == [[0, 0, 2], [0, 3, 0]]
    assert found.visitors.tolist() == [3, 2, 2]


def polynomials(scaled: Floats, degrees: tuple[int, ...]) -> Floats:
    """Products of Chebyshev polynomials, the last covariate fastest, (patient, moment)."""
    total = np.ones((scaled.shape[0], 1))
    for column, degree in zip(scaled.T, degrees, strict=True):
        one = chebyshev.chebvander(column, degree - 1)
        total = (total[:, :, None] * one[:, None, :]).reshape(scaled.shape[0], -1)
    return total


def test_moments_are_products_of_chebyshev_polynomials() -> None:
    degrees = (3, 4)
    scaled = np.array([[0.3, -0.7], [-1.0, 0.2], [0.9, 1.0], [0.5, 0.5]])
    values = polynomials(scaled, degrees)
    found = tallied(course(*TWO), scaled=scaled, degrees=degrees).tally()
    single = [part_of(BLOCK, slice(row, row + 1)) for row in range(3)]
    expected = np.zeros((3, 2, 3, 12))
    for row, one in enumerate(single):
        asked = course(*TWO)
        alone = Tallying(asked, cuts=CUTS, groups=2)
        alone.add(one, at_risk(one, asked, "os"), GROUP[row : row + 1])
        expected += alone.tally().person_time * values[row]
    np.testing.assert_allclose(found.person_time, expected, atol=1e-12)
    np.testing.assert_allclose(found.events[2, 0, 2], values[0], atol=1e-12)
    np.testing.assert_allclose(found.events[2, 1, 1], values[2], atol=1e-12)
    inside = np.array([True, False, True, True])
    counted = moments_by_group(inside, GROUP, groups=2, scaled=scaled, degrees=degrees)
    np.testing.assert_allclose(counted, [values[0], values[2:].sum(axis=0)], atol=1e-12)
    assert moments_by_group(inside, GROUP, groups=2).tolist() == [[1.0], [2.0]]


def test_cuts_that_times_meet_by_rounding() -> None:
    block = part([MET, 2.0], [[NEVER, NEVER], [NEVER, NEVER]], entry=[0.0, MET])
    found = spent(block, course(*TWO), [0.3])
    # Who ends there is not in the later interval, who begins there not in the earlier one.
    assert found.events[0, 0, :, 0].tolist() == [1.0, 1.0]
    assert found.person_time[0, 0, :, 0] == pytest.approx([0.3, 1.7])
    block = part([0.3, 2.0], [[NEVER, NEVER], [NEVER, NEVER]], entry=[0.0, 0.3])
    found = spent(block, course(*TWO), [MET])
    assert found.events[0, 0, :, 0].tolist() == [1.0, 1.0]
    assert found.person_time[0, 0, :, 0] == pytest.approx([0.3, 1.7])
    # Many starts at a cut leave exactly nothing before it.
    block = part([2.0] * 7, [[NEVER, NEVER]] * 7, entry=[0.7] * 7)
    assert spent(block, course(*TWO), [0.7]).person_time[0, 0, 0, 0] == 0.0


def test_parts_add_up_to_the_whole() -> None:
    asked = course(*TWO)
    parts = []
    for rows in (slice(0, 1), slice(1, 2), slice(2, 4)):
        some = part_of(BLOCK, rows)
        assert some.size == rows.stop - rows.start
        summed = Tallying(asked, cuts=CUTS, groups=2)
        summed.add(some, at_risk(some, asked, "os"), GROUP[rows])
        parts.append(summed)
    whole, found = tallied(asked).tally(), merged(parts)
    for name in ("events", "person_time", "visitors", "first", "longest"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    # What is put together stays as it was.
    np.testing.assert_array_equal(merged(parts).person_time, whole.person_time)


def test_parts_keep_their_ends_and_transplants() -> None:
    block = part(
        [9.0, 8.0], [[1.0], [2.0]], ends=[[3.0], [4.0]], transplant=[5.0, 6.0], entry=[0.0, 1.0]
    )
    second = part_of(block, slice(1, 2))
    assert second.rows == slice(1, 2)
    assert second.phase_start.tolist() == [[2.0]]
    assert second.phase_end.tolist() == [[4.0]]
    assert second.transplant is not None
    assert second.transplant.tolist() == [6.0]
    assert second.endpoints["os"].time.tolist() == [8.0]
    assert second.endpoints["os"].entry.tolist() == [1.0]
    assert part_of(part([9.0], [[1.0]]), slice(0, 1)).transplant is None


def test_bounds_of_time_at_risk() -> None:
    risk = at_risk(BLOCK, course(*TWO), "os")
    found = bounds_of(risk)
    reasons = [0] * (AT_RISK + 1)
    reasons[OVER_BY_START], reasons[AT_RISK] = 1, 3
    assert found.reasons.tolist() == reasons
    assert (found.first_begin, found.last_begin, found.last_exit) == (0.0, 1.0, 9.0)
    assert (found.time_at_risk, found.events) == (9.0 + 3.0 + 5.5, 2.0)
    weighted = bounds_of(risk, np.array([2.0, 0.5, 3.0, 7.0]))
    assert (weighted.time_at_risk, weighted.events) == (18.0 + 1.5 + 16.5, 5.0)
    # Over more patients than are summed at once.
    size = 3 * 4096 + 5
    many = part(
        [2.0] * size, [[NEVER]] * size, entry=[0.5] * size, event=[True, False] * 6146 + [True]
    )
    totals = bounds_of(at_risk(many, course(), "os"))
    assert (totals.time_at_risk, totals.events) == (1.5 * size, 6147.0)
    assert (totals.first_begin, totals.last_begin, totals.last_exit) == (0.5, 0.5, 2.0)
    both = merged_bounds([found, totals])
    assert both.reasons[AT_RISK] == size + 3
    assert (both.first_begin, both.last_begin, both.last_exit) == (0.0, 1.0, 9.0)
    assert (both.time_at_risk, both.events) == (17.5 + 1.5 * size, 6149.0)
    none = merged_bounds([])
    assert none.reasons.tolist() == [0] * (AT_RISK + 1)
    assert (none.first_begin, none.last_begin, none.last_exit) == (np.inf, 0.0, 0.0)
    assert (none.time_at_risk, none.events) == (0, 0)


def _doubled(values: Any, out: Any) -> None:
    for i in range(values.size):
        out[i] = 2.0 * values[i]


def _tripled(values: Any, out: Any) -> None:
    for i in range(values.size):
        out[i] = 3.0 * values[i]


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_compiled_forms_are_kept_where_they_can_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="bayesblina")
    values, out = np.array([1.0, 4.0]), np.zeros(2)
    monkeypatch.setattr(passes, "_READY", {})
    passes.run_compiled(_doubled, constant(values), out)
    assert out.tolist() == [2.0, 8.0]
    # It is kept under a name that changes with the definition's lines, which numba does not follow.
    assert _doubled.__qualname__ == f"_doubled_{passes._LINES}"
    # It is compiled once, for what it was given.
    (ready,) = passes._READY.values()
    (signature,) = ready.signatures
    assert [str(one) for one in signature] == [
        "readonly array(float64, 1d, C)",
        "array(float64, 1d, C)",
    ]
    assert not caplog.records
    compiled = numba.njit

    def refused(*arguments: Any, **named: Any) -> Any:
        if named.get("cache"):
            raise RuntimeError("no folder")
        return compiled(*arguments, **named)

    monkeypatch.setattr(numba, "njit", refused)
    passes.run_compiled(_tripled, constant(values), out)
    assert out.tolist() == [3.0, 12.0]
    (told,) = caplog.records
    assert told.getMessage() == "Compiled functions are not kept on disk (no folder)."
    passes.run_compiled(_doubled, constant(out), out)
    assert out.tolist() == [6.0, 24.0]
