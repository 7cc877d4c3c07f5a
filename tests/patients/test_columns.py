"""Columns are read strictly: ids, numbers, events, covariates."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesblina.core.errors import SpecError
from bayesblina.patients.readers.columns import DECIMAL, MOST_LEVELS
from tests.patients.builders import patients, problems_of, read


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
