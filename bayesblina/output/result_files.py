"""Names of the files of results; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from bayesblina.core.errors import SpecError

FIT = "fit.nc"
# The tables as they were computed, where those beside it are masked.
UNMASKED = "unmasked.json"
RECORD = "results.json"
REPORT = "report.html"
SUMMARY = "summary.md"
# Tables that a folder of results may have, with their columns of texts.
TEXTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hazard_ratios": ("endpoint",),
        "survival": ("endpoint", "regime"),
        "survival_by_landmark": ("endpoint", "regime"),
        "restricted_means": ("endpoint", "regime"),
        "diagnostics": ("kind", "name", "limit"),
        "classical": ("endpoint",),
        "curve_shift": ("endpoint", "regime"),
        "bias_ladder": ("endpoint", "method", "note"),
        "simon_makuch": ("endpoint", "group"),
        "at_risk": ("endpoint", "group"),
        "patient_flow": ("step", "endpoint", "phase", "what"),
        "predictive": ("endpoint",),
        "predictive_curves": ("endpoint", "group"),
        "leave_one_out": ("endpoint",),
        "prior_predictive": ("endpoint", "quantity"),
        "prior_sensitivity": ("endpoint", "component", "reading"),
        "safety": ("phase",),
        "borrowing": ("endpoint", "part", "name", "source"),
    }
)
NEEDED = ("hazard_ratios", "survival", "diagnostics")
RESULTS = frozenset({FIT, UNMASKED, RECORD, REPORT, SUMMARY, *(f"{name}.csv" for name in TEXTS)})
FIGURES = ("survival_*.png", "survival_*.svg", "hazard_ratio.*")


def earlier_results(folder: Path) -> frozenset[str]:
    """Name what an earlier analysis may have left in a folder, its figures among it."""
    return RESULTS | {path.name for pattern in FIGURES for path in folder.glob(pattern)}


def require_own(folder: Path) -> None:
    """Refuse a folder of somebody's own files: named as results, but without results."""
    if (folder / RECORD).is_file():
        return
    taken = sorted(name for name in earlier_results(folder) if (folder / name).exists())
    if taken:
        raise SpecError(
            f"'{folder}' holds '{taken[0]}', which a result would replace, and no '{RECORD}' of an "
            "earlier analysis: give another folder, or move the file."
        )


def require_elsewhere(inputs: Iterable[Path], folder: Path) -> None:
    """Refuse to write results over what they are made from."""
    for path in inputs:
        if path.resolve().parent == folder.resolve() and path.name in RESULTS:
            raise SpecError(f"'{path}' would be overwritten by a result: give another --out.")
