"""Which way person-time is summed, and what each way is given."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.core.intervals import default_cuts
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import front, many
from bayesblina.person_time.cells.front import in_cohort_order, valid_weights
from bayesblina.person_time.transitions import TRANSITIONS
from tests.person_time.by_hand import MAINTENANCE, cells, read

ENDPOINTS = {
    "os": bb.Endpoint(time="os", event="died"),
    "rfs": bb.Endpoint(time="rfs", event="failed"),
}


def cohort(**options: Any) -> Cohort:
    """p0 relapses at 4 in maintenance and dies at 10; p2 enters at 2; p3 relapses at 5."""
    table: dict[str, list[Any]] = {
        "os": [10.0, 3.0, 8.0, 6.0],
        "died": [1, 1, 0, 1],
        "rfs": [4.0, 3.0, 8.0, 5.0],
        "failed": [1, 1, 0, 1],
        "start": [3.0, None, 2.0, None],
        "site": ["a", "b", "b", "a"],
        "sex": ["f", "f", "m", "m"],
    }
    return read(table, endpoints=ENDPOINTS, **options)


class Given(dict[str, Any]):
    """Notes what a function is called with, in its place."""

    def __call__(self, *arguments: Any, **named: Any) -> str:
        """Note it."""
        self.clear()
        self.update(named)
        self["arguments"] = arguments
        return "summed"


def test_wrong_kinds_are_named() -> None:
    with pytest.raises(TypeError, match=r"^cohort: expected Cohort or CohortScan, got str"):
        bb.person_time("patients", MAINTENANCE)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^question: expected Question, got str"):
        bb.person_time(cohort(), "maintenance")  # type: ignore[arg-type]


def test_a_scan_is_given_all_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ibis", reason="the extra `scale` is not installed")
    from bayesblina.person_time.cells import scanned

    scan = bb.scan_cohort(
        pd.DataFrame({"id": ["a"], "os": [1.0], "died": [1], "start": [0.5]}),
        patient="id",
        unit="months",
        endpoints={"os": ENDPOINTS["os"]},
        phases=bb.Phases(maintenance="start"),
    )
    given = Given()
    monkeypatch.setattr(scanned, "tabulate_scan", given)
    options: dict[str, Any] = {"compress": True, "landmarks": [8.0]}
    found: Any = bb.person_time(scan, MAINTENANCE, cuts=[3.0, 6.0], phase_cuts=[2.0], **options)
    assert found == "summed"
    assert given["arguments"] == (scan, MAINTENANCE)
    assert given["cuts"].tolist() == [3.0, 6.0]
    assert given["phase_cuts"].tolist() == [2.0]
    assert (given["compress"], given["landmarks"]) == (True, [8.0])
    bb.person_time(scan, MAINTENANCE)
    assert given["cuts"] is given["phase_cuts"] is given["compress"] is None
    assert given["landmarks"] == ()
    refused: list[dict[str, Any]] = [
        {"by_patient": True},
        {"weights": [1.0]},
        {"courses": ("os", "rfs")},
    ]
    for one in refused:
        with pytest.raises(SpecError, match="need patients in memory: read them with read_cohort"):
            bb.person_time(scan, MAINTENANCE, **one)


def test_many_patients_are_summed_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given()
    monkeypatch.setattr(many, "tabulate_many", given)
    monkeypatch.setattr(front, "MANY", 4)
    asked = cohort(covariates=["site", "sex"])
    weights = [1.0, 2.0, 3.0, 4.0]
    found: Any = bb.person_time(
        asked, MAINTENANCE, cuts=[3.0], phase_cuts=[2.0], weights=weights, compress=False
    )
    assert found == "summed"
    assert given["arguments"] == (asked, MAINTENANCE)
    assert given["cuts"].tolist() == [3.0]
    assert given["phase_cuts"].tolist() == [2.0]
    assert given["weight"].tolist() == weights
    assert given["compress"] is False
    # Patient by patient where single patients are needed, or levels have no numbers, or few come.
    for one in ({"by_patient": True}, {"courses": ("os", "rfs")}):
        assert bb.person_time(asked, MAINTENANCE, **one).size == 4
    monkeypatch.setattr(front, "MOST_COMBINATIONS", 4)
    summed: Any = bb.person_time(asked, MAINTENANCE)
    assert summed == "summed"
    monkeypatch.setattr(front, "MOST_COMBINATIONS", 3)
    assert bb.person_time(asked, MAINTENANCE).size == 4
    # A number has no levels.
    score = read(
        {
            "months": [5.0, 4.0, 3.0, 2.0],
            "died": [1, 1, 1, 1],
            "start": [1.0, 1.0, None, None],
            "score": [1.0, 2.0, 3.0, 4.0],
        },
        covariates=["score"],
    )
    monkeypatch.setattr(front, "MOST_COMBINATIONS", 1)
    summed = bb.person_time(score, MAINTENANCE)
    assert summed == "summed"
    monkeypatch.setattr(front, "MANY", 5)
    assert bb.person_time(score, MAINTENANCE).size == 4


def test_transitions_of_courses() -> None:
    """The question's own endpoints are not those that are compared."""
    question = bb.Question(exposed="maintenance", eligible_from="entry", endpoints=("os",))
    person_time = bb.person_time(cohort(), question, cuts=[], courses=("os", "rfs"))
    assert person_time.endpoints == TRANSITIONS
    assert person_time.courses == ("os", "rfs")
    events = person_time.table["events"].sum(("interval", "pattern")).values
    # By transition and phase: relapses of p3 and p0; death of p1; deaths of p3 and p0.
    assert events.tolist() == [[1, 1], [1, 0], [1, 1]]
    spent = person_time.table["person_time"].sum(("interval", "pattern")).values
    # Remission until 4, 3, 8, 5; after relapse p0 from 4 to 10, p3 from 5 to 6.
    assert spent.tolist() == [[13.0, 7.0], [13.0, 7.0], [1.0, 6.0]]


def test_courses_need_something_to_compare() -> None:
    """Who never enters maintenance in remission is compared with nobody, whatever is asked."""
    nobody = read(
        {
            "os": [10.0, 3.0],
            "died": [1, 1],
            "rfs": [4.0, 3.0],
            "failed": [0, 1],
            "start": [None, None],
        },
        endpoints=ENDPOINTS,
    )
    with pytest.raises(DataError, match="no eligible patient has time in maintenance") as caught:
        bb.person_time(nobody, MAINTENANCE, courses=("os", "rfs"))
    assert {one.column for one in caught.value.problems} == {"os", "rfs"}


def test_pieces_of_the_exposed_phase() -> None:
    """p0 is in it from 3 to 10, p2 from 2 to 8; a piece shorter than a tie is none."""
    question = bb.Question(exposed="maintenance", eligible_from="entry", endpoints=("os",))
    person_time = bb.person_time(cohort(), question, cuts=[], phase_cuts=[2.5])
    assert person_time.table["since"].values.tolist() == [0.0, 0.0, 2.5]
    assert cells(person_time, "person_time") == [[14.0, 5.0, 8.0]]
    # A hundredth of a day is 0.0003 months: p2's event at 8 lies so little after the cut at 6.
    person_time = bb.person_time(cohort(), question, cuts=[], phase_cuts=[5.9999])
    assert cells(person_time, "person_time")[0][2] == pytest.approx(7.0 - 5.9999, rel=1e-9)
    with pytest.raises(SpecError, match="strictly increasing"):
        bb.person_time(cohort(), question, phase_cuts=[3.0, 2.0])


def test_cuts_by_default_and_given() -> None:
    person_time = bb.person_time(cohort(), MAINTENANCE)
    events = np.array([10.0, 3.0, 6.0, 4.0, 3.0, 5.0])
    expected = default_cuts(events, endpoints=2, entry_times=[[3.0, 2.0] * 2])
    np.testing.assert_array_equal(person_time.cuts, expected)
    assert bb.person_time(cohort(), MAINTENANCE, cuts=[]).cuts.size == 0


def test_a_pattern_for_every_patient() -> None:
    person_time = bb.person_time(cohort(), MAINTENANCE, cuts=[], by_patient=True)
    assert person_time.by_patient
    spent = person_time.table["person_time"].sel(endpoint="os").sum(("interval", "phase"))
    assert spent.values.tolist() == [10.0, 3.0, 8.0, 6.0]


# Weights.


def test_weights_in_order_and_by_id() -> None:
    asked = cohort()
    assert valid_weights(None, asked) is None
    found = valid_weights([1, 2, 3, 4], asked)
    assert found is not None
    assert found.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found.dtype == np.float64
    series = pd.Series({"p3": 4.0, "p0": 1.0, "p2": 3.0, "p1": 2.0})
    by_id = valid_weights(series, asked)
    assert by_id is not None
    assert by_id.tolist() == [1.0, 2.0, 3.0, 4.0]
    weighted = bb.person_time(asked, MAINTENANCE, cuts=[], weights=series)
    assert weighted.weighted
    spent = weighted.table["person_time"].sel(endpoint="os").sum(("interval", "pattern"))
    # Before maintenance p0 to 3, p1 to 3, p2 to 2 and p3 to 6; in it p0 for 7 and p2 for 6.
    assert spent.values.tolist() == [39.0, 25.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["a", "b", "c", "d"], "weights must be numbers, one for each patient of the cohort"),
        ([[1.0], [1.0, 2.0]], "weights must be numbers, one for each patient of the cohort"),
        ([1.0, 2.0, 3.0], r"weights must be 4 numbers, .* got an array of shape \(3,\)"),
        (np.ones((4, 1)), r"got an array of shape \(4, 1\)"),
        (pd.DataFrame({"w": [1.0] * 4}), "^weights must be one column: give a Series"),
        (pd.Series([1.0] * 4, index=["p0", "p1", "p2", "p2"]), "^weights: a Series is matched by"),
        (pd.Series([1.0] * 4, index=["p0", "p1", "p2", "p9"]), "cohort's 4 patients, each once"),
        (pd.Series([1.0] * 3, index=["p0", "p1", "p2"]), r"given as an array: weights\.to_numpy"),
        (pd.Series([1.0] * 5, index=[f"p{row}" for row in range(5)]), "weights: a Series is match"),
    ],
)
def test_impossible_weights(weights: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        bb.person_time(cohort(), MAINTENANCE, weights=weights)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_weights_that_are_none(weight: float) -> None:
    with pytest.raises(DataError, match="missing, infinite, 0 or negative") as caught:
        valid_weights([1.0, weight, 1.0, weight], cohort())
    (problem,) = caught.value.problems
    assert (problem.column, problem.patients) == ("weights", ("p1", "p3"))
    assert "problem in the weights" in str(caught.value)


def test_what_says_not_whose_it_is_stays_in_its_order() -> None:
    values = [3, 1, 2, 0]
    assert in_cohort_order(values, cohort(), name="scores") is values
    with pytest.raises(SpecError, match=r"^scores must be one column"):
        in_cohort_order(pd.DataFrame({"w": values}), cohort(), name="scores")
    with pytest.raises(SpecError, match=r"^scores: a Series .* as an array: scores\.to_numpy"):
        in_cohort_order(pd.Series(values), cohort(), name="scores")


def test_a_series_with_one_id_twice_is_refused_in_a_cohort_of_one() -> None:
    """Its size is not the cohort's, nor does one of its values belong to the patient alone."""
    one = read({"months": [1.0], "died": [1], "start": [0.5]})
    with pytest.raises(SpecError, match="1 patients, each once"):
        in_cohort_order(pd.Series([1.0, 2.0], index=["p0", "p0"]), one, name="weights")
