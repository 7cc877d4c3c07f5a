"""A table in a Word document, through python-docx."""

from __future__ import annotations

from collections.abc import Sequence

from docx.document import Document
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Pt
from docx.table import _Cell, _Row

SIZE = Pt(9)
NOTE_SIZE = Pt(8)
# Eighths of a point.
RULE = "6"


def fill(
    document: Document,
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    notes: Sequence[str],
) -> None:
    """Add a table to a document, which is changed."""
    if title:
        paragraph = document.add_paragraph()
        run = paragraph.add_run(title)
        run.bold = True
        run.font.size = SIZE
        paragraph.paragraph_format.keep_with_next = True
    table = document.add_table(rows=1 + len(rows), cols=len(head))
    for row, texts in zip(table.rows, (head, *rows), strict=True):
        _keep_whole(row)
        for cell, text, right in zip(row.cells, texts, numeric, strict=True):
            _write(cell, text, right=right)
    _repeat(table.rows[0])
    for row, sides in ((table.rows[0], ("top", "bottom")), (table.rows[-1], ("bottom",))):
        for cell in row.cells:
            _rule(cell, sides)
    for cell in table.rows[0].cells:
        for run in cell.paragraphs[0].runs:
            run.bold = True
    for note in notes:
        run = document.add_paragraph().add_run(note)
        run.font.size = NOTE_SIZE


def _write(cell: _Cell, text: str, *, right: bool) -> None:
    paragraph = cell.paragraphs[0]
    paragraph.paragraph_format.space_after = Pt(2)
    if right:
        paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    run = paragraph.add_run(text)
    run.font.size = SIZE


def _keep_whole(row: _Row) -> None:
    row._tr.get_or_add_trPr().append(OxmlElement("w:cantSplit"))


def _repeat(row: _Row) -> None:
    row._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))


def _rule(cell: _Cell, sides: Sequence[str]) -> None:
    borders = OxmlElement("w:tcBorders")
    for side in sides:
        line = OxmlElement(f"w:{side}")
        for name, value in (("val", "single"), ("sz", RULE), ("color", "auto")):
            line.set(qn(f"w:{name}"), value)
        borders.append(line)
    cell._tc.get_or_add_tcPr().append(borders)
