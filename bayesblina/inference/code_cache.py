"""Compiled code on disk: whole, the user's own and of this very program, or not used.

An entry is one file: a line that says what it is, a checksum, a line of JSON and machine code. It
holds no pickle, and nothing in it is believed before its checksum and its key were seen to be
right. Machine code runs with all the user's rights, so folders and files that others could have
written are left alone. The folder is ``BAYESBLINA_CACHE_DIR``, or the user's own cache folder.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import re
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from bayesblina.core.errors import StorageError
from bayesblina.core.files import write_bytes

VARIABLE = "BAYESBLINA_CACHE_DIR"
# A temporary file this old (seconds) was left by a process that was killed.
FORGOTTEN = 3600.0

_MAGIC = b"bayesblina compiled code, format 1\n"
# As `write_bytes` names them, and as earlier versions did.
_TEMPORARY = re.compile(r"\.([0-9a-f]{64}\.code\.[0-9a-f]{12}|[0-9a-f]{16})\.tmp")
_log = logging.getLogger("bayesblina")
_told: set[str] = set()


def cache_folder() -> Path:
    """Name the folder of compiled code.

    ``BAYESBLINA_CACHE_DIR`` where it is set, else ``bayesblina`` in the user's cache folder; it
    need not exist.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "bayesblina"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "bayesblina"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "bayesblina"


def read_entry(key: str) -> tuple[Mapping[str, Any], tuple[bytes, ...]] | None:
    """Read an entry, if there is one that can be trusted.

    `key`: all that the code depends on, in words; the name of the entry is its hash.
    Result: `parts`: the code; None instead of both where there is no whole, trusted entry of this
    key.
    """
    folder = cache_folder()
    if not _trusted_folder(folder):
        return None
    try:
        content = _read(folder / _name(key))
        if content is None:
            return None
        if not content.startswith(_MAGIC):
            raise ValueError("it is no entry of this format")
        checksum, _, body = content[len(_MAGIC) :].partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            raise ValueError("its checksum is wrong")
        line, _, code = body.partition(b"\n")
        stored = json.loads(line)
        if stored["key"] != key or sum(stored["lengths"]) != len(code):
            raise ValueError("it belongs to another structure or other versions")
        stream = BytesIO(code)
        return stored["header"], tuple(stream.read(length) for length in stored["lengths"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        _log.debug("A compiled density on disk is not used (%s).", error)
        return None


def write_entry(key: str, header: Mapping[str, Any], parts: Sequence[bytes]) -> None:
    """Write an entry whole or not at all; what cannot be written is told once."""
    stored = {"key": key, "header": dict(header), "lengths": [len(part) for part in parts]}
    body = json.dumps(stored).encode() + b"\n" + b"".join(parts)
    content = _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _trusted_folder(folder):
            _sweep(folder)
            write_bytes(folder / _name(key), content, private=True)
    except (OSError, StorageError) as error:
        reason = getattr(error.__cause__ or error, "strerror", None) or str(error)
        _tell(folder, f"cannot be written ({reason.lower()})")


def shelter_pytensor() -> None:
    """Give PyTensor a private temporary folder where it could not write to its own.

    PyTensor makes its folder when it is imported, and cannot be imported where that fails. Nothing
    is done where it can, or where it is imported already.
    """
    if "pytensor" in sys.modules:
        return
    flags = map(str.strip, os.environ.get("PYTENSOR_FLAGS", "").split(","))
    named = dict(flag.partition("=")[::2] for flag in flags if flag)
    folder = Path(
        named.get("base_compiledir") or os.path.join(os.path.expanduser("~"), ".pytensor")
    )
    if "compiledir" in named or _writable(folder.expanduser().absolute()):
        return
    import shutil
    import tempfile

    private = tempfile.mkdtemp(prefix="bayesblina-")
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    named["base_compiledir"] = private
    os.environ["PYTENSOR_FLAGS"] = ",".join(f"{name}={value}" for name, value in named.items())


def _writable(folder: Path) -> bool:
    """Whether a folder can be written to, or made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _name(key: str) -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()}.code"


def _read(path: Path) -> bytes | None:
    """Read a file of the user's own; None if it is somebody else's."""
    # Opening a pipe without O_NONBLOCK would wait for whoever writes to it.
    flags = (
        os.O_RDONLY
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_BINARY", 0)
        | getattr(os, "O_NONBLOCK", 0)
    )
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or _others_could_write(status):
            _tell(path.parent, f"holds '{path.name}', which others could have written")
            return None
        return file.read()


def _trusted_folder(folder: Path) -> bool:
    try:
        status = folder.stat()
    except OSError:
        # Nothing to read; writing says what is the matter.
        return False
    if stat.S_ISDIR(status.st_mode) and _others_could_write(status):
        _tell(folder, "belongs to another user, or others may write to it")
        return False
    return stat.S_ISDIR(status.st_mode)


def _others_could_write(status: os.stat_result) -> bool:
    """Whether somebody but the user and the administrator can write to a file or folder."""
    if not hasattr(os, "geteuid"):
        # Windows: a user's cache folder is closed to others by its access list.
        return False
    return status.st_uid not in (os.geteuid(), 0) or bool(
        status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _tell(folder: Path, trouble: str) -> None:
    """Say once what is wrong with the folder, and what to do."""
    if str(folder) in _told:
        return
    _told.add(str(folder))
    _log.warning(
        "The cache of compiled densities '%s' %s: it is not used, and every new process compiles "
        "again. Results do not depend on it. To save the time, set %s to a folder that only you "
        "can write to.",
        folder,
        trouble,
        VARIABLE,
    )


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind."""
    for left in folder.glob(".*.tmp"):
        # Others may be somebody else's: the folder may be one that others use too.
        if _TEMPORARY.fullmatch(left.name):
            with suppress(OSError):
                if time.time() - left.lstat().st_mtime > FORGOTTEN:
                    left.unlink()
