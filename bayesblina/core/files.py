"""Files that are written whole or not at all, and read only if they are files; TOML files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tomllib
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from bayesblina.core.errors import SpecError, StorageError


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file whole or not at all, in UTF-8.

    `text`: its content; line ends are written as they stand.
    """
    write_bytes(path, text.encode("utf-8"))


# Who may read a file: everybody whom the process lets, or its owner alone.
COMMON, PRIVATE = 0o666, 0o600


def write_bytes(
    path: str | PathLike[str], content: bytes | memoryview, *, private: bool = False
) -> None:
    """Write a file whole or not at all.

    `private`: whether only its owner may read it: files that hold patients are.
    """
    path = Path(path)
    if path.is_dir():
        raise StorageError(f"Cannot write '{path}': it is a folder; expected the name of a file.")
    if not path.parent.is_dir():
        raise StorageError(f"Cannot write '{path}': there is no folder '{path.parent}'.")
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, PRIVATE if private else COMMON), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(f"Cannot write '{path}': {reason_of(error)}.") from error
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name last through a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def trouble_of(path: str | PathLike[str]) -> str | None:
    """Say why a path is no file that can be read.

    Words that follow "is", such as ``"a folder"``; None if it is a file.

    Whoever opens a pipe waits until somebody writes to it, for ever if nobody does.

    >>> trouble_of("no_such.csv")
    'no such file'
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return "no such file"
    if stat.S_ISDIR(mode):
        return "a folder"
    return None if stat.S_ISREG(mode) else "a pipe, a socket or a device, and no file"


def read_whole(path: str | PathLike[str]) -> bytes:
    """Read a file whole; never wait for a pipe."""
    if (trouble := trouble_of(path)) is not None:
        what = trouble if trouble == "no such file" else f"it is {trouble}"
        raise StorageError(f"Cannot read '{readable(path)}': {what}.")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StorageError(
            f"Cannot read '{readable(path)}': {(error.strerror or str(error)).lower()}."
        ) from None


def read_toml(path: str | PathLike[str], *, what: str) -> dict[str, Any]:
    """Read a TOML file.

    >>> read_toml("no_such_study.toml", what="study file")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: No study file 'no_such_study.toml'.
    """
    name = readable(Path(path).name)
    trouble = trouble_of(path)
    if trouble == "no such file":
        raise SpecError(f"No {what} '{readable(path)}'.")
    if trouble is not None:
        raise SpecError(f"'{readable(path)}' is {trouble}; expected a {what}.")
    try:
        return tomllib.loads(read_whole(path).decode("utf-8-sig"))
    except StorageError as error:
        raise SpecError(str(error)) from None
    except UnicodeDecodeError:
        raise SpecError(f"'{readable(path)}' is not UTF-8 text: save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{name} is not valid TOML: {error}.") from None
    except RecursionError:
        raise SpecError(f"{name} is nested too deep: no {what} says anything so.") from None
    except ValueError:
        raise SpecError(f"{name} holds a number of thousands of digits.") from None


def readable(path: str | PathLike[str]) -> str:
    r"""Write a path so that any text may hold it.

    `path`: the path; its bytes need not be UTF-8.

    >>> print(readable("caf\udce9.csv"))
    caf\udce9.csv
    """
    return os.fspath(path).encode("utf-8", errors="backslashreplace").decode("utf-8")


def reason_of(error: OSError) -> str:
    """Word why a file cannot be written.

    The reason, without a full stop.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "there is no space left for it; free some and try again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in '{Path(error.filename or '.').parent}'"
    return (error.strerror or str(error)).lower()
