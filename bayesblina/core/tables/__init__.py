"""Tidy tables for print: numbers by stated rules, text escaped in every format."""

from bayesblina.core.csv_files import to_csv
from bayesblina.core.tables.build import (
    account,
    adverse_events,
    bias_ladder,
    convergence,
    estimates,
    leave_one_out,
    models,
    probabilities,
    publish,
    scenarios,
)
from bayesblina.core.tables.gate import baseline
from bayesblina.core.tables.numbers import Kind
from bayesblina.core.tables.table import BASELINE_MOVES, NOT_CONVERGED, SYNTHETIC, VISITS, Table

__all__ = [
    "BASELINE_MOVES",
    "NOT_CONVERGED",
    "SYNTHETIC",
    "VISITS",
    "Kind",
    "Table",
    "account",
    "adverse_events",
    "baseline",
    "bias_ladder",
    "convergence",
    "estimates",
    "leave_one_out",
    "models",
    "probabilities",
    "publish",
    "scenarios",
    "to_csv",
]
