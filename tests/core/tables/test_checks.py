"""Checks for print."""

from __future__ import annotations

from bayesblina import tables
from tests.core.tables.examples import (
    criteria,
)


def test_convergence() -> None:
    assert tables.convergence(criteria()).rows[0] == ("largest R-hat", "1.005", "< 1.01", "yes")
    failed = tables.convergence(criteria(False))
    assert failed.rows[1] == ("divergences", "3", "0", "FAILED")
    assert failed.notes == (tables.NOT_CONVERGED,)
