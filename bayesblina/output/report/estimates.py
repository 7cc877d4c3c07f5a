"""Estimates: hazard ratios, survival, restricted means, the ladder of methods, scenarios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.classical.comparison import ADJUSTED
from bayesblina.core.arrays import Floats
from bayesblina.core.masking import MASK
from bayesblina.core.masking.tables import read_observed
from bayesblina.core.tables.numbers import BASELINE, BAYESIAN, CONVERGED, beside, failed
from bayesblina.estimands.regimes import Never
from bayesblina.inference.fitting import Fit
from bayesblina.output.report import figures
from bayesblina.output.report.hiding import Shown
from bayesblina.output.report.results import Results
from bayesblina.output.report.wording import (
    INTERVAL,
    PROBABILITY,
    SURVIVAL,
    Number,
    Row,
    Words,
    answer,
    companion,
    compared,
    count,
    interval,
    mark_of,
    number,
    numbers_of,
    prior_weight,
    pulled,
    reading,
    records,
    shape_of,
    shown,
)
from bayesblina.studies.what_if.reading import Sensitivity

LARGEST_SPECIFICATION = 200
TABLE_ROWS = 7

TABLE = "hazard_ratios"


def answers(results: Results) -> list[Row]:
    """Word the answer for each endpoint."""
    fit, gains = results.fit, results.rows("restricted_means")
    return [
        {
            "endpoint": row["endpoint"],
            **interval(row, TABLE),
            "sentence": answer(row, fit),
            "reading": reading(row, fit),
            # One for each endpoint: the regime at the first landmark.
            "gains": [_gain(gain, fit) for gain in gains if gain["endpoint"] == row["endpoint"]][
                :1
            ],
            "prior": prior_weight(row, fit),
            "companion": companion(row),
            "compared": compared(row, fit),
            "state": str(row.get(BASELINE, "not compared")),
            "marks": [mark_of(gate) for gate in failed(row) if gate != CONVERGED],
            "pulled": pulled(row),
        }
        for row in results.rows(TABLE)
    ]


def _gain(row: Row, fit: Fit) -> Words:
    """Say how much longer patients are event-free, in a sentence."""
    numbers = interval(row, "restricted_means", signed=True)
    return (
        f"Mean time event-free from {row['landmark']:g} up to {row['horizon']:.1f} "
        f"{fit.person_time.unit}, {fit.question.exposure} {row['regime']} against never: ",
        numbers["median"],
        " (",
        numbers["lower"],
        " to ",
        numbers["upper"],
        ").",
    )


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
        for row in results.rows("restricted_means")
    ]


def densities(results: Results, ratios: Any, thresholds: Sequence[str]) -> list[Row]:
    """Draw the densities of the hazard ratios over their prior."""
    prior = results.fit.definition.phases.prior
    drawn = []
    for index, row in enumerate(results.rows(TABLE)):
        title = f"{row['endpoint']}: hazard ratio of {results.fit.question.exposure}"
        figure = figures.density(
            f"density-{index}",
            np.log(ratios.sel(endpoint=str(row["endpoint"])).values.ravel()),
            prior=(prior.mean, prior.sd),
            interval=(row["lower"], row["upper"]),
            median=row["median"],
            thresholds=list(map(float, thresholds)),
            title=title,
            axis=f"{title} (log scale)",
        )
        drawn.append({"figure": figure, "endpoint": str(row["endpoint"])})
    return drawn


def ratios(results: Results, thresholds: Sequence[str]) -> list[Row]:
    """Take the hazard ratios, with what tells how exact they are."""
    return [
        {
            "endpoint": row["endpoint"],
            **interval(row, TABLE),
            "companion": companion(row),
            "state": str(row.get(BASELINE, "not compared")),
            **numbers_of(row, {"mean": ".2f", "mcse": ".4f", "ess_bulk": ".0f"}, table=TABLE),
            "below": [
                number(row, f"probability_below_{threshold}", PROBABILITY, table=TABLE)
                for threshold in thresholds
            ],
        }
        for row in results.rows(TABLE)
    ]


def ladder(results: Results) -> list[Row]:
    """Draw the ladder of methods of each endpoint."""
    rungs: dict[str, list[Row]] = {}
    for row in results.rows("bias_ladder"):
        rungs.setdefault(row["endpoint"], []).append(_rung(row))
    drawn = []
    for index, (endpoint, rows) in enumerate(rungs.items()):
        title = f"{endpoint}: bias ladder"
        figure = figures.forest(f"ladder-{index}", [rung["drawn"] for rung in rows], title=title)
        drawn.append({"figure": figure, "endpoint": endpoint, "rows": rows})
    return drawn


def _rung(row: Row) -> Row:
    """Write one rung of the ladder, and what is drawn of it: the numbers as they are shown."""
    own, masked = row["method"] == BAYESIAN, row.get("masked", False)
    shapes = dict.fromkeys(("estimate", "lower", "upper"), shape_of(row))
    cells = numbers_of(row, shapes, table=f"bias_ladder/{row['method']}", estimate=own)
    covariates = "adjusted" if row["adjusted"] else "unadjusted"
    return {
        "method": row["method"],
        "covariates": covariates,
        "note": row["note"],
        **(dict.fromkeys(cells, Number(text=MASK, estimate=False)) if masked else cells),
        "drawn": {
            "label": f"{row['method'].removesuffix(ADJUSTED)}, {covariates}",
            "kind": "biased" if row["note"].startswith("biased") else "own" if own else "other",
            "absent": "masked" if masked else "no finite estimate",
            **{name: cell.rounded for name, cell in cells.items()},
        },
    }


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
    for position in np.ndindex(len(endpoints), len(landmarks)):
        endpoint, landmark = endpoints[position[0]], landmarks[position[1]]
        rows = table[(table["endpoint"] == endpoint) & (table["landmark"] == landmark)]
        if len(rows):
            drawing, curve = _drawing(
                left,
                rows,
                name=name,
                regimes=regimes,
                endpoint=endpoint,
                landmark=landmark,
                position=position,
            )
            drawn.append(drawing)
            data[drawing["figure"].name] = curve
    return drawn, data, landmarks, regimes


def _drawing(
    left: Shown,
    rows: pd.DataFrame,
    *,
    name: str,
    regimes: Sequence[str],
    endpoint: str,
    landmark: float,
    position: tuple[int, ...],
) -> tuple[Row, Row]:
    """Draw the curves of an endpoint from a landmark on; words beside, and data for the script."""
    results, colours = left.results, colours_of(left.results)
    times = np.sort(rows["time"].unique()).astype(float)
    observed = observed_of(results, endpoint, landmark, times)
    known = _known_until(colours, observed, regimes, times)
    marked = "supported" in rows
    figure, data = figures.survival(
        f"survival-{position[0]}-{position[1]}",
        rows,
        regimes=regimes,
        observed=observed,
        at_risk=_at_risk(results, endpoint, landmark),
        colours=colours,
        known_until=known,
        supported=marked,
        title=f"{endpoint}: survival",
        unit=results.fit.person_time.unit,
        landmark=landmark,
    )
    kept = set(times[np.linspace(0, times.size - 1, TABLE_ROWS).round().astype(int)])
    drawing = {
        "figure": figure,
        "endpoint": endpoint,
        "observed": [(group, colour) for group, colour in colours.items() if group in observed],
        "beyond": bool(known),
        "unsupported": marked and not rows["supported"].astype(bool).all(),
        "hidden": "simon_makuch" in left.whole.tables and not observed,
        "endpoint_index": position[0],
        "landmark_index": position[1],
        "landmark": f"{landmark:g}",
        "legend": [
            (regime, index % figures.COLOURS)
            for index, regime in enumerate(regimes)
            if (rows["regime"] == regime).any()
        ],
        "steps": times.size - 1,
        "middle": (times.size - 1) // 2,
        "rows": [
            {"regime": row["regime"], "time": f"{row['time']:.1f}"}
            | numbers_of(row, dict.fromkeys(INTERVAL, SURVIVAL), table=name)
            for row in records(rows[rows["time"].isin(kept)])
        ],
    }
    return drawing, data


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
    counts = table.groupby("landmark")["regime"].nunique()
    several = [landmark for landmark in landmarks if counts[landmark] > 1]
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
    tables = [results.tables.get(name) for name in ("simon_makuch", "predictive_curves")]
    groups = pd.concat([table["group"] for table in tables if table is not None] or [pd.Series()])
    return {str(name): int(name == results.fit.question.exposure) for name in groups.unique()}


def _at_risk(
    results: Results, endpoint: str, landmark: float
) -> dict[str, list[tuple[float, str]]]:
    groups: dict[str, list[tuple[float, str]]] = {}
    for row in results.rows("at_risk"):
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
        for row in results.rows("curve_shift")
    ]


def _coarse(share: float) -> str:
    """Write survival with two decimals: what is neither 0 nor 1 does not become it."""
    return ">0.99" if 0.995 <= share < 1 else shown(share, ".2f")


def sensitivity(ran: Sensitivity | None, *, masked: int) -> Row | None:
    """Word and draw scenarios, if there are any.

    `masked`: number of scenarios, over endpoints, that are left out.
    """
    if ran is None:
        return None
    each = ran.table.drop_duplicates("key")
    counts = each["status"].value_counts()
    statuses = [name for name in ("converged", "not converged", "failed") if name in counts]
    words = [", ".join(f"{counts[status]} {status}" for status in statuses)]
    marked = {row["key"] for row in records(ran.table) if beside(row)}
    if marked:
        words.append(
            f"{len(marked)} marked (crosses): the baseline moves the hazard ratio, or event "
            "times are those of visits"
        )
    if masked:
        words.append(f"{masked} more are masked, with few events on one side")
    endpoints = [
        _scenarios(ran, str(endpoint), index)
        for index, endpoint in enumerate(ran.table["endpoint"].dropna().unique())
        if (ran.table.loc[ran.table["endpoint"] == endpoint, "status"] == "converged").any()
    ]
    return {"counts": f"{len(each)} scenarios: {'; '.join(words)}.", "endpoints": endpoints}


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
