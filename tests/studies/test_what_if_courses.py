"""Scenarios of courses in which phases recur: gaps bridged, measures varied, starts moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.courses import Stays, bridge_gaps
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.patients.declarations import Courses
from bayesblina.patients.subsets import take_patients
from bayesblina.person_time.cells import person_time
from bayesblina.studies.bias.dropout import _require_possible
from bayesblina.studies.study_file import read_study
from bayesblina.studies.what_if.running import hash_of_cohort

QUESTION = bb.Question(exposed="on", eligible_from="entry", measure="current")
# Gaps of 0.25 (a), 1 (a), and 2 between phases (b); c has none.
STAYS = pd.DataFrame(
    {
        "id": ["a", "a", "a", "b", "b", "c", "d"],
        "phase": ["on", "on", "on", "on", "other", "on", "other"],
        "start": [1.0, 2.25, 4.25, 2.0, 5.0, 3.0, 1.0],
        "stop": [2.0, 3.25, 6.0, 3.0, 6.0, 8.0, 2.0],
        "given": [1.0, 2.0, 3.0, 4.0, 0.0, 6.0, 0.0],
    }
)
PATIENTS = pd.DataFrame(
    {
        "id": list("abcd"),
        "months": [8.0, 9.0, 10.0, 12.0],
        "died": [1, 1, 0, 1],
        "site": ["x", "y", "x", "y"],
    }
)


def read(bridge: float = 0.0, rows: str = "abcd", grace: float = 0.0) -> bb.Cohort:
    return bb.read_cohort(
        PATIENTS[PATIENTS["id"].isin(list(rows))],
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died")},
        phases=Courses(
            table=STAYS[STAYS["id"].isin(list(rows))],
            patient="id",
            start="start",
            stop="stop",
            phase="phase",
            phases=["on", "other"],
            dose="given",
            bridge=bridge,
            grace=grace,
            order="any",
        ),
        covariates=["site"],
        synthetic=True,
    )


def time_on(cohort: bb.Cohort, question: bb.Question = QUESTION) -> float:
    table = bb.person_time(cohort, question, cuts=[]).table
    return float(table["person_time"].sel(phase="on").sum())


def same_stays(left: bb.Cohort, right: bb.Cohort) -> bool:
    assert left.stays is not None
    assert right.stays is not None
    return all(
        np.array_equal(getattr(left.stays, name), getattr(right.stays, name))
        for name in ("patient", "phase", "start", "stop", "cycles", "dose")
    )


def test_gaps_are_bridged_as_when_read() -> None:
    base = read()
    what_if = bb.scenarios(base, QUESTION, {"bridge": [0.0, 0.25, 1.0, 30.0]})
    assert [each.label for each in what_if] == [
        "base case",
        "bridge = 0.25",
        "bridge = 1",
        "bridge = 30",
    ]
    # By hand: a 1 + 1 + 1.75, b 1, c 5; then the gaps of a one after the other.
    expected = (9.75, 10.0, 11.0, 11.0)
    for scenario, length, time in zip(what_if, (0.0, 0.25, 1.0, 30.0), expected, strict=True):
        cohort = scenario.cohort(base, seed=1)
        assert same_stays(cohort, read(length))
        assert time_on(cohort) == pytest.approx(time)
    # What was closed cannot be opened; a longer bridge can be built on it.
    assert same_stays(
        bb.scenarios(read(0.25), QUESTION, {"bridge": [1.0]})[1].cohort(read(0.25), seed=1),
        read(1.0),
    )
    with pytest.raises(SpecError, match=r"gaps of up to 0\.25 were closed"):
        bb.scenarios(read(0.25), QUESTION, {"bridge": [0.1]})
    with pytest.raises(SpecError, match="must not be negative"):
        bb.scenarios(base, QUESTION, {"bridge": [-1.0]})


def test_grace_is_granted_as_when_read() -> None:
    base = read()
    what_if = bb.scenarios(base, QUESTION, {"grace": [0.0, 0.5, 1.0]})
    assert [each.label for each in what_if] == ["base case", "grace = 0.5", "grace = 1"]
    # By hand: a 9.75 less b 1 and c 5 is 3.75, and its gaps are 0.25 and 1, its last stay ends 2
    # before her follow-up; b has 2 until her next drug; c has 2.
    expected = (9.75, 9.75 + 0.25 + 0.5 + 0.5 + 0.5 + 0.5, 9.75 + 0.25 + 1.0 + 1.0 + 1.0 + 1.0)
    for scenario, length, time in zip(what_if, (0.0, 0.5, 1.0), expected, strict=True):
        cohort = scenario.cohort(base, seed=1)
        assert same_stays(cohort, read(grace=length))
        assert time_on(cohort) == pytest.approx(time)
    # What was added cannot be cut; a longer grace can be built on it.
    longer = bb.scenarios(read(grace=0.5), QUESTION, {"grace": [0.5, 1.0]})
    assert [each.label for each in longer] == ["base case", "grace = 1"]
    assert time_on(longer[1].cohort(read(grace=0.5), seed=1)) == pytest.approx(expected[2])
    with pytest.raises(SpecError, match=r"stays were made 0\.5 longer when they were read"):
        bb.scenarios(read(grace=0.5), QUESTION, {"grace": [0.25]})
    for cohort, axis in ((read(0.25), "grace"), (read(grace=0.5), "bridge")):
        with pytest.raises(SpecError, match="bridge and grace are two answers to one question"):
            bb.scenarios(cohort, QUESTION, {axis: [1.0]})
    with pytest.raises(SpecError, match="bridge and grace are two answers to one question"):
        bb.scenarios(base, QUESTION, {"bridge": [1.0], "grace": [1.0]}, design="full")
    assert hash_of_cohort(read(grace=0.5)) != hash_of_cohort(base)


def test_phases_that_start_once_have_no_gaps(cohort: bb.Cohort) -> None:
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    for axis in ("bridge", "grace"):
        with pytest.raises(SpecError, match="each phase starts and ends once"):
            bb.scenarios(cohort, question, {axis: [1.0]})


def test_measures_are_varied_with_their_steps() -> None:
    base = read()
    what_if = bb.scenarios(
        base,
        replace(QUESTION, measure=None, phase_end="current"),
        {"measure": ["current", "ever"], "lag": [0.5]},
        explicit=[
            {"measure": "since_end", "steps": [1.0, 2.0], "model": "since_entry"},
            {"measure": "cumulative", "amount": "dose", "steps": [3.0], "model": "since_entry"},
        ],
    )
    # The measure current is what phase_end is short for.
    assert [each.label for each in what_if] == [
        "base case",
        "measure = ever",
        "lag = 0.5",
        "measure = since_end; steps = 1, 2; model = since_entry",
        "measure = cumulative; steps = 3; model = since_entry; amount = dose",
    ]
    ever, lagged, waning, dose = (each.person_time(base, seed=1) for each in what_if[1:])
    # a from 1 to 8, b from 2 to 5, c from 3 to 10.
    assert float(ever.table["person_time"].sel(phase="on").sum()) == pytest.approx(17.0)
    assert float(lagged.table["person_time"].sel(phase="on").sum()) == pytest.approx(9.75 - 2.5)
    by_step = waning.table["person_time"].sum(["endpoint", "interval", "pattern"]).to_series()
    # Off: a 0.25, 1, 2; b from 3 to 9; c from 8 to 10.
    assert by_step["on ended 0 to 1"] == pytest.approx(0.25 + 1.0 + 1.0 + 1.0 + 1.0)
    assert by_step["on ended 1 to 2"] == pytest.approx(1.0 + 1.0 + 1.0)
    assert by_step["on ended from 2"] == pytest.approx(4.0)
    # a exceeds 3 when its third stay begins; b after 3/4 of its own; c half way.
    of_dose = dose.table["person_time"].sum(["endpoint", "interval", "pattern"]).to_series()
    assert of_dose["on dose from 3"] == pytest.approx(3.75 + 6.25 + 4.5)
    with pytest.raises(SpecError, match="has one effect of the exposed phase"):
        bb.scenarios(base, QUESTION, {"measure": ["since_end"]})
    with pytest.raises(SpecError, match="vary measure"):
        bb.scenarios(
            base,
            replace(QUESTION, measure="since_end", steps=(1.0,)),
            {"phase_end": ["ever"]},
            model="since_entry",
        )


STUDY = """
schema = 1

[data]
file = "patients.csv"
patient = "id"
unit = "months"

[endpoints.os]
time = "months"
event = "died"

[phases.on]
start = "from"
end = "to"

[question]
exposed = "on"
eligible_from = "entry"
phase_end = "current"

[sensitivity.axes]
bridge = [0.25, 1]
grace = [0.5]
measure = ["ever"]
exposed = [["on", "other"]]

[[sensitivity.scenarios]]
measure = "since_end"
steps = [1.0, 2.0]
model = "since_entry"
"""


def test_a_study_file_varies_courses(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY, encoding="utf-8")
    base = read()
    by_file = read_study(path).scenarios(base)
    assert [each.label for each in by_file] == [
        "base case",
        "bridge = 0.25",
        "bridge = 1",
        "grace = 0.5",
        "measure = ever",
        "exposed = on, other",
        "measure = since_end; steps = 1, 2; model = since_entry",
    ]
    in_python = bb.scenarios(
        base,
        QUESTION,
        {
            "bridge": [0.25, 1.0],
            "grace": [0.5],
            "measure": ["ever"],
            "exposed": [["on", "other"]],
        },
        explicit=[{"measure": "since_end", "steps": [1, 2], "model": "since_entry"}],
    )
    assert [each.key for each in by_file] == [each.key for each in in_python]
    path.write_text(STUDY.replace("bridge =", "bridges ="), encoding="utf-8")
    with pytest.raises(SpecError, match="no axis 'bridges'"):
        read_study(path)


def test_keys_of_questions_without_measures_are_as_before(cohort: bb.Cohort) -> None:
    """Results of earlier runs are found, and their seeds stay."""
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    base = bb.scenarios(cohort, question)[0]
    assert base.key == KEY_BEFORE


KEY_BEFORE = "3a2a2529c1774ada0030b0149390b1919e9f813b5dab5dd99e50c4b371332622"


def test_stays_go_with_their_patients() -> None:
    base = read()
    only = bb.scenarios(base, QUESTION, {"only": [("site", "y")], "without": [("site", "x")]})
    assert len(only) == 3
    for scenario in only[1:]:
        assert same_stays(scenario.cohort(base, seed=1), read(rows="bd"))
    kept = np.array([False, True, False, True])
    assert same_stays(take_patients(base, kept), read(rows="bd"))
    assert base.stays is not None
    # Patients in another order, one of them twice.
    drawn = base.stays.of_patients(np.array([2, 0, 2]))
    assert drawn.patient.tolist() == [0, 1, 1, 1, 2]
    assert drawn.start.tolist() == [3.0, 1.0, 2.25, 4.25, 3.0]
    assert drawn.dose is not None
    assert drawn.dose.tolist() == [6.0, 1.0, 2.0, 3.0, 6.0]


@pytest.mark.parametrize(
    "question",
    [
        QUESTION,
        replace(QUESTION, measure="since_end", steps=(1.0,)),
        replace(QUESTION, measure="cumulative", amount="dose", steps=(3.0,)),
    ],
)
def test_weights_of_patients_are_as_many_courses(question: bb.Question) -> None:
    """Bootstrap, folds and external patients are weights: each goes with the patient's stays."""
    base, weights = read(), np.array([2.0, 1.0, 1.0, 3.0])
    rows = np.repeat(np.arange(4), weights.astype(int))
    assert base.stays is not None
    outcome = base.endpoints["os"]
    drawn = replace(
        base,
        patients=np.array([f"{base.patients[row]}{copy}" for copy, row in enumerate(rows)]),
        endpoints={
            "os": replace(
                outcome,
                time=outcome.time[rows],
                event=outcome.event[rows],
                entry=outcome.entry[rows],
            )
        },
        stays=base.stays.of_patients(rows),
        phase_start=base.phase_start[rows],
        phase_end=base.phase_end[rows],
        covariates={
            name: replace(own, values=own.values[rows]) for name, own in base.covariates.items()
        },
    )
    weighted = person_time(base, question, cuts=[4.0], weights=weights).table
    copied = person_time(drawn, question, cuts=[4.0]).table
    for name in ("events", "person_time"):
        total = weighted[name].sum("pattern").to_series()
        assert total.to_numpy() == pytest.approx(copied[name].sum("pattern").to_series().to_numpy())


def test_dropout_of_courses_that_go_on_unrecorded_is_refused() -> None:
    """The state after dropping out would have changed with stays that nobody recorded."""
    base = read()
    definition = bb.load_model("primary")
    for measure, refused in (("current", True), ("ever", False)):
        question = bb.Question(exposed="on", eligible_from="entry", measure=measure)  # type: ignore[arg-type]
        fit: Any = SimpleNamespace(
            person_time=person_time(base, question, cuts=[]), definition=definition
        )
        if refused:
            with pytest.raises(EstimandError, match="stays that nobody recorded"):
                _require_possible(base, fit)
        else:
            _require_possible(base, fit)


def test_starts_of_stays_are_moved() -> None:
    base = read()
    late, early, noisy = (
        bb.scenarios(base, QUESTION, {name: [value]})[1].cohort(base, seed=3)
        for name, value in (("phase_shift", 0.5), ("phase_shift", -0.5), ("phase_jitter", 0.1))
    )
    assert late.stays is not None
    assert early.stays is not None
    assert late.stays.start.tolist() == [1.5, 2.75, 4.75, 2.5, 5.0, 3.5, 1.0]
    # The second stay of a would begin in the first, and the other phase is not exposed.
    assert early.stays.start.tolist() == [0.5, 2.25, 3.75, 1.5, 5.0, 2.5, 1.0]
    # An error belongs to the patient, whoever else is there.
    some = bb.scenarios(base, QUESTION, explicit=[{"phase_jitter": 0.1, "only": ("site", "y")}])
    assert same_stays(
        some[1].cohort(base, seed=3), take_patients(noisy, np.array([False, True, False, True]))
    )


def test_all_of_a_course_is_in_its_hash() -> None:
    base = read()
    assert base.stays is not None
    stays = base.stays
    changed = [
        replace(base, stays=replace(stays, **{name: value}))  # type: ignore[arg-type]
        for name, value in (
            ("start", np.where(np.arange(7) == 5, 3.5, stays.start)),
            ("stop", np.where(np.arange(7) == 5, 7.5, stays.stop)),
            ("phase", np.where(np.arange(7) == 6, 0, stays.phase)),
            ("cycles", np.where(np.arange(7) == 1, 0.0, stays.cycles)),
            ("dose", stays.cycles * 2.0),
            ("dose", None),
        )
    ]
    hashes = {hash_of_cohort(each) for each in (base, *changed, read(0.25))}
    assert len(hashes) == 2 + len(changed)
    assert hash_of_cohort(read()) == hash_of_cohort(base)
    ordered = replace(take_patients(base, np.array([True, True, True, False])), ordered=True)
    assert hash_of_cohort(ordered) != hash_of_cohort(replace(ordered, ordered=False))


def test_bridging_touches_one_phase_of_one_patient_only() -> None:
    stays = Stays(
        patient=np.array([0, 0, 0, 1]),
        phase=np.array([0, 1, 1, 1]),
        start=np.array([0.0, 2.0, 3.5, 4.0]),
        stop=np.array([1.5, 3.0, 3.8, 5.0]),
        cycles=np.ones(4),
    )
    bridged, who = bridge_gaps(stays, 0.5)
    assert bridged.stop.tolist() == [1.5, 3.5, 3.8, 5.0]
    assert who.tolist() == [0]
    assert bridge_gaps(stays, 0.4)[1].size == 0
