"""A column has one role, and a flag is no time."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import BayesblinaError, DataError, SpecError
from bayesblina.patients.readers.sources import is_flag

READERS: list[Callable[..., Any]] = [bb.read_cohort, bb.scan_cohort]


def table(size: int = 30) -> pd.DataFrame:
    draw = np.random.default_rng(8)
    os = draw.uniform(6, 20, size)
    return pd.DataFrame(
        {
            "id": np.arange(size),
            "os": os,
            "died": draw.integers(0, 2, size),
            "rfs": os,
            "failed": 1,
            "entry": 0.5,
            "one": np.where(draw.random(size) < 0.7, 2.0, np.nan),
            "one_end": np.where(draw.random(size) < 0.5, 4.0, np.nan),
            "two": np.nan,
            "tx": np.nan,
            "x": draw.normal(size=size),
            "flag": draw.integers(0, 2, size),
        }
    ).assign(
        one_end=lambda frame: frame["one_end"].where(frame["one"].notna()),
        two=lambda frame: frame["one_end"],
        told=lambda frame: frame["one"].notna(),
        some=lambda frame: np.where(frame["one"].notna(), 1.0, np.nan),
    )


def call(read: Callable[..., Any], frame: pd.DataFrame, **change: Any) -> Any:
    given: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": {"os": bb.Endpoint(time="os", event="died")},
        "phases": bb.Phases(one="one"),
    }
    return read(frame, **(given | change))


OS, RFS = bb.Endpoint(time="os", event="died"), bb.Endpoint(time="rfs", event="failed")
REFUSED: list[dict[str, Any]] = [
    {"covariates": ["died"]},
    {"covariates": {"os": "continuous"}},
    {"covariates": {"one": "continuous"}},
    {"covariates": ["id"]},
    {"covariates": ["tx"], "transplant": "tx"},
    {"covariates": ["entry"], "endpoints": bb.Endpoint(time="os", event="died", entry="entry")},
    {"covariates": ["one_end"], "phases": bb.Phases(one=bb.Phase(start="one", end="one_end"))},
    {"endpoints": bb.Endpoint(time="died", event="died")},
    {"endpoints": bb.Endpoint(time="os", event="died", entry="os")},
    {"endpoints": {"os": OS, "rfs": bb.Endpoint(time="died", event="failed")}},
    {"phases": bb.Phases(one="os")},
    {"phases": bb.Phases(one="died")},
    {"phases": bb.Phases(one=bb.Phase(start="one", end="one"))},
    {"phases": bb.Phases(one=bb.Phase(start="one", end="os"))},
    {"phases": bb.Phases(one="one", two="one")},
    {"phases": bb.Phases(one=bb.Phase(start="two", end="two"), two="one")},
    {"transplant": "one"},
    {"transplant": "os"},
    {"transplant": "id"},
    {"patient": "os"},
]
SHARED: list[dict[str, Any]] = [
    {"endpoints": {"os": OS, "rfs": bb.Endpoint(time="os", event="failed")}},
    {"endpoints": {"os": OS, "rfs": bb.Endpoint(time="rfs", event="died")}},
    {"phases": bb.Phases(one=bb.Phase(start="one", end="two"), two="two")},
    {"endpoints": bb.Endpoint(time="os", event="died", entry="one")},
    {
        "endpoints": {
            "os": bb.Endpoint(time="os", event="died", entry="entry"),
            "rfs": bb.Endpoint(time="rfs", event="failed", entry="entry"),
        }
    },
]


@pytest.mark.parametrize("read", READERS, ids=["memory", "scan"])
@pytest.mark.parametrize("change", REFUSED)
def test_a_column_has_one_role(read: Callable[..., Any], change: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"declared as|both start with"):
        call(read, table(), **change)


@pytest.mark.parametrize("read", READERS, ids=["memory", "scan"])
@pytest.mark.parametrize("change", SHARED)
def test_what_is_truly_one_may_be_shared(read: Callable[..., Any], change: dict[str, Any]) -> None:
    call(read, table(), **change)


def test_roles_of_dates_and_rows() -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b"],
            "first": ["2015-01-01", "2015-02-01"],
            "seen": ["2015-03-01", "2016-02-01"],
            "died": [1, 0],
        }
    )

    def dated(**change: Any) -> Any:
        given: dict[str, Any] = {
            "patient": "id",
            "origin": "first",
            "unit": "days",
            "endpoints": bb.DatedEndpoint(date="seen", event="died"),
            "phases": bb.Phases(m="first"),
        }
        return bb.read_dated_cohort(frame, **(given | change))

    dated()  # the first phase starts at the origin
    dated(endpoints=bb.DatedEndpoint(date="seen", event="died", origin="first"))
    for change in (
        {"origin": "seen"},
        {"phases": bb.Phases(m="seen")},
        {"covariates": ["died"]},
        {"covariates": ["first"]},
        {"transplant": "first"},
    ):
        with pytest.raises(SpecError, match="declared as"):
            dated(**change)
    rows = pd.DataFrame(
        {"id": ["a", "b"], "start": [0, 0], "stop": [3, 4], "event": [1, 0], "phase": ["m", ""]}
    )
    given: dict[str, Any] = {
        "patient": "id",
        "start": "start",
        "stop": "stop",
        "event": "event",
        "phase": "phase",
        "phases": ["m"],
        "unit": "months",
    }
    bb.read_counting_process(rows, **given)
    for change in (
        {"start": "stop"},
        {"event": "start"},
        {"covariates": ["event"]},
        {"covariates": ["stop"]},
        {"transplant": "stop"},
        {"endpoint": "phase"},
    ):
        with pytest.raises(SpecError, match="declared as"):
            bb.read_counting_process(rows, **(given | change))
    with pytest.raises(DataError, match="a flag"):
        bb.read_counting_process(rows.assign(stop=True), **given)


def test_roles_of_adam() -> None:
    adsl = pd.DataFrame({"USUBJID": ["a"], "TRTSDT": ["2015-01-01"], "MDT": ["2015-02-01"]})
    adtte = pd.DataFrame({"USUBJID": ["a"], "PARAMCD": ["OS"]})
    changes: list[dict[str, Any]] = [
        {"covariates": ["USUBJID"]},
        {"covariates": ["MDT"]},
        {"transplant": "MDT"},
        {"transplant": "TRTSDT"},
    ]
    for change in changes:
        with pytest.raises(SpecError, match="declared as"):
            bb.read_adam(
                adsl=adsl,
                adtte=adtte,
                phases={"m": "MDT"},
                endpoints={"os": bb.AdamEndpoint(paramcd="OS")},
                **cast("dict[str, Any]", {"unit": "months", "population": None, **change}),
            )


@pytest.mark.parametrize("read", READERS, ids=["memory", "scan"])
@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_a_flag_is_no_time(read: Callable[..., Any], kind: str) -> None:
    frame = table()
    if kind == "texts":
        frame = frame.map(lambda one: f"{float(one):g}").replace("nan", "")
    for change in (
        {"endpoints": bb.Endpoint(time="flag", event="died")},
        {"endpoints": bb.Endpoint(time="os", event="died", entry="flag")},
        {"phases": bb.Phases(one="flag")},
        {"phases": bb.Phases(one="some")},
        {"phases": bb.Phases(one="told")},
        {"phases": bb.Phases(one=bb.Phase(start="one", end="some"))},
        {"transplant": "flag"},
        {"transplant": "some"},
    ):
        with pytest.raises(DataError, match="a flag") as caught:
            call(read, frame, **change)
        assert any("flag" in problem.found for problem in caught.value.problems)
    # A phase that everybody starts at once, at the origin or a month later, is no flag.
    zero, one = ("0", "1") if kind == "texts" else (0.0, 1.0)
    call(read, frame.assign(one=zero), phases=bb.Phases(one="one"))
    call(read, frame.assign(one=one), phases=bb.Phases(one="one"))


def test_booleans_are_flags_however_few() -> None:
    for read in READERS:
        frame = table(2).assign(told=[True, False])
        with pytest.raises(DataError, match="a flag"):
            call(read, frame, phases=bb.Phases(one="told"))
    assert not is_flag(np.array([0.0, 1.0, 1.0, np.nan]))
    assert is_flag(np.array([0.0, 1.0, 1.0, 1.0, 0.0, np.nan]))
    assert not is_flag(np.array([0.0, 1.0, 1.0, 1.0, 0.0, 2.0]))


def test_zero_times_become_small_times() -> None:
    frame = table()
    frame.loc[0, ["os", "one", "one_end"]] = [0.0, np.nan, np.nan]
    frame.loc[1, "os"] = 6.0
    with pytest.raises(SpecError, match="zero_times = 500 months is longer than the shortest"):
        call(bb.read_cohort, frame, repairs=bb.Repairs(zero_times=500.0))
    with pytest.raises(SpecError, match="shortest"):
        call(bb.read_cohort, frame, repairs=bb.Repairs(zero_times=6.001))
    assert call(bb.read_cohort, frame, repairs=bb.Repairs(zero_times=6.0)).size == 30


# How endpoints lie to each other ------------------------------------------------------------------


@pytest.mark.parametrize("read", READERS, ids=["memory", "scan"])
def test_the_account_tells_the_order_of_endpoints(read: Callable[..., Any]) -> None:
    """Counted by hand: five courses, of which only the first two are possible for OS and RFS."""
    frame = pd.DataFrame(
        [
            {"os": 9.0, "died": 1, "rfs": 4.0, "failed": 1},  # relapse, then death
            {"os": 9.0, "died": 0, "rfs": 4.0, "failed": 1},  # relapse, then alive
            {"os": 9.0, "died": 1, "rfs": 11.0, "failed": 1},  # relapse after death
            {"os": 9.0, "died": 1, "rfs": 9.0, "failed": 0},  # a death that is no event
            {"os": 9.0, "died": 1, "rfs": 6.0, "failed": 0},  # relapse unknown before death
            {"os": 9.0, "died": 1, "rfs": 9.0001, "failed": 1},  # one time
        ]
    ).assign(id=lambda rows: np.arange(len(rows)), one=2.0)
    cohort = call(read, frame, endpoints={"os": OS, "rfs": RFS})
    lines = cohort.account().table
    found = {
        (row["endpoint"], row["what"]): (row["patients"], row["events"])
        for row in lines[lines["step"] == "order"].to_dict("records")
    }
    said = " (includes: not declared)"
    assert found == {
        ("os", f"followed after an event of rfs{said}"): (2, 1),
        ("rfs", f"followed after an event of os{said}"): (1, 1),
        ("rfs", f"censored at an event of os{said}"): (1, 0),
        ("rfs", f"censored before an event of os{said}"): (1, 0),
    }
    alone = call(read, frame, endpoints={"os": OS}).account().table
    assert "order" not in set(alone["step"])


# What belongs to patients is matched by patient ---------------------------------------------------


def test_a_series_is_matched_by_its_index() -> None:
    frame = table()
    cohort = call(bb.read_cohort, frame)
    question = bb.Question(exposed="one", eligible_from="entry")
    weights = np.linspace(0.2, 3.0, 30)
    series = pd.Series(weights, index=frame["id"])

    def spent(given: Any) -> Any:
        return (
            bb.person_time(cohort, question, cuts=[5.0], weights=given).table["person_time"].values
        )

    straight = spent(weights)
    for index in (frame["id"], frame["id"].astype(float), frame["id"].astype(str)):
        mixed = pd.Series(weights, index=index).sample(frac=1, random_state=1)
        np.testing.assert_allclose(spent(mixed), straight)
    for wrong in (
        series.iloc[:-1],
        series.rename(index={3: 99}),
        pd.concat([series, series.iloc[:1]]),
        series.rename(index={3: 4}),
        series.to_frame(),
        pd.Series(weights, index=[f"p{row}" for row in range(30)]),
    ):
        with pytest.raises(BayesblinaError):
            spent(wrong)
