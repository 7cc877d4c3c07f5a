"""Tidy tables for print: numbers by stated rules, text escaped in every format."""

from bayesblina.csv_files import to_csv
from bayesblina.tables.build import (
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
from bayesblina.tables.numbers import Kind
from bayesblina.tables.table import NOT_CONVERGED, SYNTHETIC, Table

__all__ = [
    "NOT_CONVERGED",
    "SYNTHETIC",
    "Kind",
    "Table",
    "account",
    "adverse_events",
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
