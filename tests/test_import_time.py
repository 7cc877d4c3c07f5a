"""What a command may import: nothing heavy that it does not need."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

SAMPLERS = {"pymc", "pytensor", "nutpie", "arviz", "arviz_base", "arviz_stats", "numba", "llvmlite"}
FIGURES = {"matplotlib"}
TABLES = {"pandas", "xarray", "scipy", "numpy", "pyarrow"}
RUN = """
import sys
from bayesblina.cli import main
code = main(sys.argv[1:])
print("loaded", *sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
raise SystemExit(code)
"""


def loaded(*arguments: str) -> set[str]:
    """Top-level modules that a command leaves loaded."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("loaded ")[2].split())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the demo's study file and its table."""
    from bayesblina.cli.analysis import write_demo

    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, seed=1)
    return folder


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["models"]])
def test_help_and_lists_load_no_tables(arguments: list[str]) -> None:
    assert loaded(*arguments) & (SAMPLERS | FIGURES | TABLES) == set()


def test_validate_and_init_load_no_sampler(demo: Path, tmp_path: Path) -> None:
    assert loaded("validate", str(demo / "study.toml")) & (SAMPLERS | FIGURES | {"xarray"}) == set()
    table = next(demo.glob("*.csv"))
    out = tmp_path / "study.toml"
    assert loaded("init", str(table), "--out", str(out)) & (SAMPLERS | FIGURES) == set()


def test_the_package_itself_loads_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, bayesblina; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {name.partition(".")[0] for name in done.stdout.split()}
    assert heavy & (SAMPLERS | FIGURES | TABLES) == set()


def test_a_function_keeps_its_name_beside_the_room_of_that_name() -> None:
    code = (
        "import bayesblina as bb; import bayesblina.person_time.cells; "
        "print(callable(bb.person_time), bb.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", version("bayesblina")]
