"""Each format holds the texts of a table, and nothing of the data is markup."""

from __future__ import annotations

import csv
import re
from io import BytesIO, StringIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from docx import Document

from bayesblina import tables
from bayesblina.core.errors import SpecError, StorageError
from bayesblina.core.escaping import latex, markdown, plain
from bayesblina.core.tables import Table
from tests.core.tables.examples import (
    read,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "a & b",
    "50 %",
    "snake_case*bold*",
    "# heading",
    "pipe | pipe",
    "back\\slash",
    "two\nlines\r\nhere",
    "\u202eevil\u202c",
    "שלום",
    "🧬 emoji",
    "$x^2$ ~ {y}",
    "[link](https://example.org)",
    "=1+1",
    "quote \" and ' and `",
    "--- ''' ,,",
    "nul\x00bell\x07",
    "x" * 500,
]


def hostile() -> Table:
    return Table(
        title=HOSTILE[0],
        head=("label", "HR", HOSTILE[5]),
        rows=tuple((text, "0.45", text) for text in HOSTILE),
        numeric=(False, True, False),
        notes=(HOSTILE[1], HOSTILE[6]),
    )


def test_html_shows_the_texts_and_nothing_else() -> None:
    reader = read(hostile().to_html())
    allowed = {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "bdi", "br"}
    assert {tag for tag, _ in reader.tags} <= allowed
    for _, attributes in reader.tags:
        assert set(attributes) <= {"scope", "class", "colspan"}
    shown = [cell.strip() for cell in reader.cells]
    for text in HOSTILE:
        assert plain(text) in shown
    assert "<bdi>שלום</bdi>" in hostile().to_html()


def test_latex_has_no_command_of_the_data() -> None:
    source = hostile().to_latex()
    for row in source.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines():
        # Every special character that is left belongs to an escape.
        bare = re.sub(
            r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|"
            r"textasciigrave|symbol)\{\d*\}|\\[&%$#_{}]|\{[\[\]*]?\}|\{\[\}|\{\]\}",
            "",
            row.removesuffix(r" \\"),
        )
        assert bare.count(" & ") == 2
        assert not set(bare.replace(" & ", "")) & set('\\%$#_{}~^<>|"`[]*')
        assert "--" not in row
        assert "''" not in row
    assert latex("a − b ≥ 0") == r"a \ensuremath{-} b \ensuremath{\geq} 0"
    assert source.count(r"\\") == len(HOSTILE) + 1


def test_markdown_has_no_markup_of_the_data() -> None:
    lines = hostile().to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == len(HOSTILE) + 2
    for row in rows:
        assert len(re.split(r"(?<!\\)\|", row)) == 5
        assert "<" not in row
    assert markdown("*a* _b_ `c` [d](https://e)") == r"\*a\* \_b\_ \`c\` \[d\](https\://e)"
    assert markdown("1. first") == r"1\. first"
    assert markdown("0.45 (0.22 to 0.91)") == "0.45 (0.22 to 0.91)"


def test_word_holds_the_texts() -> None:
    content = hostile().to_docx()
    document = Document(BytesIO(content))
    (table,) = document.tables
    cells = [[cell.text for cell in row.cells] for row in table.rows]
    assert cells[0] == ["label", "HR", "pipe | pipe"]
    assert [row[0] for row in cells[1:]] == [plain(text) for text in HOSTILE]
    paragraphs = [one.text for one in document.paragraphs]
    assert paragraphs == ["<script>alert(1)</script>", "a & b", "back\\slash"]
    with ZipFile(BytesIO(content)) as parts:
        xml = parts.read("word/document.xml").decode()
    assert "<script>" not in xml
    assert "w:tblHeader" in xml


def test_texts_are_one_line_and_keep_their_direction() -> None:
    assert plain("\u202eevil\u202c \u2066x\u2069") == "evil x"
    assert plain("nul\x00bell\x07\ufffe") == "nulbell"
    assert plain("two\nlines\r\n\tend ") == "two lines end"
    assert plain("שלום 🧬") == "שלום 🧬"
    assert plain("lone \ud800 surrogate") == "lone surrogate"


def test_csv_guards_formulas_and_keeps_numbers() -> None:
    table = pd.DataFrame(
        {
            "term": ["=1+1", "+x", "-y", "@z", "\ttab", "plain", "\uff1dwide"],
            "value": np.linspace(-1.0, 1.0, 7) / 3,
        }
    )
    table.columns = pd.Index(["=term", "value"])
    rows = list(csv.reader(StringIO(tables.to_csv(table))))
    assert rows[0] == ["'=term", "value"]
    guarded = ["'=1+1", "'+x", "'-y", "'@z", "'\ttab", "plain", "'\uff1dwide"]
    assert [row[0] for row in rows[1:]] == guarded
    np.testing.assert_array_equal([float(row[1]) for row in rows[1:]], table["value"])
    twice = pd.DataFrame([["=a", "=b"]], columns=["x", "x"])
    assert tables.to_csv(twice) == "x,x\n'=a,'=b\n"
    assert tables.to_csv(pd.DataFrame()) == "\n"


@pytest.mark.parametrize("suffix", ["html", "tex", "md", "docx"])
def test_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.{suffix}"
    hostile().write(path)
    content = path.read_bytes()
    if suffix == "html":
        reader = read(content.decode())
        assert not {"script", "img", "link", "a"} & {tag for tag, _ in reader.tags}
        assert content.startswith(b"<!DOCTYPE html>")
        assert b'charset="utf-8"' in content
    elif suffix == "docx":
        assert len(Document(BytesIO(content)).tables) == 1
    else:
        assert "שלום" in content.decode()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_unknown_formats_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"must end with \.html, \.tex, \.md, \.docx"):
        hostile().write(tmp_path / "table.xls")
    with pytest.raises(StorageError, match="there is no folder"):
        hostile().write(tmp_path / "nowhere" / "table.md")


def test_rows_must_fit() -> None:
    with pytest.raises(SpecError, match="2 column titles"):
        Table(head=("a", "b"), rows=(("1",),), numeric=(False, True))


def test_empty_tables_have_their_head() -> None:
    table = Table(head=("a", "b"), rows=(), numeric=(False, True))
    assert [cell.strip() for cell in read(table.to_html()).cells] == ["a", "b"]
    assert table.to_markdown().splitlines() == ["| a | b |", "| --- | ---: |"]
    assert len(Document(BytesIO(table.to_docx())).tables[0].rows) == 1
