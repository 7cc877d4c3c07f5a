"""Tables as CSV: no formula runs, and what is read back is what was written."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesblina.core.errors import StorageError
from bayesblina.core.tables.table import read_csv, to_csv

HOSTILE = ["=cmd()", "@x", "-os", "os", "+1", "\tx", "'=x", "''+y", "'t", "\uff1dSUM(A1)", "NA"]


def test_texts_are_no_formulas() -> None:
    table = pd.DataFrame({"endpoint": ["=cmd()", "@x", "-os", "os", "+1"], "mean": [-1.0] * 5})
    assert to_csv(table).splitlines() == [
        "endpoint,mean",
        "'=cmd(),-1.0",
        "'@x,-1.0",
        "'-os,-1.0",
        "os,-1.0",
        "'+1,-1.0",
    ]


def test_names_of_columns_are_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(to_csv(pd.DataFrame({"=1+1": [1.5]})), encoding="utf-8")
    assert path.read_text().startswith("'=1+1\n")
    assert list(read_csv(path).columns) == ["=1+1"]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-300, np.pi, -0.0, np.nan, np.inf, 1 / 3, 2.0, 5e-324, 1e22, 0.3]
    table = pd.DataFrame({"term": HOSTILE, "value": values, "n": range(11)})
    path = tmp_path / "table.csv"
    path.write_text(to_csv(table), encoding="utf-8")
    pd.testing.assert_frame_equal(read_csv(path, texts=["term"]), table, check_exact=True)


@given(st.text(alphabet="'=+-@a\t\uff0b", min_size=1, max_size=6))
def test_guards_are_undone(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    written = to_csv(pd.DataFrame({"term": [text]}))
    cell = written.splitlines()[1].strip('"')
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\uff0b"))
    path.write_text(written, encoding="utf-8")
    assert read_csv(path, texts=["term"])["term"].tolist() == [text]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Cannot read"):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(StorageError, match="not a table"):
        read_csv(tmp_path / "empty.csv")
    (tmp_path / "other.csv").write_text("a\n1\n")
    with pytest.raises(StorageError, match=r"lacks the column\(s\) b"):
        read_csv(tmp_path / "other.csv", texts=["b"])


def test_whole_numbers_beside_missing_ones_stay_whole() -> None:
    """As in a masked account, whose cells are masks, whole numbers and nothing."""
    table = pd.DataFrame({"n": pd.Series([2093, float("nan"), pd.NA], dtype=object)})
    assert to_csv(table) == 'n\n2093\n""\n""\n'
    assert to_csv(table.assign(m=1)) == "n,m\n2093,1\n,1\n,1\n"
