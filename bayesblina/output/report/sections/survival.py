"""Survival by endpoint, regime and landmark, with observed curves and numbers at risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats
from bayesblina.core.masking.tables import read_observed
from bayesblina.estimands.regimes import Never
from bayesblina.output.report import figures
from bayesblina.output.report.figures import COLOURS
from bayesblina.output.report.hiding import Shown
from bayesblina.output.report.results import Results
from bayesblina.output.report.sections.rows import INTERVAL, count, rows_of
from bayesblina.output.report.wording import SURVIVAL, Row, number, records, shown

TABLE_ROWS = 7
Observed = Mapping[str, tuple[Floats, Floats]]


def curves(left: Shown, endpoints: Sequence[str]) -> tuple[list[Row], Row, list[float], list[str]]:
    """Draw survival for every endpoint and landmark.

    Result: the figures with what stands beside them, what the page's script needs of each, the
    landmarks, and the regimes.
    """
    tables = left.results.tables
    name = "survival_by_landmark" if "survival_by_landmark" in tables else "survival"
    table = tables[name]
    if "landmark" not in table.columns:
        table = table.assign(landmark=float(table["time"].min()))
    landmarks = sorted(float(value) for value in table["landmark"].unique())
    regimes = list(map(str, table["regime"].unique()))
    drawn, data = [], {}
    for first, endpoint in enumerate(endpoints):
        for second, landmark in enumerate(landmarks):
            rows = table[(table["endpoint"] == endpoint) & (table["landmark"] == landmark)]
            if len(rows):
                beside, curve = _drawing(
                    left,
                    rows,
                    name=name,
                    regimes=regimes,
                    endpoint=endpoint,
                    landmark=landmark,
                    position=(first, second),
                )
                drawn.append(beside)
                data[beside["figure"].name] = curve
    return drawn, data, landmarks, regimes


def _drawing(
    left: Shown,
    rows: pd.DataFrame,
    *,
    name: str,
    regimes: Sequence[str],
    endpoint: str,
    landmark: float,
    position: tuple[int, int],
) -> tuple[Row, Row]:
    """Draw the curves of an endpoint from a landmark on; words beside, and data for the script."""
    results, colours = left.results, colours_of(left.results)
    times = np.sort(rows["time"].unique()).astype(float)
    observed = observed_of(results, endpoint, landmark, times)
    known = _known_until(colours, observed, regimes, times)
    figure, data = figures.survival(
        f"survival-{position[0]}-{position[1]}",
        rows,
        regimes=regimes,
        observed=observed,
        at_risk=_at_risk(results, endpoint, landmark),
        colours=colours,
        known_until=known,
        title=f"{endpoint}: survival",
        unit=results.fit.person_time.unit,
        landmark=landmark,
    )
    kept = set(times[np.linspace(0, times.size - 1, TABLE_ROWS).round().astype(int)])
    beside = {
        "figure": figure,
        "endpoint": endpoint,
        "observed": [(group, colour) for group, colour in colours.items() if group in observed],
        "beyond": bool(known),
        "hidden": "simon_makuch" in left.whole.tables and not observed,
        "endpoint_index": position[0],
        "landmark_index": position[1],
        "landmark": f"{landmark:g}",
        "legend": [
            (regime, index % COLOURS)
            for index, regime in enumerate(regimes)
            if (rows["regime"] == regime).any()
        ],
        "steps": times.size - 1,
        "middle": (times.size - 1) // 2,
        "rows": [
            {"regime": row["regime"], "time": f"{row['time']:.1f}"}
            | {column: number(row, column, SURVIVAL, table=name) for column in INTERVAL}
            for row in records(rows[rows["time"].isin(kept)])
        ],
    }
    return beside, data


def _known_until(
    colours: Mapping[str, int], observed: Observed, regimes: Sequence[str], times: Floats
) -> dict[str, float]:
    """Find where too few are at risk for a regime: where the observed curve of its colour ends."""
    return {
        regime: float(at[-1])
        for regime in regimes
        for group, (at, _) in observed.items()
        if colours[group] == int(regime != Never().label) and at.size and at[-1] < times[-1]
    }


def first_landmark(results: Results, landmarks: Sequence[float]) -> int:
    """Show the study's own landmark first; where it has one regime only, one that has more."""
    own = float(results.tables["survival"]["time"].min())
    table = results.tables.get("survival_by_landmark")
    if table is None or own not in landmarks:
        return 0
    several = [
        landmark
        for landmark in landmarks
        if len(set(table.loc[table["landmark"] == landmark, "regime"])) > 1
    ]
    return landmarks.index(own if own in several or not several else several[0])


def observed_of(
    results: Results, endpoint: str, landmark: float, times: Floats
) -> dict[str, tuple[Floats, Floats]]:
    """Read observed curves at the times of the others: the times of single events are not shown."""
    table = results.tables.get("simon_makuch")
    if table is None:
        return {}
    # Masked rows are those that may be shown, and have no counts any more.
    counts = {name: pd.to_numeric(table[name], errors="coerce") for name in ("at_risk", "events")}
    inside = (table["endpoint"] == endpoint) & (table["landmark"] == landmark)
    groups = table.assign(**counts)[inside].groupby("group", sort=False)
    return {str(group): read_observed(rows, times, minimum=1) for group, rows in groups}


def colours_of(results: Results) -> dict[str, int]:
    """Colours of the observed groups: those of the regimes that they resemble."""
    tables = [
        results.tables[name]
        for name in ("simon_makuch", "predictive_curves")
        if name in results.tables
    ]
    names = [str(group) for table in tables for group in table["group"].unique()]
    return {name: int(name == results.fit.question.exposed) for name in names}


def _at_risk(
    results: Results, endpoint: str, landmark: float
) -> dict[str, list[tuple[float, str]]]:
    groups: dict[str, list[tuple[float, str]]] = {}
    for row in rows_of(results, "at_risk"):
        if (row["endpoint"], row["landmark"]) == (endpoint, landmark):
            cell = (float(row["time"]), count(row["at_risk"], ".0f"))
            groups.setdefault(str(row["group"]), []).append(cell)
    return groups


def curve_shift(results: Results) -> list[Row]:
    """Write how far the baseline moves curves."""
    return [
        {
            "endpoint": row["endpoint"],
            "regime": row["regime"],
            "largest": shown(row["largest"], ".1f"),
            "time": f"{row['time']:.1f}",
            "own": _coarse(row["survival"]),
            "free": _coarse(row["survival_free"]),
        }
        for row in rows_of(results, "curve_shift")
    ]


def _coarse(share: float) -> str:
    """Write survival with two decimals: what is neither 0 nor 1 does not become it."""
    return ">0.99" if 0.995 <= share < 1 else shown(share, ".2f")
