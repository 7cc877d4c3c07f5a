"""Tidy tables for print: numbers by stated rules, text escaped in every format."""

from bayesblina.core.csv_files import to_csv
from bayesblina.core.tables.checks import baseline, convergence, leave_one_out, models
from bayesblina.core.tables.counts import account, adverse_events
from bayesblina.core.tables.estimates import bias_ladder, estimates, probabilities, scenarios
from bayesblina.core.tables.numbers import Kind
from bayesblina.core.tables.publishing import publish
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
