"""Whether to believe it: predictive checks, convergence, what the priors do, external patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bayesblina.checks.replicates import replicated_events
from bayesblina.core.tables.numbers import probability
from bayesblina.output.report import figures
from bayesblina.output.report.estimates import colours_of, observed_of
from bayesblina.output.report.hiding import Shown, joined_events
from bayesblina.output.report.results import Results
from bayesblina.output.report.wording import (
    INTERVAL,
    PROBABILITY,
    Number,
    Row,
    count,
    endpoints_of,
    known,
    number,
    numbers_of,
    shape_of,
)

EXTREME, BELOW_NULL = 0.025, "probability_below_null"
LOO = {"elpd": ".1f", "se": ".1f", "p_loo": ".1f", "largest_pareto_k": ".2f"}
BORROWED = {
    **dict.fromkeys(("hazard_ratio", "lower", "upper", "current", "alone"), ".2f"),
    **dict.fromkeys(("effective_events", "effective_events_error"), ".0f"),
}
SAFETY = {
    f"{quantity}_{end}": shape
    for quantity, shape in (("incidence", PROBABILITY), ("rate_per_year", ".2f"))
    for end in INTERVAL
}


def predictive(left: Shown) -> Row:
    """Draw events and curves, replicated and observed, and take leave-one-out predictions."""
    there = "predictive" in left.whole.tables
    return {
        "p_words": _p_words(left.results.tables["predictive"]["p_value"]) if there else "",
        "events": _events(left) if there else [],
        "replicated": _replicated(left),
        "loo": [
            {"endpoint": row["endpoint"], "reliable": bool(row["reliable"])}
            | numbers_of(row, LOO, table="leave_one_out")
            for row in left.results.rows("leave_one_out")
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
    computed, table = left.whole.tables["predictive"], left.results.tables["predictive"]
    for index, endpoint in enumerate(endpoints_of(computed)):
        if endpoint in left.withheld:
            continue
        rows = table[table["endpoint"] == endpoint]
        if "lower" not in rows:
            replicated = replicated_events(fit, seed=fit.provenance.seed)
            rows = joined_events(replicated.sel(endpoint=endpoint), minimum=minimum)
        row: Row = {"endpoint": endpoint, "figure": None, "joined": ""}
        if len(rows) < (computed["endpoint"] == endpoint).sum():
            row["joined"] = f"; neighbouring intervals are joined until each has {minimum} events"
        if len(rows):
            title = f"{endpoint}: events by interval"
            row["figure"] = figures.events(
                f"events-{index}", rows, title=title, unit=fit.person_time.unit
            )
        drawn.append(row)
    return drawn


def _replicated(left: Shown) -> list[Row]:
    """Draw replicated curves with the observed ones."""
    results, drawn = left.results, []
    table = results.tables.get("predictive_curves", pd.DataFrame({"endpoint": []}))
    for index, (endpoint, rows) in enumerate(table.groupby("endpoint", sort=False)):
        times = np.sort(rows["time"].unique()).astype(float)
        observed = observed_of(results, str(endpoint), float(times[0]), times)
        figure = figures.bands(
            f"replicated-{index}",
            rows,
            observed=observed,
            colours=colours_of(results),
            title=f"{endpoint}: replicated and observed curves",
            axis=f"{results.fit.person_time.unit} from the origin, event-free at {times[0]:g}",
        )
        hidden = "simon_makuch" in left.whole.tables and not observed
        drawn.append({"figure": figure, "endpoint": str(endpoint), "hidden": hidden})
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
        for row in results.rows("diagnostics")
        if row["kind"] == "criterion"
    ]


def parameters(left: Shown) -> list[Row]:
    """Take the worst of each kind; single parameters may bear the names of patients."""
    table = left.whole.tables["diagnostics"]
    rows = table[table["kind"] == "parameter"]
    kinds = rows["name"].str.partition("[")[0]
    return [
        {
            "name": kind,
            # One for each patient, perhaps.
            "count": left.words(str(len(worst))) if len(worst) > 1 else "1",
            # Independent draws have no chains to compare.
            "r_hat": f"{worst['r_hat'].max():.4f}" if worst["r_hat"].notna().any() else "",
            "bulk": f"{worst['ess_bulk'].min():.0f}",
            "tail": f"{worst['ess_tail'].min():.0f}",
        }
        for kind, worst in rows.groupby(kinds, sort=False)
    ]


def scaling(results: Results) -> list[Row]:
    """Say what becomes of the answer when priors are raised to powers."""
    shapes = {**dict.fromkeys(("mean", "lower", "upper"), ".2f"), BELOW_NULL: PROBABILITY}
    return [
        {
            "endpoint": row["endpoint"],
            "component": row["component"],
            "alpha": f"{row['alpha']:g}",
            **numbers_of(
                row, shapes, table=f"prior_sensitivity/{row['component']}/{row['alpha']:g}"
            ),
            "k": f"{row['pareto_k']:.2f}",
            "reading": row["reading"],
        }
        for row in results.rows("prior_sensitivity")
    ]


def implied(results: Results) -> list[Row]:
    """Say what the priors imply before the data."""

    def shape(row: Row) -> str:
        # Survival, and no ratio or difference of it.
        survival = row["quantity"].startswith("survival ") and " less " not in row["quantity"]
        return PROBABILITY if survival else shape_of(row)

    return [
        {"endpoint": row["endpoint"], "quantity": row["quantity"]}
        | numbers_of(
            row,
            dict.fromkeys(INTERVAL, shape(row)),
            table=f"prior_predictive/{row['quantity']}",
            estimate=False,
        )
        for row in results.rows("prior_predictive")
        # What the model holds constant says nothing.
        if row["lower"] < row["upper"]
    ]


def borrowed(results: Results) -> list[Row]:
    """Say what external patients add, and how they differ, without counts of patients."""
    return [
        {
            "endpoint": row["endpoint"],
            "what": f"hazard ratio of {row['name']}" if row["name"] else "hazard",
            "source": row["source"],
            "conflict": bool(row["conflict"]),
            **_known_numbers(
                row, BORROWED, table=f"borrowing/{row['part']}/{row['name']}/{row['source']}"
            ),
        }
        for row in results.rows("borrowing")
    ]


def safety(results: Results) -> list[Row]:
    """Take adverse events by phase."""
    phases = []
    for row in results.rows("safety"):
        cells = _known_numbers(row, SAFETY, table=f"safety/{row['phase']}", estimate=False)
        counts = {name: count(row[name]) for name in ("patients", "with_event", "events")}
        share, rate = cells["incidence_median"], cells["rate_per_year_median"]
        phases.append({"phase": row["phase"], **counts, **cells, "share": share, "rate": rate})
    return phases


def _known_numbers(
    row: Row, shapes: Mapping[str, str], *, table: str, estimate: bool = True
) -> dict[str, Number | None]:
    """Take several numbers out of a row; none where there is no number."""
    there = {name: shape for name, shape in shapes.items() if known(row, name)}
    return {**dict.fromkeys(shapes), **numbers_of(row, there, table=table, estimate=estimate)}
