"""Drafts of study files: what is guessed, what is left to choose, and that they are valid TOML."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.core.errors import DataError, SpecError
from bayesblina.core.intervals import round_up
from bayesblina.patients.drafting import CENSORED, NO_TIME, _says, draft_study
from bayesblina.studies.simulate import blinatumomab_table
from bayesblina.studies.study_file import read_study


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def synthetic(folder: Path) -> Path:
    path = folder / "patients.csv"
    blinatumomab_table(1).to_csv(path, index=False)
    return path


def choose(study: Path) -> None:
    """Declare exact what a draft leaves to choose of how events are recorded."""
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace('recorded = "CHOOSE"', 'recorded = "exact"'), encoding="utf-8")


def draft(frame: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Write a table, draft a study for it, and parse the draft."""
    frame.to_csv(folder / "patients.csv", index=False)
    return tomllib.loads(draft_study(folder / "patients.csv", relative_to=folder))


def patients(**changes: Any) -> pd.DataFrame:
    """Columns that are all guessed right."""
    return pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "os_months": [9.0, 8.0, 7.0, 6.0],
            "died": [1, 0, 1, 0],
            "c_start": [2.0, 3.0, 2.5, None],
            "m_start": [5.0, 6.0, None, None],
        }
    ).assign(**changes)


# The synthetic study.


def test_the_draft_is_the_demo(tmp_path: Path) -> None:
    data = synthetic(tmp_path)
    out = tmp_path / "study.toml"
    made = call("init", data, "--out", out)
    assert made.exit_code == 0, made.output
    assert f"bayesblina validate {out}" in made.stdout
    text = out.read_text(encoding="utf-8")
    assert "CHOOSE marks" in text
    assert text.count("CHOOSE") == 2
    drafted, demo = tomllib.loads(text), tomllib.loads(cli.DEMO_STUDY.format(seed=1))
    # Whether relapses were found at visits is for the analyst to say.
    assert drafted["endpoints"]["rfs"]["recorded"] == "CHOOSE"
    refused = call("validate", out)
    assert refused.exit_code == 2
    assert "endpoints.rfs.recorded: Input should be 'exact' or 'visits'" in refused.stderr
    choose(out)
    drafted = tomllib.loads(out.read_text(encoding="utf-8"))
    drafted["endpoints"]["os"]["recorded"] = "exact"
    # Suggested by the names, and left to be said.
    assert '\n# includes = ["os"]\n' in text
    drafted["endpoints"]["rfs"]["includes"] = ["os"]
    for section in ("schema", "data", "endpoints", "phases", "question", "model", "fit"):
        assert drafted[section] == demo[section]
    assert list(drafted["phases"]) == list(demo["phases"])
    valid = call("validate", out)
    assert valid.exit_code == 0, valid.output
    assert "267 synthetic patients" in valid.stdout
    cohort = read_study(out).cohort()
    expected, _ = bb.simulate.blinatumomab_cohort(seed=1)
    pd.testing.assert_frame_equal(cohort.to_counting_process(), expected.to_counting_process())
    assert [one.recorded for one in cohort.endpoints.values()] == [None, "exact"]


def test_what_the_disease_does_is_no_phase(tmp_path: Path) -> None:
    months = {
        "relapse_month": [7.0, None, None, 5.0],
        "second_remission_month": [7.5, None, None, None],
    }
    assert draft(patients(**months), tmp_path)["phases"] == draft(patients(), tmp_path)["phases"]


def test_a_transplant_alone_is_the_phase(tmp_path: Path) -> None:
    """As in the Stanford heart transplant programme, written as a plain CSV."""
    (tmp_path / "heart.csv").write_text(
        "patient,days,died,transplant_day\n1,50,1,\n2,6,1,\n3,16,1,1\n4,39,1,36\n5,900,0,51\n"
    )
    out = tmp_path / "study.toml"
    assert call("init", tmp_path / "heart.csv", "--out", out).exit_code == 0
    drafted = tomllib.loads(out.read_text(encoding="utf-8"))
    assert drafted["phases"] == {"transplantation": "transplant_day"}
    assert drafted["question"] == {"exposed": "transplantation", "eligible_from": "entry"}
    assert "transplant" not in drafted["data"]
    valid = call("validate", out)
    assert valid.exit_code == 0, valid.output


def test_the_path_is_relative_to_the_study(tmp_path: Path) -> None:
    data = tmp_path / "data of trial"
    (tmp_path / "studies").mkdir()
    data.mkdir()
    out = tmp_path / "studies" / "first.toml"
    assert call("init", synthetic(data), "--out", out).exit_code == 0
    assert tomllib.loads(out.read_text())["data"]["file"] == "../data of trial/patients.csv"
    choose(out)
    assert call("validate", out).exit_code == 0


@pytest.mark.parametrize(
    ("time", "event", "asked"),
    [
        ("os_months", "died", False),
        ("rfs_months", "event", True),
        ("efs_months", "event", True),
        ("PFS_Days", "status", True),
        ("ttp_days", "status", True),
        ("dfs_time", "failed", True),
        ("months", "relapsed", True),
        ("days", "progression", True),
        ("days", "Recurrence", True),
        ("days", "event", False),
        ("stop", "status", False),
    ],
)
def test_relapse_is_asked_how_it_was_recorded(
    tmp_path: Path, time: str, event: str, asked: bool
) -> None:
    frame = patients().rename(columns={"os_months": time, "died": event})
    ((_, endpoint),) = draft(frame, tmp_path)["endpoints"].items()
    assert (endpoint["time"], endpoint["event"]) == (time, event)
    assert endpoint.get("recorded") == ("CHOOSE" if asked else None)


def test_columns_of_last_visits_are_named_and_start_no_phase(tmp_path: Path) -> None:
    """Missing in those who never were at one, as starts are in those who never started."""
    frame = patients().rename(columns={"os_months": "rfs_months", "died": "relapsed"})
    visited = frame.assign(last_marrow=[4.0, np.nan, 5.0, 6.0])
    plain = draft(frame, tmp_path)
    assert draft(visited, tmp_path) == plain
    text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
    assert '# perhaps of use with "visits": last_negative = "last_marrow"\n' in text
    assert "says until when phases may start, starts_until" in text


# The command.


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    out = tmp_path / "study.toml"
    out.write_text("mine")
    result = call("init", synthetic(tmp_path), "--out", out)
    assert result.exit_code == 2
    assert f"'{out}' exists: give another file with --out." in " ".join(result.stderr.split())
    assert out.read_text() == "mine"
    assert result.stdout == ""


def test_init_writes_study_toml_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = synthetic(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call("--quiet", "init", data).output == ""
    assert tomllib.loads(Path("study.toml").read_text())["data"]["file"] == "patients.csv"
    assert call("init", data).exit_code == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no such file"),
        ("table.xlsx", "a,b", "files of type '.xlsx' are not read"),
        ("empty.csv", "", "it is empty"),
        ("torn.csv", "id,a\n1,2\n3\n", "lines with too few or too many cells"),
        ("twice.csv", "id,a,a\n1,2,3\n", "more than one column has this name"),
    ],
)
def test_init_of_what_is_no_table(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    result = call("init", tmp_path / name, "--out", tmp_path / "study.toml")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "study.toml").exists()
    with pytest.raises(DataError, match=message):
        draft_study(tmp_path / name)


def test_a_table_without_columns(tmp_path: Path) -> None:
    pd.DataFrame(index=[0, 1]).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(SpecError, match="has no columns"):
        draft_study(tmp_path / "none.parquet")


# What is guessed.


def test_guesses(tmp_path: Path) -> None:
    """By hand: a later phase comes later, whatever the order of the columns."""
    table = patients(
        pfs_months=[7.0, None, 6.5, 5.0],
        progressed=[1, None, 0, 1],
        response_month=[1.0, None, 2.0, 0.5],
        hsct_month=[None, 4.0, None, None],
        age=[50, 60, 61, 70],
        sex=["f", "m", "m", "f"],
        note=["", "seen late", "", ""],
    )
    order = ["id", "m_start", "c_start", "os_months", "died", "response_month", "pfs_months",
             "progressed", "hsct_month", "age", "sex", "note"]  # fmt: skip
    drafted = draft(table[order], tmp_path)
    assert drafted["data"] == {
        "file": "patients.csv",
        "patient": "id",
        "unit": "months",
        "transplant": "hsct_month",
        "covariates": {"age": "continuous", "sex": "categorical"},
    }
    assert drafted["endpoints"] == {
        "os": {"time": "os_months", "event": "died"},
        "pfs": {
            "time": "pfs_months",
            "event": "progressed",
            "entry": "response_month",
            "recorded": "CHOOSE",
        },
    }
    assert list(drafted["phases"].items()) == [("c", "c_start"), ("m", "m_start")]
    assert drafted["question"] == {
        "exposed": "m",
        "eligible_from": "c",
        "transplant": "censor",
    }
    assert '# not used: "note"' in draft_study(tmp_path / "patients.csv", relative_to=tmp_path)


def test_formats_give_one_draft(tmp_path: Path) -> None:
    table = patients(age=[50, 60, 61, 70])
    table.to_csv(tmp_path / "patients.csv", index=False)
    table.convert_dtypes().to_parquet(tmp_path / "patients.parquet")
    texts = [
        draft_study(tmp_path / f"patients.{kind}", relative_to=tmp_path).replace(kind, "*")
        for kind in ("csv", "parquet")
    ]
    assert texts[0] == texts[1]


def test_what_is_neither_event_nor_phase(tmp_path: Path) -> None:
    """0 and 1 before any time; a time beyond follow-up; a column of empty cells."""
    table = patients(late=[3.0, 99.0, None, None], empty=None)
    table.insert(1, "treated_before", [1, 0, 0, 1])
    drafted = draft(table, tmp_path)
    assert list(drafted["endpoints"]) == ["os"]
    assert list(drafted["phases"]) == ["c", "m"]
    assert drafted["data"]["covariates"] == {"treated_before": "categorical"}
    text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
    assert '# not used: "late", "empty"' in text
    table.assign(died=table["died"] == 1).to_parquet(tmp_path / "patients.parquet")
    text = draft_study(tmp_path / "patients.parquet", relative_to=tmp_path)
    assert tomllib.loads(text)["endpoints"] == drafted["endpoints"]


def test_one_phase_asks_of_everybody(tmp_path: Path) -> None:
    drafted = draft(patients().drop(columns="c_start"), tmp_path)
    assert drafted["question"] == {"exposed": "m", "eligible_from": "entry"}


def test_names_that_would_be_taken_twice(tmp_path: Path) -> None:
    """Two endpoints or phases of one name would make invalid TOML, or lose one of them."""
    table = patients(
        os_days=[270.0, 240.0, 210.0, 180.0],
        os_event=[1, 0, 1, 0],
        m=[5.5, 6.5, None, None],
        transplant_month=[5.6, None, None, None],
        transplant_month_on=[None, 7.0, None, None],
    )
    drafted = draft(table, tmp_path)
    assert drafted["endpoints"] == {
        "os": {"time": "os_months", "event": "died"},
        "os_2": {"time": "os_days", "event": "os_event"},
    }
    assert drafted["data"]["transplant"] == "transplant_month"
    phases = {
        "c": "c_start",
        "m": "m_start",
        "m_2": "m",
        # As a phase's name, "transplant" has a meaning of its own.
        "transplantation": "transplant_month_on",
    }
    assert drafted["phases"] == phases
    assert drafted["data"]["unit"] == "CHOOSE"
    study = tmp_path / "study.toml"
    text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
    study.write_text(text.replace("CHOOSE", "months"))
    assert read_study(study).cohort().phases == tuple(phases)


def test_a_lone_transplant_is_the_phase(tmp_path: Path) -> None:
    """Where there is no other phase, a transplant is what the study is about."""
    table = patients(transplant_day=[3.0, None, 6.5, None], surgery=[0, 1, 1, 0])
    drafted = draft(table.drop(columns=["c_start", "m_start"]), tmp_path)
    assert "transplant" not in drafted["data"]
    assert drafted["data"]["covariates"] == {"surgery": "categorical"}
    assert drafted["phases"] == {"transplantation": "transplant_day"}
    assert drafted["question"] == {"exposed": "transplantation", "eligible_from": "entry"}


def test_curves_start_when_half_had_started(tmp_path: Path) -> None:
    """By hand: the median of 5.03 and 6 is 5.515, rounded up so that somebody had started."""
    drafted = draft(patients(m_start=[5.03, 6.0, None, None]), tmp_path)
    assert drafted["curves"] == {"landmark": 5.6, "starts": [5.6]}
    for value, expected in ((0.0, 0.0), (26.0, 26.0), (123.0, 130.0), (0.0123, 0.013)):
        assert round_up(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("maintained", [1, 1, 0, 0]),
        ("c_ever", [1, 1, 1, 0]),
        ("response", [1, 1, 1, 0]),
        ("relapsed", [1, 1, 1, 0]),
        ("days_on_study", [270.0, 240.0, 210.0, 180.0]),
        ("transplant", [0, 1, 1, 0]),
        ("exit_reason", ["x", "x", "y", "y"]),
    ],
)
def test_what_happened_later_is_no_covariate(
    tmp_path: Path, column: str, values: list[Any]
) -> None:
    """Adjusting for it, or for ever having had the phase, would be immortal time by the tool."""
    table = patients(**{column: values})
    order = [column, *(name for name in table.columns if name != column)]
    drafted = draft(table[order], tmp_path)
    assert "covariates" not in drafted["data"]
    assert list(drafted["endpoints"]) == ["os"]
    text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
    assert f'# not used: "{column}". They may tell what happened later' in text


@pytest.mark.parametrize("column", ["cens", "CNSR", "alive", "OSCensored", "os_cens"])
def test_censoring_is_not_taken_for_events(tmp_path: Path, column: str) -> None:
    table = patients().rename(columns={"died": column})
    table[column] = 1 - table[column]
    assert draft(table, tmp_path)["endpoints"] == {"os": {"time": "CHOOSE", "event": "CHOOSE"}}
    text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
    assert f'# not used: "{column}". An event is 1 and censoring 0 here; a' in text


def test_names_and_values_that_are_no_times(tmp_path: Path) -> None:
    """A score known for some patients is no phase; an age is no follow-up, known for all."""
    table = patients(mscore=[1.0, 2.0, None, None], age=[5, 6, 6, 7], surgery=[0, 1, 1, 0])
    drafted = draft(table, tmp_path)
    assert list(drafted["phases"]) == ["c", "m"]
    assert list(drafted["endpoints"]) == ["os"]
    assert drafted["data"]["covariates"] == {"age": "continuous", "surgery": "categorical"}


def test_camel_case(tmp_path: Path) -> None:
    renamed = patients().rename(columns={"os_months": "OSMonths", "died": "OSEvent"})
    assert draft(renamed, tmp_path)["endpoints"] == {"os": {"time": "OSMonths", "event": "OSEvent"}}


def test_other_kinds_of_tables_are_named(tmp_path: Path) -> None:
    dated = patients(accepted=["1970-01-01", "1970-02", "", "1971-05-06"])
    draft(dated, tmp_path)
    text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
    assert '# not used: "accepted". A study file takes times as numbers' in text
    assert "bayesblina.read_dated_cohort" in text
    rows = pd.DataFrame(
        {"id": [1, 1, 2], "start": [0.0, 5.0, 0.0], "stop": [5.0, 9.0, 7.0], "event": [0, 1, 1]}
    )
    drafted = draft(rows, tmp_path)
    assert drafted["data"]["patient"] == "CHOOSE"
    assert "covariates" not in drafted["data"]
    text = draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
    assert '# "id": patients have several rows here' in text
    assert "bayesblina.read_counting_process" in text


# What cannot be guessed.


@pytest.mark.parametrize(
    ("table", "said", "messages"),
    [
        (patients().rename(columns={"os_months": "os_t"}), 'unit = "CHOOSE"', ["data.unit"]),
        (
            # Times differ between patients too, but are no ids.
            patients(id=["a", "a", "b", "b"]),
            'patient = "CHOOSE"',
            ["CHOOSE: no such column. There are: id, os_months"],
        ),
        (
            patients().drop(columns="died"),
            'time = "CHOOSE"\n# 1 for an event, 0 for censoring\nevent = "CHOOSE"',
            ["data.unit"],
        ),
        (
            patients().drop(columns=["c_start", "m_start"]),
            'choose = "CHOOSE"',
            ["CHOOSE: no such column. There are: id, os_months"],
        ),
        (
            patients(id=["a", "b", "", "d"]),
            'patient = "CHOOSE"',
            ["CHOOSE: no such column. There are: id, os_months"],
        ),
        (patients().iloc[:0], 'unit = "CHOOSE"', ["data.unit"]),
        (pd.DataFrame({"note": ["x", "x"]}), 'patient = "CHOOSE"', ["data.unit"]),
    ],
    ids=["unit", "id", "events", "phases", "an id", "no rows", "nothing"],
)
def test_what_is_left_to_choose(
    tmp_path: Path, table: pd.DataFrame, said: str, messages: list[str]
) -> None:
    table.to_csv(tmp_path / "patients.csv", index=False)
    out = tmp_path / "study.toml"
    assert call("init", tmp_path / "patients.csv", "--out", out).exit_code == 0
    assert said in out.read_text()
    result = call("validate", out)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    for message in messages:
        assert message in result.stderr
    assert "is valid" not in result.stdout


@pytest.mark.parametrize("columns", [["os_months"], ["os_days", "os_months"]])
def test_units_come_from_the_times_of_endpoints_only(tmp_path: Path, columns: list[str]) -> None:
    table = patients().drop(columns=["os_months", "died"])
    for number, column in enumerate(columns):
        table[column] = [30.0 + number, 29.0, 28.0, 27.0]
        table[f"event{number}"] = [1, 0, 0, 1]
    expected = "months" if columns == ["os_months"] else "CHOOSE"
    assert draft(table, tmp_path)["data"]["unit"] == expected


@pytest.mark.parametrize(
    ("ids", "guessed"),
    [
        ({"ptno": ["x", "y", "z", "w"]}, "ptno"),
        ({"ptno": [4, 7, 9, 11]}, "ptno"),
        ({"site": ["N", "N", "S", "S"], "ptno": ["x", "y", "z", "w"]}, "ptno"),
        ({"site": ["N", "N", "S", "S"], "patient_no": [4, 7, 9, 11]}, "patient_no"),
        ({"site": ["N", "N", "S", "S"], "number": [4, 7, 9, 11]}, "CHOOSE"),
    ],
)
def test_guesses_of_the_id(tmp_path: Path, ids: dict[str, Any], guessed: str) -> None:
    table = pd.concat([pd.DataFrame(ids), patients().drop(columns="id")], axis=1)
    assert draft(table, tmp_path)["data"]["patient"] == guessed


# Names of columns.

STRANGE = [
    'say "so"',
    "back\\slash",
    "C:\\new\\table",
    "two\nlines",
    "tab\there",
    "a.b.c",
    "it's",
    "ünïcödé 患者",
    "#comment",
    "[x]",
    "key = 1",
    '"""',
    "\x7f\x1b",
    "next\x85line\u2028and\u00ad",
    "tag\U000e0001and\U0001f9ec",
    " blanks ",
    "CHOOSE",
]


@pytest.mark.parametrize("role", ["id", "os_months", "died", "c_start", "m_start", "age", "note"])
@pytest.mark.parametrize("name", STRANGE)
def test_strange_names(tmp_path: Path, role: str, name: str) -> None:
    table = patients(age=[50, 60, 61, 70], note=["", "x", "", ""])
    # The unit, the order and the roles are still guessed: from the rest of the name.
    column = f"{name}{role}"
    drafted = draft(table.rename(columns={role: column}), tmp_path)
    (endpoint,) = drafted["endpoints"].values()
    assert {
        "id": drafted["data"]["patient"],
        "os_months": endpoint["time"],
        "died": endpoint["event"],
        "c_start": next(iter(drafted["phases"].values())),
        "m_start": list(drafted["phases"].values())[-1],
        "age": next(iter(drafted["data"]["covariates"])),
        "note": column,
    }[role] == column
    if role in ("os_months", "died", "c_start", "m_start") or name == "CHOOSE":
        out = tmp_path / "study.toml"
        assert call("init", tmp_path / "patients.csv", "--out", out).exit_code == 0
        result = call("validate", out)
        assert result.exit_code == 0, result.output


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=8),
        min_size=4, max_size=4, unique=True,
    )
)  # fmt: skip
def test_any_names(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the names, the draft parses, and its columns exist."""
    folder = tmp_path_factory.getbasetemp()
    # Names that say what a column is not: a grade is no start, and who was censored had no event.
    assume(not any(_says(name, f"age|{NO_TIME}|{CENSORED}") for name in names))
    suffixes = ["_months", " event", "_start", "|later"]
    columns = [name + suffix for name, suffix in zip(names, suffixes, strict=True)]
    table = patients()
    table.columns = pd.Index(["id", *columns])
    table.to_parquet(folder / "names.parquet")
    drafted = tomllib.loads(draft_study(folder / "names.parquet", relative_to=folder))
    (endpoint,) = drafted["endpoints"].values()
    assert (endpoint["time"], endpoint["event"]) == tuple(columns[:2])
    starts = [*drafted["phases"].values()]
    if "transplant" in drafted["data"]:
        starts.append(drafted["data"]["transplant"])
    assert sorted(starts) == sorted(columns[2:])


def test_simulated_patients_stay_synthetic(tmp_path: Path) -> None:
    table = bb.simulate.blinatumomab_table(1)
    table.to_csv(tmp_path / "patients.csv", index=False)
    assert "synthetic = true" in draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
    table["patient_id"] = table["patient_id"].str.removeprefix("SYN-")
    table.to_csv(tmp_path / "patients.csv", index=False)
    assert "synthetic" not in draft_study(tmp_path / "patients.csv", relative_to=tmp_path)
