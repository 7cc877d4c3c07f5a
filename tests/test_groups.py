"""Groups of tests name files that are there, and each group runs in one process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.groups import GROUPS, group_of, rank_of
from tests.paths import ROOT


def test_files_of_groups_are_there() -> None:
    stems = [stem for group in GROUPS.values() for stem in group]
    assert {stem for stem in stems if not (ROOT / "tests" / f"{stem}.py").is_file()} == set()
    assert len(stems) == len(set(stems))


def test_groups_by_hand() -> None:
    assert group_of("tests/hazards/test_cure.py::test_a[x::y@z]") == "models"
    assert (
        group_of("bayesblina/core/files.py::bayesblina.core.files.f") == "bayesblina/core/files.py"
    )
    ids = ["bayesblina/core/files.py::f", "tests/studies/test_what_if.py::test_a"]
    assert sorted(ids, key=rank_of) == ids[::-1]


def test_a_group_runs_in_one_process(tmp_path: Path) -> None:
    """Versions of pytest and pytest-xdist that do not fit together would only take longer."""
    folder = tmp_path / "tests" / "hazards"
    folder.mkdir(parents=True)
    script = (
        "import os, pathlib, pytest, time\n"
        "@pytest.mark.parametrize('number', range(6))\n"
        "def test_slowly(number):\n"
        "    time.sleep(0.02)\n"
        "    with pathlib.Path('ran').open('a') as file:\n"
        "        print(__name__.split('.')[-1], os.environ['PYTEST_XDIST_WORKER'], file=file)\n"
    )
    for name in ("cure", "models", "other", "another"):
        (folder / f"test_{name}.py").write_text(script)
    (tmp_path / "conftest.py").write_text(
        "from tests.groups import Grouped\n"
        "def pytest_xdist_make_scheduler(config, log):\n"
        "    return Grouped(config, log)\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--import-mode=importlib"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert len(ran) == 24
    workers = {module: {worker for name, worker in ran if name == module} for module, _ in ran}
    assert all(len(ran_in) == 1 for ran_in in workers.values())
    assert workers["test_cure"] == workers["test_models"]
    assert len(set.union(*workers.values())) == 2
