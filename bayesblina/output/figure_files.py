"""Figures as files: in two formats, under names that any system takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bayesblina.core.errors import SpecError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_figure(figure: Figure, out: Path, name: str) -> None:
    """Write a figure as PNG and SVG; the same results give the same files.

    Parameters
    ----------
    name
        The files' name, without suffix.
    """
    from io import BytesIO

    import matplotlib as mpl

    from bayesblina.core.files import write_bytes

    # Laid out once, for both: that takes as long as drawing.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for suffix, metadata in (("png", {}), ("svg", {"Date": None})):
        buffer = BytesIO()
        # A fixed salt and no date: the same results give the same file.
        with mpl.rc_context({"svg.hashsalt": "bayesblina"}):
            figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
        write_bytes(out / f"{name}.{suffix}", buffer.getvalue())


def file_name(name: str) -> str:
    """Turn a name from data into one that a file may have.

    Letters, digits, ``-`` and ``_``; other characters become ``_``, and it is not too long.

    Examples
    --------
    >>> file_name("os/<b>")
    'os__b_'
    """
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    # A file's name may have 255 bytes, and a letter four of them.
    return safe.encode("utf-8")[:120].decode("utf-8", errors="ignore")


def require_file_names(endpoints: Sequence[str]) -> None:
    """Refuse endpoints whose files would have one name."""
    by_file: dict[str, str] = {}
    for name in endpoints:
        other = by_file.setdefault(file_name(name).lower(), name)
        if other != name:
            raise SpecError(
                f"The endpoints '{other}' and '{name}' would share a figure's file: rename one."
            )
