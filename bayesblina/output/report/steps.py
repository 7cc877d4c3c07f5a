"""Hazard ratios by step of the exposure's measure: table, figure, and which may be shown."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from bayesblina.core.masking import is_small
from bayesblina.inference.fitting import Fit
from bayesblina.output.plots.ratios import across_steps
from bayesblina.output.report import figures
from bayesblina.output.report.results import Results
from bayesblina.output.report.wording import PROBABILITY, Row, interval, number, records

TABLE = "hazard_ratios_by_step"


def withheld_by_step(fit: Fit, minimum: int, closed: Collection[str]) -> set[str]:
    """Name the endpoints whose ratios by step would tell a small count.

    Those of which a step has few patients or events, or with hidden numbers of events by phase
    (`closed`). How many steps a model takes, and where, follows from the events of all endpoints.
    """
    table = fit.person_time.table
    if closed and fit.question.steps is None:
        return set(map(str, fit.person_time.endpoints))
    exposed = table["role"].values == "exposed"
    events = table["events"].sum(("interval", "pattern")).transpose("endpoint", "phase").values
    visitors = table["visitors"].transpose("endpoint", "phase").values
    return set(closed) | {
        str(name)
        for name, died, seen in zip(
            table["endpoint"].values, events[:, exposed], visitors[:, exposed], strict=True
        )
        if any(is_small(count, minimum) for count in (*died.tolist(), *seen.tolist()))
    }


def by_step(results: Results) -> list[Row]:
    """Draw and word the hazard ratios by step of each endpoint that has any."""
    rows, fit = results.tables.get(TABLE), results.fit
    if rows is None:
        return []
    scale = fit.question.scale(fit.person_time.unit)
    drawn = []
    for index, (endpoint, own) in enumerate(rows.groupby("endpoint", sort=False)):
        title = f"{endpoint}: hazard ratio by {scale}"
        across = across_steps(
            own["begins"].to_numpy(dtype=float),
            scale=scale,
            measure=fit.question.measure or "since_entry",
            amount=fit.question.amount,
        )
        drawn.append(
            {
                "figure": figures.steps(f"steps-{index}", own, across, title=title),
                "endpoint": str(endpoint),
                "scale": scale,
                "rows": [_row(row) for row in records(own)],
            }
        )
    return drawn


def _row(row: Row) -> Row:
    """Write one step; that without a companion has none to show."""
    there = pd.notna(row.get("companion_median"))
    return {
        "step": str(row["step"]),
        **interval(row, TABLE),
        "below": number(row, "probability_below_1", PROBABILITY, table=TABLE),
        "companion": interval(row, TABLE, prefix="companion_") if there else None,
        "state": str(row.get("baseline", "not compared")),
    }
