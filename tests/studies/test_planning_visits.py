"""Designs whose events are found at visits: simulated, refused, and fitted by their likelihood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.inference.convergence import sampler_settings
from bayesblina.studies.planning.characteristics import operating_characteristics, sample_size
from bayesblina.studies.planning.designs import StudyDesign, as_cohort, simulate_cohorts
from bayesblina.studies.simulate import VisitSchedule
from bayesblina.studies.study_file import read_design
from bayesblina.studies.what_if.running import _key

EXACT = StudyDesign(
    patients=150,
    hazards=(0.06,),
    start_hazards=(0.1,),
    hazard_ratio=0.5,
    follow_up=24.0,
    accrual=12.0,
)
SIX = VisitSchedule(every=6.0)
UNTIL_FOUND = replace(EXACT, visits=SIX, starts_until="found")
UNTIL_EVENT = replace(EXACT, visits=SIX, starts_until="event")
FILE = """
schema = 1

[design]
patients = 150
hazards = [0.06]
start_hazards = [0.1]
hazard_ratio = 0.5
follow_up = 24.0
accrual = 12.0
starts_until = "found"

[design.visits]
every = 6.0

[analysis]
method = "model"
"""


def test_events_are_found_at_the_next_visit() -> None:
    exact = simulate_cohorts(EXACT, cohorts=20, seed=3)
    found = simulate_cohorts(UNTIL_FOUND, cohorts=20, seed=3)
    assert found.last_negative is not None
    event = found.event
    assert (event <= exact.event).all()
    np.testing.assert_allclose(found.time[event], 6.0 * np.ceil(exact.time[event] / 6.0))
    since = np.where(np.isinf(found.last_negative), 0.0, found.last_negative)
    np.testing.assert_allclose(since[event], 6.0 * np.floor(exact.time[event] / 6.0))
    # Events after the last visit are found by nobody.
    unseen = exact.event & ~event
    assert 0 < unseen.sum() < 0.2 * exact.event.sum()
    until_event = simulate_cohorts(UNTIL_EVENT, cohorts=20, seed=3)
    np.testing.assert_array_equal(until_event.time, found.time)
    np.testing.assert_array_equal(until_event.start, exact.start)
    later = np.isfinite(found.start) & np.isinf(exact.start)
    assert (found.start[later] >= exact.time[later]).all()
    assert later.sum() > 100


def test_cohorts_are_recorded_at_visits() -> None:
    cohorts = simulate_cohorts(UNTIL_FOUND, cohorts=2, seed=3)
    outcome = as_cohort(cohorts, 1, UNTIL_FOUND).endpoints["event"]
    assert outcome.recorded == "visits"
    assert outcome.last_negative is not None
    assert cohorts.last_negative is not None
    seen = np.isfinite(cohorts.last_negative[1])
    np.testing.assert_array_equal(outcome.last_negative[seen], cohorts.last_negative[1][seen])
    assert np.isnan(outcome.last_negative[~seen]).all()


def test_files_say_what_python_says(tmp_path: Path) -> None:
    path = tmp_path / "design.toml"
    path.write_text(FILE)
    assert StudyDesign(**read_design(path).design.arguments()) == UNTIL_FOUND
    assert replace(EXACT, visits={"every": 6.0}, starts_until="found") == UNTIL_FOUND
    path.write_text(FILE.replace("every = 6.0", "every = 0.0"))
    with pytest.raises(SpecError, match=r"design.visits.every"):
        read_design(path)


def test_designs_without_visits_keep_their_keys() -> None:
    assert len({_key(EXACT), _key(UNTIL_FOUND), _key(UNTIL_EVENT)}) == 3
    assert _key(replace(UNTIL_FOUND, visits={"every": 6.0})) == _key(UNTIL_FOUND)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"visits": SIX}, "visits and starts_until go together"),
        ({"starts_until": "found"}, "visits and starts_until go together"),
        ({"visits": SIX, "starts_until": "never"}, "must be 'found' or 'event'"),
        ({"visits": {"each": 6.0}, "starts_until": "found"}, "visits must be a VisitSchedule"),
        ({"visits": 6.0, "starts_until": "found"}, "visits must be a VisitSchedule"),
        (
            {"visits": SIX, "starts_until": "found", "cycles": (1.0, 1.0, 3)},
            "visits and cycles do not go together",
        ),
    ],
)
def test_impossible_visits_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        replace(EXACT, **changes)


def test_there_is_no_partial_likelihood() -> None:
    with pytest.raises(SpecError, match="analyse it with analysis='model'"):
        operating_characteristics(UNTIL_FOUND, seed=1)
    with pytest.raises(SpecError, match="by a grid of designs"):
        sample_size(UNTIL_FOUND, seed=1)


def test_the_model_is_fitted_by_its_likelihood() -> None:
    """Two cohorts; the posterior means are those of fits of the cohorts as patients."""
    row = operating_characteristics(
        UNTIL_FOUND,
        seed=1,
        replications=2,
        analysis="model",
        settings=sampler_settings(200, 200, 2, 1, 1),
    ).iloc[0]
    assert row["analysed"] == 2
    block = int(np.random.SeedSequence([1, 0]).generate_state(1)[0])
    cohorts = simulate_cohorts(UNTIL_FOUND, cohorts=2, seed=block)
    question = bb.Question(exposed="exposed", eligible_from="entry", starts_until="found")
    person_time = bb.person_time(as_cohort(cohorts, 0, UNTIL_FOUND), question)
    assert person_time.visits is not None
    assert row["events"] == pytest.approx(cohorts.event.sum(axis=1).mean())
    # Two posterior means with standard errors of about 0.2 about log 0.5.
    assert abs(row["bias"]) < 0.8
