"""Patients in a table of a query engine, which need not fit into memory.

`patients` declares them, `reading` and `checks` find what is wrong, `engines` opens and reads
tables, `passes` adds up what is in them, here or on the executors of Spark. `stays` joins a table
of stays, which `settling` judges block by block; `coded` says what all passes read.
"""

from bayesblina.patients.scan.coded import coded, combinations
from bayesblina.patients.scan.patients import CohortScan, ScannedCovariate, scan_cohort

__all__ = ["CohortScan", "ScannedCovariate", "coded", "combinations", "scan_cohort"]
