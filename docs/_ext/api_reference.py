"""The list of all public names, from the package itself."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping

import bayesblina

# The public names by what they are for, in the order of an analysis: names of home modules.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Reading patients": ("readers", "cohort", "scan"),
    "The question, and who is at risk": ("question", "exposure"),
    "Models and priors": ("hazards.definition",),
    "Fitting, saving, loading": ("fitting", "storage"),
    "Regimes and estimands": ("regimes", "estimands"),
    "Tables and reports": ("summaries", "tables", "report"),
    "Is it to be believed": ("checks", "predictive", "comparison", "deletion"),
    "Classical companions": ("classical", "ladder", "paper"),
    "What if": ("what_if", "prior_curves", "prior_sensitivity", "bias_analysis"),
    "Confounding by indication": ("weighting", "emulation", "bootstrap"),
    "External patients": ("external",),
    "Adverse events": ("onsets", "safety"),
    "Before the study": ("study_designs", "planning"),
}
OTHERS = "Others"


def public_names() -> dict[str, list[str]]:
    """Sort the public names into groups; those of modules without a place come last.

    Returns
    -------
    dict of list of str
        Names below ``bayesblina``, by the title of their group.
    """
    home = bayesblina._HOME
    group_of = {module: title for title, modules in GROUPS.items() for module in modules}
    groups: dict[str, list[str]] = {title: [] for title in [*GROUPS, OTHERS]}
    for name in sorted(home, key=str.lower):
        module = home[name]
        title = group_of.get(module) or group_of.get(module.partition(".")[0]) or OTHERS
        groups[title].append(name)
    return {title: names for title, names in groups.items() if names}


def module_names(module: str) -> list[str]:
    """Public names of a public module: its ``__all__``, or what it defines itself.

    Returns
    -------
    list of str
        Names below the module, in alphabetical order.
    """
    found = importlib.import_module(f"bayesblina.{module}")
    listed = getattr(found, "__all__", None)
    if listed is not None:
        return sorted(listed)
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
    for module in sorted(bayesblina._MODULES):
        sections[f"bayesblina.{module}"] = (f"bayesblina.{module}", module_names(module))
    for title, (module, names) in sections.items():
        lines += [title, "-" * len(title), "", f".. currentmodule:: {module}", ""]
        lines += [".. autosummary::", "   :toctree: api", ""]
        lines += [*(f"   {name}" for name in names), ""]
    return "\n".join(lines)
