"""Patients added up block by block: the same as in memory, whatever the size of a block."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.patients.scan import engines
from bayesblina.person_time.cells import ranks, summing, survey
from tests.patients.test_scan import require_same
from tests.person_time.patients import DECLARED, QUESTION, table

pa = pytest.importorskip("pyarrow", reason="the extra `scale` is not installed")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few patients, and little that is held."""
    monkeypatch.setattr(engines, "ROWS", 7)
    monkeypatch.setattr(ranks, "HELD", 3)


@pytest.mark.parametrize("listed", [6, 5])
@pytest.mark.parametrize("transplant", ["phase", "censor"])
@pytest.mark.parametrize("covariates", [["site", "sex"], ["site", "score", "sex"]])
def test_blocks_sum_what_memory_sums(
    monkeypatch: pytest.MonkeyPatch, covariates: list[str], transplant: Any, listed: int
) -> None:
    """Six combinations of levels: listed, or looked up by bisection."""
    monkeypatch.setattr(survey, "LISTED", listed)
    monkeypatch.setattr(summing, "LISTED", listed)
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
    monkeypatch.setattr(survey, "SAMPLE", 5)
    monkeypatch.setattr(engines, "ROWS", 3)
    shuffled = patients.sample(frac=1.0, random_state=3)
    samples = [
        bb.person_time(bb.scan_cohort(one, **DECLARED), QUESTION).patients().people["patient"]
        for one in (patients, shuffled)
    ]
    assert samples[0].size == 5
    assert samples[0].values.tolist() == samples[1].values.tolist()
    assert samples[0].values.tolist() == ordered[:5].tolist()


def test_curves_start_at_the_median_rounded_up() -> None:
    """By hand: of 2, 3.141 and 6 the middle is 3.141; at 3.2 two are at risk, and that is kept."""
    patients = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "time": [10.0, 12.0, 14.0, 4.0],
            "died": [1, 0, 1, 1],
            "early": [2.0, 3.141, 6.0, None],
            "late": [4.0, None, 7.0, None],
        }
    )
    scan = bb.scan_cohort(
        patients,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died")},
        phases=bb.Phases(early="early", late="late"),
    )
    found = bb.person_time(scan, bb.Question(exposed="late", eligible_from="early"), cuts=[])
    assert found.risk_sets is not None
    assert found.risk_sets.attrs["median_begin"] == 3.2
    assert found.risk_sets["landmark"].values.tolist() == [3.2]
    assert found.at_risk(3.2).sum() == 2.0


def test_phases_that_end_are_left() -> None:
    """By hand: a is on `late` from 2 to 5 and dies off it; b from 3 on; c never."""
    patients = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "time": [10.0, 8.0, 6.0],
            "died": [1, 1, 0],
            "start": [2.0, 3.0, None],
            "end": [5.0, None, None],
        }
    )
    declared: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": {"os": bb.Endpoint(time="time", event="died")},
        "phases": bb.Phases(late=bb.Phase(start="start", end="end")),
    }
    question = bb.Question(exposed="late", eligible_from="entry", phase_end="current")
    memory = bb.person_time(bb.read_cohort(patients, **declared), question, cuts=[4.0])
    found = bb.person_time(bb.scan_cohort(patients, **declared), question, cuts=[4.0])
    require_same(memory, found)
    table = found.table.sel(endpoint="os").sum(("interval", "pattern"))
    states = table["phase"].values.tolist()
    assert dict(zip(states, table["person_time"].values.tolist(), strict=True)) == {
        "before late": 11.0,
        "late": 8.0,
        "off treatment": 5.0,
    }
    assert dict(zip(states, table["events"].values.tolist(), strict=True)) == {
        "before late": 0.0,
        "late": 1.0,
        "off treatment": 1.0,
    }
