"""The table put together from sums that are written down, and what is wrong with others."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.errors import DataError
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.cells.assembling import (
    Sums,
    assemble,
    by_pattern,
    includes_of,
    recorded_of,
    require_contents_of,
)
from bayesblina.person_time.cells.patterns import CovariateTerms, Terms
from bayesblina.person_time.compression import Axis, Compression
from bayesblina.person_time.transitions import TRANSITIONS

QUESTION = bb.Question(exposed="late", eligible_from="entry")
STATES = ("before", "nobody's", "late", "late from 2")
PHASE_NAMES = ("before", "early", "late", "late")
SINCE = (0.0, 0.0, 0.0, 2.0)
SEX = CovariateTerms(name="sex", kind="categorical", levels=("f", "m"))
TERMS = Terms(names=("sex[m]",), continuous=(False,), design=np.array([[0.0], [1.0]]))
# Two endpoints, two intervals, four states, two patterns.
EVENTS = np.zeros((2, 2, 4, 2), dtype=np.int64)
EVENTS[0, 0, 0, 0], EVENTS[0, 1, 2, 1], EVENTS[1, 1, 3, 0] = 3, 1, 2
TIME = np.zeros(EVENTS.shape)
TIME[0, 0, 0, 0], TIME[0, 0, 2, 1], TIME[0, 1, 2, 1], TIME[1, 1, 3, 0] = 4.0, 1.0, 2.5, 6.0
SUMS = Sums(
    events=EVENTS,
    person_time=TIME,
    first_in=np.array([[0.0, np.inf, 1.0, np.inf], [np.inf, np.inf, np.inf, 3.0]]),
    longest_in=np.array([[4.0, 0.0, 2.5, 0.0], [0.0, 0.0, 0.0, 6.0]]),
    visitors=np.array([[5, 0, 2, 0], [0, 0, 0, 4]]),
    contributors=np.array([5, 4]),
    left_out=np.array([1, 2]),
    first_begin=np.array([0.0, 3.0]),
    last_exit=np.array([7.5, 9.0]),
    time_at_risk=np.array([7.5, 6.0]),
    event_count=np.array([4.0, 2.0]),
    patients=np.array([3.0, 2.0]),
)


def put_together(sums: Sums = SUMS, **options: Any) -> xr.Dataset:
    given: dict[str, Any] = {
        "cuts": np.array([3.5]),
        "terms": TERMS,
        "covariates": [SEX],
        "question": QUESTION,
        "compression": None,
        "size": 6,
    }
    return assemble(("os", "rfs"), STATES, PHASE_NAMES, SINCE, sums, **{**given, **options})


def test_the_table() -> None:
    """The state that nobody is in has no entry."""
    table = put_together()
    kept = [0, 2, 3]
    expected = {
        "events": (("endpoint", "interval", "phase", "pattern"), EVENTS[:, :, kept]),
        "person_time": (("endpoint", "interval", "phase", "pattern"), TIME[:, :, kept]),
        "interval_start": (("interval",), [0.0, 3.5]),
        "interval_stop": (("interval",), [3.5, np.inf]),
        "role": (("phase",), ["reference", "exposed", "exposed"]),
        "treatment": (("phase",), ["before", "late", "late"]),
        "since": (("phase",), [0.0, 0.0, 2.0]),
        "design": (("pattern", "term"), [[0.0], [1.0]]),
        "node": (("pattern",), [0, 0]),
        "patients": (("pattern",), [3.0, 2.0]),
        "contributors": (("endpoint",), [5, 4]),
        "first_begin": (("endpoint",), [0.0, 3.0]),
        "last_exit": (("endpoint",), [7.5, 9.0]),
        "first_in": (("endpoint", "phase"), [[0.0, 1.0, np.inf], [np.inf, np.inf, 3.0]]),
        "longest_in": (("endpoint", "phase"), [[4.0, 2.5, 0.0], [0.0, 0.0, 6.0]]),
        "visitors": (("endpoint", "phase"), [[5, 2, 0], [0, 0, 4]]),
        "endpoint": (("endpoint",), ["os", "rfs"]),
        "interval": (("interval",), [0, 1]),
        "phase": (("phase",), ["before", "late", "late from 2"]),
        "pattern": (("pattern",), [0, 1]),
        "term": (("term",), ["sex[m]"]),
    }
    assert set(table.variables) == set(expected)
    for name, (dims, values) in expected.items():
        assert table[name].dims == dims, name
        assert table[name].values.tolist() == np.asarray(values).tolist(), name
    assert table.attrs == {
        "covariates": json.dumps(
            [{"name": "sex", "kind": "categorical", "levels": ["f", "m"], "low": 0.0, "high": 0.0}]
        ),
        "by_patient": 0,
        "courses": "null",
        "weighted": 0,
        "recorded": "{}",
        "includes": "{}",
        "compression": "[]",
    }


def test_what_else_is_said_of_a_table() -> None:
    attributes = put_together(
        by_patient=True,
        weighted=True,
        courses=("os", "rfs"),
        recorded={"os": "exact", "rfs": None},
        includes={"rfs": ("os",)},
    ).attrs
    assert (attributes["by_patient"], attributes["weighted"]) == (1, 1)
    assert attributes["courses"] == '["os", "rfs"]'
    assert attributes["recorded"] == '{"os": "exact", "rfs": null}'
    assert attributes["includes"] == '{"rfs": ["os"]}'


def changed(name: str, place: tuple[int, ...], by: float) -> Sums:
    values = np.array(getattr(SUMS, name), dtype=np.float64)
    values[place] += by
    kept: Any = values if name in ("events", "person_time") or by % 1 else values.astype(np.int64)
    return replace(SUMS, **{name: kept})


@pytest.mark.parametrize(
    ("sums", "found"),
    [
        (changed("person_time", (1, 1, 3, 0), -0.5), "rfs: conservation failed: person-time 5.5 o"),
        (changed("person_time", (0, 0, 0, 0), 1e-6), "os: conservation failed: person-time 7.5000"),
        (changed("events", (0, 0, 0, 0), 1.0), "os: conservation failed: 5.0 events of 4"),
        (changed("events", (1, 1, 3, 0), -1e-12), "rfs: conservation failed: 1.999.* events of 2"),
        (changed("left_out", (1,), 1.0), "4 patients used and 3 left out of 6"),
        (changed("contributors", (0,), -1.0), "4 patients used and 1 left out of 6"),
    ],
)
def test_what_is_lost_is_an_error(sums: Sums, found: str) -> None:
    with pytest.raises(DataError, match=found) as caught:
        put_together(sums)
    assert len(caught.value.problems) == 1
    assert "an error in bayesblina" in str(caught.value)


def test_negative_time_in_a_cell_is_an_error() -> None:
    """Though the total is right."""
    values = TIME.copy()
    values[0, 0, 0, 0] += 1.0
    values[0, 1, 0, 0] -= 1.0
    with pytest.raises(DataError, match="os: conservation failed: negative person-time in a cell"):
        put_together(replace(SUMS, person_time=values))


@pytest.mark.parametrize("by", [1e-9, -1e-9])
def test_rounding_is_no_loss(by: float) -> None:
    """Time in proportion to patients times their last exit; weighted events to their number."""
    put_together(changed("person_time", (0, 0, 0, 0), 5.0 * by))
    put_together(changed("events", (0, 0, 0, 0), by), weighted=True)
    with pytest.raises(DataError, match=r"4\.0000.* events of 4|3\.99.* events of 4"):
        put_together(changed("events", (0, 0, 0, 0), 10.0 * by), weighted=True)


def test_nodes_may_have_less_than_nothing() -> None:
    """Compressed covariates: negative time at a node, and events to rounding."""
    axis = Axis(name="score", low=-1.0, high=1.0, nodes=2, swing=1.0)
    terms = Terms(names=("score",), continuous=(True,), design=np.zeros((1, 1)))
    values = TIME.copy()
    values[0, 0, 0] = [5.0, -1.0]
    table = put_together(
        replace(changed("events", (0, 0, 0, 0), 1e-9), person_time=values),
        compression=Compression(axes=(axis,)),
        terms=terms,
    )
    np.testing.assert_allclose(table["design"].values[:, 0], axis.values)
    assert table["node"].values.tolist() == [0, 1]
    assert json.loads(table.attrs["compression"])[0]["name"] == "score"


def test_sums_by_group_laid_out() -> None:
    """From (state, group, interval, moment) of each endpoint to (interval, state, pattern)."""
    parts = [np.arange(24.0).reshape(3, 4, 2, 1), 100.0 + np.arange(24.0).reshape(3, 4, 2, 1)]
    found = by_pattern(parts, None, integers=True)
    assert found.shape == (2, 2, 3, 4)
    assert found.dtype == np.int64
    assert found.flags.c_contiguous
    for endpoint, interval, state, group in np.ndindex(2, 2, 3, 4):
        assert found[endpoint, interval, state, group] == parts[endpoint][state, group, interval, 0]
    assert by_pattern(parts, None, integers=False).dtype == np.float64


def test_moments_laid_out_at_the_nodes() -> None:
    compression = Compression(axes=(Axis(name="score", low=-1.0, high=1.0, nodes=3, swing=1.0),))
    moments = np.random.default_rng(1).normal(size=(3, 4, 2, 3))
    found = by_pattern([moments], compression, integers=True)
    assert found.shape == (1, 2, 3, 12)
    assert found.dtype == np.float64
    nodes = compression.from_moments(moments)
    np.testing.assert_allclose(found[0, 1, 2], nodes[2, :, 1].ravel(), rtol=1e-12)


OUTCOME = Outcome(time=np.ones(2), event=np.ones(2, dtype=bool), entry=np.zeros(2))
OUTCOMES = {
    "os": replace(OUTCOME, recorded="exact"),
    "rfs": replace(OUTCOME, includes=("os", "efs")),
    "efs": OUTCOME,
}


def test_how_events_are_recorded() -> None:
    assert recorded_of(OUTCOMES, ["rfs", "os"]) == {"rfs": None, "os": "exact"}
    relapse, dying, after = TRANSITIONS
    # Only death after relapse is an event of survival.
    assert recorded_of(OUTCOMES, TRANSITIONS, ("os", "rfs")) == {
        relapse: None,
        dying: None,
        after: "exact",
    }


def test_which_endpoints_include_which() -> None:
    """Of those in the table; transitions include nothing."""
    assert includes_of(OUTCOMES, ["rfs", "os"]) == {"rfs": ["os"], "os": []}
    assert includes_of(OUTCOMES, ["rfs"]) == {"rfs": []}
    assert includes_of(OUTCOMES, TRANSITIONS) == {}


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("contributors", [5, 0], "no patient is ever eligible"),
        ("contributors", [5, 1], "only one patient is eligible"),
        ("event_count", [4.0, 0.0], "no event among the eligible patients"),
        ("visitors", [[5, 0, 2, 0], [5, 1, 0, 0]], "no eligible patient has time in late"),
        ("visitors", [[5, 0, 2, 0], [0, 0, 3, 1]], "no eligible patient has time outside late"),
    ],
)
def test_nothing_to_compare(name: str, values: Any, found: str) -> None:
    sums = replace(SUMS, visitors=np.array([[5, 0, 2, 0], [5, 0, 0, 4]]))
    require_contents_of(("os", "rfs"), PHASE_NAMES, sums, QUESTION)
    with pytest.raises(DataError, match=found) as caught:
        require_contents_of(
            ("os", "rfs"), PHASE_NAMES, replace(sums, **{name: np.array(values)}), QUESTION
        )
    assert [one.column for one in caught.value.problems] == ["rfs"]
