"""What a check gathers, and how it is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayesblina.checks import posterior
from bayesblina.checks.posterior import Checks
from bayesblina.core.errors import EstimandError
from bayesblina.inference.fitting import Fit

FOUND = {"os": (40, 40, 0, 0.3), "rfs": (50, 20, 2, 0.9), None: (60, 30, 1, 0.8)}


def left_out(fit: Any, *, endpoint: str | None) -> Any:
    assert fit.person_time.endpoints
    patients, evaluated, above, largest = FOUND[endpoint]
    return SimpleNamespace(
        patients=patients,
        elpd=-float(patients),
        se=1.5,
        p_loo=2.5,
        largest_pareto_k=largest,
        limit=0.7,
        above_limit=above,
        evaluated=evaluated,
        sampling_se=0.25,
    )


def replicated(_: Any, *, seed: int) -> xr.Dataset:
    assert seed == 0
    dims = ("endpoint", "interval", "phase")
    expected = np.arange(1.0, 17.0).reshape(1, 2, 2, 2, 2)
    return xr.Dataset(
        {
            "observed": (dims, np.arange(8.0).reshape(2, 2, 2)),
            "expected": (("chain", "draw", *dims), expected),
            "p_value_interval": (("endpoint", "interval"), [[0.1, 0.2], [0.3, 0.4]]),
        },
        coords={
            "endpoint": ["os", "rfs"],
            "interval_start": ("interval", [0.0, 3.0]),
            "interval_stop": ("interval", [3.0, np.inf]),
        },
    )


class Events:
    """Event times as they were looked at."""

    messages = ("rfs: event times are those of visits",)
    notes = ("os: too few events to tell",)

    def __init__(self, passed: bool) -> None:
        self.passed = passed

    def _repr_html_(self) -> str:
        return "<p>visits</p>"


def known(
    monkeypatch: pytest.MonkeyPatch, *, times: Any = None, refused: str = "", hazard: str = ""
) -> Fit:
    """A fit of which all that is checked is given."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise EstimandError(refused or hazard)

    monkeypatch.setattr(posterior, "leave_one_out_total", refuse if refused else left_out)
    monkeypatch.setattr(posterior, "replicated_events", replicated)

    def pulled(fit: Any) -> pd.DataFrame:
        return pd.DataFrame({"endpoint": list(fit.person_time.endpoints)})

    def weak(fit: Any, table: pd.DataFrame) -> tuple[str, ...]:
        assert table["endpoint"].tolist() == list(fit.person_time.endpoints)
        return ("few events",) if table["endpoint"][0] == "os" else ()

    monkeypatch.setattr(posterior, "pulls", pulled)
    monkeypatch.setattr(posterior, "weaknesses", weak)
    monkeypatch.setattr(posterior, "require_kind", lambda *_: None)
    fit: Any = SimpleNamespace(
        provenance=SimpleNamespace(notes=("compiled anew",)),
        definition=SimpleNamespace(require_hazard=refuse if hazard else lambda _: None),
        person_time=SimpleNamespace(endpoints=("os", "rfs")),
        convergence=SimpleNamespace(passed=True, _repr_html_=lambda: "<p>draws</p>"),
        gate=SimpleNamespace(passed=True, words=lambda: "baseline passed", _repr_html_=lambda: ""),
        event_times=times,
    )
    found: Fit = fit
    return found


def test_patients_left_out_of_each_endpoint_and_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found = posterior.check(known(monkeypatch))
    assert found.loo.columns.tolist() == posterior.LOO_COLUMNS
    assert found.loo["endpoint"].tolist() == ["os", "rfs", "all endpoints"]
    assert found.loo["patients"].tolist() == [40, 50, 60]
    assert found.loo["evaluated"].tolist() == [40, 20, 30]
    assert found.loo["patients_above_limit"].tolist() == [0, 2, 1]
    assert found.loo["reliable"].tolist() == [True, False, False]
    assert found.loo["elpd"].tolist() == [-40.0, -50.0, -60.0]
    assert found.loo["largest_pareto_k"].tolist() == [0.3, 0.9, 0.8]
    constant = found.loo[["se", "p_loo", "pareto_k_limit", "sampling_se"]].drop_duplicates()
    assert constant.to_numpy().tolist() == [[1.5, 2.5, 0.7, 0.25]]
    # All of the first endpoint's patients were: nothing is said of a sample.
    assert found.notes == ("compiled anew",)
    # Few events, and unreliable predictions of two endpoints.
    assert found.weaknesses[0] == "few events"
    assert len(found.weaknesses) == 3
    monkeypatch.setitem(FOUND, "os", (40, 30, 0, 0.3))
    told = posterior.check(known(monkeypatch)).notes
    assert told[1:] == (
        "leave-one-out prediction: 30 of 40 patients were left out, and stand for the others "
        "(sampling_se)",
    )
    one = known(monkeypatch)
    one.person_time.endpoints = ("os",)  # type: ignore[misc]
    assert posterior.check(one).loo["endpoint"].tolist() == ["os"]


def test_events_by_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    found = posterior.check(known(monkeypatch)).predictive
    assert found.columns.tolist() == posterior.EVENT_COLUMNS
    assert found.to_numpy().tolist() == [
        ["os", 0.0, 3.0, 1.0, 3.0 + 8.0, 0.1],
        ["os", 3.0, np.inf, 5.0, 7.0 + 8.0, 0.2],
        ["rfs", 0.0, 3.0, 9.0, 11.0 + 8.0, 0.3],
        ["rfs", 3.0, np.inf, 13.0, 15.0 + 8.0, 0.4],
    ]


def test_what_cannot_be_checked_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = posterior.check(known(monkeypatch, refused="weights vary"))
    assert found.notes == ("compiled anew", "leave-one-out prediction: weights vary")
    assert len(found.predictive) == 4
    assert found.loo.columns.tolist() == posterior.LOO_COLUMNS
    assert found.loo.empty
    assert found.loo["reliable"].dtype == np.bool_
    assert "no LOO estimates" in repr(found)
    found = posterior.check(known(monkeypatch, hazard="jumps have no hazard"))
    assert found.notes == ("compiled anew", "jumps have no hazard")
    assert found.loo.empty
    assert found.predictive.empty
    assert found.predictive.columns.tolist() == posterior.EVENT_COLUMNS


@pytest.mark.parametrize(("draws", "gate", "times"), list(np.ndindex(2, 2, 3)))
def test_passed_is_all_of_it(
    monkeypatch: pytest.MonkeyPatch, draws: int, gate: int, times: int
) -> None:
    fit = known(monkeypatch, times=None if times == 2 else Events(bool(times)))
    fit.convergence.passed = bool(draws)  # type: ignore[misc]
    fit.gate.passed = bool(gate)  # type: ignore[misc]
    found = posterior.check(fit)
    assert found.passed is bool(draws and gate and times)
    words = repr(found)
    assert words.startswith("Checks(converged; " if draws else "Checks(NOT CONVERGED; ")
    assert "; 1 of 3 LOO estimates reliable; 3 weaknesses; " in words
    assert "baseline passed" in words
    assert ("those of visits" in words) is (times < 2)
    # What was looked at and could not be told is a note.
    assert words.endswith("1 note)" if times == 2 else "2 notes)")
    assert found.notes[1:] == (() if times == 2 else Events.notes)
    html = found._repr_html_()
    for part in ("draws", "What pulls the hazard ratio", "Leave one patient out", "few events"):
        assert part in html
    assert ("Event times" in html) is (times < 2)
    assert "Events by interval" in html


def test_one_weakness_is_a_weakness(monkeypatch: pytest.MonkeyPatch) -> None:
    found = posterior.check(known(monkeypatch, refused="weights vary"))
    assert "1 weakness; 2 notes)" in repr(found)
    strong = known(monkeypatch, refused="weights vary")
    strong.person_time.endpoints = ("rfs",)  # type: ignore[misc]
    assert "weak" not in repr(posterior.check(strong))
    assert "What weakens the answer" not in posterior.check(strong)._repr_html_()
    assert isinstance(found, Checks)
