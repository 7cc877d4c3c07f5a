"""Readers give the patients of the table, or say all that is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from tests.patients.builders import ENDPOINTS, OPTIONS, assert_same, patients, problems_of, read


def test_every_column_arrives_where_it_belongs() -> None:
    cohort = read(patients())
    assert cohort.patients.tolist() == ["007", "1e5", "A 3", "NA"]
    assert cohort.unit == "months"
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [10.5, 12, 8, 5])
    np.testing.assert_array_equal(cohort.endpoints["os"].entry, 0.0)
    np.testing.assert_array_equal(cohort.endpoints["rfs"].time, [9, 12, np.nan, 4])
    np.testing.assert_array_equal(cohort.endpoints["rfs"].entry, [2, 1, np.nan, 3])
    np.testing.assert_array_equal(cohort.endpoints["rfs"].event, [True, False, False, True])
    nan = np.nan
    np.testing.assert_array_equal(cohort.phase_start, [[2, 6], [1, nan], [nan, nan], [nan, 3]])
    np.testing.assert_array_equal(cohort.phase_end, [[nan, 9], [nan, nan], [nan, nan], [nan, nan]])
    assert cohort.phase_ends_known
    assert cohort.transplant is not None
    np.testing.assert_array_equal(cohort.transplant, [nan, 12, nan, 0.5])
    assert cohort.covariates["age"].levels == ("old", "young")
    np.testing.assert_array_equal(cohort.covariates["age"].values, [1, 0, 0, 1])
    assert cohort.covariates["marrow"].kind == "continuous"
    np.testing.assert_array_equal(cohort.covariates["marrow"].values, [10, 20, 30, 40])


def test_what_is_not_named_is_not_there() -> None:
    cohort = read(
        patients(), endpoints=ENDPOINTS["os"], phases=bb.Phases(c="consolidation_month"),
        covariates=(), transplant=None,
    )  # fmt: skip
    assert list(cohort.endpoints) == ["survival"]
    assert cohort.phases == ("c",)
    assert not cohort.phase_ends_known
    assert cohort.transplant is None
    assert dict(cohort.covariates) == {}


characters = st.characters(categories=["L", "N", "P", "S"], include_characters=" ", codec="utf-8")
names = st.text(characters, min_size=1, max_size=12)
ids = st.one_of(names.filter(lambda text: text.strip() != ""), st.sampled_from(["007", "1e5"]))
times = st.one_of(st.floats(0.04, 100.0), st.integers(1, 100).map(float))


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, list[str]]:
    """Valid patients under strange column names; the names are in the order of the columns."""
    columns = draw(st.lists(names, min_size=9, max_size=9, unique=True))
    rows = draw(st.lists(ids, min_size=1, max_size=8, unique_by=str.strip))
    size = len(rows)

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=size, max_size=size))

    time = np.array(column(times))
    shares = st.sampled_from([None, 0.0, 1 / 3, 0.99])
    entry = np.array(column(shares), dtype=np.float64) * time
    start = np.array(column(st.sampled_from([None, 0.0, 0.1, 2 / 3])), dtype=np.float64) * time
    end = start + np.array(column(st.sampled_from([None, 0.0, 7.0])), dtype=np.float64)
    levels = ["young", "old", "a,b", 'say "so"', "ünïcödé", "NA", "nan", "None", "007", "-"]
    values = (
        rows,
        time,
        column(st.sampled_from([0, 1])),
        np.where(draw(st.booleans()), entry, 0.0),
        start,
        end,
        start,
        column(st.sampled_from(levels)),
        column(st.one_of(times, st.integers(-5, 5))),
    )
    return pd.DataFrame(dict(zip(columns, values, strict=True))), columns


@settings(max_examples=150, deadline=None)
@given(case=tables())
def test_csv_parquet_and_frames_give_the_same_cohort(
    case: tuple[pd.DataFrame, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    table, columns = case
    before = table.copy(deep=True)
    folder = tmp_path_factory.getbasetemp()
    table.to_csv(folder / "patients.csv", index=False)
    table.to_parquet(folder / "patients.parquet", index=False)
    patient, time, event, entry, start, end, transplant, level, number = columns

    def one(source: pd.DataFrame | Path) -> Cohort:
        return bb.read_cohort(
            source,
            patient=patient,
            unit="months",
            endpoints={"os": bb.Endpoint(time=time, event=event, entry=entry)},
            phases=bb.Phases(maintenance=bb.Phase(start=start, end=end)),
            covariates={level: "categorical", number: "continuous"},
            transplant=transplant,
        )

    cohort = one(table)
    assert_same(one(folder / "patients.csv"), cohort)
    assert_same(one(folder / "patients.parquet"), cohort)
    pd.testing.assert_frame_equal(table, before)
    assert cohort.patients.tolist() == [text.strip() for text in table[patient]]
    np.testing.assert_array_equal(cohort.endpoints["os"].time, table[time])
    np.testing.assert_array_equal(cohort.phase_start[:, 0], table[start])
    texts = [cohort.covariates[level].levels[int(at)] for at in cohort.covariates[level].values]
    assert texts == table[level].tolist()


def test_files_of_the_same_patients(tmp_path: Path) -> None:
    for suffix in (".csv", ".CSV", ".parquet"):
        path = tmp_path / f"patients{suffix}"
        if suffix == ".parquet":
            patients().to_parquet(path)
        else:
            patients().to_csv(path, index=False)
        cohort = read(path)
        assert_same(cohort, read(patients()))
        assert cohort.source == path.name
        assert_same(bb.read_cohort(str(path), **OPTIONS), cohort)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_dialects(tmp_path: Path, mark: str, end: str) -> None:
    """A byte-order mark, either end of line, blank lines, none at the end."""
    text = mark + patients().to_csv(index=False, lineterminator=end + end).strip()
    path = tmp_path / "patients.csv"
    path.write_bytes(text.encode())
    assert_same(read(path), read(patients()))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"os_months": [10.5, 0, 8, 5]}, [("os_months", "times of 0", ("1e5",))]),
        ({"os_months": [10.5, -3, 8, 5]}, [("os_months", "negative or infinite", ("1e5",))]),
        ({"os_months": [10.5, np.inf, 8, 5]}, [("os_months", "negative or infinite", ("1e5",))]),
        ({"os_months": ["10.5", "1e999", "8", "5"]}, [("os_months", "negative or inf", ("1e5",))]),
        ({"os_months": [10.5, None, 8, 5]}, [("os_months", "missing times", ("1e5",))]),
        ({"remission_month": [2, 12, None, 3]}, [("remission_month", "entry at or", ("1e5",))]),
        ({"remission_month": [2, 1, 0, 3]}, [
            ("relapse_or_death", "values other than", ("A 3",)),
            ("rfs_months", "missing times", ("A 3",)),
        ]),
        ({"maintenance_month": [1, None, None, 3]}, [
            ("maintenance_month", "maintenance starts before consolidation", ("007",)),
        ]),
        ({"maintenance_month": [6, None, 9, 3]}, [
            ("maintenance_month", "maintenance starts after the end of", ("A 3",)),
        ]),
        ({"maintenance_end": [5, None, None, None]}, [
            ("maintenance_end", "maintenance ends before it starts", ("007",)),
        ]),
        ({"transplant_month": [11, None, None, None]}, [
            ("transplant_month", "transplant after the end of follow-up", ("007",)),
        ]),
        ({"marrow": [10, None, 30, 40]}, [("marrow", "missing or infinite", ("1e5",))]),
        ({"age": ["young", None, "old", "old"]}, [("age", "missing or infinite", ("1e5",))]),
    ],
)  # fmt: skip
def test_rules_name_the_users_column_and_patients(
    changes: dict[str, Any], found: list[tuple[str, str, tuple[str, ...]]]
) -> None:
    got = problems_of(patients(**changes))
    assert [(column, who) for column, _, who in got] == [(column, who) for column, _, who in found]
    for (_, text, _), (_, begin, _) in zip(got, found, strict=True):
        assert text.startswith(begin)


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    table = patients(
        patient_id=["007", "007", "A 3", ""],
        os_months=["10.5", "soon", "8", "-5"],
        died=[1, 3, 1, 0],
        remission_month=[9, 1, None, 3],
        maintenance_month=[1, None, 9, 3],
        maintenance_end=[9, None, None, 2],
        marrow=["x", "20", "", "40"],
    )
    table.to_csv(tmp_path / "patients.csv", index=False)
    for source in (table, tmp_path / "patients.csv"):
        with pytest.raises(DataError) as caught:
            read(source, covariates={"age": "categorical", "marrow": "continuous"})
        problems = caught.value.problems
        assert sorted((item.column, item.patients) for item in problems) == [
            ("died", ("007",)),
            ("maintenance_end", ("",)),
            ("maintenance_month", ("007",)),
            ("maintenance_month", ("A 3",)),
            ("marrow", ("007",)),
            ("marrow", ("A 3",)),
            ("os_months", ("",)),
            ("os_months", ("007",)),
            ("patient_id", ()),
            ("patient_id", ("007",)),
            ("remission_month", ("007",)),
        ]
        text = str(caught.value)
        name = "the table" if isinstance(source, pd.DataFrame) else "patients.csv"
        assert text.startswith(f"11 problems in {name}:\n")
        assert all(str(problem) in text for problem in problems)
        assert all(problem.expected for problem in problems)


def test_ten_ids_are_named_and_the_rest_counted() -> None:
    size = 30
    table = pd.concat([patients().head(1)] * size, ignore_index=True).assign(
        patient_id=[f"P{row:02d}" for row in range(size)], died=[2] * 12 + [1] * 18
    )
    with pytest.raises(DataError, match=r"12 patients, in rows 1, 2, .* 10 and others") as caught:
        read(table)
    assert "P0" not in str(caught.value)
    named = caught.value.words(show_ids=True)
    assert "P08, P09 and 2 more" in named
    assert "P10" not in named
    assert len(caught.value.problems[0].patients) == 12


def test_an_impossible_unit_names_the_column() -> None:
    factor = 900 / 9.25
    table = patients()
    times = table.columns[table.columns.str.contains("month|end")]
    table[times] = factor * table[times].astype(float)
    with pytest.raises(DataError, match="Perhaps days or weeks") as caught:
        read(table)
    assert [item.column for item in caught.value.problems] == ["os_months", "rfs_months"]
    assert caught.value.problems[0].found == "a median follow-up of 900 months"
    assert read(table, unit="days").unit == "days"


def test_an_unknown_unit_lists_the_known() -> None:
    with pytest.raises(DataError, match=r"'moons'\. Expected one of days, weeks, months, years"):
        read(patients(), unit="moons")


def test_missing_columns_are_all_named_with_their_nearest() -> None:
    table = patients().rename(columns={"died": "dead", "os_months": "os_month"})
    with pytest.raises(DataError) as caught:
        read(table, covariates=["age", "agee", "zzz"])
    assert [(item.column, item.found) for item in caught.value.problems] == [
        ("os_months", "no such column"),
        ("died", "no such column"),
        ("agee", "no such column"),
        ("zzz", "no such column"),
    ]
    first, _, third, last = (item.expected for item in caught.value.problems)
    assert first.startswith("Nearest: os_month")
    assert third == "Nearest: age."
    assert last.startswith("There are: patient_id, os_month, dead")


def test_columns_without_text_names_are_no_crash() -> None:
    with pytest.raises(DataError, match="no such column"):
        read(patients().rename(columns={"patient_id": 0}), patient="0")


@pytest.mark.parametrize("as_file", [False, True])
def test_repeated_column_names_are_refused(tmp_path: Path, *, as_file: bool) -> None:
    table: pd.DataFrame | Path = patients().rename(columns={"marrow": "died", "age": "os_months"})
    if as_file:
        assert isinstance(table, pd.DataFrame)
        table.to_csv(tmp_path / "patients.csv", index=False)
        table = tmp_path / "patients.csv"
    found = problems_of(table)
    assert sorted(column for column, _, _ in found) == ["died", "os_months"]
    assert {text for _, text, _ in found} == {"more than one column has this name"}


def test_the_callers_table_and_the_cohort_are_apart() -> None:
    table = patients()
    before = table.copy(deep=True)
    cohort = read(table)
    pd.testing.assert_frame_equal(table, before)
    # Neither read-only now, nor a window onto the cohort.
    for column in ("os_months", "rfs_months", "remission_month", "marrow", "transplant_month"):
        table.loc[:, column] = 1
    table["os_months"].to_numpy()[:] = 77.0
    assert_same(cohort, read(before))


def test_the_index_of_the_table_plays_no_part() -> None:
    table = patients().set_index("died", drop=False)
    assert_same(read(table), read(patients()))
    assert_same(read(patients().set_axis([3, 3, 0, 9])), read(patients()))


def test_synthetic_is_carried() -> None:
    table = patients()
    assert not read(table).synthetic
    table.attrs["synthetic"] = True
    assert read(table).synthetic
    assert not read(table, synthetic=False).synthetic
    assert read(patients(), synthetic=True).synthetic


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "patients.csv")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("damage", "lines"),
    [
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0]], "1; first: 5"),
        (lambda lines: [*lines[:-1], lines[-1][:3]], "1; first: 5"),
        (lambda lines: [lines[0], *(f"{line},9" for line in lines[1:])], "4; first: 2, 3, 4, 5"),
        (
            lambda lines: [*lines[:2], lines[2].replace("12.0", "12,0", 1), *lines[3:]],
            "1; first: 3",
        ),
    ],
)
def test_lines_of_another_length_are_refused(tmp_path: Path, damage: Any, lines: str) -> None:
    """Neither filled up nor cut off: a file cut short, and numbers with a comma."""
    path = tmp_path / "patients.csv"
    path.write_text("\n".join(damage(patients().to_csv(index=False).splitlines())))
    (found,) = problems_of(path)
    assert found[:2] == ("file", f"lines with too few or too many cells ({lines})")


def test_a_table_without_rows(tmp_path: Path) -> None:
    patients().head(0).to_csv(tmp_path / "patients.csv", index=False)
    for source in (patients().head(0), tmp_path / "patients.csv"):
        assert problems_of(source) == [("patient_id", "no rows", ())]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": {"maintenance": "maintenance_month"}}, "phases must be a Phases value"),
        ({"table": {"id": ["a"]}}, r"Expected a DataFrame .* or a path, got builtins\.dict"),
    ],
)
def test_impossible_calls(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(options.pop("table", patients()), **options)
