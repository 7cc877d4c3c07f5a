"""Compiled once, ever: together, killed, damaged or read-only, processes draw the same."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bayesblina.inference.code_cache import VARIABLE, read_entry

SCRIPT = """
import hashlib, sys
import bayesblina as bb
cohort, _ = bb.simulate.blinatumomab_cohort(seed=3)
question = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
fit = bb.fit(cohort, question, cuts=[], seed=4, draws=100, tune=200, cores=1, progress=False)
assert "arviz_base" not in sys.modules and "matplotlib" not in sys.modules
names = sorted(fit.posterior.data_vars)
digest = hashlib.sha256(b"".join(fit.posterior[name].values.tobytes() for name in names))
print(fit.provenance.engine, digest.hexdigest(), "pytensor.link.numba.dispatch" in sys.modules)
"""
WRITE = """
from bayesblina.inference.code_cache import write_entry
print("begun", flush=True)
while True:
    write_entry("key", {"header": 1}, [b"code" * 200_000])
"""


def start(cache: Path, script: str = SCRIPT, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error::UserWarning", "-c", script],
        env=os.environ | {VARIABLE: str(cache)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Engine and hash of the draws; and what was printed beside them."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return " ".join(out.split()[:2]), errors


def whole(entry: Path) -> bool:
    """Whether an entry is what its checksum says."""
    _, checksum, body = entry.read_bytes().split(b"\n", 2)
    return hashlib.sha256(body).hexdigest().encode() == checksum


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Fill a cache by two processes that start together; and what they drew."""
    cache = tmp_path_factory.mktemp("together") / "cache"
    both = [start(cache) for _ in range(2)]
    (one, noise), (two, more) = [finish(process) for process in both]
    assert one == two
    assert one.startswith("compiled ")
    assert noise == more == ""
    assert [path.suffix for path in cache.iterdir()] == [".code"]
    return cache, one


def test_processes_that_start_together_draw_the_same(warm: tuple[Path, str]) -> None:
    cache, drawn = warm
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert finish(start(cache)) == (drawn, "")
    assert before == {path: path.stat().st_mtime_ns for path in cache.iterdir()}, "written again"


def test_damaged_code_is_made_anew(warm: tuple[Path, str], tmp_path: Path) -> None:
    cache, drawn = warm
    (entry,) = cache.iterdir()
    own = tmp_path / "cache"
    own.mkdir(mode=0o700)
    damaged = own / entry.name
    content = entry.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged.chmod(0o600)
    assert whole(entry)
    assert not whole(damaged)
    # Beside it, what numba's own cache would leave: never read.
    (own / "log_density-1.py313.nbi").write_bytes(b"\x80\x04garbage")
    assert finish(start(own)) == (drawn, "")
    assert whole(damaged)


def test_a_folder_that_cannot_be_written_works_with_one_notice(
    warm: tuple[Path, str], tmp_path: Path
) -> None:
    # Below a file no folder can be made, whoever asks: permissions would not stop root.
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    flags = f"base_compiledir={tmp_path / 'file' / 'pytensor'}"
    drawn, notice = finish(start(cache, PYTENSOR_FLAGS=flags))
    assert drawn == warm[1]
    assert len(notice.strip().splitlines()) == 1
    assert str(cache) in notice
    assert VARIABLE in notice


def test_killed_while_compiling(warm: tuple[Path, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    chance = random.Random(5)
    for _ in range(2):
        process = start(cache)
        time.sleep(chance.uniform(0.5, 4.0))
        process.kill()
        process.communicate()
    assert finish(start(cache)) == (warm[1], "")


def test_killed_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv(VARIABLE, str(cache))
    chance = random.Random(6)
    for _ in range(8):
        process = start(cache, WRITE)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        entry = read_entry("key")
        assert entry is None or entry == ({"header": 1}, (b"code" * 200_000,))
        assert len(list(cache.glob("*.code"))) == (entry is not None)
