"""Results of scenarios on disk: one line each, appended at once, checksummed.

A line is a JSON object and the SHA-256 of it. Whatever ends the process, every line that was
finished can be read; half a line at the end is what a kill left, and is cut off. When all scenarios
are done the lines are put into their order, so that the file does not tell which came first. One
process writes at a time; of lines with one key, however they came there, the first counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayesblina.core.errors import StorageError
from bayesblina.core.files import read_whole, reason_of, write_text

NAME = "scenarios.jsonl"
LOCK = "scenarios.lock"
# What results do not depend on, and another run may say otherwise.
FREE = frozenset({"direction"})
FORMAT = "bayesblina scenarios"
SCHEMA = 1
_SEPARATOR = " sha256 "


def _line(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, allow_nan=False)
    return f"{text}{_SEPARATOR}{hashlib.sha256(text.encode()).hexdigest()}\n"


def _parse(line: str) -> dict[str, Any] | None:
    """Read a line; None if it is damaged."""
    text, separator, digest = line.rstrip("\n").rpartition(_SEPARATOR)
    if not separator or hashlib.sha256(text.encode()).hexdigest() != digest:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A folder with the results of one study of sensitivity."""

    folder: Path

    @property
    def path(self) -> Path:
        """The file of lines."""
        return self.folder / NAME

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the store, as long as this one lives."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / LOCK).open("a+b")
        except OSError as error:
            raise StorageError(
                f"Cannot make the folder '{self.folder}': {reason_of(error)}."
            ) from None
        with file:
            try:
                _lock(file.fileno())
            except OSError:
                raise StorageError(
                    f"Another process is writing into '{self.folder}': wait until it is done, and "
                    "continue with resume, or give another folder."
                ) from None
            # The system lets go of it when the file is closed, however the process ends.
            yield

    def begin(self, header: Mapping[str, Any], *, resume: bool) -> dict[str, dict[str, Any]]:
        """Make the store, or read what an earlier run left in it."""
        head = {"format": FORMAT, "schema": SCHEMA, **header}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            exists = self.path.exists()
        except OSError as error:
            raise StorageError(
                f"Cannot make the folder '{self.folder}': {reason_of(error)}."
            ) from None
        if not exists:
            write_text(self.path, _line(head))
            return {}
        if not resume:
            raise StorageError(
                f"'{self.folder}' holds results of an earlier run: continue it with resume (on the "
                "command line --resume), or give another folder."
            )
        stored, records, size = self.read()
        differs = [name for name in head if name not in FREE and stored.get(name) != head[name]]
        if differs:
            raise StorageError(
                f"'{self.folder}' holds results of another study: {', '.join(differs)} differ. "
                "Give another folder."
            )
        if size < self.path.stat().st_size:
            # What a kill left of a line that was being written.
            with self._opened("r+b") as file:
                file.truncate(size)
        return {str(record["key"]): record for record in records}

    def append(self, record: Mapping[str, Any]) -> None:
        """Put one finished record on disk."""
        content = _line(record).encode()
        try:
            with self._opened("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"Cannot write to '{self.path}': {reason_of(error)}. Finished scenarios are kept; "
                "continue with resume."
            ) from None

    def read(self) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
        """Read all records."""
        content = read_whole(self.path)
        records: list[dict[str, Any]] = []
        size, lines = 0, content.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            record = _parse(line.decode("utf-8", errors="replace")) if line[-1:] == b"\n" else None
            if record is None:
                if number < len(lines):
                    raise StorageError(
                        f"'{self.path}': line {number} is damaged (its checksum is wrong). Remove "
                        "that line; resume then computes its scenario again."
                    )
                break
            size += len(line)
            records.append(record)
        if not records or records[0].get("format") != FORMAT:
            raise StorageError(f"'{self.path}' is not a store of scenarios.")
        if records[0].get("schema") != SCHEMA:
            raise StorageError(f"'{self.path}' was written by another version of bayesblina.")
        finished: dict[str, dict[str, Any]] = {}
        for record in records[1:]:
            finished.setdefault(str(record["key"]), record)
        return records[0], list(finished.values()), size

    def finish(self, keys: Sequence[str], header: Mapping[str, Any]) -> None:
        """Put the lines into the order of the scenarios."""
        head, records, _ = self.read()
        rank = {key: index for index, key in enumerate(keys)}
        ordered = sorted(records, key=lambda record: rank.get(str(record["key"]), len(rank)))
        write_text(self.path, "".join(_line(record) for record in ({**head, **header}, *ordered)))

    def _opened(self, mode: str) -> Any:
        try:
            return self.path.open(mode)
        except OSError as error:
            raise StorageError(f"Cannot open '{self.path}': {reason_of(error)}.") from None


def _lock(descriptor: int) -> None:
    """Lock an open file against other processes; raises OSError where one has it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
