"""Whether to believe it: predictive checks, convergence, what the priors do, external patients."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesblina.checks.replicates import replicated_events
from bayesblina.core.masking import MASK
from bayesblina.core.tables.numbers import probability
from bayesblina.output.report import figures
from bayesblina.output.report.answer import known
from bayesblina.output.report.hiding import Shown, joined_names
from bayesblina.output.report.joining import joined_events
from bayesblina.output.report.results import Results
from bayesblina.output.report.sections.rows import INTERVAL, endpoints_of, rows_of
from bayesblina.output.report.sections.survival import colours_of, observed_of
from bayesblina.output.report.wording import PROBABILITY, Row, number, shape_of

EXTREME = 0.025


def predictive(left: Shown) -> Row:
    """Draw events and curves, replicated and observed, and take leave-one-out predictions."""
    there = "predictive" in left.whole.tables
    return {
        "p_words": _p_words(left.results.tables["predictive"]["p_value"]) if there else "",
        "events": _events(left) if there else [],
        "replicated": _replicated(left),
        "loo": [
            {"endpoint": row["endpoint"], "reliable": bool(row["reliable"])}
            | {
                name: number(row, column, shape, table="leave_one_out")
                for name, column, shape in (
                    ("elpd", "elpd", ".1f"),
                    ("se", "se", ".1f"),
                    ("p_loo", "p_loo", ".1f"),
                    ("k", "largest_pareto_k", ".2f"),
                )
            }
            for row in rows_of(left.results, "leave_one_out")
        ],
    }


def _p_words(values: pd.Series) -> str:
    """Say between what posterior predictive p-values lie."""
    if values.empty:
        return ""
    extreme = int(((values < EXTREME) | (values > 1 - EXTREME)).sum())
    return (
        f"Posterior predictive p-values of the {len(values)} intervals lie between "
        f"{probability(values.min())} and {probability(values.max())}; {extreme} outside "
        "0.025 to 0.975. Near 0 there were more events than the model expects, near 1 "
        "fewer. The data are those fitted, so that middling values say little and extreme "
        "ones much."
    )


def _events(left: Shown) -> list[Row]:
    """Draw events by interval, neighbours joined until each has enough."""
    fit, minimum, drawn = left.results.fit, left.minimum, []
    computed = left.whole.tables["predictive"]
    for index, endpoint in enumerate(endpoints_of(computed)):
        if endpoint in left.withheld:
            continue
        rows = left.results.tables["predictive"]
        rows = rows[rows["endpoint"] == endpoint]
        if "lower" not in rows:
            replicated = replicated_events(fit, seed=fit.provenance.seed)
            rows = joined_events(replicated.sel(endpoint=endpoint), minimum=minimum)
        joined = (
            f"; neighbouring intervals are joined until each has {minimum} events"
            # Whether any are joined would tell how many there were.
            if left.coarse or len(rows) < (computed["endpoint"] == endpoint).sum()
            else ""
        )
        figure = (
            figures.events(
                f"events-{index}",
                rows,
                title=f"{endpoint}: events by interval",
                unit=fit.person_time.unit,
            )
            if len(rows)
            else None
        )
        drawn.append({"endpoint": endpoint, "figure": figure, "joined": joined})
    return drawn


def _replicated(left: Shown) -> list[Row]:
    """Draw replicated curves with the observed ones."""
    results = left.results
    drawn: list[Row] = []
    if "predictive_curves" not in results.tables:
        return drawn
    table = results.tables["predictive_curves"]
    for index, endpoint in enumerate(endpoints_of(table)):
        rows = table[table["endpoint"] == endpoint]
        times = np.sort(rows["time"].unique()).astype(float)
        start = float(times[0])
        observed = observed_of(results, endpoint, start, times)
        figure = figures.bands(
            f"replicated-{index}",
            rows,
            observed=observed,
            colours=colours_of(results),
            title=f"{endpoint}: replicated and observed curves",
            axis=f"{results.fit.person_time.unit} from the origin, event-free at {start:g}",
        )
        hidden = "simon_makuch" in left.whole.tables and not observed
        drawn.append({"figure": figure, "endpoint": endpoint, "hidden": hidden})
    return drawn


def criteria(results: Results) -> list[Row]:
    """Take the criteria of the convergence gate."""
    return [
        {
            "criterion": row["name"],
            "value": number(
                {**row, "endpoint": row["name"]},
                "value",
                ".4g",
                table="diagnostics",
                estimate=False,
            ),
            "limit": row["limit"],
            "passed": str(row["passed"]) == "True",
        }
        for row in rows_of(results, "diagnostics")
        if row["kind"] == "criterion"
    ]


def parameters(left: Shown) -> list[Row]:
    """Take the worst of each kind; single parameters may bear the names of patients."""
    table = left.whole.tables["diagnostics"]
    rows = table[table["kind"] == "parameter"]
    kinds = rows["name"].str.partition("[")[0]
    names = joined_names(left.whole.fit, rows)
    joined = set(names[names != rows["name"]]) if left.coarse else set()
    return [
        {
            "name": kind,
            # As many as there are patients, or events.
            "count": MASK if kind in joined else left.words(str(len(worst))),
            # Independent draws have no chains to compare.
            "r_hat": f"{worst['r_hat'].max():.4f}" if worst["r_hat"].notna().any() else "",
            "bulk": f"{worst['ess_bulk'].min():.0f}",
            "tail": f"{worst['ess_tail'].min():.0f}",
        }
        for kind, worst in rows.groupby(kinds, sort=False)
    ]


def scaling(results: Results) -> list[Row]:
    """Say what becomes of the answer when priors are raised to powers."""

    def table(row: Row) -> str:
        return f"prior_sensitivity/{row['component']}/{row['alpha']:g}"

    return [
        {
            "endpoint": row["endpoint"],
            "component": row["component"],
            "alpha": f"{row['alpha']:g}",
            **{
                name: number(row, name, ".2f", table=table(row))
                for name in ("mean", "lower", "upper")
            },
            "below": number(row, "probability_below_null", PROBABILITY, table=table(row)),
            "k": f"{row['pareto_k']:.2f}",
            "reading": row["reading"],
        }
        for row in rows_of(results, "prior_sensitivity")
    ]


def implied(results: Results) -> list[Row]:
    """Say what the priors imply before the data."""

    def shape(row: Row) -> str:
        # Survival, and no ratio or difference of it.
        survival = row["quantity"].startswith("survival ") and " less " not in row["quantity"]
        return PROBABILITY if survival else shape_of(row)

    return [
        {"endpoint": row["endpoint"], "quantity": row["quantity"]}
        | {
            name: number(
                row, name, shape(row), table=f"prior_predictive/{row['quantity']}", estimate=False
            )
            for name in INTERVAL
        }
        for row in rows_of(results, "prior_predictive")
        # What the model holds constant says nothing.
        if row["lower"] < row["upper"]
    ]


def borrowed(results: Results) -> list[Row]:
    """Say what external patients add, and how they differ, without counts of patients."""
    shapes = {
        **dict.fromkeys(("hazard_ratio", "lower", "upper", "current", "alone"), ".2f"),
        **dict.fromkeys(("effective_events", "effective_events_error"), ".0f"),
    }
    return [
        {
            "endpoint": row["endpoint"],
            "what": f"hazard ratio of {row['name']}" if row["name"] else "hazard",
            "source": row["source"],
            "conflict": bool(row["conflict"]),
            **{
                name: number(
                    row, name, shape, table=f"borrowing/{row['part']}/{row['name']}/{row['source']}"
                )
                if known(row, name)
                else None
                for name, shape in shapes.items()
            },
        }
        for row in rows_of(results, "borrowing")
    ]
