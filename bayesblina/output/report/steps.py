"""Hazard ratios by step of the exposure's measure: table, figure, and which may be shown."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
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


def _pieces_of(fit: Fit) -> dict[str, str]:
    """Phases by the names of their pieces, if the exposed phase is cut into any."""
    table = fit.person_time.table
    pairs = list(
        zip(table["phase"].values.tolist(), table["treatment"].values.tolist(), strict=True)
    )
    # The first step of a phase may have its name: time in it, before its end.
    cut = {phase for piece, phase in pairs if piece != phase}
    return {piece: phase for piece, phase in pairs if phase in cut}


def by_phase(flow: pd.DataFrame, fit: Fit) -> pd.DataFrame:
    """Join the pieces of a phase in an account: how many there are follows from its events.

    Of patients in an engine pieces are asked for by name, and stay.
    """
    pieces, person_time = _pieces_of(fit), fit.person_time
    if not pieces or not person_time.complete:
        return flow
    episodes, phases = person_time.episodes, person_time.table["phase"].values
    inside = np.isin(phases[episodes["phase"].values], list(pieces))
    who = episodes["patient"].values
    who = person_time.persons.of[who] if person_time.period else who
    of_pieces = (flow["step"] == "in phase") & flow["phase"].isin(pieces)
    kept = [flow[~of_pieces]]
    for endpoint, rows in flow[of_pieces].groupby("endpoint", sort=False):
        own = episodes["endpoint"].values == person_time.endpoints.index(str(endpoint))
        kept.append(
            rows.iloc[[0]].assign(
                phase=rows["phase"].map(pieces).iloc[0],
                # Most were in several pieces.
                patients=np.unique(who[own & inside]).size,
                events=rows["events"].sum(),
                person_time=rows["person_time"].sum(),
            )
        )
    return pd.concat(kept).sort_index().reset_index(drop=True)


def named_for_phases(table: pd.DataFrame, fit: Fit) -> pd.DataFrame:
    """Name what a prior says of a piece, which is that just after its start, for its phase."""
    quantities = table["quantity"].astype(str)
    # Longer names first, of which shorter ones are the beginning.
    pieces = sorted(_pieces_of(fit).items(), key=lambda pair: -len(pair[0]))
    for piece, phase in pieces:
        quantities = quantities.str.replace(f", {piece}", f", {phase}", regex=False)
    return table.assign(quantity=quantities)


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
