"""Patients in a table of a query engine, which need not fit into memory.

`patients` declares them, `reading` and `checks` find what is wrong, `engines` opens and reads
tables, `passes` adds up what is in them, here or on the executors of Spark.
"""

from bayesblina.patients.scan.patients import (
    CohortScan,
    ScannedCovariate,
    coded,
    combinations,
    scan_cohort,
)

__all__ = ["CohortScan", "ScannedCovariate", "coded", "combinations", "scan_cohort"]
