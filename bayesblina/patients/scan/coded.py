"""Patients of a scan as columns of numbers, which all passes read."""

from __future__ import annotations

import math
from typing import Any

from bayesblina.core.errors import SpecError
from bayesblina.patients.scan.engines import ibis_module
from bayesblina.patients.scan.patients import CohortScan, ScannedCovariate
from bayesblina.patients.scan.settling import STAYS

# Combinations of levels are numbered by 64 bits.
MOST_COMBINATIONS = 2**63 - 1


def _categorical(scan: CohortScan) -> list[ScannedCovariate]:
    """Pick the categorical covariates."""
    return [covariate for covariate in scan.covariates if covariate.kind != "continuous"]


def combinations(scan: CohortScan) -> int:
    """Count the combinations of levels of categorical covariates."""
    return math.prod(max(len(covariate.levels), 1) for covariate in _categorical(scan))


def coded(scan: CohortScan) -> Any:
    """Give each patient the number of the combination of categorical covariates.

    ``id``, ``code``; ``x0`` and so on, the continuous covariates; ``start0``, ``end0`` and so on,
    the bounds of phases; ``stays`` where phases may recur; ``transplant`` where it is known;
    ``time:name``, ``event:name`` and ``entry:name`` of each endpoint.
    """
    ibis = ibis_module()
    if combinations(scan) > MOST_COMBINATIONS:
        raise SpecError(
            f"The categorical covariates have {combinations(scan):.2g} combinations of levels; in "
            "a query engine there may be 9e18. Leave some out, or read patients with read_cohort."
        )
    code = ibis.literal(0, type="int64")
    for covariate in _categorical(scan):
        position = scan.column("covariate", covariate.name).cases(
            *((level, index) for index, level in enumerate(covariate.levels)), else_=0
        )
        code = code * len(covariate.levels) + position.cast("int64")
    columns = {"id": scan.column("patient"), "code": code}
    columns |= {f"x{i}": scan.column("covariate", name) for i, name in enumerate(scan.continuous)}
    columns |= {
        f"{kind}{index}": scan.column(kind, name)
        for index, name in enumerate(scan.phases)
        for kind in ("start", "end")
    }
    if scan.recurring:
        columns[STAYS] = scan.table[STAYS]
    if scan.transplant is not None:
        columns["transplant"] = scan.column("transplant")
    columns |= {
        f"{kind}:{name}": scan.column(kind, name)
        for name in scan.endpoints
        for kind in ("time", "event", "entry")
    }
    return scan.table.select(**columns)
