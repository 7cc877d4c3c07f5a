"""Results that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bayesblina.cli.interrupts import Interrupts
from bayesblina.errors import SpecError, StorageError
from bayesblina.files import reason_of


def require_folder(out: Path) -> None:
    """Refuse a path that cannot be a folder of results.

    Parameters
    ----------
    out
        The path.

    Raises
    ------
    SpecError
        If it, or what it lies in, is a file.
    """
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise SpecError(f"--out '{path}' is a file; expected a folder.")


@contextmanager
def staged(
    out: Path, interrupts: Interrupts, *, old: Collection[str] = (), last: str = ""
) -> Iterator[Path]:
    """Write results into a folder beside their place, and move them there when all are done.

    Parameters
    ----------
    out
        Where the results are to lie; made if missing, with its parents.
    interrupts
        Ctrl-C, which is held back while files are moved.
    old
        Names of an earlier run's files: they are removed when the new ones come, and not before.
    last
        Name of the file that says that the others are complete: it goes first, and comes last.

    Yields
    ------
    pathlib.Path
        The folder to write into.

    Raises
    ------
    SpecError
        If `out` cannot be a folder.
    StorageError
        If files cannot be moved there.
    """
    require_folder(out)
    made = [path for path in (out, *out.parents) if not path.exists()]
    whole = out in made
    # An existing folder may be a file system of its own: what is moved must come from within.
    parent = out.parent if whole else out
    stage = parent / f".{out.name or 'results'}.{secrets.token_hex(6)}.partial"
    try:
        try:
            stage.mkdir(parents=True)
        except OSError as error:
            raise SpecError(f"Cannot make the folder '{out}': {reason_of(error)}.") from None
        yield stage
        with interrupts.held():
            try:
                if whole:
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


def _move(stage: Path, out: Path, *, old: Collection[str], last: str) -> None:
    names = sorted((path.name for path in stage.iterdir()), key=lambda name: (name == last, name))
    for name in [*([last] if last else []), *(name for name in old if name not in names)]:
        (out / name).unlink(missing_ok=True)
    for name in names:
        os.replace(stage / name, out / name)
    stage.rmdir()
