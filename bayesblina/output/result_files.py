"""Files of results: their names, figures among them, and folders that appear whole or not at all.

Nothing heavy is imported here.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from bayesblina.core.errors import SpecError, StorageError
from bayesblina.core.files import reason_of, write_bytes
from bayesblina.output.progress import Interrupts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIT = "fit.nc"
# The tables as they were computed, where those beside it are masked.
UNMASKED = "unmasked.json"
RECORD = "results.json"
REPORT = "report.html"
SUMMARY = "summary.md"
# Tables that a folder of results may have, with their columns of texts.
TEXTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hazard_ratios": ("endpoint",),
        "hazard_ratios_by_step": ("endpoint", "step"),
        "survival": ("endpoint", "regime"),
        "survival_by_landmark": ("endpoint", "regime"),
        "restricted_means": ("endpoint", "regime"),
        "diagnostics": ("kind", "name", "limit"),
        "classical": ("endpoint",),
        "curve_shift": ("endpoint", "regime"),
        "bias_ladder": ("endpoint", "method", "note"),
        "simon_makuch": ("endpoint", "group"),
        "at_risk": ("endpoint", "group"),
        "patient_flow": ("step", "endpoint", "phase", "what"),
        "predictive": ("endpoint",),
        "predictive_curves": ("endpoint", "group"),
        "leave_one_out": ("endpoint",),
        "prior_predictive": ("endpoint", "quantity"),
        "prior_sensitivity": ("endpoint", "component", "reading"),
        "safety": ("phase",),
        "borrowing": ("endpoint", "part", "name", "source"),
    }
)
NEEDED = ("hazard_ratios", "survival", "diagnostics")
RESULTS = frozenset({FIT, UNMASKED, RECORD, REPORT, SUMMARY, *(f"{name}.csv" for name in TEXTS)})
SUFFIXES = ("png", "svg")
FIGURE = re.compile(rf"(survival_[\w-]*|hazard_ratio|hazard_ratio_by_step)\.({'|'.join(SUFFIXES)})")
PARTIAL = ".partial"
# Name of the file that says on which machine a stage is written.
HOST = ".host"


def _recorded_figures(folder: Path) -> frozenset[str] | None:
    """Name the figures that an analysis wrote into a folder; None if no record tells."""
    try:
        named = json.loads((folder / RECORD).read_text(encoding="utf-8"))["figure_files"]
        return frozenset(name for name in named if FIGURE.fullmatch(name))
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


def earlier_results(folder: Path) -> frozenset[str]:
    """Name what an earlier analysis may have left in a folder, its figures among it."""
    return RESULTS | (_recorded_figures(folder) or frozenset())


def require_own(folder: Path, figures: Iterable[str] = ()) -> None:
    """Refuse to replace somebody's own files: named as results, but not those of an analysis.

    `figures`: names of the figures that are to be written, where they are known.
    """
    recorded = _recorded_figures(folder)
    if recorded is None:
        names = RESULTS | {path.name for path in folder.glob("*") if FIGURE.fullmatch(path.name)}
    else:
        written = frozenset(f"{name}.{suffix}" for name in figures for suffix in SUFFIXES)
        names = written - recorded
    taken = [name for name in names if (folder / name).exists()]
    if taken:
        raise SpecError(
            f"'{folder}' holds '{min(taken)}', which a result would replace, and no '{RECORD}' of "
            "an earlier analysis that names it: give another folder, or move the file."
        )


def require_elsewhere(inputs: Iterable[Path], folder: Path) -> None:
    """Refuse to write results over what they are made from."""
    for path in inputs:
        if path.resolve().parent == folder.resolve() and path.name in RESULTS:
            raise SpecError(f"'{path}' would be overwritten by a result: give another --out.")


def write_figure(figure: Figure, out: Path, name: str) -> None:
    """Write a figure as PNG and SVG; the same results give the same files."""
    import matplotlib as mpl

    # Laid out once, for both: that takes as long as drawing.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for suffix in SUFFIXES:
        buffer, metadata = BytesIO(), {"Date": None} if suffix == "svg" else {}
        # A fixed salt and no date: the same results give the same file.
        with mpl.rc_context({"svg.hashsalt": "bayesblina"}):
            figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
        write_bytes(out / f"{name}.{suffix}", buffer.getvalue())


def file_name(name: str) -> str:
    """Turn a name from data into one that a file may have.

    Letters, digits, ``-`` and ``_``; other characters become ``_``, and it is not too long.

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


def require_folder(out: Path) -> None:
    """Refuse a path that cannot be a folder of results."""
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise SpecError(
                f"folder (on the command line --out): '{path}' is a file; expected a folder."
            )


@contextmanager
def staged(
    out: Path, interrupts: Interrupts, *, old: Collection[str] = (), last: str = ""
) -> Iterator[Path]:
    """Write results into a folder beside their place, and move them there when all are done.

    `out`: where the results are to lie; made if missing, with its parents.
    `old`: names of an earlier run's files: they are removed when the new ones come, and not before.
    """
    require_folder(out)
    made = [path for path in (out, *out.parents) if not path.exists()]
    new = out in made
    # An existing folder may be a file system of its own: what is moved must come from within.
    parent = out.parent if new else out
    name = f".{out.name or 'results'}."
    _sweep(parent, name)
    stage = parent / f"{name}{os.getpid()}.{secrets.token_hex(6)}{PARTIAL}"
    try:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            # Until it is whole nobody else may look in.
            stage.mkdir(mode=0o700)
            (stage / HOST).write_text(platform.node(), encoding="utf-8")
        except OSError as error:
            raise SpecError(f"Cannot make the folder '{out}': {reason_of(error)}.") from None
        yield stage
        with interrupts.held():
            try:
                (stage / HOST).unlink()
                if new:
                    stage.chmod(0o777 & ~_mask())
                    os.rename(stage, out)
                else:
                    _move(stage, out, old=old, last=last)
            except OSError as error:
                raise StorageError(
                    f"Cannot put the results into '{out}': {reason_of(error)}."
                ) from error
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        for path in made:
            if path != out:
                with suppress(OSError):
                    path.rmdir()
        raise


def results_in(folder: Path, interrupts: Interrupts) -> AbstractContextManager[Path]:
    """Stage a folder of results; figures of an earlier analysis are removed with its tables."""
    return staged(folder, interrupts, old=earlier_results(folder), last=RECORD)


def _sweep(parent: Path, name: str) -> None:
    """Remove stages that processes of this machine and user, which are gone, have left."""
    for stage in parent.glob(f"{glob.escape(name)}*{PARTIAL}"):
        number = stage.name[len(name) :].partition(".")[0]
        with suppress(OSError):
            mine = stage.stat().st_uid == os.getuid() if hasattr(os, "getuid") else True
            here = (stage / HOST).read_text(encoding="utf-8") == platform.node()
            if number.isdecimal() and mine and here and not _runs(int(number)):
                shutil.rmtree(stage, ignore_errors=True)


def _runs(process: int) -> bool:
    """Say whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _mask() -> int:
    """Give the permissions that new files do not get; there is no other way to ask."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _move(stage: Path, out: Path, *, old: Collection[str], last: str) -> None:
    names = sorted((path.name for path in stage.iterdir()), key=lambda name: (name == last, name))
    for name in {*names, *old}:
        if (out / name).is_dir() and not (out / name).is_symlink():
            raise IsADirectoryError(errno.EISDIR, f"'{name}' is a folder there")
    for name in [*([last] if last else []), *(name for name in old if name not in names)]:
        (out / name).unlink(missing_ok=True)
    for name in names:
        os.replace(stage / name, out / name)
    stage.rmdir()
