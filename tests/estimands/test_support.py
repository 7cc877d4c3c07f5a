"""When anybody with a history is at risk, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr

import bayesblina as bb
from bayesblina.estimands.draws import stretches, supported, with_support
from bayesblina.estimands.regimes import Regime

STATES = ("before early", "early", "late", "transplant")


ROLES = ("reference", "reference", "exposed", "other")


def person_time_of(*rows: tuple[int, int, float, float]) -> Any:
    """Endpoint, state, start and stop of each episode."""
    columns = zip(*rows, strict=True)
    return SimpleNamespace(
        complete=True,
        endpoints=("os", "rfs"),
        episodes=xr.Dataset(
            {
                name: ("episode", np.array(column))
                for name, column in zip(
                    ("endpoint", "phase", "start", "stop"), columns, strict=True
                )
            }
        ),
        table=xr.Dataset(
            coords={"treatment": ("phase", list(STATES)), "role": ("phase", list(ROLES))}
        ),
        layout=None,
    )


PATIENTS = person_time_of(
    (0, 0, 3.0, 5.0),
    (0, 0, 0.0, 2.0),
    (0, 1, 1.0, 2.5),
    (0, 0, 1.5, 1.75),
    (0, 1, 5.0, 6.0),
    (0, 2, 4.0, 9.0),
    (0, 2, 5.0, 6.0),
    (0, 2, 10.0, 12.0),
    (0, 3, 2.5, 8.0),
    (1, 0, 7.0, 8.0),
)


def test_stretches_without_a_gap() -> None:
    """Stays that overlap, lie in one another or meet are one stretch."""
    found = supported(PATIENTS)
    assert found.columns.tolist() == ["endpoint", "role", "start", "stop"]
    assert found.to_numpy().tolist() == [
        ["os", "exposed", 4.0, 9.0],
        ["os", "exposed", 10.0, 12.0],
        ["os", "reference", 0.0, 2.5],
        ["os", "reference", 3.0, 6.0],
        ["rfs", "reference", 7.0, 8.0],
    ]
    assert stretches(PATIENTS, 1, np.array([False, False, True, False])) == []


def summed(time: Any) -> Any:
    """Person-time over (endpoint, interval, phase, pattern), laid out in another order."""
    values = np.array(time, dtype=np.float64)
    dims = ("pattern", "endpoint", "interval", "phase")
    table = xr.Dataset(
        {"person_time": (dims, np.moveaxis(values, 3, 0))},
        coords={
            "interval_start": ("interval", [0.0, 2.0, 4.0]),
            "interval_stop": ("interval", [2.0, 4.0, np.inf]),
            "last_exit": ("endpoint", [7.0, 5.0]),
        },
    )
    return SimpleNamespace(complete=False, table=table)


def test_stretches_of_sums_go_to_the_interval() -> None:
    """Over nodes of compressed covariates sums are 0 up to rounding, and some of them negative."""
    nobody, few = [1e-7, -1e-7], [2e-6, 0.0]
    some = summed([[[few, few], [nobody, few], [few, nobody]], [[few, few]] * 3])
    both = np.array([True, True])
    joined = [one.tolist() for one in stretches(some, 0, both)]
    assert joined == [[0.0, 7.0]]
    first = [one.tolist() for one in stretches(some, 0, np.array([True, False]))]
    assert first == [[0.0, 2.0], [4.0, 7.0]]
    assert [one.tolist() for one in stretches(some, 1, both)] == [[0.0, 5.0]]
    # A million negative and positive ones in a thousand cancel.
    assert stretches(summed([[[nobody, nobody]] * 3] * 2), 0, both) == []


def curves(times: list[float], endpoints: tuple[str, ...] = ("os", "rfs"), regimes: int = 3) -> Any:
    shape = (len(endpoints), regimes, len(times))
    return xr.Dataset(
        {"survival": (("endpoint", "regime", "time"), np.ones(shape))},
        coords={"endpoint": list(endpoints), "time": times},
    )


def test_a_history_is_supported_while_anybody_has_it() -> None:
    """Never; late from 5, after a lag of 1; early from 2, and late from 9.5."""
    question = bb.Question(exposed="late", eligible_from="entry", lag=1.0)
    fit: Any = SimpleNamespace(person_time=PATIENTS, question=question)
    regimes: list[Regime] = [bb.Never(), bb.From(5.0), bb.WithPhases({"early": 2.0, "late": 9.5})]
    times = [0.0, 2.5, 2.75, 3.0, 5.5, 6.0, 6.5, 9.0, 9.5, 10.0, 12.0, 12.5]
    found = with_support(fit, curves(times, regimes=3), regimes)["supported"]
    assert found.dims == ("endpoint", "regime", "time")
    never = [True, True, False, True, True, True, False, False, False, False, False, False]
    assert found[0, 0].values.tolist() == never
    # Until 6 the reference, from then on the exposed phase, of whom nobody is left from 9 to 10.
    late = [True, True, False, True, True, True, True, True, False, True, True, False]
    assert found[0, 1].values.tolist() == late
    # Early from 2: until 2.5 and from 5 to 6; late, after its lag, from 10.5.
    both = [True, True, False, False, True, True, False, False, False, False, True, False]
    assert found[0, 2].values.tolist() == both
    assert not found[1].values.any()
    # Times that are an end but for rounding are that end.
    near = [2.5 * (1.0 + 1e-12), 2.5 * (1.0 + 1e-8), 3.0 * (1.0 - 1e-12), 3.0 * (1.0 - 1e-8)]
    found = with_support(fit, curves(near, regimes=3), regimes)["supported"]
    assert found[0, 0].values.tolist() == [True, False, True, False]
    # Relative to the time, and in the first unit of it absolute.
    days: Any = SimpleNamespace(
        person_time=person_time_of((0, 0, 0.0, 3_000.0), (1, 0, 0.0, 0.5)), question=question
    )
    ends = [3_000.0 * (1.0 + 5e-10), 3_000.0 * (1.0 + 5e-9), 0.5 + 8e-10, 0.5 + 2e-9]
    found = with_support(days, curves(ends, regimes=1), [bb.Never()])["supported"]
    assert found[0, 0].values.tolist() == [True, False, True, True]
    assert found[1, 0].values.tolist() == [False, False, True, False]
    # Curves of other endpoints stay as they are.
    assert "supported" not in with_support(fit, curves(times, ("os",)), regimes).coords
