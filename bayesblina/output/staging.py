"""Results that appear whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import platform
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from bayesblina.core.errors import SpecError, StorageError
from bayesblina.core.files import reason_of
from bayesblina.output.progress import Interrupts
from bayesblina.output.result_files import RECORD, earlier_results

PARTIAL = ".partial"
# Name of the file that says on which machine a stage is written.
HOST = ".host"


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
    except ProcessLookupError:
        return False
    except OSError:
        return True
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
