"""A table ready for print, in HTML, LaTeX, Markdown and Word; any tidy table made one, or CSV."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from bayesblina.core.errors import SpecError, StorageError, nearest, require_kind
from bayesblina.core.escaping import html, isolated, latex, markdown, plain
from bayesblina.core.files import reason_of, write_bytes, write_text
from bayesblina.core.tables import numbers
from bayesblina.core.tables.numbers import LONG, SYNTHETIC, Kind, failed_in

SUFFIXES = (".html", ".tex", ".md", ".docx")
# How columns that hold numbers are written, wherever they stand.
KINDS: Mapping[str, Kind] = {
    "p_value": "probability",
    "probability": "probability",
    "probability_reached": "probability",
    "share": "percent",
    "odds_ratio": "ratio",
}
SHAPES: Mapping[str, str] = {"r_hat": ".3f", "ess_bulk": ".0f", "ess_tail": ".0f", "mcse": ".2g"}
TITLES: Mapping[str, str] = {
    "r_hat": "R-hat",
    "ess_bulk": "bulk ESS",
    "ess_tail": "tail ESS",
    "mcse": "MCSE",
    "sd": "SD",
    "elpd": "ELPD",
    "se": "SE",
    "sampling_se": "SE of sampling",
    "p_loo": "effective parameters",
    "largest_pareto_k": "largest Pareto k",
    "pareto_k_limit": "limit of Pareto k",
    "share": "share, %",
    "p_value": "p-value",
}
# Identifiers never go into print.
IDENTIFIERS = frozenset({"patient", "patient_id", "usubjid", "subjid", "id"})
# What a spreadsheet runs, in full-width letters too; apostrophes before it are counted, so that
# guarding can be undone without asking what a text was.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


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
            text = "<br>".join(map(isolated, self.notes))
            width = max(1, len(self.head))
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
        match Path(path).suffix.lower():
            case ".docx":
                write_bytes(path, self.to_docx())
            case ".html":
                write_text(path, _page(self))
            case ".tex":
                write_text(path, self.to_latex() + "\n")
            case ".md":
                write_text(path, self.to_markdown() + "\n")
            case _:
                raise SpecError(
                    f"Cannot tell the format of '{path}': its name must end with "
                    f"{', '.join(SUFFIXES)}."
                )


def _aligned(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown(cell) for cell in cells) + " |"


def _page(table: Table) -> str:
    """Write a whole page, so that a browser and a word processor open the file as it is."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html(table.title or 'Table')}</title>\n<style>\n"
        "table{border-collapse:collapse;font:10pt/1.4 sans-serif;border-top:1px solid;"
        "border-bottom:1px solid}\n"
        "caption{text-align:left;font-weight:bold;padding:.4em 0}\n"
        "th,td{padding:.2em .8em;text-align:left;font-weight:normal}\n"
        ".number{text-align:right}\n"
        "thead th{border-bottom:1px solid;font-weight:bold}\n"
        "tfoot td{font-size:85%;border-top:1px solid}\n"
        f"</style>\n</head>\n<body>\n{table.to_html()}\n</body>\n</html>\n"
    )


def publish(
    table: pd.DataFrame,
    *,
    title: str = "",
    columns: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    unit: str = "months",
    notes: Sequence[str] = (),
    synthetic: bool = False,
) -> Table:
    """Make any tidy table one for print.

    Parameters
    ----------
    table
        The tidy table. Its attributes ``synthetic`` and ``converged``, and a column ``converged``,
        become notes where there is something to say.
    title
        Title.
    columns
        Columns to show, in this order; by default all but ``converged`` where all rows agree.
    names
        Titles in place of the columns' names.
    kinds
        What numbers of columns are, in place of the rules that the names imply.
    unit
        Unit of columns that are times.
    notes
        Further notes below the table.
    synthetic
        Whether the patients are simulated, where the table's attributes do not say so.

    Returns
    -------
    Table
        The table: counts as they stand, R-hat with three decimals, effective sample sizes as whole
        numbers, Monte-Carlo errors with two significant digits, the rest by the rules of
        `bayesblina.core.tables.numbers`.

    Raises
    ------
    SpecError
        If a column is not there, or holds identifiers of patients.

    Examples
    --------
    >>> table = pd.DataFrame({"model": ["primary"], "p_value": [0.0312]})
    >>> publish(table).rows
    (('primary', '0.031'),)
    """
    require_kind(table, pd.DataFrame, "table")
    rules = {**KINDS, **(kinds or {})}
    known = [str(name) for name in table.columns]
    shown = known.copy() if columns is None else list(columns)
    for name in (*shown, *(names or {}), *(kinds or {})):
        if name not in known:
            raise SpecError(f"No column '{name}'. {nearest(name, known)}")
    for name in shown:
        if name.lower() in IDENTIFIERS:
            raise SpecError(
                f"Column '{name}' may identify patients: choose columns= without it for print."
            )
    if columns is None and "converged" in shown and table["converged"].nunique() < 2:
        shown.remove("converged")
    return Table(
        title=title,
        head=tuple(
            (names or {}).get(name) or TITLES.get(name) or name.replace("_", " ") for name in shown
        ),
        rows=tuple(
            tuple(
                _cell(cell, name, rules.get(name, "number"), unit)
                for name, cell in zip(shown, row, strict=True)
            )
            for row in table[shown].itertuples(index=False, name=None)
        ),
        numeric=tuple(
            pd.api.types.is_numeric_dtype(table[name])
            and not pd.api.types.is_bool_dtype(table[name])
            for name in shown
        ),
        notes=(
            *notes,
            *([SYNTHETIC] if synthetic or table.attrs.get("synthetic") else []),
            *(LONG[name] for name in failed_in(table)),
        ),
    )


def _cell(cell: Any, name: str, kind: Kind, unit: str) -> str:
    """Write a cell of a column."""
    if pd.isna(cell):
        return numbers.MISSING
    if pd.api.types.is_bool(cell):
        return "yes" if cell else "no"
    if not pd.api.types.is_number(cell):
        return str(cell)
    if name in SHAPES:
        return f"{cell:{SHAPES[name]}}"
    return numbers.writer(kind, unit=unit)(float(cell))


def require_columns(table: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Refuse what is not the kind of table that a function prints."""
    require_kind(table, pd.DataFrame, "table", made_by=source)
    if missing := [name for name in columns if name not in table.columns]:
        raise SpecError(
            f"The table has no column '{missing[0]}'; expected what {source} gives, found columns "
            f"{', '.join(map(str, table.columns)) or 'none'}."
        )


def to_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV whose texts no spreadsheet takes for formulas.

    Parameters
    ----------
    table
        The table; its index is not written.

    Returns
    -------
    str
        The file's content. A text that a spreadsheet would take for a formula has an apostrophe
        before it, in cells and in names of columns; numbers are written as they are, exactly.

    Examples
    --------
    >>> to_csv(pd.DataFrame({"term": ["=1+1", "fever"], "n": [-1, 2]})).splitlines()
    ['term,n', "'=1+1,-1", 'fever,2']
    """
    require_kind(table, pd.DataFrame, "table")

    def guard(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell

    # By position: columns may share a name.
    columns = [
        column
        if column.dtype.kind in "bifu"
        # Whole numbers beside missing cells would become floats if kinds were found anew.
        else pd.Series(
            map(guard, column),
            index=table.index,
            dtype=object if column.dtype == object else None,
        )
        for column in (table.iloc[:, index] for index in range(table.shape[1]))
    ]
    guarded = pd.concat(columns, axis=1) if columns else table.copy()
    guarded.columns = pd.Index([guard(str(name)) for name in table.columns])
    return str(guarded.to_csv(index=False, lineterminator="\n"))


def read_csv(
    path: str | PathLike[str] | StringIO, *, texts: Collection[str] = (), named: str = ""
) -> pd.DataFrame:
    """Read a table that `to_csv` wrote.

    The table, without the apostrophes; numbers are those written, to the last bit.
    """
    where = named if isinstance(path, StringIO) else Path(path)
    try:
        table = pd.read_csv(
            path,
            float_precision="round_trip",
            keep_default_na=False,
            na_values=[""],
            dtype=dict.fromkeys(texts, str),
        )
    except OSError as error:
        raise StorageError(f"Cannot read '{where}': {reason_of(error)}.") from None
    except ValueError as error:
        raise StorageError(f"'{where}' is not a table that bayesblina wrote: {error}.") from None
    if missing := [name for name in texts if name not in table.columns]:
        raise StorageError(f"'{where}' lacks the column(s) {', '.join(missing)}.")

    def bare(cell: Any) -> Any:
        return cell[1:] if isinstance(cell, str) and _GUARDED.match(cell) else cell

    for name in table.columns:
        if table[name].dtype.kind not in "bifu":
            table[name] = [bare(cell) for cell in table[name]]
    for name in texts:
        table[name] = table[name].fillna("")
    table.columns = [bare(str(name)) for name in table.columns]
    return table
