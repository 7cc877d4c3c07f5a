"""A table in a Word document, through python-docx."""

from __future__ import annotations

from collections.abc import Sequence

from docx.document import Document
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Pt
from docx.table import _Row
from docx.text.paragraph import Paragraph

SIZE = Pt(9)
NOTE_SIZE = Pt(8)
# Width in eighths of a point.
RULE = {qn("w:val"): "single", qn("w:sz"): "6", qn("w:color"): "auto"}


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
        paragraph.paragraph_format.keep_with_next = True
        _write(paragraph, title, bold=True)
    table = document.add_table(rows=1 + len(rows), cols=len(head))
    for row, texts in zip(table.rows, (head, *rows), strict=True):
        _set(row, "w:cantSplit")
        for cell, text, right in zip(row.cells, texts, numeric, strict=True):
            paragraph = cell.paragraphs[0]
            paragraph.paragraph_format.space_after = Pt(2)
            if right:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
            _write(paragraph, text, bold=texts is head)
    _set(table.rows[0], "w:tblHeader")
    for row, sides in ((table.rows[0], ("w:top", "w:bottom")), (table.rows[-1], ("w:bottom",))):
        for cell in row.cells:
            borders = OxmlElement("w:tcBorders")
            borders.extend([OxmlElement(side, RULE) for side in sides])
            cell._tc.get_or_add_tcPr().append(borders)
    for note in notes:
        _write(document.add_paragraph(), note, size=NOTE_SIZE)


def _write(paragraph: Paragraph, text: str, *, size: Pt = SIZE, bold: bool = False) -> None:
    run = paragraph.add_run(text)
    run.font.size = size
    # None is that of the paragraph's style.
    run.bold = bold or None


def _set(row: _Row, option: str) -> None:
    row._tr.get_or_add_trPr().append(OxmlElement(option))
