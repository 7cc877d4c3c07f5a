"""Imports point one way: a module may import only from layers below its own."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "bayesblina"

# From the bottom upwards. A name stands for a module or for a package with all its modules;
# those of one package may import each other, in no circle. `bayesblina` is `__init__.py`.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "models"}),
    frozenset(
        {
            "account",
            "arguments",
            "breslow",
            "code_cache",
            "cohort_posteriors",
            "direction",
            "endpoint_order",
            "episodes",
            "files",
            "hamiltonian",
            "importance",
            "interrupts",
            "intervals",
            "log_linear_hazard",
            "machine_code",
            "mixing",
            "occupancy",
            "partial_likelihood",
            "product_limit",
            "sampler_settings",
        }
    ),
    frozenset(
        {"csv_files", "figure_files", "laplace", "masking", "rules", "staging", "toml_files"}
    ),
    frozenset({"cohort", "partial_draws", "tables"}),
    frozenset({"question", "readers"}),
    frozenset({"compression", "scan", "segments"}),
    frozenset({"follow_up", "onsets", "tabulation"}),
    frozenset({"starting", "transitions"}),
    frozenset({"exposure", "synthetic_truth", "weighting"}),
    frozenset({"classical", "event_times", "hazards", "risk_sets", "simulate"}),
    frozenset({"axes", "partial_models", "sampling", "study_designs"}),
    frozenset({"baseline_gate", "companion", "convergence", "step_baseline"}),
    frozenset({"fitting"}),
    frozenset({"pointwise", "regimes"}),
    frozenset({"emulation", "estimands", "predictive", "prior_curves"}),
    frozenset(
        {
            "bias_analysis",
            "bootstrap",
            "checks",
            "comparison",
            "deletion",
            "external",
            "ladder",
            "planning",
            "prior_sensitivity",
            "safety",
        }
    ),
    frozenset({"summaries"}),
    frozenset({"paper", "what_if"}),
    frozenset({"plots"}),
    frozenset({"storage", "study_sections"}),
    frozenset({"design_file", "drafting", "study"}),
    frozenset({"report"}),
    frozenset({PACKAGE}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def find_modules(package: Path, name: str = PACKAGE) -> dict[str, Path]:
    """Name every module below a package's folder, the package itself included."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        modules[".".join((name, *parts))] = path
    return modules


def absolute(module: str, path: Path, statement: ast.ImportFrom) -> str:
    """Name the module that a ``from`` import reads, relative dots resolved."""
    if not statement.level:
        return statement.module or ""
    up = statement.level - (path.name == "__init__.py")
    parts = module.split(".")
    base = parts[: len(parts) - up]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def project_imports(module: str, modules: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module of the project that a module imports, at any depth."""
    path = modules[module]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, path, node)
            members = [f"{source}.{alias.name}" for alias in node.names]
            # `from bayesblina import fit` may mean the module or a public name.
            targets = [member if member in modules else source for member in members]
        else:
            continue
        for target in dict.fromkeys(targets):
            if target.partition(".")[0] == PACKAGE:
                yield node.lineno, target


def layer_name(module: str) -> str:
    """Name under which a module stands in the layers: its first part below the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def violations(modules: Mapping[str, Path]) -> list[str]:
    """Say which imports go against the order, which modules have no place, what goes in circles."""
    found = []
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module in modules:
        own = layer_name(module)
        if own not in HEIGHT:
            found.append(f"{module} has no place in LAYERS")
            continue
        for line, target in project_imports(module, modules):
            graph[module].add(target)
            other = layer_name(target)
            if other not in HEIGHT:
                found.append(f"{module}:{line} imports {target}, which has no place in LAYERS")
            elif own != other and HEIGHT[other] >= HEIGHT[own]:
                found.append(f"{module}:{line} imports {target}, which is not below it")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"circle: {' -> '.join(reversed(error.args[1]))}")
    return found


def plant(folder: Path, sources: Mapping[str, str]) -> dict[str, Path]:
    """Write a small package of the same name and return its modules."""
    for name, source in sources.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return find_modules(folder / PACKAGE)


def test_imports_follow_the_order() -> None:
    modules = find_modules(ROOT / PACKAGE) | find_modules(ROOT / "models", f"{PACKAGE}.models")
    assert len(modules) > 1
    assert violations(modules) == []


@pytest.mark.parametrize(
    "source",
    [
        "import bayesblina.fitting",
        "import bayesblina.fitting as later",
        "from bayesblina import fitting",
        "from bayesblina.fitting import Fit",
        "from . import fitting",
        "from .fitting import Fit",
        "def read():\n    from bayesblina.fitting import Fit",
        "from typing import TYPE_CHECKING as T\nif T:\n    from bayesblina.fitting import Fit",
        "try:\n    import bayesblina.fitting\nexcept ImportError:\n    pass",
    ],
)
def test_upward_import_is_caught(tmp_path: Path, source: str) -> None:
    modules = plant(tmp_path, {"__init__.py": "", "fitting.py": "", "cohort.py": source})
    (message,) = violations(modules)
    assert message.startswith("bayesblina.cohort:")
    assert "imports bayesblina.fitting" in message


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("readers.py", "import bayesblina.question", "bayesblina.readers:1 imports"),
        ("fitting.py", "import bayesblina", "bayesblina.fitting:1 imports bayesblina,"),
        ("fitting.py", "from bayesblina import Cohort", "bayesblina.fitting:1 imports bayesblina,"),
        ("hazards/build.py", "from ..fitting import Fit", "bayesblina.hazards.build:1 imports"),
        ("hazards/__init__.py", "from ..fitting import Fit", "bayesblina.hazards:1 imports"),
        ("__init__.py", "from bayesblina.cli import main", "bayesblina:1 imports bayesblina.cli"),
        ("stray.py", "", "bayesblina.stray has no place"),
        ("fitting.py", "import bayesblina.stray", "bayesblina.stray, which has no place"),
    ],
)
def test_other_violations_are_caught(
    tmp_path: Path, module: str, source: str, message: str
) -> None:
    (found,) = violations(plant(tmp_path, {module: source}))
    assert message in found


def test_circle_within_a_package_is_caught(tmp_path: Path) -> None:
    modules = plant(
        tmp_path,
        {
            "hazards/build.py": "from bayesblina.hazards import effects",
            "hazards/effects.py": "from bayesblina.hazards.build import build",
        },
    )
    (message,) = violations(modules)
    assert message.startswith("circle: bayesblina.hazards.")


def test_downward_imports_pass(tmp_path: Path) -> None:
    modules = plant(
        tmp_path,
        {
            "__init__.py": "from bayesblina.fitting import Fit\nfrom bayesblina import plots",
            "plots.py": "import numpy\nfrom bayesblina.fitting import Fit",
            "fitting.py": "from bayesblina.hazards import build\nfrom .hazards.effects import add",
            "hazards/__init__.py": "from bayesblina.hazards.build import build",
            "hazards/build.py": "from bayesblina.hazards import effects\nfrom ..errors import Bad",
            "hazards/effects.py": "",
            "errors.py": "import bayesblinatumomab",
            "cli.py": "import bayesblina as bb",
        },
    )
    assert violations(modules) == []


def test_architecture_page_tells_the_same_order() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `([\w.]+)` \|", page, flags=re.MULTILINE)
    told = [(int(number), name.removeprefix(f"{PACKAGE}.")) for number, name in rows]
    assert sorted(told) == sorted((height + 1, name) for name, height in HEIGHT.items())
    assert told == sorted(told, key=lambda row: row[0])


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {
        module
        for module, path in find_modules(ROOT / PACKAGE).items()
        if path.name == "__init__.py"
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == found | {f"{PACKAGE}.models"}
