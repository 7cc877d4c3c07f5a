"""Ctrl-C leaves a whole result or none, whenever it comes and whoever swallows it."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bayesblina import cli
from bayesblina.core.errors import SpecError
from bayesblina.output.progress import Interrupts
from bayesblina.output.result_files import staged

Result = Any


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def interrupt_at(
    stage: str, *arguments: str | Path, by: int = signal.SIGINT
) -> subprocess.CompletedProcess[str]:
    """Start the program, and send it a signal once it says that a stage has begun."""
    program = "from bayesblina.cli import main; raise SystemExit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while f"  {stage} " not in said:
        letter = process.stderr.read(1)
        assert letter, said
        said += letter
    time.sleep(0.05)
    process.send_signal(by)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, said + err)


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_real_interrupt_leaves_nothing(tmp_path: Path, by: int, code: int) -> None:
    done = interrupt_at("fit", "demo", "--out", tmp_path / "new" / "demo", by=by)
    assert done.returncode == code, done.stderr
    assert "interrupted: nothing was written" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    """Of this machine and of a process that is gone; what others write stays."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    out = tmp_path / "results"
    stages = {}
    for what, number, host in (
        ("left", gone.pid, platform.node()),
        ("running", os.getpid(), platform.node()),
        ("elsewhere", gone.pid, "another machine"),
    ):
        stages[what] = tmp_path / f".results.{number}.{what}.partial"
        stages[what].mkdir()
        (stages[what] / ".host").write_text(host)
        (stages[what] / "fit.nc").write_text("patients")
    with staged(out, Interrupts()) as stage:
        # Nobody else may look in while it is written.
        assert stage.stat().st_mode & 0o777 == 0o700
        (stage / "a.csv").write_text("a")
    assert [what for what, one in stages.items() if one.exists()] == ["running", "elsewhere"]
    assert [one.name for one in out.iterdir()] == ["a.csv"]
    other = tmp_path / "other"
    other.mkdir()
    assert out.stat().st_mode == other.stat().st_mode


def test_a_real_interrupt_leaves_the_earlier_results(
    demo: tuple[Path, Result], tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    shutil.copytree(demo[0], out)
    before = content_of(out)
    done = interrupt_at("curves", "demo", "--out", out, "--seed", "2", "--json")
    assert done.returncode == cli.INTERRUPTED, done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "interrupted"
    assert content_of(out) == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    "place", ["bayesblina.studies.study_file.read_study", "bayesblina.inference.fitting.fit"]
)
def test_an_interrupt_that_is_swallowed_counts(
    demo: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Samplers stop early at Ctrl-C and hand back what they have, which looks whole."""
    module, _, name = place.rpartition(".")
    real: Callable[..., Any] = getattr(sys.modules[module], name)

    def swallow(*given: Any, **named: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)
        except KeyboardInterrupt:
            pass
        return real(*given, **named) if name == "read_study" else None

    monkeypatch.setattr(place, swallow)
    # A shell may have started this process with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    result = call("run", demo[0] / "study.toml", "--out", tmp_path / "out")
    assert result.exit_code == cli.INTERRUPTED
    assert list(tmp_path.iterdir()) == []
    # Whoever handled Ctrl-C before does so again.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_nobody_can_catch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a destructor Python would print a traceback and go on; so it would at an import's end."""
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))

    class Ends:
        def __init__(self, error: type[Exception] | None = None) -> None:
            self.error = error

        def __del__(self) -> None:
            if self.error is not None:
                raise self.error
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)

    before, interrupts = sys.unraisablehook, Interrupts()
    with interrupts.noted():
        Ends()
        with pytest.raises(KeyboardInterrupt):
            interrupts.raise_if_any()
        assert told == []
        # Anything else that is lost is told as before.
        Ends(ValueError)
    assert told == [ValueError]
    assert sys.unraisablehook is before


def test_moving_is_not_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.csv").write_text("old")
    (out / "gone.csv").write_text("old")
    (out / "mine.txt").write_text("mine")
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real(source, target)

    interrupts = Interrupts()
    with interrupts.noted(), staged(out, interrupts, old={"gone.csv"}, last="z.json") as stage:
        for name in ("a.csv", "b.csv", "z.json"):
            (stage / name).write_text("new")
        monkeypatch.setattr(os, "replace", replace)
    found = {path.name: path.read_text() for path in out.iterdir()}
    assert found == {"a.csv": "new", "b.csv": "new", "z.json": "new", "mine.txt": "mine"}


def test_a_crash_while_moving_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("a.csv", "z.json"):
        (out / name).write_text("old")

    def replace(*_: Path) -> None:
        raise SystemError("power cut")

    def write() -> None:
        with staged(out, Interrupts(), last="z.json") as stage:
            for name in ("a.csv", "z.json"):
                (stage / name).write_text("new")
            monkeypatch.setattr(os, "replace", replace)

    with pytest.raises(SystemError):
        write()
    # Without its record no report is made of the folder: old and new may be mixed.
    assert not (out / "z.json").exists()


def test_a_failure_takes_the_folders_it_made_along(tmp_path: Path) -> None:
    interrupts = Interrupts()
    with pytest.raises(ValueError, match="no"), staged(tmp_path / "a" / "b", interrupts):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SpecError, match="is a file; expected a folder"),
        staged(tmp_path / "file" / "b", interrupts),
    ):
        pass
