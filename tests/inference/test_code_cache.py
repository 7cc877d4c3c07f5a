"""The cache on disk: whole, the user's own and of this program, or not used."""

import logging
import os
import stat
import sys
from pathlib import Path

import pytest

from bayesblina.inference import code_cache
from bayesblina.inference.code_cache import (
    VARIABLE,
    cache_folder,
    read_entry,
    shelter_pytensor,
    write_entry,
)

HEADER = {"dims": ["endpoint"]}
PARTS = (b"one\nline", b"\x00two")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.setattr(code_cache, "_told", set())
    return folder


def test_what_is_written_is_read(folder: Path) -> None:
    assert read_entry("a") is None
    write_entry("a", HEADER, PARTS)
    assert read_entry("a") == (HEADER, PARTS)
    assert read_entry("b") is None
    (entry,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600


def test_damaged_entries_are_not_used_and_rewritten(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_entry("a", HEADER, PARTS)
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    damaged += [b"garbage" * 50, whole + b"x", bytes(len(whole)), b"\x80\x04N."]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for content in damaged:
        entry.write_bytes(content)
        assert read_entry("a") is None
    write_entry("a", HEADER, PARTS)
    assert entry.read_bytes() == whole
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_entry_under_anothers_name_is_not_used(folder: Path) -> None:
    write_entry("a", HEADER, PARTS)
    write_entry("b", HEADER, PARTS)
    first, second = sorted(folder.iterdir())
    second.write_bytes(first.read_bytes())
    assert [read_entry(key) for key in ("a", "b")].count(None) == 1


def test_what_others_could_have_written_is_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_entry("a", HEADER, PARTS)
    (entry,) = folder.iterdir()
    for path, mode in ((folder, 0o777), (folder, 0o770), (entry, 0o666)):
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        assert read_entry("a") is None
        path.chmod(before)
    assert len(caplog.records) == 1, "one notice for one folder"
    assert str(folder) in caplog.text
    assert VARIABLE in caplog.text
    assert read_entry("a") is not None
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    if folder.stat().st_uid:
        assert read_entry("a") is None
    else:  # the administrator's files are trusted; so give them away
        os.chown(folder, other + 1, -1)
        assert read_entry("a") is None


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    assert not folder.exists()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "cache"))
    for _ in range(2):
        write_entry("a", HEADER, PARTS)
        assert read_entry("a") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(tmp_path / "file" / "cache") in record.getMessage()
    assert VARIABLE in record.getMessage()


def test_nothing_half_written_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(30, "Read-only file system")

    folder.mkdir(mode=0o700)
    left, others = folder / f".{'0a' * 8}.tmp", folder / ".notes.tmp"
    for path in (left, others):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    monkeypatch.setattr(os, "replace", refuse)
    write_entry("a", HEADER, PARTS)
    assert list(folder.iterdir()) == [others]


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert tmp_path in cache_folder().parents
    monkeypatch.setenv(VARIABLE, "~/elsewhere")
    assert cache_folder() == tmp_path / "elsewhere"


def test_pytensor_gets_a_folder_that_it_can_write_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.delitem(sys.modules, "pytensor", raising=False)
    for name, kept in ((tmp_path / "new", True), (tmp_path / "file" / "below", False)):
        flags = f"floatX=float64,base_compiledir={name}"
        monkeypatch.setenv("PYTENSOR_FLAGS", flags)
        shelter_pytensor()
        assert (os.environ["PYTENSOR_FLAGS"] == flags) is kept
    assert os.environ["PYTENSOR_FLAGS"].startswith("floatX=float64,base_compiledir=")
    assert Path(os.environ["PYTENSOR_FLAGS"].rpartition("=")[2]).is_dir()
