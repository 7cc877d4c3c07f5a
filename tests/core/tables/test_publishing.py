"""Any tidy table is printed by the rules of its columns."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bayesblina import tables
from bayesblina.core.errors import SpecError


def test_shares_and_densities() -> None:
    events = pd.DataFrame(
        {
            "phase": ["maintenance"],
            "patients": [36],
            "with_event": [26],
            "share": [26 / 36],
            "events": [40],
            "person_time": [400.04],
        }
    )
    table = tables.adverse_events(events, unit="months")
    assert table.head[2:4] == ("with an event", "share, %")
    assert table.rows == (("maintenance", "36", "26", "72.2", "40", "400.0"),)
    loo = pd.DataFrame(
        {"endpoint": ["os"], "patients": [86], "elpd": [-172.04], "se": [15.1], "reliable": [True]}
    )
    assert tables.leave_one_out(loo).rows == (("os", "86", "−172.0", "15.1", "yes"),)
    # How many were left out stands there where it is a sample.
    every = loo.assign(evaluated=86, sampling_se=0.0)
    assert tables.leave_one_out(every).head == tables.leave_one_out(loo).head
    some = tables.leave_one_out(loo.assign(evaluated=20, sampling_se=2.5))
    assert some.head[-2:] == ("evaluated", "SE of sampling")
    ranked = pd.DataFrame(
        {
            "model": ["primary"],
            "rank": [0],
            "elpd": [-172.04],
            "elpd_difference": [0.0],
            "weight": [0.8],
        }
    )
    assert tables.models(ranked).rows == (("primary", "0", "−172.0", "0.0", "0.80"),)
    stated = pd.DataFrame({"statement": ["hazard_ratio < 0.8"], "probability": [0.936]})
    assert tables.probabilities(stated).rows == (("hazard_ratio < 0.8", "0.936"),)


@pytest.mark.parametrize("name", ["patient", "USUBJID", "patient_id"])
def test_identifiers_are_refused(name: str) -> None:
    table = pd.DataFrame({name: ["A-1"], "value": [1.0]})
    with pytest.raises(SpecError, match="may identify patients"):
        tables.publish(table)
    assert tables.publish(table, columns=["value"]).rows == (("1",),)


def test_wrong_tables_are_refused() -> None:
    other = pd.DataFrame({"x": [1]})
    calls: list[Any] = [
        lambda: tables.estimates(other, kind="ratio"),
        lambda: tables.account(other, unit="days"),
        lambda: tables.bias_ladder(other),
        lambda: tables.convergence(other),
        lambda: tables.leave_one_out(other),
        lambda: tables.models(other),
        lambda: tables.adverse_events(other, unit="days"),
        lambda: tables.scenarios(other),
        lambda: tables.probabilities(other),
    ]
    for call in calls:
        with pytest.raises(SpecError, match="found columns x"):
            call()
    with pytest.raises(SpecError, match="No column 'y'"):
        tables.publish(other, columns=["y"])
