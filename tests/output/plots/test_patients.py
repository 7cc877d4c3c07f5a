"""Figures of patients count them, and name nobody unasked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina import plots
from bayesblina.core.errors import SpecError
from tests.output.plots.examples import (
    account,
    labels,
    lines,
    texts,
)
from tests.recurring import read


@pytest.fixture(scope="module")
def cohort() -> bb.Cohort:
    table = pd.DataFrame(
        {
            "id": ["P-1", "P-2", "P-3"],
            "t": [4.0, 9.0, 6.0],
            "d": [1, 0, 1],
            "s": [2.0, None, 5.0],
            "x": [3.0, None, None],
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(late="s"),
        transplant="x",
    )


def test_single_patients_are_marked_and_nameless(cohort: bb.Cohort) -> None:
    figure = plots.swimmer(cohort, "os")
    assert figure.get_suptitle() == "single patients: for the analyst, not for release"
    axis: Any = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == []
    everything = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    assert "P-" not in everything
    # By follow-up: P-1 to 4, P-3 to 6, P-2 to 9, each phase a bar.
    bars = {
        (round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_x() + bar.get_width())
        for container in axis.containers
        for bar in container.patches
    }
    assert bars == {(0, 0.0, 2.0), (0, 2.0, 4.0), (1, 0.0, 5.0), (1, 5.0, 6.0), (2, 0.0, 9.0)}
    drawn = {line.get_label(): line.get_xydata().tolist() for line in lines(axis)}
    assert drawn["event"] == [[4.0, 0.0], [6.0, 1.0]]
    assert drawn["end of follow-up"] == [[9.0, 2.0]]
    assert drawn["transplant"] == [[3.0, 0.0]]
    assert set(labels(axis)) == {"before late", "late", *drawn}


def test_events_found_at_visits_are_drawn_as_intervals() -> None:
    """One found since a visit, one since the origin, one exact, one without an event."""
    table = pd.DataFrame(
        {
            "id": ["p", "q", "r", "s"],
            "t": [4.0, 5.0, 6.0, 7.0],
            "e": [1, 1, 1, 0],
            "last": [3.0, np.nan, 6.0, 6.5],
            "m": [2.0, np.nan, np.nan, np.nan],
        }
    )
    visited = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="t", event="e", last_negative="last")},
        phases=bb.Phases(m="m"),
    )
    axis: Any = plots.swimmer(visited, "y").axes[0]
    (drawn,) = [own for own in axis.collections if own.get_label() == "event, between two visits"]
    assert [segment.tolist() for segment in drawn.get_segments()] == [
        [[3.0, 0.0], [4.0, 0.0]],
        [[0.0, 1.0], [5.0, 1.0]],
    ]
    marked = {line.get_label(): line.get_xydata().tolist() for line in lines(axis)}
    assert marked == {"event": [[6.0, 2.0]], "end of follow-up": [[7.0, 3.0]]}


def test_every_stay_is_drawn_and_gaps_are_thin() -> None:
    """Two stays that meet, a gap, a third stay of another phase; one patient without any."""
    patients = pd.DataFrame(
        {"id": ["p", "q"], "time": [9.0, 4.0], "died": [1, 0], "sex": ["f", "m"]}
    )
    stays = pd.DataFrame(
        {
            "id": ["p", "p", "p"],
            "from": [1.0, 2.0, 6.0],
            "to": [2.0, 3.0, 7.0],
            "drug": ["a", "a", "b"],
            "given": [1.0, 1.0, 1.0],
        }
    )
    axis: Any = plots.swimmer(read(patients, stays), "os").axes[0]
    bars = {
        (bar.get_x(), bar.get_x() + bar.get_width(), round(bar.get_height(), 9))
        for container in axis.containers
        for bar in container.patches
        if round(bar.get_y() + bar.get_height() / 2) == 1
    }
    thick, thin = 0.75, 0.3
    assert bars == {
        (0.0, 1.0, thin),
        (1.0, 3.0, thick),
        (3.0, 6.0, thin),
        (6.0, 7.0, thick),
        (7.0, 9.0, thin),
    }
    # A line parts the two that meet.
    parts = [one for one in axis.collections if isinstance(one, mpl.collections.LineCollection)]
    assert [part.get_segments()[0].tolist() for part in parts] == [[[2.0, 0.625], [2.0, 1.375]]]
    assert labels(axis) == [
        "event",
        "end of follow-up",
        "before any phase",
        "a",
        "b",
        "off treatment",
    ]


def test_ids_only_when_asked(cohort: bb.Cohort) -> None:
    figure = plots.swimmer(cohort, "os", ids=True, among="late")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["P-1", "P-3"]
    assert "single patients with their ids" in figure.get_suptitle()
    assert figure.axes[0].get_title(loc="left") == "OS: 2 patients who start late"
    with pytest.raises(SpecError, match="No phase 'x'"):
        plots.swimmer(cohort, "os", among="x")


def test_some_of_many_patients() -> None:
    everybody, _ = bb.simulate.blinatumomab_cohort(seed=1)
    figure = plots.swimmer(everybody, "os", largest=10)
    axis = figure.axes[0]
    assert axis.get_title(loc="left") == "OS: 10 of 267 patients"
    ends = np.sort([x for line in lines(axis)[:2] for x in np.ravel(line.get_xdata())])
    times = np.sort(everybody.endpoints["os"].time)
    assert len(ends) == 10
    assert (ends[0], ends[-1]) == (times[0], times[-1])
    # Some have a transplant after maintenance and a relapse; without any the legend names none.
    late = plots.swimmer(everybody, "os", among="maintenance")
    assert "transplant" in labels(late.axes[0])
    never = replace(everybody, transplant=np.full(everybody.size, np.nan))
    late = plots.swimmer(never, "os", among="maintenance")
    assert "transplant" not in labels(late.axes[0])


def test_patient_flow_counts_without_ids() -> None:
    figure = plots.patient_flow(account())
    shown = [text.replace("\n", " ") for text in texts(figure.axes[0]) if text]
    assert shown == [
        "50 patients in <table> & \\$x\\$ excluded: no consent (3)",
        "never under observation (10)",
        "OS: 40 under observation 20 events, 400.0 person-months",
        "never reached consolidation (15)",
        "OS: 25 at risk 12 events, 250.0 person-months",
        "maintenance (exposed): 4    2 events, 50.0 person-months",
    ]
    assert not any("ID-" in text for text in shown)
    masked = [text for text in texts(plots.patient_flow(account(), minimum=5).axes[0]) if text]
    assert masked[0].endswith("excluded: no consent (*)")
    assert masked[-1] == "maintenance (exposed): *\n   * events"
