"""Event times that are declared to be those of visits: where it is told, saved and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.event_times import (
    coarse_event_times,
)


def test_a_declaration_is_in_account_and_exposure() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    said = replace(cohort.endpoints["rfs"], recorded="exact")
    cohort = replace(cohort, endpoints={"os": cohort.endpoints["os"], "rfs": said})
    lines = {
        line.endpoint: (line.what, line.size, line.events)
        for line in cohort.account().lines
        if line.step == "recorded"
    }
    events = {name: int(one.event.sum()) for name, one in cohort.endpoints.items()}
    assert lines == {
        "os": ("event times taken as exact: not declared", events["os"], events["os"]),
        "rfs": ("event times exact: declared", events["rfs"], events["rfs"]),
    }
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    person_time = bb.person_time(cohort, question)
    assert person_time.recorded == {"os": None, "rfs": "exact"}
    found = coarse_event_times(person_time, {"os": 0.4, "rfs": 0.4})
    assert found.table["recorded"].tolist() == ["not declared", "exact"]
    assert found.notes == (
        "os: nothing is declared of how events are recorded; their times are taken as exact",
    )
    courses = bb.person_time(cohort, question, courses=("os", "rfs"))
    assert courses.recorded == {
        "relapse": "exact",
        "death in remission": "exact",
        "death after relapse": None,
    }


def test_a_declaration_is_saved(synthetic_fit: bb.Fit, tmp_path: Path) -> None:
    table = synthetic_fit.person_time.table
    declared = replace(
        synthetic_fit,
        person_time=replace(
            synthetic_fit.person_time,
            table=table.assign_attrs(recorded='{"os": null, "rfs": "exact"}'),
        ),
    )
    bb.save(declared, tmp_path / "fit.nc")
    assert bb.load(tmp_path / "fit.nc").person_time.recorded == {"os": None, "rfs": "exact"}
    # Of fits from before there were declarations nothing is known.
    del table.attrs["recorded"]
    assert synthetic_fit.person_time.recorded == {"os": None, "rfs": None}


def test_declarations_say_what_can_be_known() -> None:
    for make in (
        lambda **said: bb.Endpoint(time="t", event="e", **said),
        lambda **said: bb.DatedEndpoint(date="t", event="e", **said),
        lambda **said: bb.AdamEndpoint(paramcd="RFS", **said),
    ):
        with pytest.raises(SpecError, match="must be 'exact' or 'visits', got 'sometimes'"):
            make(recorded="sometimes")
        with pytest.raises(SpecError, match="last_negative is for events that are found at visits"):
            make(recorded="exact", last_negative="last")
        with pytest.raises(SpecError, match="event_free_until must be 'last_negative' or"):
            make(last_negative="last", event_free_until="death")
        for said in ("exact", "visits", None):
            assert make(recorded=said).recorded == said
        assert make(last_negative="last").recorded == "visits"


def test_every_reader_takes_a_declaration() -> None:
    rows = pd.DataFrame(
        {
            "id": ["a", "a", "b"],
            "start": [0.0, 2.0, 0.0],
            "stop": [2.0, 4.0, 9.0],
            "event": [0, 1, 0],
            "phase": ["", "m", ""],
        }
    )

    def read(recorded: object) -> Cohort:
        return bb.read_counting_process(
            rows,
            patient="id",
            start="start",
            stop="stop",
            event="event",
            phase="phase",
            phases=["m"],
            unit="months",
            recorded=recorded,  # type: ignore[arg-type]
        )

    assert read(None).endpoints["survival"].recorded is None
    assert read("exact").endpoints["survival"].recorded == "exact"
    assert read({"survival": "exact"}).endpoints["survival"].recorded == "exact"
    with pytest.raises(SpecError, match="recorded: no endpoint 'os'"):
        read({"os": "exact"})
    for wrong in ("visits", {"survival": "visits"}):
        with pytest.raises(SpecError, match="needs to know since when"):
            read(wrong)
    dated = bb.read_dated_cohort(
        pd.DataFrame(
            {
                "id": ["a", "b"],
                "o": ["2015-01-01"] * 2,
                "d": ["2015-03-01"] * 2,
                "e": [1, 0],
                "m": [None, "2015-02-01"],
            }
        ),
        patient="id",
        origin="o",
        unit="days",
        endpoints={"os": bb.DatedEndpoint(date="d", event="e", recorded="exact")},
        phases=bb.Phases(m="m"),
    )
    assert dated.endpoints["os"].recorded == "exact"
    adam = bb.read_adam(
        pd.DataFrame({"USUBJID": ["1", "2"], "TRTSDT": ["2015-01-01"] * 2, "M": [None] * 2}),
        pd.DataFrame(
            {
                "USUBJID": ["1", "2"],
                "PARAMCD": ["OS"] * 2,
                "STARTDT": ["2015-01-01"] * 2,
                "ADT": ["2015-03-01", "2016-02-01"],
                "CNSR": [0, 1],
            }
        ),
        endpoints={"os": bb.AdamEndpoint(paramcd="OS", recorded="exact")},
        phases={"m": "M"},
        unit="days",
    )
    assert adam.endpoints["os"].recorded == "exact"
