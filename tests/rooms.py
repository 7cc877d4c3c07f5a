"""The package's rooms, their order, and a picture of which imports from which.

    uv run python tests/rooms.py

draws the picture that ARCHITECTURE.md shows; a test holds it current.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "bayesblina"
# The one order: a room imports only from itself and from those before it.
ROOMS = (
    "core",
    "patients",
    "person_time",
    "hazards",
    "inference",
    "estimands",
    "classical",
    "checks",
    "studies",
    "output",
    "cli",
)
PICTURE = ROOT / "docs" / "_static" / "rooms.svg"


def find_modules(package: Path) -> dict[str, Path]:
    """Name every module below a package's folder, the package itself included."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        modules[".".join((PACKAGE, *parts))] = path
    return modules


def room_of(module: str) -> str:
    """Name the room of a module: its first part below the package."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def _absolute(module: str, path: Path, statement: ast.ImportFrom) -> str:
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
            source = _absolute(module, path, node)
            members = [f"{source}.{alias.name}" for alias in node.names]
            # `from bayesblina.checks import check` may mean the module or a name in it.
            targets = [member if member in modules else source for member in members]
        else:
            continue
        for target in dict.fromkeys(targets):
            if target.partition(".")[0] == PACKAGE:
                yield node.lineno, target


def _imports(modules: Mapping[str, Path]) -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports from the second."""
    return {
        (room_of(module), room_of(target))
        for module in modules
        for _, target in project_imports(module, modules)
    }


def _contents(modules: Mapping[str, Path], room: str) -> list[str]:
    """Modules and packages of a room, packages with a slash."""
    below = [module.split(".")[2:] for module in modules if room_of(module) == room]
    packages = {parts[0] for parts in below if len(parts) > 1}
    names = {parts[0] for parts in below if parts}
    return [f"{name}/" if name in packages else name for name in sorted(names)]


def _lines(names: list[str], width: int) -> list[str]:
    """Break a list of names into lines of at most so many letters."""
    lines = [""]
    for name in names:
        if lines[-1] and len(lines[-1]) + len(name) + 2 > width:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{name}"
    return lines


def picture(package: Path) -> str:
    """Draw the rooms, what is in each, and from which others it imports, as SVG."""
    modules = find_modules(package)
    imports = _imports(modules)
    left, step, top = 620, 26, 96
    body: list[str] = []
    middles = []
    y = top
    for room in ROOMS:
        lines = _lines(_contents(modules, room), 72)
        height = 26 + 16 * len(lines)
        body.append(
            f'<rect x="10" y="{y}" width="{left - 30}" height="{height}" rx="6" class="room"/>'
            f'<text x="20" y="{y + 18}" class="name">{room}</text>'
        )
        body += [
            f'<text x="20" y="{y + 36 + 16 * number}">{line}</text>'
            for number, line in enumerate(lines)
        ]
        middles.append(y + height / 2)
        y += height + 8
    for column, other in enumerate(ROOMS):
        x = left + step * column
        body.append(
            f'<text x="{x}" y="{top - 8}" transform="rotate(-45 {x} {top - 8})">{other}</text>'
        )
        for room, middle in zip(ROOMS, middles, strict=True):
            if (room, other) in imports and room != other:
                body.append(f'<circle cx="{x}" cy="{middle:g}" r="5"/>')
            elif room == other:
                body.append(f'<circle cx="{x}" cy="{middle:g}" r="2" class="self"/>')
    width = left + step * len(ROOMS) + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" role="img" '
            'aria-label="The rooms of the package, and from which others each imports">',
            "<style>text{font:12px sans-serif;fill:#222}.name{font-weight:bold;font-size:14px}"
            ".room{fill:#eef3f8;stroke:#8aa4bf}circle{fill:#1f5f99}.self{fill:#aaa}</style>",
            f'<rect width="{width}" height="{y}" fill="#fff"/>',
            *body,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(ROOT / PACKAGE), encoding="utf-8")
