"""Endpoints that are declared to include others: what contradicts it is refused."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.drafting import draft_study
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.cells import front
from bayesblina.person_time.transitions import find_transitions
from bayesblina.studies.study_file import read_study

OS = bb.Endpoint(time="os", event="died", recorded="exact")
RFS = bb.Endpoint(time="rfs", event="failed", entry="entry", includes=["os"], recorded="exact")
READERS: list[Callable[..., Any]] = [bb.read_cohort, bb.scan_cohort]
IN = pytest.mark.parametrize("read", READERS, ids=["memory", "scan"])

# Courses that are possible, by hand; then those that are not.
POSSIBLE: dict[str, dict[str, Any]] = {
    "relapse, then death": {"os": 9.0, "died": 1, "rfs": 4.0, "failed": 1},
    "relapse, then alive": {"os": 9.0, "died": 0, "rfs": 4.0, "failed": 1},
    "death in remission": {"os": 9.0, "died": 1, "rfs": 9.0, "failed": 1},
    "the same by a rounded day": {"os": 9.0, "died": 1, "rfs": 9.0001, "failed": 1},
    "censored alike": {"os": 9.0, "died": 0, "rfs": 9.0, "failed": 0},
    "censored before death": {"os": 9.0, "died": 1, "rfs": 6.0, "failed": 0},
    "never in remission": {"os": 1.0, "died": 1, "rfs": None, "failed": None, "entry": None},
    "relapse again": {"os": 8.0, "died": 1, "rfs": 3.0, "failed": 1},
}
IMPOSSIBLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "relapse after death": (
        {"os": 9.0, "died": 1, "rfs": 11.0, "failed": 1},
        "rfs",
        "follow-up for rfs ends after that for os, which it includes",
    ),
    "followed after death": (
        {"os": 9.0, "died": 1, "rfs": 11.0, "failed": 0},
        "rfs",
        "follow-up for rfs ends after that for os, which it includes",
    ),
    "known to be free of relapse, not to be alive": (
        {"os": 9.0, "died": 0, "rfs": 11.0, "failed": 0},
        "rfs",
        "follow-up for rfs ends after that for os, which it includes",
    ),
    "a death that is no event": (
        {"os": 9.0, "died": 1, "rfs": 9.0, "failed": 0},
        "failed",
        "censored at an event of os, which rfs includes",
    ),
    "a death that is no event, by a rounded day": (
        {"os": 9.0, "died": 1, "rfs": 9.0001, "failed": 0},
        "failed",
        "censored at an event of os, which rfs includes",
    ),
}


def table(*courses: dict[str, Any]) -> pd.DataFrame:
    rows = [{"entry": 0.5, "start": 2.0} | one for one in courses]
    return pd.DataFrame(rows).assign(
        id=[f"p{index}" for index in range(len(rows))],
        start=lambda one: one["start"].where(one["os"] > 2.0),
    )


def call(read: Callable[..., Any], frame: pd.DataFrame, **change: Any) -> Any:
    given: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": {"os": OS, "rfs": RFS},
        "phases": bb.Phases(m="start"),
    }
    return read(frame, **(given | change))


def order(cohort: Any) -> dict[tuple[str, str], int]:
    lines = cohort.account().table
    lines = lines[lines["step"] == "order"]
    return {(row["endpoint"], row["what"]): row["patients"] for row in lines.to_dict("records")}


@IN
def test_what_is_possible_stays(read: Callable[..., Any]) -> None:
    cohort = call(read, table(*POSSIBLE.values()))
    assert tuple(cohort.endpoints["rfs"].includes) == ("os",)
    # The pair is declared: nothing is left to be said of it, in either direction.
    assert order(cohort) == {
        ("os", "followed after an event of rfs"): 3,
        ("rfs", "censored before an event of os"): 1,
    }


@IN
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_contradicts_is_refused(read: Callable[..., Any], name: str) -> None:
    course, column, words = IMPOSSIBLE[name]
    frame = table(*POSSIBLE.values(), course, course)
    with pytest.raises(DataError, match=words) as caught:
        call(read, frame)
    (problem,) = caught.value.problems
    assert (problem.column, problem.found) == (column, words)
    assert problem.patients == ("p8", "p9")
    assert "leave 'os' out of includes, and the account counts such patients" in problem.expected
    assert "2 patients" in str(caught.value)
    assert "p8" not in str(caught.value)
    assert "2 patients: p8, p9" in caught.value.words(show_ids=True)
    # Nothing declared: counted, with how to declare it.
    counted = order(call(read, frame, endpoints={"os": OS, "rfs": replace(RFS, includes=())}))
    assert all(what.endswith(" (includes: not declared)") for _, what in counted)


@IN
def test_fewer_events_than_included_deaths(read: Callable[..., Any]) -> None:
    """Three deaths of five; RFS has the relapse and one death, and leaves two before it.

    With one more relapse RFS has as many events as OS: each patient may rightly be censored
    before death, and is counted.
    """
    courses = [
        POSSIBLE["relapse, then alive"],
        POSSIBLE["death in remission"],
        POSSIBLE["censored before death"],
        POSSIBLE["censored before death"],
        POSSIBLE["censored alike"],
        # Not under observation for RFS: counts for neither.
        POSSIBLE["never in remission"],
    ]
    with pytest.raises(DataError, match="2 events of rfs, fewer than the 3 of os") as caught:
        call(read, table(*courses))
    (problem,) = caught.value.problems
    assert problem.column == "failed"
    assert problem.patients == ("p2", "p3")
    more = call(read, table(*courses, POSSIBLE["relapse, then alive"]))
    assert order(more)["rfs", "censored before an event of os"] == 2


@IN
def test_all_is_told_at_once(read: Callable[..., Any]) -> None:
    frame = table(*(course for course, _, _ in IMPOSSIBLE.values()), {"os": -1.0, "died": 0})
    with pytest.raises(DataError) as caught:
        call(read, frame)
    assert {(one.column, len(one.patients)) for one in caught.value.problems} >= {
        ("rfs", 3),
        ("failed", 2),
        ("os", 1),
    }


def test_a_part_of_a_cohort_may_have_fewer_events() -> None:
    """Resampled, or left out in turn: what holds of all need not hold of some."""
    cohort = call(bb.read_cohort, table(*POSSIBLE.values()))
    some = np.array([5])
    part = Cohort(
        patients=cohort.patients[some],
        unit="months",
        endpoints={
            name: Outcome(
                time=one.time[some],
                event=one.event[some],
                entry=one.entry[some],
                includes=one.includes,
            )
            for name, one in cohort.endpoints.items()
        },
        phases=cohort.phases,
        phase_start=cohort.phase_start[some],
        phase_end=cohort.phase_end[some],
    )
    assert part.endpoints["rfs"].includes == ("os",)
    # What is no endpoint of the cohort says nothing.
    alone = replace(cohort, endpoints={"rfs": cohort.endpoints["rfs"]})
    assert order(alone) == {}


@pytest.mark.parametrize(
    ("includes", "words"),
    [
        ("os", "includes must list the endpoints"),
        ([1], "includes must list the endpoints"),
        ([""], "includes must list the endpoints"),
        (None, "includes must list the endpoints"),
    ],
)
def test_no_list_of_names(includes: Any, words: str) -> None:
    makers: list[Callable[..., Any]] = [
        lambda said: bb.Endpoint(time="t", event="e", includes=said),
        lambda said: bb.DatedEndpoint(date="t", event="e", includes=said),
        lambda said: bb.AdamEndpoint(paramcd="RFS", includes=said),
    ]
    for make in makers:
        with pytest.raises(SpecError, match=words):
            make(includes)
        assert make(["os", "os"]).includes == ("os",)
        assert hash(make(["os"])) == hash(make(("os",)))


@IN
@pytest.mark.parametrize(
    ("os", "rfs", "words"),
    [
        ((), ["oss"], r"endpoints.rfs.includes: no endpoint 'oss'. Nearest: os"),
        ((), ["rfs"], r"endpoints.rfs.includes: 'rfs' itself"),
        (["rfs"], ["os"], r"endpoints.os.includes: 'rfs' includes 'os' too"),
    ],
)
def test_what_cannot_be_included(read: Callable[..., Any], os: Any, rfs: Any, words: str) -> None:
    endpoints = {"os": replace(OS, includes=os), "rfs": replace(RFS, includes=rfs)}
    with pytest.raises(SpecError, match=words):
        call(read, table(*POSSIBLE.values()), endpoints=endpoints)


# Every reader -------------------------------------------------------------------------------------


def test_dates_rows_and_adam() -> None:
    """The same two patients everywhere: the second's death is censored in RFS."""

    def dated(failed: int) -> Cohort:
        frame = pd.DataFrame(
            {
                "id": ["a", "b"],
                "o": ["2015-01-01"] * 2,
                "d": ["2015-03-01", "2015-04-01"],
                "died": [0, 1],
                "failed": [1, failed],
                "m": [None, "2015-02-01"],
            }
        )
        endpoints = {
            "os": bb.DatedEndpoint(date="d", event="died"),
            "rfs": bb.DatedEndpoint(date="d", event="failed", includes=["os"]),
        }
        return bb.read_dated_cohort(
            frame, patient="id", origin="o", unit="days", endpoints=endpoints,
            phases=bb.Phases(m="m"),
        )  # fmt: skip

    def rows(failed: int) -> Cohort:
        frame = pd.DataFrame(
            {
                "id": ["a", "b", "b"] * 2,
                "endpoint": ["os"] * 3 + ["rfs"] * 3,
                "start": [0.0, 0.0, 31.0] * 2,
                "stop": [59.0, 31.0, 90.0] * 2,
                "event": [0, 0, 1, 1, 0, failed],
                "phase": ["", "", "m"] * 2,
            }
        )
        return bb.read_counting_process(
            frame, patient="id", start="start", stop="stop", event="event", phase="phase",
            phases=["m"], unit="days", endpoint="endpoint", includes={"rfs": ["os"]},
        )  # fmt: skip

    def adam(failed: int) -> Cohort:
        adsl = pd.DataFrame(
            {"USUBJID": ["a", "b"], "TRTSDT": ["2015-01-01"] * 2, "M": [None, "2015-02-01"]}
        )
        adtte = pd.DataFrame(
            {
                "USUBJID": ["a", "b"] * 2,
                "PARAMCD": ["OS"] * 2 + ["RFS"] * 2,
                "STARTDT": ["2015-01-01"] * 4,
                "ADT": ["2015-03-01", "2015-04-01"] * 2,
                "CNSR": [1, 0, 0, 1 - failed],
            }
        )
        endpoints = {
            "os": bb.AdamEndpoint(paramcd="OS"),
            "rfs": bb.AdamEndpoint(paramcd="RFS", includes=["os"]),
        }
        return bb.read_adam(adsl, adtte, endpoints=endpoints, phases={"m": "M"}, unit="days")

    for read, column in ((dated, "failed"), (rows, "event"), (adam, "ADTTE RFS CNSR")):
        assert read(1).endpoints["rfs"].includes == ("os",)
        with pytest.raises(DataError, match="censored at an event of os") as caught:
            read(0)
        (problem,) = caught.value.problems
        assert (problem.column, problem.patients) == (column, ("b",))
    with pytest.raises(SpecError, match="includes: no endpoint 'pfs'"):
        bb.read_counting_process(
            pd.DataFrame({"id": ["a"], "a": [0.0], "b": [1.0], "e": [1], "p": [""]}),
            patient="id", start="a", stop="b", event="e", phase="p", phases=["m"], unit="days",
            includes={"pfs": ["os"]},
        )  # fmt: skip


STUDY = """
schema = 1

[data]
file = "patients.csv"
patient = "id"
unit = "months"

[endpoints.os]
time = "os"
event = "died"
recorded = "exact"

[endpoints.rfs]
time = "rfs"
event = "failed"
entry = "entry"
recorded = "exact"
includes = ["os"]

[phases]
m = "start"

[question]
exposed = "m"
eligible_from = "entry"

[curves]
landmark = 1.0
"""


def call_cli(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(one) for one in arguments])


def study(folder: Path, frame: pd.DataFrame, text: str = STUDY) -> Path:
    frame.to_csv(folder / "patients.csv", index=False)
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_a_study_file_declares_it(tmp_path: Path, engine: str) -> None:
    text = STUDY.replace('unit = "months"', f'unit = "months"\nengine = "{engine}"')
    good = study(tmp_path, table(*POSSIBLE.values()), text)
    assert tuple(read_study(good).patients().endpoints["rfs"].includes) == ("os",)
    course = IMPOSSIBLE["relapse after death"][0]
    bad = study(tmp_path, table(*POSSIBLE.values(), course), text)
    refused = call_cli("validate", bad)
    assert refused.exit_code == 2
    words = " ".join(refused.stderr.split())
    assert "rfs: follow-up for rfs ends after that for os, which it includes [1 patient" in words
    assert "p8" not in refused.output
    assert "p8" in call_cli("--show-ids", "validate", bad).stderr
    bad.write_text(text.replace('includes = ["os"]', ""))
    counted = call_cli("validate", bad)
    assert counted.exit_code == 0, counted.output
    assert "followed after an event of os (includes: not declared)" in counted.stdout


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('["oss"]', "endpoints.rfs.includes: no endpoint 'oss'. Nearest: os."),
        ('["rfs"]', "endpoints.rfs.includes: 'rfs' itself."),
        ('"os"', "endpoints.rfs.includes: Input should be a valid list."),
        ("[true]", "endpoints.rfs.includes.0: Input should be a valid string."),
    ],
)
def test_a_study_file_is_refused_at_the_key(tmp_path: Path, said: str, words: str) -> None:
    path = study(tmp_path, table(*POSSIBLE.values()), STUDY.replace('["os"]', said))
    with pytest.raises(SpecError) as caught:
        read_study(path)
    assert words in str(caught.value)


def test_a_draft_names_it_where_names_suggest_it(tmp_path: Path) -> None:
    for name, drafted in (("rfs", True), ("pfs", True), ("efs", True), ("dfs", True), ("x", False)):
        frame = table(*POSSIBLE.values()).rename(
            columns={
                "rfs": f"{name}_months", "failed": f"{name}_event",
                "os": "os_months", "entry": "remission_month", "start": "m_start",
            }
        )  # fmt: skip
        frame.to_csv(tmp_path / "patients.csv", index=False)
        text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
        assert text.count('# includes = ["os"]') == drafted, text
        if drafted:
            made = tomllib.loads(text.replace("# includes", "includes"))
            assert made["endpoints"][name]["includes"] == ["os"]
            assert made["endpoints"]["os"].keys() == {"time", "event"}
        alone = frame.drop(columns=["os_months", "died"])
        alone.to_csv(tmp_path / "patients.csv", index=False)
        text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
        assert "# includes" not in text


# What is made of the patients ---------------------------------------------------------------------


@IN
def test_sums_keep_the_declaration(
    read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = call(read, table(*POSSIBLE.values()))
    question = bb.Question(exposed="m", eligible_from="entry")
    assert bb.person_time(cohort, question).includes == {"os": (), "rfs": ("os",)}
    alone = bb.person_time(cohort, replace(question, endpoints=("rfs",)))
    assert alone.includes == {"rfs": ()}
    assert json.loads(alone.table.attrs["includes"]) == {"rfs": []}
    if isinstance(cohort, Cohort):
        monkeypatch.setattr(front, "MANY", 1)
        assert bb.person_time(cohort, question).includes == {"os": (), "rfs": ("os",)}


def test_illness_death_needs_the_order_that_is_declared() -> None:
    cohort = call(bb.read_cohort, table(*POSSIBLE.values()))
    question = bb.Question(exposed="m", eligible_from="entry")
    found = find_transitions(cohort, question, death="os", relapse_free="rfs")
    assert {name: int(one.event.sum()) for name, one in found.items()} == {
        "relapse": 3,
        "death in remission": 2,
        "death after relapse": 2,
    }
    with pytest.raises(SpecError, match="death is 'rfs', which is declared to include 'os'"):
        find_transitions(cohort, question, death="rfs", relapse_free="os")
