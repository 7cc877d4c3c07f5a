"""Hazard ratios: the answers, their densities, restricted means and the ladder of methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesblina.classical.comparison import ADJUSTED
from bayesblina.core.masking import MASK
from bayesblina.core.tables.numbers import BASELINE, BAYESIAN, CONVERGED, failed
from bayesblina.output.report import figures
from bayesblina.output.report.answer import compared, pulled
from bayesblina.output.report.results import Results
from bayesblina.output.report.sections.rows import companion, interval, mark_of, rows_of
from bayesblina.output.report.wording import (
    PROBABILITY,
    Number,
    Row,
    answer,
    number,
    prior_weight,
    reading,
    shape_of,
)

TABLE = "hazard_ratios"


def answers(results: Results) -> list[Row]:
    """Word the answer for each endpoint."""
    fit = results.fit
    means = rows_of(results, "restricted_means")
    answered = []
    for row in rows_of(results, TABLE):
        # One for each endpoint: the regime at the first landmark.
        first = [gain for gain in means if gain["endpoint"] == row["endpoint"]][:1]
        gains = []
        for gain in first:
            numbers = interval(gain, "restricted_means", signed=True)
            words = (
                f"Mean time event-free from {gain['landmark']:g} up to {gain['horizon']:.1f} "
                f"{fit.person_time.unit}, {fit.question.exposed} {gain['regime']} against never: "
            )
            ends = (numbers["lower"], " to ", numbers["upper"])
            gains.append((words, numbers["median"], " (", *ends, ")."))
        answered.append(
            {
                "endpoint": row["endpoint"],
                **interval(row, TABLE),
                "sentence": answer(row, fit),
                "reading": reading(row, fit),
                "gains": gains,
                "prior": prior_weight(row, fit),
                "companion": companion(row),
                "compared": compared(row, fit),
                "state": str(row.get(BASELINE, "not compared")),
                "marks": [mark_of(gate) for gate in failed(row) if gate != CONVERGED],
                "pulled": pulled(row),
            }
        )
    return answered


def means(results: Results) -> list[Row]:
    """Take the differences of restricted means."""
    return [
        {
            "endpoint": row["endpoint"],
            "regime": row["regime"],
            "landmark": f"{row['landmark']:g}",
            "horizon": f"{row['horizon']:.1f}",
            **interval(row, "restricted_means", signed=True),
        }
        for row in rows_of(results, "restricted_means")
    ]


def densities(results: Results, ratios: Any, thresholds: Sequence[str]) -> list[Row]:
    """Draw the densities of the hazard ratios over their prior."""
    fit = results.fit
    prior = fit.definition.phases.prior
    drawn = []
    for index, row in enumerate(rows_of(results, TABLE)):
        endpoint = str(row["endpoint"])
        figure = figures.density(
            f"density-{index}",
            np.log(ratios.sel(endpoint=endpoint).values.ravel()),
            prior=(prior.mean, prior.sd),
            interval=(row["lower"], row["upper"]),
            median=row["median"],
            thresholds=[float(threshold) for threshold in thresholds],
            title=f"{endpoint}: hazard ratio of {fit.question.exposed}",
            axis=f"{endpoint}: hazard ratio of {fit.question.exposed} (log scale)",
        )
        drawn.append({"figure": figure, "endpoint": endpoint})
    return drawn


def ratios(results: Results, thresholds: Sequence[str]) -> list[Row]:
    """Take the hazard ratios, with what tells how exact they are."""
    return [
        {
            "endpoint": row["endpoint"],
            **interval(row, TABLE),
            "companion": companion(row),
            "state": str(row.get(BASELINE, "not compared")),
            "mean": number(row, "mean", ".2f", table=TABLE),
            "below": [
                number(row, f"probability_below_{threshold}", PROBABILITY, table=TABLE)
                for threshold in thresholds
            ],
            "mcse": number(row, "mcse", ".4f", table=TABLE),
            "ess": number(row, "ess_bulk", ".0f", table=TABLE),
        }
        for row in rows_of(results, TABLE)
    ]


def ladder(results: Results) -> list[Row]:
    """Draw the ladder of methods of each endpoint."""
    table = rows_of(results, "bias_ladder")
    drawn = []
    for index, endpoint in enumerate(dict.fromkeys(row["endpoint"] for row in table)):
        rows = [_rung(row) for row in table if row["endpoint"] == endpoint]
        figure = figures.forest(
            f"ladder-{index}", [row["drawn"] for row in rows], title=f"{endpoint}: bias ladder"
        )
        drawn.append({"figure": figure, "endpoint": endpoint, "rows": rows})
    return drawn


def _rung(row: Row) -> Row:
    """Write one rung of the ladder, and what is drawn of it: the numbers as they are shown."""
    own, masked = row["method"] == BAYESIAN, row.get("masked", False)
    table, shape = f"bias_ladder/{row['method']}", shape_of(row)
    cells = {
        name: number(row, name, shape, table=table, estimate=own)
        for name in ("estimate", "lower", "upper")
    }
    covariates = "adjusted" if row["adjusted"] else "unadjusted"
    kind = "own" if own else "other"
    hidden = Number(text=MASK, estimate=False)
    return {
        "method": row["method"],
        "covariates": covariates,
        "note": row["note"],
        **(dict.fromkeys(cells, hidden) if masked else cells),
        "drawn": {
            "label": f"{row['method'].removesuffix(ADJUSTED)}, {covariates}",
            "kind": "biased" if row["note"].startswith("biased") else kind,
            "absent": "masked" if masked else "no finite estimate",
            **{name: cell.rounded for name, cell in cells.items()},
        },
    }
