"""No id and no cell of a patient stands in an error, an account or a report unless asked for."""

import io
import re
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina import cli
from bayesblina.core.errors import BayesblinaError, DataError, Problem

SECRET = "QX7"
DATES = ["origin", "seen", "two"]


def table(size: int = 40) -> pd.DataFrame:
    draw = np.random.default_rng(2)
    os = np.round(draw.uniform(6, 20, size), 3)
    start = np.datetime64("2015-03-02")
    return pd.DataFrame(
        {
            "id": [f"{SECRET}-{row:03d}" for row in range(size)],
            "other_id": [f"{SECRET}/{row:03d}" for row in range(size)],
            "os": os,
            "died": draw.integers(0, 2, size),
            "rfs": os - np.where(draw.random(size) < 0.4, 1.0, 0.0),
            "failed": draw.integers(0, 2, size),
            "entry": 0.25,
            "one": np.where(draw.random(size) < 0.7, 2.0, np.nan),
            "two": np.where(draw.random(size) < 0.5, 3.5, np.nan),
            "two_end": np.nan,
            "tx": np.nan,
            "x": draw.normal(size=size),
            "arm": draw.choice(["a", "b"], size),
            "origin": np.repeat(start, size),
            "seen": start + (os * 30).astype("timedelta64[D]"),
            "began": np.repeat(start + np.timedelta64(9, "D"), size),
        }
    )


GIVEN: dict[str, Any] = {
    "patient": "id",
    "unit": "months",
    "endpoints": {
        "os": bb.Endpoint(time="os", event="died"),
        "rfs": bb.Endpoint(time="rfs", event="failed", entry="entry"),
    },
    "phases": bb.Phases(one="one", two=bb.Phase(start="two", end="two_end")),
    "covariates": ["x", "arm"],
    "transplant": "tx",
}
READERS: dict[str, Callable[..., Any]] = {"memory": bb.read_cohort, "scan": bb.scan_cohort}
FAULTS: Mapping[str, Mapping[str, Any]] = {
    "no id": {"id": ""},
    "id twice": {"id": f"{SECRET}-001"},
    "long id": {"id": SECRET * 100},
    "id as time": {"os": f"{SECRET}-003"},
    "id as event": {"died": f"{SECRET}-003"},
    "id as start": {"one": f"{SECRET}-003"},
    "id as number": {"x": f"{SECRET}-003"},
    "negative": {"os": -3.0},
    "zero": {"os": 0.0},
    "no time": {"os": np.nan},
    "endless": {"os": np.inf},
    "long": {"os": 1e7},
    "entry late": {"entry": 900.0},
    "entry negative": {"entry": -9.0},
    "event": {"died": 7},
    "start late": {"two": 900.0},
    "start negative": {"one": -1.0},
    "order": {"one": 3.0, "two": 2.5},
    "end": {"two": 3.0, "two_end": 1.0},
    "transplant late": {"tx": 900.0},
    "transplant negative": {"tx": -9.0},
    "no covariate": {"x": np.nan},
    "no level": {"arm": None},
}


def broken(fault: Mapping[str, Any], rows: list[int]) -> pd.DataFrame:
    found = table()
    for column, value in fault.items():
        found[column] = found[column].astype(object)
        found.loc[rows, column] = value
    return found


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """As a CSV file gives them."""
    return frame.astype(object).where(frame.notna(), "").astype(str)


@pytest.mark.parametrize("where", READERS)
@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_names_a_patient(where: str, name: str) -> None:
    read = READERS[where]
    frame = as_text(broken(FAULTS[name], [3, 11]))
    given = GIVEN | {"covariates": {"x": "continuous", "arm": "categorical"}}
    with pytest.raises(DataError) as caught:
        read(frame, **given)
    for text in (str(caught.value), repr(caught.value), *map(str, caught.value.problems)):
        assert SECRET not in text
        assert not re.search(r"\b00[0-9]\b", text)
    named = caught.value.words(show_ids=True)
    if any(problem.patients for problem in caught.value.problems):
        assert SECRET in named
        assert "2 patients" in str(caught.value) or name in ("id twice", "long id")
    if where == "memory" and name not in ("no id", "id twice"):
        assert "in rows 4, 12" in str(caught.value)


def test_dates_and_rows_name_nobody() -> None:
    dated = table()
    dated["seen"] = dated["seen"].astype(str)
    dated.loc[[4, 5], "seen"] = f"{SECRET}-004"
    dated.loc[6, "seen"] = "2015-03"
    with pytest.raises(DataError) as caught:
        bb.read_dated_cohort(
            dated,
            patient="id",
            origin="origin",
            unit="months",
            endpoints=bb.DatedEndpoint(date="seen", event="died"),
            phases=bb.Phases(one="began"),
        )
    assert SECRET not in str(caught.value)
    assert "2015-03)" not in str(caught.value)
    assert "'AA9-999'" in str(caught.value)
    rows = pd.DataFrame(
        {
            "id": [f"{SECRET}-1", f"{SECRET}-1", f"{SECRET}-2"],
            "start": [0.0, 3.0, 0.0],
            "stop": [2.0, 5.0, 4.0],
            "event": [0, 1, 0],
            "phase": ["", "m", f"{SECRET}-2"],
        }
    )
    with pytest.raises(DataError) as caught:
        bb.read_counting_process(
            rows,
            patient="id",
            start="start",
            stop="stop",
            event="event",
            phase="phase",
            phases=["m"],
            unit="months",
        )
    assert SECRET not in str(caught.value)
    assert "in row 2" in str(caught.value)


def call_history(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    frame = table().assign(tx=np.nan)
    cohort = bb.read_cohort(frame, **(GIVEN | {"covariates": ["x"]}))
    history = pd.DataFrame({"patient": frame["id"], "time": 0.0, "z": frame["x"]})
    question = bb.Question(
        exposed="two", eligible_from="entry", transplant="ignore", phase_end="ever"
    )
    bb.weighting.starting_weights(cohort, question, endpoint="os", history=change(history))


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.assign(patient=f"{SECRET}-none"),
        lambda rows: rows.assign(z=np.nan),
        lambda rows: rows.iloc[3:],
        lambda rows: pd.concat([rows, rows.assign(z=-rows.z)]),
    ],
)
def test_histories_name_nobody(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    with pytest.raises(BayesblinaError) as caught:
        call_history(change)
    assert SECRET not in str(caught.value)


def test_weights_and_accounts_name_nobody() -> None:
    cohort = bb.read_cohort(table(), **GIVEN)
    question = bb.Question(
        exposed="two", eligible_from="entry", transplant="ignore", phase_end="ever"
    )
    for weights in (
        np.where(np.arange(40) == 3, -1.0, 1.0),
        pd.Series(1.0, index=[f"{SECRET}-x{row}" for row in range(40)]),
    ):
        with pytest.raises(BayesblinaError) as caught:
            bb.person_time(cohort, question, weights=weights)
        assert SECRET not in str(caught.value)
    account = cohort.account() + bb.person_time(cohort, question).account()
    for text in (repr(account), account.to_markdown(), account.table.to_csv(), repr(cohort)):
        assert SECRET not in text


def test_a_header_that_is_a_patient_is_not_quoted(tmp_path: Path) -> None:
    lines = as_text(table()).to_csv(index=False).splitlines()[1:]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    for read in READERS.values():
        with pytest.raises(DataError, match=r"line of names missing|this name") as caught:
            read(path, **GIVEN)
        assert SECRET not in str(caught.value)


def test_libraries_quote_no_cells() -> None:
    """Text and numbers in one column are refused by the library that holds the table."""
    frame = table().astype({"x": object})
    frame.loc[2, "x"] = [f"{SECRET}-002"]
    frame.loc[3, "x"] = f"{SECRET}-003"
    with pytest.raises(BayesblinaError) as caught:
        bb.scan_cohort(frame, **GIVEN)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


STUDY = """
schema = 1
[data]
file = "t.csv"
patient = "id"
unit = "months"
[endpoints.os]
time = "os"
event = "died"
[phases.two]
start = "two"
[question]
exposed = "two"
eligible_from = "entry"
"""


def test_the_command_line_names_patients_when_asked(tmp_path: Path) -> None:
    broken({"os": f"{SECRET}-003"}, [3]).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "s.toml").write_text(STUDY)

    def said(*arguments: str) -> str:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            assert cli.main([*arguments]) == 2
        return out.getvalue() + err.getvalue()

    study = str(tmp_path / "s.toml")
    for extra in ([], ["--debug"], ["--json"]):
        text = said("validate", study, *extra)
        assert SECRET not in text
        assert "1 patient, in row 4" in text
    assert f"{SECRET}-003" in said("validate", study, "--show-ids")
    assert f"{SECRET}-003" in said("--show-ids", "validate", study)
    assert SECRET not in said("run", study, "--out", str(tmp_path / "out"))
    assert SECRET in said("run", study, "--out", str(tmp_path / "out"), "--show-ids")


def test_ten_are_named_and_rows_numbered() -> None:
    problem = Problem(
        column="c", found="f", expected="e.", patients=("a", "b"), count=99, rows=(1, 5)
    )
    assert str(problem) == "c: f [99 patients, in rows 1, 5]. e."
    assert problem.words(show_ids=True) == "c: f [99 patients: a, b and 97 more]. e."
