"""A corrupted table is refused, or read exactly as it stands; nothing is guessed away."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.errors import BayesblinaError, DataError, SpecError
from bayesblina.patients.cohort import Cohort

HEADER = [
    "id", "os_days", "died", "remission", "rfs_days", "failed", "cons", "main", "age", "group",
]  # fmt: skip
ROWS = [
    ["P-1", "360", "1", "30", "300.5", "1", "90", "240", "54", "high"],
    ["P-2", "365.25", "0", "29", "365.25", "0", "90.5", "", "61.5", "low"],
    ["P-3", "30", "1", "", "", "", "", "", "47", "low"],
    ["P-4", "1200", "0", "60", "1e3", "1", "", "200", "70", "high"],
    ["P-5", "95.0", "1", "0", "95.0", "0", "0", "95", "33", "mid"],
    ["P-6", "720", "0", "41", "400", "1", "100", "101", "58", "mid"],
]
PHASES = {"c": "cons", "m": "main"}
OPTIONS: dict[str, Any] = {
    "patient": "id",
    "unit": "days",
    "endpoints": {
        "os": bb.Endpoint(time="os_days", event="died"),
        "rfs": bb.Endpoint(time="rfs_days", event="failed", entry="remission"),
    },
    "phases": bb.Phases(**PHASES),
    "covariates": {"age": "continuous", "group": "categorical"},
}
Table = tuple[list[str], list[list[str]]]


# The other computation: text, float and plain loops.


def number(text: str) -> float:
    """A plain decimal number; NaN for an empty cell."""
    text = text.strip()
    if text == "":
        return math.nan
    if not set(text) <= set("0123456789+-.eE"):
        raise ValueError(text)
    return float(text)


def totals(header: list[str], rows: list[list[str]]) -> dict[str, Any]:
    """Count what a table says; ValueError where it says nothing definite."""
    if len(set(header)) < len(header) or any(len(row) != len(header) for row in rows):
        raise ValueError("no table")
    people = [dict(zip(header, row, strict=True)) for row in rows]
    out: dict[str, Any] = {"ids": [person["id"].strip() for person in people]}
    for name, entered, ended, event in (
        ("os", None, "os_days", "died"),
        ("rfs", "remission", "rfs_days", "failed"),
    ):
        events, time_in = 0, dict.fromkeys(("before c", "c", "m"), 0.0)
        for person in people:
            begin = 0.0 if entered is None else number(person[entered])
            if math.isnan(begin):  # never under observation
                continue
            stop, happened = number(person[ended]), number(person[event])
            if not (begin < stop < math.inf and happened in (0, 1)):
                raise ValueError("impossible follow-up")
            events += int(happened)
            starts = {phase: number(person[column]) for phase, column in PHASES.items()}
            known = [start for start in starts.values() if not math.isnan(start)]
            if known != sorted(known) or any(start < 0 for start in known):
                raise ValueError("impossible phases")
            edges = {phase: (stop if math.isnan(at) else at) for phase, at in starts.items()}
            edges["c"] = min(edges["c"], edges["m"])
            for state, lower, upper in (
                ("before c", 0.0, edges["c"]),
                ("c", edges["c"], edges["m"]),
                ("m", edges["m"], math.inf),
            ):
                time_in[state] += max(0.0, min(upper, stop) - max(lower, begin))
        out[name] = {"events": events, **time_in}
    out["age"] = [number(person["age"]) for person in people]
    out["group"] = [person["group"].strip() for person in people]
    return out


def totals_of(cohort: Cohort) -> dict[str, Any]:
    """Count the same in a cohort, through the rows that it writes."""
    rows = cohort.to_counting_process()
    rows["time"] = rows["stop"] - rows["start"]
    out: dict[str, Any] = {"ids": cohort.patients.tolist()}
    for name in cohort.endpoints:
        mine = rows[rows["endpoint"] == name]
        spent = mine.groupby("phase")["time"].sum()
        out[name] = {
            "events": int(mine["event"].sum()),
            **{state: float(spent.get(state, 0.0)) for state in ("before c", "c", "m")},
        }
    group = cohort.covariates["group"]
    out["age"] = cohort.covariates["age"].values.tolist()
    out["group"] = [group.levels[int(level)] for level in group.values]
    return out


def check(source: Any, header: list[str], rows: list[list[str]]) -> bool:
    """Read a table; whether it was accepted. What is accepted must be what it says."""
    try:
        cohort = bb.read_cohort(source, **OPTIONS)
    except (DataError, SpecError):
        return False
    found, expected = totals_of(cohort), totals(header, rows)
    for name in ("os", "rfs"):
        assert found.pop(name) == pytest.approx(expected.pop(name), rel=1e-8, abs=1e-6)
    assert found == expected
    assert cohort.repairs == ()
    assert cohort.exclusions == ()
    return True


def frame_of(table: Table) -> pd.DataFrame:
    header, rows = table
    return pd.DataFrame(rows, columns=pd.Index(header), dtype=object)


def write(folder: Path, header: list[str], rows: list[list[str]]) -> Path:
    path = folder / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_the_table_itself() -> None:
    """By hand, so that both computations are checked."""
    assert check(frame_of((HEADER, ROWS)), HEADER, ROWS)
    assert totals(HEADER, ROWS)["os"] == {
        "events": 3,
        "before c": 90 + 90.5 + 30 + 200 + 0 + 100,
        "c": 150 + 274.75 + 0 + 0 + 95 + 1,
        "m": 120 + 0 + 0 + 1000 + 0 + 619,
    }
    assert totals(HEADER, ROWS)["rfs"] == {
        "events": 3,
        "before c": 60 + 61.5 + 140 + 0 + 59,
        "c": 150 + 274.75 + 0 + 95 + 1,
        "m": 60.5 + 0 + 800 + 0 + 299,
    }


@pytest.mark.parametrize(
    ("row", "column", "text", "accepted"),
    [
        (0, "os_days", "36", True),  # rfs, and the phases, last longer: endpoints are separate
        (2, "os_days", "3", True),
        (1, "rfs_days", "3", False),  # before entry
        (5, "os_days", "7200", True),
        (0, "os_days", "360 ", True),
        (0, "os_days", "36O", False),
        (0, "os_days", "3 60", False),
        (0, "os_days", "360d", False),
        (0, "os_days", "3,60", False),
        (0, "os_days", "３６０", False),  # noqa: RUF001
        (0, "os_days", "", False),
        (0, "os_days", "-360", False),
        (0, "os_days", "1e9", False),
        (0, "died", "0", True),
        (0, "died", "", False),
        (0, "died", "10", False),
        (0, "died", "yes", False),
        (0, "remission", "300.5", False),
        (0, "remission", "", True),  # never under observation, by definition
        (0, "remission", "-0", True),
        (0, "failed", "", False),
        (2, "remission", "3", False),  # under observation, until when?
        (0, "cons", "", True),
        (0, "cons", "900", False),
        (0, "cons", "241", False),
        (0, "cons", "NA", False),
        (0, "main", "360", True),
        (0, "main", "24O", False),
        (1, "main", "nan", False),
        (1, "main", "None", False),
        (0, "age", "", False),
        (0, "age", "x", False),
        (0, "age", "-540", True),
        (0, "group", "hihg", True),
        (0, "group", " ", False),
        (0, "id", "P-2", False),
        (0, "id", "", False),
        (0, "id", "P", True),
    ],
)
def test_one_cell(row: int, column: str, text: str, tmp_path: Path, *, accepted: bool) -> None:
    rows = [list(cells) for cells in ROWS]
    rows[row][HEADER.index(column)] = text
    for source in (frame_of((HEADER, rows)), write(tmp_path, HEADER, rows)):
        assert check(source, HEADER, rows) == accepted


# Random corruptions.

cells = st.tuples(st.integers(0, len(ROWS) - 1), st.integers(0, len(HEADER) - 1))
likely = st.sampled_from(
    ["NA", "nan", "inf", "-", ".", "1_0", "0x1", "TRUE", "1,5", "1;5", "٣", "#N/A"]
)
texts = st.one_of(
    likely,
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
    st.from_regex(r"\A[0-9+\-.eE ]{0,6}\Z"),
)


@st.composite
def corrupted(draw: st.DrawFn) -> Table:
    """The valid table after one corruption, or two."""
    header, rows = list(HEADER), [list(cells) for cells in ROWS]
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(
            st.sampled_from(
                ["swap", "delete", "text", "magnitude", "repeat", "drop", "names", "shift"]
            )
        )
        row, column = draw(cells)
        row %= len(rows)
        cell = rows[row][column]
        if kind == "swap":
            other, there = draw(cells)
            other %= len(rows)
            rows[row][column], rows[other][there] = rows[other][there], cell
        elif kind == "delete" and cell:
            at = draw(st.integers(0, len(cell) - 1))
            rows[row][column] = cell[:at] + cell[at + 1 :]
        elif kind == "text":
            rows[row][column] = draw(texts)
        elif kind == "magnitude":
            power = draw(st.integers(-12, 12))
            sign = draw(st.sampled_from(["", "-"]))
            rows[row][column] = sign + (cell or "1") + (f"e{power}" if power else "")
        elif kind == "repeat":
            rows.insert(draw(st.integers(0, len(rows))), list(rows[row]))
        elif kind == "drop" and len(rows) > 1:
            del rows[row]
        elif kind == "names":
            other = draw(st.integers(0, len(header) - 1))
            header[column], header[other] = header[other], header[column]
        elif kind == "shift":  # a cell too many, and the last one lost
            rows[row] = [*rows[row][:column], "", *rows[row][column:-1]]
    return header, rows


@settings(max_examples=200, deadline=None)
@given(table=corrupted())
def test_random_corruptions_of_cells(table: Table) -> None:
    check(frame_of(table), *table)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=corrupted())
def test_random_corruptions_of_cells_in_a_file(table: Table, tmp_path: Path) -> None:
    header, rows = table
    # A file and a frame are accepted, or refused, alike.
    path = write(tmp_path, header, rows)
    assert check(path, header, rows) == check(frame_of(table), header, rows)


TEXT = "\n".join(",".join(cells) for cells in (HEADER, *ROWS)) + "\n"


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    at=st.integers(0, len(TEXT) - 1),
    kind=st.sampled_from(["delete", "replace", "insert", "cut", "repeat"]),
    letter=st.one_of(
        st.sampled_from("\",\n\r; .-+eE'\t0123456789"),
        st.characters(codec="utf-8", exclude_characters="\0"),
    ),
)
@example(at=TEXT.index("360"), kind="insert", letter='"')
@example(at=TEXT.index("360"), kind="insert", letter=",")
@example(at=TEXT.index("high") + 4, kind="insert", letter=",")
@example(at=TEXT.index("P-3"), kind="insert", letter="\n")
@example(at=TEXT.index("P-3") - 1, kind="delete", letter="")
@example(at=TEXT.rindex("101") + 2, kind="cut", letter="")
def test_random_corruptions_of_a_file(at: int, kind: str, letter: str, tmp_path: Path) -> None:
    """One character of the file: quotation marks, commas and ends of lines among them."""
    changed = {
        "delete": TEXT[:at] + TEXT[at + 1 :],
        "replace": TEXT[:at] + letter + TEXT[at + 1 :],
        "insert": TEXT[:at] + letter + TEXT[at:],
        "cut": TEXT[:at],
        "repeat": TEXT[:at] + TEXT[max(0, at - 9) :],
    }[kind]
    path = tmp_path / "table.csv"
    path.write_bytes(changed.encode())
    parsed = [line for line in csv.reader(io.StringIO(changed, newline="")) if line]
    header = parsed[0] if parsed else []
    check(path, [name.removeprefix("\ufeff") for name in header], parsed[1:])


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, len(TEXT) - 1), byte=st.integers(0, 255))
def test_random_bytes(at: int, byte: int, tmp_path: Path) -> None:
    """Bytes that may be no text at all end in an error of ours."""
    changed = bytearray(TEXT.encode())
    changed[at] = byte
    path = tmp_path / "table.csv"
    path.write_bytes(changed)
    try:
        cohort = bb.read_cohort(path, **OPTIONS)
    except BayesblinaError:
        return
    text = bytes(changed).decode("utf-8")
    parsed = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    assert cohort.size == len(parsed) - 1


def test_corruptions_are_of_both_kinds() -> None:
    """Some of them must be accepted and some refused, or the tests above say nothing."""
    rng = np.random.default_rng(1)
    outcomes = []
    for _ in range(200):
        rows = [list(cells) for cells in ROWS]
        row, column = int(rng.integers(len(ROWS))), int(rng.integers(1, 8))
        rows[row][column] = str(int(rng.integers(0, 500)))
        outcomes.append(check(frame_of((HEADER, rows)), HEADER, rows))
    assert 40 < sum(outcomes) < 160
