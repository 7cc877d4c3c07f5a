"""Imports point one way: a module may import only from its own room and from rooms before it."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.rooms import PICTURE, ROOMS, find_modules, picture, project_imports, room_of

PACKAGE = "bayesblina"
HEIGHT = {room: height for height, room in enumerate(ROOMS)}
# Beside the rooms: the public names, loaded when they are first used, and `python -m bayesblina`.
FRONT = ("", "__main__")


def violations(modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield imports against the order, modules in no room, and circles."""
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module in modules:
        own = room_of(module)
        if own not in HEIGHT and own not in FRONT:
            yield f"{module} is in no room"
            continue
        for line, target in project_imports(module, modules):
            graph[module].add(target)
            other = room_of(target)
            if own == "" and other == "cli":
                yield f"{module}:{line} imports {target}, the command line"
            if own in FRONT or other == "models":
                continue
            if other not in HEIGHT:
                yield f"{module}:{line} imports {target}, which is in no room"
            elif HEIGHT[other] > HEIGHT[own]:
                yield f"{module}:{line} imports {target}, which is in a later room"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"circle: {' -> '.join(reversed(error.args[1]))}"


def plant(folder: Path, sources: Mapping[str, str]) -> dict[str, Path]:
    """Write a small package of the same name and return its modules."""
    for name, source in sources.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return find_modules(folder / PACKAGE)


def test_imports_follow_the_order_of_the_rooms() -> None:
    modules = find_modules(ROOT / PACKAGE)
    assert len(modules) > 100
    assert list(violations(modules)) == []


def test_nothing_stands_beside_the_rooms() -> None:
    beside = {path.name for path in (ROOT / PACKAGE).iterdir() if path.name != "__pycache__"}
    assert beside == {*ROOMS, "__init__.py", "__init__.pyi", "__main__.py", "py.typed"}


def test_every_room_says_what_lives_there() -> None:
    for room in ROOMS:
        page = ast.parse((ROOT / PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
        told = ast.get_docstring(page)
        assert told, room
        assert len(told.splitlines()) <= 3, room


@pytest.mark.parametrize(
    "source",
    [
        "import bayesblina.inference.fitting",
        "import bayesblina.inference.fitting as later",
        "from bayesblina.inference import fitting",
        "from bayesblina.inference.fitting import Fit",
        "from ..inference import fitting",
        "from ..inference.fitting import Fit",
        "def read():\n    from bayesblina.inference.fitting import Fit",
        "from typing import TYPE_CHECKING as T\nif T:\n"
        "    from bayesblina.inference.fitting import Fit",
        "try:\n    import bayesblina.inference.fitting\nexcept ImportError:\n    pass",
    ],
)
def test_import_from_a_later_room_is_caught(tmp_path: Path, source: str) -> None:
    planted = {"__init__.py": "", "inference/fitting.py": "", "patients/cohort.py": source}
    (message,) = violations(plant(tmp_path, planted))
    assert message.startswith("bayesblina.patients.cohort:")
    assert "imports bayesblina.inference.fitting" in message


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("core/files.py", "import bayesblina", "imports bayesblina, which is in no room"),
        ("core/files.py", "from bayesblina import Cohort", "bayesblina, which is in no room"),
        ("__init__.py", "from bayesblina.cli import main", "imports bayesblina.cli, the command"),
        ("stray.py", "", "bayesblina.stray is in no room"),
        ("core/files.py", "import bayesblina.stray", "bayesblina.stray, which is in no room"),
    ],
)
def test_other_violations_are_caught(
    tmp_path: Path, module: str, source: str, message: str
) -> None:
    (found,) = violations(plant(tmp_path, {module: source}))
    assert message in found


def test_circle_within_a_room_is_caught(tmp_path: Path) -> None:
    modules = plant(
        tmp_path,
        {
            "hazards/build.py": "from bayesblina.hazards import effects",
            "hazards/effects.py": "from bayesblina.hazards.build import build",
        },
    )
    (message,) = violations(modules)
    assert message.startswith("circle: bayesblina.hazards.")


def test_imports_from_earlier_rooms_pass(tmp_path: Path) -> None:
    modules = plant(
        tmp_path,
        {
            "__init__.py": "from bayesblina.inference.fitting import Fit",
            "__main__.py": "from bayesblina.cli import main",
            "output/plots.py": "import numpy\nfrom bayesblina.inference.fitting import Fit",
            "inference/fitting.py": "from bayesblina.hazards import build\n"
            "from ..hazards.effects import add",
            "hazards/__init__.py": "from bayesblina.hazards.build import build",
            "hazards/build.py": "from bayesblina.hazards import effects\n"
            "from ..core.errors import Bad",
            "hazards/effects.py": "",
            "core/errors.py": "import bayesblinatumomab",
            "cli/__init__.py": "from bayesblina.output import plots",
        },
    )
    assert list(violations(modules)) == []


def test_the_picture_is_of_todays_rooms() -> None:
    drawn = picture(ROOT / PACKAGE)
    assert PICTURE.read_text(encoding="utf-8") == drawn, "uv run python tests/rooms.py draws it"


def test_architecture_page_names_every_room_in_order() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)/` \|", page, flags=re.MULTILINE) == list(ROOMS)


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {
        module
        for module, path in find_modules(ROOT / PACKAGE).items()
        if path.name == "__init__.py"
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == found | {f"{PACKAGE}.models"}


def test_every_class_has_a_name_of_its_own() -> None:
    """Whoever searches for one finds one."""
    homes: dict[str, list[str]] = {}
    for module, path in find_modules(ROOT / PACKAGE).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}
