"""The list of all public names, from the package itself."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path

import bayesblina

# The public names by what they are for, in the order of an analysis: names of home modules.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Reading patients": (
        "patients.readers",
        "patients.calendar",
        "patients.cohort",
        "patients.declarations",
        "patients.visits",
        "patients.scan",
    ),
    "The question, and who is at risk": ("person_time.question", "person_time.cells"),
    "Models and priors": ("hazards.definition", "hazards.priors"),
    "Fitting, saving, loading": ("inference",),
    "Regimes and estimands": ("estimands",),
    "Tables and reports": ("estimands.summaries", "output", "output.report"),
    "Is it to be believed": ("checks",),
    "Classical companions": ("classical",),
    "What if": (
        "studies.what_if",
        "checks.priors",
        "studies.bias",
    ),
    "Confounding by indication": ("studies.weighting", "studies.bootstrap"),
    "External patients": ("studies.external",),
    "Adverse events": ("person_time.onsets", "estimands.safety"),
    "Before the study": ("studies.planning",),
}
OTHERS = "Others"


def homes() -> dict[str, str]:
    """Modules that define the public names, below ``bayesblina``, as its stub has them."""
    stub = ast.parse(Path(bayesblina.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    modules = public_modules()
    return {
        alias.name: str(statement.module)
        for statement in stub.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
        if alias.name not in modules and alias.name != "__version__"
    }


def public_modules() -> list[str]:
    """Public names that are modules."""
    return [name for name in dir(bayesblina) if inspect.ismodule(getattr(bayesblina, name))]


def public_names() -> dict[str, list[str]]:
    """Sort the public names into groups; those of modules without a place come last.

    Returns
    -------
    dict of list of str
        Names below ``bayesblina``, by the title of their group.
    """
    home = homes()
    group_of = {module: title for title, modules in GROUPS.items() for module in modules}
    groups: dict[str, list[str]] = {title: [] for title in [*GROUPS, OTHERS]}
    for name in sorted(home, key=str.lower):
        module = home[name]
        title = group_of.get(module) or group_of.get(module.rpartition(".")[0]) or OTHERS
        groups[title].append(name)
    return {title: names for title, names in groups.items() if names}


def module_names(module: str) -> list[str]:
    """Public names of a public module: its ``__all__``, or what it defines itself.

    Returns
    -------
    list of str
        Names below the module, in alphabetical order.
    """
    found = getattr(bayesblina, module)
    listed = getattr(found, "__all__", None)
    if listed is not None:
        # Classes have one page, and those that are on top have it there.
        return sorted(
            name
            for name in listed
            if not inspect.ismodule(getattr(found, name))
            and not (inspect.isclass(getattr(found, name)) and name in dir(bayesblina))
        )
    return sorted(
        name
        for name, value in vars(found).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == found.__name__
    )


def clashing_names() -> list[str]:
    """Names of classes that differ from a function's only in case: Fit and fit.

    Returns
    -------
    list of str
        Full names, whose pages need another file name where a file system ignores case.
    """
    names = [name for group in public_names().values() for name in group]
    return [
        f"bayesblina.{name}" for name in names if name != name.lower() and name.lower() in names
    ]


def api_page() -> str:
    """Write the list of all public names, as reStructuredText for autosummary.

    Returns
    -------
    str
        The page.
    """
    lines = [
        "..",
        "   Made from the code when the documentation is built.",
        "",
        "Python API",
        "==========",
        "",
        "All public names, in the order of an analysis; ``import bayesblina as bb`` gives them.",
        "A name is loaded when it is first used.",
        "",
    ]
    sections = {title: ("bayesblina", names) for title, names in public_names().items()}
    for module in public_modules():
        home = getattr(bayesblina, module).__name__
        sections[f"bayesblina.{module}"] = (home, module_names(module))
    for title, (module, names) in sections.items():
        lines += [title, "-" * len(title), "", f".. currentmodule:: {module}", ""]
        lines += [".. autosummary::", "   :toctree: api", ""]
        lines += [*(f"   {name}" for name in names), ""]
    return "\n".join(lines)
