"""How large the package is: statements and lines of docstrings by room, long modules and functions.

``uv run python tests/benchmarks/sizes.py [FOLDER]`` prints them.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LONG_MODULE = 500
LONG_FUNCTION = 80


def docstring_of(node: ast.AST) -> ast.Expr | None:
    """Docstring of a module, class or function, as its statement."""
    if isinstance(node, DOCUMENTED) and node.body:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            return first if isinstance(first.value.value, str) else None
    return None


def lines_of(node: ast.stmt) -> int:
    """Lines from a statement's first to its last."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield each function's name, and its lines without its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = docstring_of(node)
            yield node.name, lines_of(node) - (0 if told is None else lines_of(told))


def main(package: Path) -> None:
    """Print the sizes."""
    statements, docstrings, lines = Counter[str](), Counter[str](), Counter[str]()
    long: list[str] = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        parts = path.relative_to(package).parts
        room = parts[0] if len(parts) > 1 else "(front)"
        told = [found for node in ast.walk(tree) if (found := docstring_of(node)) is not None]
        statements[room] += sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) - len(told)
        docstrings[room] += sum(map(lines_of, told))
        size = len(text.splitlines())
        lines[room] += size
        if size > LONG_MODULE:
            long.append(f"{path.relative_to(package)}: {size} lines")
        long += [
            f"{path.relative_to(package)}, {name}: {count} lines"
            for name, count in functions(tree)
            if count > LONG_FUNCTION
        ]
    for room in sorted(statements):
        print(f"{room:14} {statements[room]:7,} {docstrings[room]:7,} {lines[room]:7,}")
    print(f"{'all':14} {statements.total():7,} {docstrings.total():7,} {lines.total():7,}")
    print("statements without docstrings, lines of docstrings, lines", *long, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "bayesblina"))
