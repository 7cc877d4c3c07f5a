"""Scenarios around the analysis: specification curve, tornado and what moves the answer."""

from __future__ import annotations

import math

from bayesblina.core.tables.numbers import beside
from bayesblina.output.report import figures
from bayesblina.output.report.wording import PROBABILITY, Number, Row, records, shown
from bayesblina.studies.what_if.reading import Sensitivity

LARGEST_SPECIFICATION = 200


def sensitivity(ran: Sensitivity | None, *, masked: int) -> Row | None:
    """Word and draw scenarios, if there are any.

    `masked`: number of scenarios, over endpoints, that are left out.
    """
    if ran is None:
        return None
    each = ran.table.drop_duplicates("key")
    counts = each["status"].value_counts()
    worded = ", ".join(
        f"{counts[status]} {status}"
        for status in ("converged", "not converged", "failed")
        if status in counts
    )
    marked = {row["key"] for row in records(ran.table) if beside(row)}
    if marked:
        worded += (
            f"; {len(marked)} marked (crosses): the baseline moves the hazard ratio, or event "
            "times are those of visits"
        )
    if masked:
        worded += f"; {masked} more are masked, with few events on one side"
    endpoints = [
        _scenarios(ran, str(endpoint), index)
        for index, endpoint in enumerate(ran.table["endpoint"].dropna().unique())
        if (ran.table.loc[ran.table["endpoint"] == endpoint, "status"] == "converged").any()
    ]
    return {"counts": f"{len(each)} scenarios: {worded}.", "endpoints": endpoints}


def _scenarios(ran: Sensitivity, endpoint: str, index: int) -> Row:
    rows = ran.of_endpoint(endpoint).sort_values("median", kind="stable").reset_index(drop=True)
    drawn = []
    if len(rows) <= LARGEST_SPECIFICATION and ran.axes:
        title = f"{endpoint}: specification curve"
        figure = figures.specification(f"specification-{index}", ran, rows, title=title)
        words = f"{endpoint}: every scenario, by its median, with its settings below."
        drawn.append({"figure": figure, "words": words})
    effects = ran.effects(endpoint)
    single = effects[~effects["axis"].str.contains(" x ", regex=False)] if len(effects) else effects
    if len(single):
        figure = figures.tornado(f"tornado-{index}", single, title=f"{endpoint}: what moves it")
        drawn.append({"figure": figure, "words": f"{endpoint}: what moves the answer most."})
    return {
        "endpoint": endpoint,
        "holds": ran.conclusion(endpoint),
        "figures": drawn,
        "effects": [
            {
                "axis": row["axis"],
                "low": str(row["low"]),
                "high": str(row["high"]),
                "ratio_low": _shown(math.exp(row["log_ratio_low"]), ".2f"),
                "ratio_high": _shown(math.exp(row["log_ratio_high"]), ".2f"),
                "p_low": _shown(row["probability_low"], PROBABILITY),
                "p_high": _shown(row["probability_high"], PROBABILITY),
            }
            for row in records(effects)
        ],
    }


def _shown(value: float, shape: str) -> Number:
    """Scenarios that did not converge are left out, whatever became of the fit itself."""
    return Number(text=shown(float(value), shape), estimate=False)
