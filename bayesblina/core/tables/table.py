"""A table ready for print, and its formats: HTML, LaTeX, Markdown, Word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path

from bayesblina.core.errors import SpecError
from bayesblina.core.escaping import html, isolated, latex, markdown, plain
from bayesblina.core.files import write_bytes, write_text

SYNTHETIC = "Synthetic patients."
NOT_CONVERGED = "NOT CONVERGED: do not use these numbers."
BASELINE_MOVES = "THE BASELINE MOVES THE HAZARD RATIO: do not use these numbers."
VISITS = "EVENT TIMES ARE THOSE OF VISITS: declare them, and do not use these numbers."
SUFFIXES = (".html", ".tex", ".md", ".docx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts, ready for print.

    Cells are plain text; each format escapes them. Characters that turn the direction of text or
    control a device are taken out, and line ends become spaces.

    Attributes
    ----------
    title
        Title; none if empty.
    head : tuple of str
        Column titles.
    rows : tuple of tuple of str
        The cells.
    numeric : tuple of bool
        Which columns are aligned as numbers.
    notes : tuple of str
        Notes below the table. `SYNTHETIC`, `NOT_CONVERGED`, `BASELINE_MOVES` and `VISITS` are among
        them where they apply.

    Raises
    ------
    SpecError
        If rows differ in length.

    Examples
    --------
    >>> table = Table(
    ...     title="Answer", head=("endpoint", "HR"), rows=(("os", "0.45"),), numeric=(False, True)
    ... )
    >>> print(table.to_markdown())
    **Answer**
    <BLANKLINE>
    | endpoint | HR |
    | --- | ---: |
    | os | 0.45 |
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    title: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.numeric), *(len(row) for row in self.rows)}
        if lengths - {len(self.head)}:
            raise SpecError(
                f"The table has {len(self.head)} column titles, but rows or alignments of other "
                f"lengths: {sorted(lengths - {len(self.head)})}."
            )
        clean = object.__setattr__
        clean(self, "title", plain(self.title))
        clean(self, "head", tuple(map(plain, self.head)))
        clean(self, "rows", tuple(tuple(map(plain, row)) for row in self.rows))
        clean(self, "notes", tuple(map(plain, self.notes)))

    def to_html(self) -> str:
        """Write HTML, without styles or scripts of its own.

        Returns
        -------
        str
            A ``table`` element. Column titles and first cells are headers, for screen readers;
            right-to-left text is isolated from what stands beside it. Cells of numbers have the
            class ``number``.
        """
        lines = ["<table>"]
        if self.title:
            lines.append(f"<caption>{isolated(self.title)}</caption>")
        titles = "".join(
            f'<th scope="col"{_aligned(numeric)}>{isolated(cell)}</th>'
            for cell, numeric in zip(self.head, self.numeric, strict=True)
        )
        lines += [f"<thead><tr>{titles}</tr></thead>", "<tbody>"]
        for row in self.rows:
            cells = [
                f'<th scope="row">{isolated(cell)}</th>'
                if index == 0
                else f"<td{_aligned(numeric)}>{isolated(cell)}</td>"
                for index, (cell, numeric) in enumerate(zip(row, self.numeric, strict=True))
            ]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines.append("</tbody>")
        if self.notes:
            width = max(1, len(self.head))
            text = "<br>".join(isolated(note) for note in self.notes)
            lines.append(f'<tfoot><tr><td colspan="{width}">{text}</td></tr></tfoot>')
        lines.append("</table>")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_latex(self) -> str:
        r"""Write a LaTeX ``table`` with the rules of the package booktabs.

        Returns
        -------
        str
            The environment; the preamble needs ``\usepackage{booktabs}``. Letters of other scripts
            stand as they are, for LuaLaTeX or XeLaTeX with a font that has them.
        """
        places = "".join("r" if numeric else "l" for numeric in self.numeric)
        lines = [r"\begin{table}", r"\centering"]
        if self.title:
            lines.append(rf"\caption{{{latex(self.title)}}}")
        lines += [rf"\begin{{tabular}}{{{places}}}", r"\toprule", _latex_row(self.head)]
        lines += [r"\midrule", *map(_latex_row, self.rows), r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip{{\footnotesize {latex(note)}}}" for note in self.notes]
        lines.append(r"\end{table}")
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """Write a Markdown table, in the syntax of GitHub and Pandoc.

        Returns
        -------
        str
            The table, with title and notes as paragraphs around it.
        """
        lines = [f"**{markdown(self.title)}**", ""] if self.title else []
        lines += [
            _markdown_row(self.head),
            "| " + " | ".join("---:" if numeric else "---" for numeric in self.numeric) + " |",
            *map(_markdown_row, self.rows),
        ]
        for note in self.notes:
            lines += ["", markdown(note)]
        return "\n".join(lines)

    def to_docx(self) -> bytes:
        """Write a Word document that holds the table.

        Returns
        -------
        bytes
            The file's content: ruled above, below and under the titles, titles repeated on every
            page, rows never broken over pages.

        Raises
        ------
        SpecError
            If python-docx is not installed.
        """
        try:
            import docx
        except ImportError:
            raise SpecError(
                "Word documents need python-docx: install bayesblina with the extra 'word', or "
                "write .html, .tex or .md."
            ) from None
        from bayesblina.core.tables.word import fill

        document = docx.Document()
        fill(document, self.title, self.head, self.rows, self.numeric, self.notes)
        buffer = BytesIO()
        document.save(buffer)
        return buffer.getvalue()

    def write(self, path: str | PathLike[str]) -> None:
        """Write the table to a file, whole or not at all.

        Parameters
        ----------
        path
            The file; its suffix says which format: .html, .tex, .md or .docx.

        Raises
        ------
        SpecError
            If the suffix is another, or python-docx is not installed.
        StorageError
            If the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".docx":
            write_bytes(path, self.to_docx())
        elif suffix == ".html":
            write_text(path, _page(self))
        elif suffix == ".tex":
            write_text(path, self.to_latex() + "\n")
        elif suffix == ".md":
            write_text(path, self.to_markdown() + "\n")
        else:
            raise SpecError(
                f"Cannot tell the format of '{path}': its name must end with {', '.join(SUFFIXES)}."
            )


def _aligned(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown(cell) for cell in cells) + " |"


def _page(table: Table) -> str:
    """Write a whole page, so that a browser and a word processor open the file as it is."""
    title = html(table.title or "Table")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>\n"
        "table{border-collapse:collapse;font:10pt/1.4 sans-serif;border-top:1px solid;"
        "border-bottom:1px solid}\n"
        "caption{text-align:left;font-weight:bold;padding:.4em 0}\n"
        "th,td{padding:.2em .8em;text-align:left;font-weight:normal}\n"
        ".number{text-align:right}\n"
        "thead th{border-bottom:1px solid;font-weight:bold}\n"
        "tfoot td{font-size:85%;border-top:1px solid}\n"
        f"</style>\n</head>\n<body>\n{table.to_html()}\n</body>\n</html>\n"
    )
