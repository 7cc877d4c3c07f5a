"""Tables of every kind to cohorts: nothing guessed, dropped or repaired unasked."""

import datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.columns import DECIMAL, MOST_LEVELS

ENDPOINTS = {
    "os": bb.Endpoint(time="os_months", event="died"),
    "rfs": bb.Endpoint(time="rfs_months", event="relapse_or_death", entry="remission_month"),
}
PHASES = bb.Phases(
    consolidation="consolidation_month",
    maintenance=bb.Phase(start="maintenance_month", end="maintenance_end"),
)


OPTIONS: Any = MappingProxyType(
    {
        "patient": "patient_id",
        "unit": "months",
        "endpoints": ENDPOINTS,
        "phases": PHASES,
        "covariates": ("age", "marrow"),
        "transplant": "transplant_month",
    }
)


def patients(**changes: Any) -> pd.DataFrame:
    """Four valid patients, with changed columns."""
    table = pd.DataFrame(
        {
            "patient_id": ["007", "1e5", "A 3", "NA"],
            "os_months": [10.5, 12.0, 8.0, 5.0],
            "died": [1, 0, 1, 0],
            "rfs_months": [9.0, 12.0, None, 4.0],
            "relapse_or_death": [1, 0, None, 1],
            "remission_month": [2.0, 1.0, None, 3.0],
            "consolidation_month": [2.0, 1.0, None, None],
            "maintenance_month": [6.0, None, None, 3.0],
            "maintenance_end": [9.0, None, None, None],
            "transplant_month": [None, 12.0, None, 0.5],
            "age": ["young", "old", "old", "young"],
            "marrow": [10, 20, 30, 40],
        }
    )
    return table.assign(**changes)


def read(table: pd.DataFrame | Path, **options: Any) -> Cohort:
    return bb.read_cohort(table, **{**OPTIONS, **options})


def problems_of(table: pd.DataFrame | Path, **options: Any) -> list[tuple[str, str, Any]]:
    with pytest.raises(DataError) as caught:
        read(table, **options)
    return [(item.column, item.found, item.patients) for item in caught.value.problems]


def assert_same(one: Cohort, other: Cohort) -> None:
    """Compare all but the name of the source."""
    for name in ("unit", "phases", "phase_ends_known", "synthetic", "repairs"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("patients", "phase_start", "phase_end"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.transplant is None) == (other.transplant is None)
    if one.transplant is not None and other.transplant is not None:
        np.testing.assert_array_equal(one.transplant, other.transplant)
    assert list(one.endpoints) == list(other.endpoints)
    for name, outcome in one.endpoints.items():
        for part in ("time", "event", "entry"):
            np.testing.assert_array_equal(
                getattr(outcome, part), getattr(other.endpoints[name], part)
            )
    assert list(one.covariates) == list(other.covariates)
    for name, covariate in one.covariates.items():
        assert (covariate.kind, covariate.levels) == (
            other.covariates[name].kind,
            other.covariates[name].levels,
        )
        np.testing.assert_array_equal(covariate.values, other.covariates[name].values)


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


# The same from memory and from files.

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
    ("given_ids", "expected"),
    [
        (["007", "1e5", "0x1", " b "], ["007", "1e5", "0x1", "b"]),
        ([7, 8, 9, 10], ["7", "8", "9", "10"]),
        ([7.0, 8.0, 9.5, 10.0], ["7", "8", "9.5", "10"]),
        (pd.Categorical(["x", "y", "z", "w"]), ["x", "y", "z", "w"]),
        (pd.array([2**60 + 1, 2, 3, 4], dtype="Int64"), [str(2**60 + 1), "2", "3", "4"]),
    ],
)
def test_ids_are_text(given_ids: Any, expected: list[str]) -> None:
    assert read(patients(patient_id=given_ids)).patients.tolist() == expected


@pytest.mark.parametrize(
    ("given_ids", "found"),
    [
        (["a", None, "c", ""], [("patient_id", "missing ids in rows 2, 4", ())]),
        ([1.0, np.nan, 3.0, 4.0], [("patient_id", "missing ids in rows 2", ())]),
        (
            ["a", "b", "a ", "d"],
            [("patient_id", "ids that stand in more than one row", ("a",))],
        ),
    ],
)
def test_missing_and_repeated_ids(given_ids: Any, found: list[Any]) -> None:
    assert problems_of(patients(patient_id=given_ids)) == found


@pytest.mark.parametrize(
    "values",
    [
        ["10.5", " 12", "+8.", "5e0"],
        [Decimal("10.5"), Decimal(12), 8, "5"],
        pd.array([10.5, 12.0, 8.0, 5.0], dtype="Float64"),
        pd.Series([10.5, 12.0, 8.0, 5.0]).astype("float64[pyarrow]"),
        np.array([10.5, 12.0, 8.0, 5.0], dtype=np.float32),
        pd.Categorical(["10.5", "12", "8", "5"]),
    ],
)
def test_numbers_in_many_clothes(values: Any) -> None:
    np.testing.assert_array_equal(
        read(patients(os_months=values)).endpoints["os"].time, [10.5, 12, 8, 5]
    )


@pytest.mark.parametrize(
    "value",
    ["12,5", "NA", "nan", "inf", "1 000", "0x10", "1_0", "12 months", "-", ".", "2020-01-01"],
)
def test_text_is_never_taken_for_a_number(value: str, tmp_path: Path) -> None:
    table = patients(os_months=["10.5", value, "8", "5"])
    table.to_csv(tmp_path / "patients.csv", index=False)
    expected = [("os_months", f"values that are not numbers ({value!r})", ("1e5",))]
    assert problems_of(table) == expected
    assert problems_of(tmp_path / "patients.csv") == expected


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_printed_number_is_a_number(value: float) -> None:
    (match,) = pd.Series([repr(value)]).str.fullmatch(DECIMAL)
    assert match


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (2, "values other than 0 and 1"),
        (-1, "values other than 0 and 1"),
        (0.5, "values other than 0 and 1"),
        (None, "values other than 0 and 1"),
        ("yes", "values that are not numbers ('yes')"),
        (True, "values that are not numbers ('True')"),
    ],
)
def test_events_are_0_or_1(value: Any, found: str) -> None:
    first, *_ = problems_of(patients(died=[1, 0, value, 0]))
    assert first == ("died", found, ("A 3",))


@pytest.mark.parametrize(
    "values",
    [
        [True, False, True, False],
        ["1", "0", "1.0", "0"],
        pd.array([True, False, True, False], dtype="boolean"),
        [1.0, 0.0, 1.0, 0.0],
    ],
)
def test_events_in_many_clothes(values: Any) -> None:
    got = read(patients(died=values)).endpoints["os"].event
    assert got.tolist() == [True, False, True, False]


def test_a_patient_never_under_observation_needs_no_event() -> None:
    """Without remission, nothing about relapse is asked."""
    cohort = read(patients(relapse_or_death=[1, 0, 7, 1]))
    assert cohort.endpoints["rfs"].event.tolist() == [True, False, False, True]


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


# Covariates.


@pytest.mark.parametrize(
    ("values", "given_kind", "kind", "levels"),
    [
        ([3, 1, 2, 1], None, "continuous", ()),
        (["3", "1", "2.5", "1"], None, "continuous", ()),
        (["b", "a", "c", "a"], None, "categorical", ("a", "b", "c")),
        (["3", "1", "x", "1"], None, "categorical", ("1", "3", "x")),
        ([True, False, True, True], None, "categorical", ("False", "True")),
        ([3, 1, 2, 1], "categorical", "categorical", ("1", "2", "3")),
        ([3.0, 1.0, 2.5, 1.0], "categorical", "categorical", ("1", "2.5", "3")),
        (
            pd.Categorical(["low", "high", "low", "low"], categories=["low", "mid", "high"]),
            None,
            "categorical",
            ("low", "high"),
        ),
        (pd.Categorical(["2", "1", "2", "2"]), None, "categorical", ("1", "2")),
    ],
)
def test_kinds_and_levels(values: Any, given_kind: Any, kind: str, levels: tuple[str, ...]) -> None:
    covariates = ["x"] if given_kind is None else {"x": given_kind}
    covariate = read(patients(x=values), covariates=covariates).covariates["x"]
    assert (covariate.kind, covariate.levels) == (kind, levels)
    if kind == "categorical":
        got = [covariate.levels[int(at)] for at in covariate.values]
        assert got == [f"{value:g}" if type(value) in (int, float) else str(value)
                       for value in values]  # fmt: skip
    else:
        np.testing.assert_array_equal(covariate.values, np.array(values, dtype=np.float64))


def test_unknown_types_of_covariates_are_refused() -> None:
    with pytest.raises(SpecError, match="covariate 'age': unknown type 'ordinal'; expected 'categ"):
        read(patients(), covariates={"age": "ordinal"})
    with pytest.raises(SpecError, match="covariates must be a list of columns"):
        read(patients(), covariates="age")


def test_text_is_no_continuous_covariate() -> None:
    found = problems_of(patients(), covariates={"age": "continuous"})
    everybody = ("007", "1e5", "A 3", "NA")
    assert found == [("age", "values that are not numbers ('young', 'old')", everybody)]


def test_dates_are_no_covariate() -> None:
    dates = pd.to_datetime([datetime.date(2020, 1, day) for day in (1, 2, 3, 4)])
    (found,) = problems_of(patients(seen=dates), covariates=["seen"])
    assert found[:2] == ("seen", "dates, which are no covariate")


@pytest.mark.parametrize("levels", [MOST_LEVELS, MOST_LEVELS + 1])
def test_too_many_levels_are_no_category(levels: int) -> None:
    size = MOST_LEVELS + 1
    table = pd.concat([patients().head(1)] * size, ignore_index=True).assign(
        patient_id=[f"P{row}" for row in range(size)],
        site=[f"site {row % levels}" for row in range(size)],
    )
    if levels == MOST_LEVELS:
        assert len(read(table, covariates=["site"]).covariates["site"].levels) == levels
    else:
        (found,) = problems_of(table, covariates=["site"])
        assert found[:2] == ("site", "51 different texts")


# Repairs are asked for, and counted.


def test_zero_times_are_repaired_on_request_only() -> None:
    table = patients(
        os_months=[10.5, 12, 0, 5], rfs_months=[9, 0, None, 4], remission_month=[2, None, None, 3]
    )
    assert [item[0] for item in problems_of(table)] == ["os_months", "rfs_months"]
    cohort = read(table, repairs=bb.Repairs(zero_times=0.02))
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [10.5, 12, 0.02, 5])
    np.testing.assert_array_equal(cohort.endpoints["rfs"].time, [9, 0.02, np.nan, 4])
    (repair,) = cohort.repairs
    assert (repair.rule, repair.patients, repair.count) == (
        "times of 0 became 0.02",
        ("1e5", "A 3"),
        2,
    )
    # A negative time is no time of 0.
    assert problems_of(patients(os_months=[10.5, 12, -1, 5]), repairs=bb.Repairs(zero_times=0.02))


def test_follow_up_that_ends_at_its_entry_is_repaired_alike() -> None:
    """Remission on the day of death: all that ends at that moment ends as much later."""
    table = patients(
        os_months=[10.5, 12, 8, 5],
        rfs_months=[9, 12, None, 4],
        remission_month=[2, 12 * (1 + 1e-12), None, 3],
        consolidation_month=[3, 11, None, None],
        maintenance_month=[None, None, None, None],
        maintenance_end=[None, None, None, None],
    ).astype({"maintenance_month": float, "maintenance_end": float})
    with pytest.raises(DataError, match="where the two are one time, ask for the repair zero_ti"):
        read(table)
    cohort = read(table, repairs=bb.Repairs(zero_times=0.02))
    np.testing.assert_array_equal(cohort.endpoints["rfs"].time, [9, 12.02, np.nan, 4])
    np.testing.assert_array_equal(cohort.endpoints["os"].time, [10.5, 12.02, 8, 5])
    assert [(one.rule, one.patients) for one in cohort.repairs] == [
        ("times of 0 became 0.02", ()),
        ("follow-up that ended at its entry lasts 0.02", ("1e5",)),
    ]
    # Nobody is followed after death, and who ends at entry for another reason stays refused.
    assert "rfs: followed" not in repr(cohort.account())
    later = table.assign(remission_month=[2, 12.001, np.nan, 3])
    assert [one[0] for one in problems_of(later, repairs=bb.Repairs(zero_times=0.02))] == [
        "remission_month"
    ]


def test_a_phase_that_ends_at_the_end_ends_with_it() -> None:
    """Treated until the moment of death is treated at death; a phase that was replaced is not."""
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "t": [5.0, 5.0, 9.0],
            "e": [1, 1, 0],
            "entry": [5.0, 5.0, 0.0],
            "one": [1.0, 1.0, 1.0],
            "one_end": [5.0, 5.0, 5.0],
            "two": [np.nan, 5.0, 5.0],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints=bb.Endpoint(time="t", event="e", entry="entry"),
        phases=bb.Phases(one=bb.Phase(start="one", end="one_end"), two="two"),
        repairs=bb.Repairs(zero_times=0.5),
    )
    assert cohort.endpoints["survival"].time.tolist() == [5.5, 5.5, 9.0]
    assert cohort.phase_end[:, 0].tolist() == [5.5, 5.0, 5.0]
    with pytest.raises(SpecError, match=r"zero_times = 9\.5 months is longer than the shortest"):
        bb.read_cohort(
            table,
            patient="id",
            unit="months",
            endpoints=bb.Endpoint(time="t", event="e", entry="entry"),
            phases=bb.Phases(two="two"),
            repairs=bb.Repairs(zero_times=9.5),
        )


def test_rows_of_no_length_are_repaired_where_they_are_all_there_is() -> None:
    rows = pd.DataFrame(
        {
            "id": ["a", "b", "c", "c"],
            "start": [5.0, 0.0, 0.0, 4.0],
            "stop": [5.0, 9.0, 4.0, 9.0],
            "event": [1, 0, 0, 1],
            "phase": ["m", "", "", "m"],
        }
    )
    given: dict[str, Any] = {
        "patient": "id", "start": "start", "stop": "stop", "event": "event", "phase": "phase",
        "phases": ["m"], "unit": "months",
    }  # fmt: skip
    with pytest.raises(DataError, match="all of a patient's follow-up, ask for the repair"):
        bb.read_counting_process(rows, **given)
    repairs = bb.Repairs(zero_times=0.5)
    cohort = bb.read_counting_process(rows, repairs=repairs, **given)
    assert cohort.endpoints["survival"].time.tolist() == [5.5, 9.0, 9.0]
    assert cohort.repairs[1].patients == ("a",)
    rows.loc[3, ["start", "stop"]] = 4.0
    with pytest.raises(DataError, match="rows that end at or before they start"):
        bb.read_counting_process(rows, repairs=repairs, **given)


def test_a_scan_names_the_reader_that_repairs() -> None:
    table = pd.DataFrame({"id": ["a", "b"], "t": [0.0, 9.0], "e": [1, 0], "s": [np.nan, 12.0]})
    with pytest.raises(DataError) as caught:
        bb.scan_cohort(
            table,
            patient="id",
            unit="months",
            endpoints=bb.Endpoint(time="t", event="e"),
            phases=bb.Phases(m="s"),
        )
    said = [one.expected for one in caught.value.problems]
    assert all("read the patients with read_cohort and its repair" in one for one in said)
    assert len(said) == 2


def test_late_phases_are_dropped_on_request_only() -> None:
    table = patients(
        maintenance_month=[6, 12.5, 8, 3],
        maintenance_end=[9, 13, None, None],
        transplant_month=[None, None, 8.5, 5],
    )
    assert [(item[0], item[2]) for item in problems_of(table)] == [
        ("maintenance_month", ("1e5",)),
        ("transplant_month", ("A 3",)),
    ]
    cohort = read(table, repairs=bb.Repairs(drop_late_phases=True))
    nan = np.nan
    np.testing.assert_array_equal(cohort.phase_start, [[2, 6], [1, nan], [nan, 8], [nan, 3]])
    np.testing.assert_array_equal(cohort.phase_end[:, 1], [9, nan, nan, nan])
    assert cohort.transplant is not None
    np.testing.assert_array_equal(cohort.transplant, [nan, nan, nan, 5])
    (repair,) = cohort.repairs
    assert repair.patients == ("1e5", "A 3")


def test_a_repair_changes_nobody_it_need_not() -> None:
    """Phases at the end of follow-up, but for rounding, and of a patient without follow-up."""
    table = patients(
        os_months=[0.3, 12, 8, 5], rfs_months=[0.2, 12, None, 4], remission_month=[0.1, 1, None, 3],
        consolidation_month=[0.1 + 0.2, 1, 700, None], maintenance_month=[0.1 + 0.2, None, None, 3],
        maintenance_end=[None, None, None, None], transplant_month=[0.1 + 0.2, None, None, None],
    ).astype({"maintenance_end": float})  # fmt: skip
    both = bb.Repairs(zero_times=0.02, drop_late_phases=True)
    rfs = {"rfs": ENDPOINTS["rfs"]}
    assert [repair.count for repair in read(patients(), repairs=both).repairs] == [0, 0]
    with pytest.raises(DataError, match="after the end of follow-up"):
        read(table)
    late = read(table, repairs=both)
    assert [repair.patients for repair in late.repairs] == [(), ("A 3",)]
    assert late.phase_start[0].tolist() == [0.1 + 0.2, 0.1 + 0.2]
    table = table.assign(rfs_months=[0.3, 12, np.nan, 4])
    unknown = read(table, endpoints=rfs, repairs=both)
    assert [repair.count for repair in unknown.repairs] == [0, 0]
    assert unknown.phase_start[2, 0] == 700


@pytest.mark.parametrize("instead", [0.0, -1.0, np.inf, np.nan])
def test_a_repair_must_be_possible(instead: float) -> None:
    with pytest.raises(SpecError, match="zero_times must be a small time greater than 0"):
        bb.Repairs(zero_times=instead)


# The caller's table.


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


# Files that cannot be read; more in test_broken.py.


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


@pytest.mark.parametrize("rule", ["first", "middle", "last"])
def test_partial_dates_lie_within_those_known_of_the_patient(rule: Any) -> None:
    """Each partial date in March 2015 alone, the others known."""
    known = {
        "origin": "2015-03-05",
        "entry": "2015-03-10",
        "last": "2015-04-10",
        "from": "2015-03-12",
        "to": "2015-03-17",
    }
    bounds = {
        "origin": ("2015-03-01", "2015-03-10"),
        "entry": ("2015-03-05", "2015-03-31"),
        "last": ("2015-03-17", "2015-03-31"),
        "from": ("2015-03-05", "2015-03-17"),
        "to": ("2015-03-12", "2015-03-31"),
    }
    whole = {"first": "2015-03-01", "middle": "2015-03-15", "last": "2015-03-31"}[rule]
    for column, (low, high) in bounds.items():
        cells = known | {column: "2015-03"}
        cohort = bb.read_dated_cohort(
            pd.DataFrame({"id": ["a"], "event": [1], **{k: [v] for k, v in cells.items()}}),
            patient="id",
            origin="origin",
            unit="days",
            endpoints=bb.DatedEndpoint(date="last", event="event", origin="entry"),
            phases=bb.Phases(m=bb.Phase(start="from", end="to")),
            repairs=bb.Repairs(partial_dates=rule),
        )
        outcome = cohort.endpoints["survival"]
        got = {
            "entry": outcome.entry[0],
            "last": outcome.time[0],
            "from": cohort.phase_start[0, 0],
            "to": cohort.phase_end[0, 0],
        }
        right = min(max(whole, low), high)
        zero = pd.Timestamp(right if column == "origin" else known["origin"])
        for name, value in got.items():
            day = right if name == column else known[name]
            assert value == (pd.Timestamp(day) - zero).days, (rule, column, name)
        assert f"partial dates of {column} became" in cohort.repairs[0].rule
