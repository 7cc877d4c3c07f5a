"""What a person-time says of its cells and its patients, counted by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.patients.account import DECLARED, UNDECLARED, Line
from bayesblina.person_time.cells import Lazily, PersonTime, value
from bayesblina.person_time.follow_up import LeftOut
from tests.person_time.by_hand import MAINTENANCE, read

NEVER_OBSERVED = "never under observation for this endpoint"
BEFORE, IN = "before maintenance", "maintenance"


def person_time_of(**options: Any) -> PersonTime:
    """Five patients; p0 and p2 enter at 6 and 2, and of p4 nothing is known but survival."""
    cohort = read(
        {
            "os": [10.0, 3.0, 8.0, 6.0, 5.0],
            "died": [1, 1, 0, 1, 0],
            "rfs": [8.0, 3.0, 8.0, 4.0, 5.0],
            "failed": [1, 1, 0, 1, 0],
            "first": [0.0, 0.0, 0.0, 0.0, None],
            "start": [6.0, None, 2.0, None, None],
            "site": ["a", "b", "b", "a", "b"],
            "score": [0.0, 1.0, 0.5, 0.25, 0.75],
        },
        endpoints={
            "os": bb.Endpoint(time="os", event="died", recorded="exact"),
            "rfs": bb.Endpoint(time="rfs", event="failed", entry="first"),
        },
        covariates=["site", "score"],
        synthetic=True,
    )
    return bb.person_time(cohort, MAINTENANCE, cuts=[3.0, 7.0], **options)


def summed() -> PersonTime:
    """The same where only sums are known, and of some landmarks who is at risk."""
    person_time = person_time_of()
    left_out = (LeftOut(endpoint="rfs", reason=NEVER_OBSERVED, patients=("p4",), count=3),)
    at_risk = np.arange(20.0).reshape(2, 2, 5)
    risk_sets = xr.Dataset(
        {"at_risk": (("endpoint", "landmark", "pattern"), at_risk)},
        coords={"landmark": [2.0, 0.1 + 0.2]},
    )
    return replace(
        person_time,
        risk_sets=risk_sets,
        patients=Lazily.of(replace(person_time.patients(), left_out=left_out, complete=False)),
    )


def test_cells_of_single_patients() -> None:
    person_time = person_time_of()
    assert list(person_time.table["phase"].values) == [BEFORE, IN]
    assert person_time.patient_cells("os").toarray().tolist() == [
        [3.0, 0.0, 3.0, 1.0, 0.0, 3.0],
        [3.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [2.0, 1.0, 0.0, 4.0, 0.0, 1.0],
        [3.0, 0.0, 3.0, 0.0, 0.0, 0.0],
        [3.0, 0.0, 2.0, 0.0, 0.0, 0.0],
    ]
    patient, cell = person_time.event_cells("os")
    assert (patient.tolist(), cell.tolist()) == ([0, 1, 3], [5, 0, 2])
    spent = person_time.patient_cells("rfs")
    assert spent.sum(axis=1).tolist() == [8.0, 3.0, 8.0, 4.0, 0.0]
    patient, cell = person_time.event_cells("rfs")
    assert (patient.tolist(), cell.tolist()) == ([0, 1, 3], [5, 0, 2])


def line(
    step: str, endpoint: str, phase: str, what: str, patients: tuple[str, ...], **counts: Any
) -> Line:
    return Line(step=step, endpoint=endpoint, phase=phase, what=what, patients=patients, **counts)


def test_an_account_names_everybody() -> None:
    some = ("p0", "p1", "p2", "p3")
    everybody = (*some, "p4")
    account = person_time_of().account()
    assert account.lines == (
        line("eligible", "os", "", "at risk", everybody, events=3, person_time=32.0),
        line("in phase", "os", BEFORE, "reference", everybody, events=2, person_time=22.0),
        line("in phase", "os", IN, "exposed", ("p0", "p2"), events=1, person_time=10.0),
        line("left out", "rfs", "", NEVER_OBSERVED, ("p4",)),
        line("eligible", "rfs", "", "at risk", some, events=3, person_time=23.0),
        line("in phase", "rfs", BEFORE, "reference", some, events=2, person_time=15.0),
        line("in phase", "rfs", IN, "exposed", ("p0", "p2"), events=1, person_time=8.0),
    )
    assert (account.unit, account.synthetic) == ("months", True)


def test_an_account_of_sums_counts() -> None:
    account = summed().account()

    def counted(count: int, events: int, person_time: float | None = None) -> dict[str, Any]:
        return {"patients": (), "count": count, "events": events, "person_time": person_time}

    assert account.lines == (
        line("eligible", "os", "", "at risk", **counted(5, 3, 32.0)),
        line("recorded", "os", "", DECLARED, **counted(3, 3)),
        line("in phase", "os", BEFORE, "reference", **counted(5, 2, 22.0)),
        line("in phase", "os", IN, "exposed", **counted(2, 1, 10.0)),
        line("left out", "rfs", "", NEVER_OBSERVED, ("p4",), count=3),
        line("eligible", "rfs", "", "at risk", **counted(4, 3, 23.0)),
        line("recorded", "rfs", "", UNDECLARED, **counted(3, 3)),
        line("in phase", "rfs", BEFORE, "reference", **counted(4, 2, 15.0)),
        line("in phase", "rfs", IN, "exposed", **counted(2, 1, 8.0)),
    )
    assert (account.unit, account.synthetic) == ("months", True)


def test_states_that_nobody_of_an_endpoint_is_in_have_no_line() -> None:
    person_time = summed()
    visitors = person_time.table["visitors"].copy()
    visitors.loc[{"endpoint": "rfs", "phase": IN}] = 0
    emptied = replace(person_time, table=person_time.table.assign(visitors=visitors))
    assert [one.phase for one in emptied.account().lines if one.step == "in phase"] == [
        BEFORE,
        IN,
        BEFORE,
    ]


def test_who_is_at_risk_by_pattern() -> None:
    """Patterns by site and score: p0, p3, p2, p4, p1; who leaves at 3 is not at risk then."""
    weights = [1.0, 2.0, 4.0, 8.0, 16.0]
    person_time = person_time_of(weights=weights)
    assert person_time.at_risk(2.0).tolist() == [[1, 8, 4, 16, 2], [1, 8, 4, 0, 2]]
    assert person_time.at_risk(3.0).tolist() == [[1, 8, 4, 16, 0], [1, 8, 4, 0, 0]]
    assert person_time.at_risk(6.0).tolist() == [[1, 0, 4, 0, 0], [1, 0, 4, 0, 0]]


def test_sums_know_who_is_at_risk_at_their_landmarks() -> None:
    person_time = summed()
    assert person_time.at_risk(2.0).tolist() == [[0, 1, 2, 3, 4], [10, 11, 12, 13, 14]]
    # The other landmark but for rounding.
    assert person_time.at_risk(0.3).tolist() == [[5, 6, 7, 8, 9], [15, 16, 17, 18, 19]]
    with pytest.raises(EstimandError, match=r"at 2\.1 is not .* 2, 0\.3\..*=\[2\.1\]"):
        person_time.at_risk(2.1)
    assert not person_time.complete
    with pytest.raises(EstimandError, match="only sums over them are known"):
        _ = person_time.people
    with pytest.raises(EstimandError, match="only sums over them are known"):
        _ = person_time.episodes
    assert person_time.patients().people.sizes["patient"] == 5


@pytest.mark.parametrize("together", [100, 2])
def test_patients_over_nodes(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """Each patient's nodes are those of the own site, and average to the own score."""
    monkeypatch.setattr(value, "SPREAD", together)
    exact, person_time = person_time_of(), person_time_of(compress=True)
    assert person_time.compression is not None
    nodes = person_time.compression.size
    assert person_time.table.sizes["pattern"] == 2 * nodes
    weights = person_time.projection()
    assert weights.shape == (5, 2 * nodes)
    design = person_time.table["design"].values
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(weights @ design, exact.terms_of(slice(None)), atol=1e-12)
    other_site = design[:, 0] == np.array([1.0, 0.0, 0.0, 1.0, 0.0])[:, None]
    assert not weights.toarray()[other_site].any()
    some = np.array([3, 1])
    np.testing.assert_allclose(person_time.projection(some).toarray(), weights.toarray()[some])
    np.testing.assert_array_equal(person_time.terms_of(some), [[0.0, 0.25], [1.0, 1.0]])
    at_risk = person_time.at_risk(4.0)
    assert at_risk.shape == (2, 2 * nodes)
    # At 4 p0, p2, p3 and p4 live on; p3 has just relapsed, and p4 was never assessed.
    np.testing.assert_allclose(at_risk.sum(axis=1), [4.0, 2.0], rtol=1e-12)
    np.testing.assert_allclose(at_risk @ design, [[2.0, 1.5], [1.0, 0.5]], atol=1e-12)


def test_patterns_of_patients() -> None:
    person_time = person_time_of()
    assert person_time.compression is None
    pattern = [0, 4, 2, 1, 3]
    assert person_time.projection().toarray().tolist() == np.eye(5)[pattern].tolist()
    assert person_time.projection(slice(3, None)).toarray().tolist() == np.eye(5)[[1, 3]].tolist()
    assert person_time.terms_of(slice(1, 3)).tolist() == [[1.0, 1.0], [1.0, 0.5]]


def test_whose_rows_they_are() -> None:
    person_time = person_time_of()
    assert person_time.persons.ids.tolist() == ["p0", "p1", "p2", "p3", "p4"]
    assert person_time.persons.of.tolist() == [0, 1, 2, 3, 4]
    assert not person_time.in_pieces
    held = person_time.patients()
    people = held.people.assign(person=("patient", ["z", "z", "b", "c", "b"]))
    pieces = replace(
        person_time,
        table=person_time.table.assign_attrs(persons=3),
        patients=Lazily.of(replace(held, people=people)),
    )
    # In the order of their first rows.
    assert pieces.persons.ids.tolist() == ["z", "b", "c"]
    assert pieces.persons.of.tolist() == [0, 0, 1, 2, 1]
    assert pieces.in_pieces
    assert repr(pieces).startswith("PersonTime(3 synthetic patients in 5 pieces; ")


def test_what_is_shown() -> None:
    person_time = person_time_of(weights=[0.5, 1.0, 1.0, 1.0, 2.0])
    assert repr(person_time) == (
        "PersonTime(5 weighted synthetic patients; os: 2.5 events in 32 person-months, "
        "rfs: 2.5 events in 19 person-months; 3 intervals x 2 phases x 5 patterns)"
    )
    assert person_time._repr_html_() == (
        "<table><thead><tr><th>PersonTime</th><th>5 weighted synthetic patients</th></tr></thead>"
        "<tbody><tr><td>os</td><td>2.5 events in 32 person-months</td></tr>"
        "<tr><td>rfs</td><td>2.5 events in 19 person-months</td></tr>"
        "<tr><td>cells</td><td>3 intervals x 2 phases x 5 patterns</td></tr></tbody></table>"
    )
    real = replace(person_time_of(), synthetic=False)
    assert repr(real).startswith("PersonTime(5 patients; ")


def test_what_is_declared_of_endpoints() -> None:
    person_time = person_time_of()
    assert person_time.recorded == {"os": "exact", "rfs": None}
    assert person_time.includes == {"os": (), "rfs": ()}
    table = person_time.table.assign_attrs(includes='{"rfs": ["os"]}', courses='["os", "rfs"]')
    declared = replace(person_time, table=table)
    assert declared.includes == {"os": (), "rfs": ("os",)}
    assert (person_time.courses, declared.courses) == (None, ("os", "rfs"))
    assert not person_time.by_patient
    assert person_time_of(by_patient=True).by_patient
    assert not person_time_of(weights=np.ones(5)).weighted
    # Files of earlier versions declare nothing.
    earlier = {k: v for k, v in table.attrs.items() if k not in ("includes", "recorded")}
    silent = replace(person_time, table=table.drop_attrs().assign_attrs(earlier))
    assert silent.recorded == {"os": None, "rfs": None}
    assert silent.includes == {"os": (), "rfs": ()}


def test_covariates_are_kept_with_the_table() -> None:
    site, score = person_time_of().covariates
    assert (site.name, site.kind, site.levels) == ("site", "categorical", ("a", "b"))
    assert (score.name, score.kind, score.levels) == ("score", "continuous", ())
    assert (score.low, score.high) == (0.0, 1.0)
