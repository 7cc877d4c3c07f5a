"""Patients in a table of a query engine, which need not fit into memory.

`patients` declares them, `checks` finds what is wrong, `engines` opens and reads tables.
"""

from bayesblina.patients.scan.patients import (
    CohortScan,
    ScannedCovariate,
    coded,
    combinations,
    scan_cohort,
)

__all__ = ["CohortScan", "ScannedCovariate", "coded", "combinations", "scan_cohort"]
