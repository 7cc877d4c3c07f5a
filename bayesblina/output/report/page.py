"""The report: what the tables say, put into one HTML file that asks for nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bayesblina.checks.replicates import replicated_events
from bayesblina.classical.regressions import ADJUSTED
from bayesblina.core.arrays import Floats
from bayesblina.core.escaping import printable
from bayesblina.core.masking import MASK, MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.masking.tables import read_observed
from bayesblina.core.tables.marks import BASELINE, BAYESIAN, CONVERGED, LONG, beside, failed
from bayesblina.core.tables.numbers import probability
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.estimands.regimes import Never
from bayesblina.hazards.mathematics import mathematics
from bayesblina.output.report import figures
from bayesblina.output.report.answer import (
    banners,
    compared,
    event_times_in_words,
    gate_rows,
    gate_words,
    known,
    pulled,
    weak_points,
)
from bayesblina.output.report.figures import COLOURS, shorten
from bayesblina.output.report.guidelines import checklist
from bayesblina.output.report.hiding import FEW, Shown, about_others, without_few
from bayesblina.output.report.joining import joined_events
from bayesblina.output.report.methods import REFERENCES, numbered, paragraphs
from bayesblina.output.report.results import Results
from bayesblina.output.report.wording import (
    PROBABILITY,
    SURVIVAL,
    Number,
    answer,
    estimand_of,
    number,
    prior_sentence,
    prior_weight,
    reading,
    shape_of,
    shown,
)
from bayesblina.studies.what_if.reading import Sensitivity

REPORT = "report.html"
SECTIONS = (
    ("answer", "Answer"),
    ("estimand", "Estimand"),
    ("flow", "Patients"),
    ("curves", "Survival"),
    ("ratios", "Hazard ratios"),
    ("ladder", "Bias ladder"),
    ("sensitivity", "Sensitivity"),
    ("predictive", "Predictive checks"),
    ("convergence", "Convergence"),
    ("baseline", "Baseline"),
    ("prior", "What the prior does"),
    ("safety", "Safety by phase"),
    ("methods", "Methods"),
    ("guidelines", "Reporting guidelines"),
    ("provenance", "Provenance"),
)
# How the states of the baseline gate look.
STATES = {"passed": "pass", "told": "told", "failed": "fail", "not compared": "told"}
TABLE_ROWS = 7
LARGEST_SPECIFICATION = 200
OPTION_LENGTH = 60
EXTREME = 0.025
Row = dict[str, Any]


def render(results: Results, *, minimum_count: int = MINIMUM_COUNT) -> str:
    """Write results as one HTML page.

    The page. Every text is escaped, and its content-security policy allows nothing that is not in
    it.

    Parameters
    ----------
    minimum_count
        Smallest count of patients or events that is shown; 1 shows all.
    """
    return render_shown(
        without_few(results, minimum=require_minimum(minimum_count, "minimum_count"))
    )


def render_shown(left: Shown) -> str:
    """Write what may be shown of results as one HTML page."""
    templates = files("bayesblina.output.report").joinpath("templates")
    css, script, page = (
        templates.joinpath(name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js", "report.html")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_printable)
    environment.filters["short"] = lambda text: shorten(str(text), OPTION_LENGTH)
    content = _content(left)
    content |= {"css": Markup(css), "script": Markup(script), "policy": _policy(css, script)}
    return environment.from_string(page).render(content) + "\n"


def _printable(value: object) -> object:
    """Take out of texts what HTML has no place for."""
    return printable(value) if type(value) is str else value


def _policy(css: str, script: str) -> str:
    """Allow the page's own style and script, by their hashes, and nothing else."""

    def hashed(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")

    return "; ".join(
        [
            "default-src 'none'",
            f"style-src 'sha256-{hashed(css)}'",
            f"script-src 'sha256-{hashed(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def embedded(value: object) -> Markup:
    r"""Write a value as JSON that may stand inside a script element.

    Examples
    --------
    >>> str(embedded({"regime": "</script>"}))
    '{"regime":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _content(left: Shown) -> Row:
    results, whole, minimum = left.results, left.whole, left.minimum
    fit, record, question = results.fit, results.record, results.fit.question
    # An illness-death model has hazard ratios of transitions, and curves of endpoints.
    named = _endpoints(whole.tables["survival"])
    tables, flow = results.tables, left.flow
    endpoints = _endpoints(tables["survival"])
    ratios = hazard_ratio(fit)
    curves, data, landmarks, regimes = _curves(left, endpoints)
    thresholds = [
        str(name).removeprefix("probability_below_")
        for name in tables["hazard_ratios"].columns
        if str(name).startswith("probability_below_")
    ]
    shown = [*tables, *(["thresholds"] if len(thresholds) > 1 else [])]
    methods = paragraphs(fit, shown=shown, unit=fit.person_time.unit)
    kind = str(ratios.attrs["kind"])
    synthetic = results.synthetic
    marks = [LONG[name].partition(":")[0] for name in fit.failed]
    mark = " ".join(filter(None, [" (synthetic patients)" if synthetic else "", *marks]))
    more = ("e9", "immortal", "simon", "rmst", "rhat", "bfmi", "loo", "scaling", "masking", "barg")
    return {
        "title": record["title"],
        "subtitle": f"{question.exposed} against {question.against}: {', '.join(named)}",
        "version": fit.provenance.versions.get("bayesblina", ""),
        "synthetic": synthetic,
        "converged": fit.converged,
        "failures": fit.convergence.failures(),
        "banners": [
            {**one, "failures": about_others(one["failures"], left.withheld)}
            for one in banners(fit, left.gate, coarse=left.coarse)
        ],
        "marks": [one for name, one in zip(fit.failed, marks, strict=True) if name != CONVERGED],
        "sections": SECTIONS,
        "notes": {**record["notes"], **_masked_away(left)},
        "withheld": left.withheld,
        "few": FEW,
        "mask": MASK,
        "minimum": minimum,
        "unit": fit.person_time.unit,
        "exposed": question.exposed,
        "kind": kind,
        "answers": _answers(results),
        "weaknesses": about_others(
            weak_points(fit, loo=tables.get("leave_one_out"), coarse=left.coarse), left.withheld
        ),
        "gate": gate_rows(left.gate),
        "states": STATES,
        "gate_words": gate_words(fit),
        "curve_shift": _curve_shift(results),
        "event_times": about_others(event_times_in_words(fit, coarse=left.coarse), left.withheld),
        "estimand": _estimand(results, named),
        "flow": flow,
        "endpoints": endpoints,
        "landmarks": [f"{one:g}" for one in landmarks],
        "first_landmark": _first_landmark(results, landmarks),
        "regimes": regimes,
        "curves": curves,
        "groups": list(_colours(results).items()),
        "steps": "Observed curves are masked: their steps would tell how many events there were.",
        "means": _means(results),
        "densities": _densities(results, ratios["hazard_ratio"], thresholds),
        "thresholds": thresholds,
        "ratios": _ratios(results, thresholds),
        "ladder": _ladder(results),
        "sensitivity": _sensitivity(results.sensitivity, masked=left.scenarios),
        **_predictive(left),
        "criteria": _criteria(results),
        "parameters": _parameters(left),
        "prior_sentence": prior_sentence(fit),
        "scaling": _scaling(results),
        "implied": _implied(results),
        "borrowed": _borrowed(results),
        "safety": _safety(results),
        "methods": methods,
        "mathematics": mathematics(fit.definition),
        "numbers": numbered(methods, *more),
        "references": REFERENCES,
        "checklist": checklist(fit, shown=shown, sensitivity=whole.sensitivity is not None),
        "provenance": _provenance(results),
        "fit_notes": left.fit_notes,
        "data": embedded({"curves": data, "colours": COLOURS, "mark": mark}),
    }


def _masked_away(left: Shown) -> dict[str, str]:
    """Say of tables of which masking leaves nothing that this is why."""
    why = "masked, since few patients or events are behind it"
    found = {
        name: why
        for name, rows in left.results.tables.items()
        if rows.empty and len(left.whole.tables[name])
    }
    if left.whole.sensitivity is not None and left.results.sensitivity is None:
        found["sensitivity"] = why
    return found


def _endpoints(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in dict.fromkeys(table["endpoint"])]


def _records(table: pd.DataFrame) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _trio(row: Row, table: str, *, least: int = 2, signed: bool = False) -> Row:
    """Take the posterior median with its interval."""
    shape = shape_of(row, least=least, signed=signed)
    return {name: number(row, name, shape, table=table) for name in ("median", "lower", "upper")}


def _answers(results: Results) -> list[Row]:
    fit = results.fit
    found = []
    for row in _records(results.tables["hazard_ratios"]):
        means = results.tables.get("restricted_means", pd.DataFrame({"endpoint": []}))
        gains = [
            (
                f"Mean time event-free from {gain['landmark']:g} up to {gain['horizon']:.1f} "
                f"{fit.person_time.unit}, {fit.question.exposed} {gain['regime']} against never: ",
                number(gain, "median", shape_of(gain, signed=True), table="restricted_means"),
                " (",
                number(gain, "lower", shape_of(gain, signed=True), table="restricted_means"),
                " to ",
                number(gain, "upper", shape_of(gain, signed=True), table="restricted_means"),
                ").",
            )
            # One for each endpoint: the regime at the first landmark.
            for gain in _records(means[means["endpoint"] == row["endpoint"]])[:1]
        ]
        found.append(
            {
                "endpoint": row["endpoint"],
                **_trio(row, "hazard_ratios"),
                "sentence": answer(row, fit),
                "reading": reading(row, fit),
                "gains": gains,
                "prior": prior_weight(row, fit),
                "companion": _companion(row),
                "compared": compared(row, fit),
                "state": str(row.get(BASELINE, "not compared")),
                "marks": [LONG[one].partition(":")[0] for one in failed(row) if one != CONVERGED],
                "pulled": pulled(row),
            }
        )
    return found


def _companion(row: Row) -> Row | None:
    """Take the answer without a baseline, if there is one."""
    if not known(row, "companion_median"):
        return None
    shape = shape_of(row)
    return {
        name: number(row, f"companion_{name}", shape, table="hazard_ratios")
        for name in ("median", "lower", "upper")
    }


def _estimand(results: Results, endpoints: Sequence[str]) -> list[tuple[str, str]]:
    attributes = estimand_of(results.fit)
    attributes["variable"] = ", ".join(endpoints)
    return list(attributes.items())


def _curves(left: Shown, endpoints: Sequence[str]) -> tuple[list[Row], Row, list[float], list[str]]:
    """Draw survival for every endpoint and landmark."""
    results = left.results
    fit, tables = results.fit, results.tables
    name = "survival_by_landmark" if "survival_by_landmark" in tables else "survival"
    table = tables[name]
    if "landmark" not in table.columns:
        table = table.assign(landmark=float(table["time"].min()))
    landmarks = sorted(float(one) for one in table["landmark"].unique())
    regimes = [str(one) for one in dict.fromkeys(table["regime"])]
    found, data = [], {}
    for first, endpoint in enumerate(endpoints):
        for second, landmark in enumerate(landmarks):
            rows = table[(table["endpoint"] == endpoint) & (table["landmark"] == landmark)]
            if rows.empty:
                continue
            times = np.sort(rows["time"].unique()).astype(float)
            observed = _observed(results, endpoint, landmark, times)
            figure, drawn = figures.survival(
                f"survival-{first}-{second}",
                rows,
                regimes=regimes,
                observed=observed,
                at_risk=_at_risk(results, endpoint, landmark),
                colours=_colours(results),
                known_until=_known_until(results, observed, regimes, times),
                title=f"{endpoint}: survival",
                unit=fit.person_time.unit,
                landmark=landmark,
            )
            data[figure.name] = drawn
            kept = set(times[np.linspace(0, times.size - 1, TABLE_ROWS).round().astype(int)])
            found.append(
                {
                    "figure": figure,
                    "endpoint": endpoint,
                    "observed": [
                        (group, colour)
                        for group, colour in _colours(results).items()
                        if group in observed
                    ],
                    "beyond": bool(_known_until(results, observed, regimes, times)),
                    "hidden": "simon_makuch" in left.whole.tables and not observed,
                    "endpoint_index": first,
                    "landmark_index": second,
                    "landmark": f"{landmark:g}",
                    "legend": [
                        (regime, index % COLOURS)
                        for index, regime in enumerate(regimes)
                        if (rows["regime"] == regime).any()
                    ],
                    "steps": times.size - 1,
                    "middle": (times.size - 1) // 2,
                    "rows": [
                        {
                            "regime": row["regime"],
                            "time": f"{row['time']:.1f}",
                            **{
                                one: number(row, one, SURVIVAL, table=name)
                                for one in ("median", "lower", "upper")
                            },
                        }
                        for row in _records(rows)
                        if row["time"] in kept
                    ],
                }
            )
    return found, data, landmarks, regimes


def _known_until(
    results: Results,
    observed: Mapping[str, tuple[Floats, Floats]],
    regimes: Sequence[str],
    times: Floats,
) -> dict[str, float]:
    """Find where too few are at risk for a regime: where the observed curve of its colour ends."""
    colours, found = _colours(results), {}
    for regime in regimes:
        for group, (at, _) in observed.items():
            if colours[group] == int(regime != Never().label) and at.size and at[-1] < times[-1]:
                found[regime] = float(at[-1])
    return found


def _curve_shift(results: Results) -> list[Row]:
    """Write how far the baseline moves curves."""
    table = results.tables.get("curve_shift")
    if table is None:
        return []
    return [
        {
            "endpoint": row["endpoint"],
            "regime": row["regime"],
            "largest": shown(row["largest"], ".1f"),
            "time": f"{row['time']:.1f}",
            "own": _coarse(row["survival"]),
            "free": _coarse(row["survival_free"]),
        }
        for row in _records(table)
    ]


def _coarse(share: float) -> str:
    """Write survival with two decimals: what is neither 0 nor 1 does not become it."""
    return ">0.99" if 0.995 <= share < 1 else shown(share, ".2f")


def _first_landmark(results: Results, landmarks: Sequence[float]) -> int:
    """Show the study's own landmark first; where it has one regime only, one that has more."""
    own = float(results.tables["survival"]["time"].min())
    table = results.tables.get("survival_by_landmark")
    if table is None or own not in landmarks:
        return 0
    several = [
        one for one in landmarks if len(set(table.loc[table["landmark"] == one, "regime"])) > 1
    ]
    return landmarks.index(own if own in several or not several else several[0])


def _observed(
    results: Results, endpoint: str, landmark: float, times: Floats
) -> dict[str, tuple[Floats, Floats]]:
    """Read observed curves at the times of the others: the times of single events are not shown."""
    table = results.tables.get("simon_makuch")
    if table is None:
        return {}
    inside = table[(table["endpoint"] == endpoint) & (table["landmark"] == landmark)]
    found = {}
    for group in dict.fromkeys(inside["group"]):
        rows = inside[inside["group"] == group]
        # Masked rows are those that may be shown, and have no counts any more.
        counted = rows.assign(
            **{name: pd.to_numeric(rows[name], errors="coerce") for name in ("at_risk", "events")}
        )
        found[str(group)] = read_observed(counted, times, minimum=1)
    return found


def _colours(results: Results) -> dict[str, int]:
    """Colours of the observed groups: those of the regimes that they resemble."""
    names: list[str] = []
    for name in ("simon_makuch", "predictive_curves"):
        if name in results.tables:
            names += [str(group) for group in dict.fromkeys(results.tables[name]["group"])]
    return {name: int(name == results.fit.question.exposed) for name in names}


def _at_risk(
    results: Results, endpoint: str, landmark: float
) -> dict[str, list[tuple[float, str]]]:
    table = results.tables.get("at_risk")
    if table is None:
        return {}
    rows = table[(table["endpoint"] == endpoint) & (table["landmark"] == landmark)]
    return {
        str(group): [
            (float(row["time"]), _count(row["at_risk"], ".0f"))
            for row in _records(rows[rows["group"] == group])
        ]
        for group in dict.fromkeys(rows["group"])
    }


def _count(cell: object, shape: str = ",.0f") -> str:
    """Write a count, or the mask in its place."""
    return cell if isinstance(cell, str) else format(float(str(cell)), shape)


def _means(results: Results) -> list[Row]:
    table = results.tables.get("restricted_means")
    if table is None:
        return []
    return [
        {
            "endpoint": row["endpoint"],
            "regime": row["regime"],
            "landmark": f"{row['landmark']:g}",
            "horizon": f"{row['horizon']:.1f}",
            **_trio(row, "restricted_means", signed=True),
        }
        for row in _records(table)
    ]


def _densities(results: Results, ratios: Any, thresholds: Sequence[str]) -> list[Row]:
    fit = results.fit
    prior = fit.definition.phases.prior
    found = []
    for index, row in enumerate(_records(results.tables["hazard_ratios"])):
        endpoint = str(row["endpoint"])
        draws = np.log(ratios.sel(endpoint=endpoint).values.ravel())
        figure = figures.density(
            f"density-{index}",
            draws,
            prior=(prior.mean, prior.sd),
            interval=(row["lower"], row["upper"]),
            median=row["median"],
            thresholds=[float(one) for one in thresholds],
            title=f"{endpoint}: hazard ratio of {fit.question.exposed}",
            axis=f"{endpoint}: hazard ratio of {fit.question.exposed} (log scale)",
        )
        found.append({"figure": figure, "endpoint": endpoint})
    return found


def _ratios(results: Results, thresholds: Sequence[str]) -> list[Row]:
    table = "hazard_ratios"
    return [
        {
            "endpoint": row["endpoint"],
            **_trio(row, table),
            "companion": _companion(row),
            "state": str(row.get(BASELINE, "not compared")),
            "mean": number(row, "mean", ".2f", table=table),
            "below": [
                number(row, f"probability_below_{one}", PROBABILITY, table=table)
                for one in thresholds
            ],
            "mcse": number(row, "mcse", ".4f", table=table),
            "ess": number(row, "ess_bulk", ".0f", table=table),
        }
        for row in _records(results.tables[table])
    ]


def _ladder(results: Results) -> list[Row]:
    table = results.tables.get("bias_ladder")
    if table is None:
        return []
    found = []
    for index, endpoint in enumerate(_endpoints(table)):
        rows = [_rung(row) for row in _records(table[table["endpoint"] == endpoint])]
        figure = figures.forest(
            f"ladder-{index}", [row["drawn"] for row in rows], title=f"{endpoint}: bias ladder"
        )
        found.append({"figure": figure, "endpoint": endpoint, "rows": rows})
    return found


def _rung(row: Row) -> Row:
    """Write one rung of the ladder, and what is drawn of it: the numbers as they are shown."""
    names = ("estimate", "lower", "upper")
    cells = {
        name: number(
            row,
            name,
            shape_of(row),
            table=f"bias_ladder/{row['method']}",
            estimate=row["method"] == BAYESIAN,
        )
        for name in names
    }
    covariates = "adjusted" if row["adjusted"] else "unadjusted"
    kind = "own" if row["method"] == BAYESIAN else "other"
    return {
        "method": row["method"],
        "covariates": covariates,
        "note": row["note"],
        **(
            {name: Number(text=MASK, estimate=False) for name in names}
            if row.get("masked", False)
            else cells
        ),
        "drawn": {
            "label": f"{row['method'].removesuffix(ADJUSTED)}, {covariates}",
            "kind": "biased" if row["note"].startswith("biased") else kind,
            "absent": "masked" if row.get("masked", False) else "no finite estimate",
            **{name: cells[name].rounded for name in names},
        },
    }


def _sensitivity(found: Sensitivity | None, *, masked: int) -> Row | None:
    if found is None:
        return None
    whole = found.table.drop_duplicates("key")
    counts = whole["status"].value_counts()
    worded = ", ".join(
        f"{counts[status]} {status}"
        for status in ("converged", "not converged", "failed")
        if status in counts
    )
    marked = {row["key"] for row in _records(found.table) if beside(row)}
    if marked:
        worded += (
            f"; {len(marked)} marked (crosses): the baseline moves the hazard ratio, or event "
            "times are those of visits"
        )
    if masked:
        worded += f"; {masked} more are masked, with few events on one side"
    endpoints = []
    for index, endpoint in enumerate(found.table["endpoint"].dropna().unique()):
        inside = found.table[found.table["endpoint"] == endpoint]
        if not (inside["status"] == "converged").any():
            continue
        endpoints.append(_scenarios(found, str(endpoint), index))
    return {"counts": f"{len(whole)} scenarios: {worded}.", "endpoints": endpoints}


def _scenarios(found: Sensitivity, endpoint: str, index: int) -> Row:
    rows = found.of_endpoint(endpoint).sort_values("median", kind="stable").reset_index(drop=True)
    drawn = []
    if len(rows) <= LARGEST_SPECIFICATION and found.axes:
        title = f"{endpoint}: specification curve"
        figure = figures.specification(f"specification-{index}", found, rows, title=title)
        words = f"{endpoint}: every scenario, by its median, with its settings below."
        drawn.append({"figure": figure, "words": words})
    effects = found.effects(endpoint)
    single = effects[~effects["axis"].str.contains(" x ", regex=False)] if len(effects) else effects
    if len(single):
        figure = figures.tornado(f"tornado-{index}", single, title=f"{endpoint}: what moves it")
        drawn.append({"figure": figure, "words": f"{endpoint}: what moves the answer most."})
    return {
        "endpoint": endpoint,
        "holds": found.conclusion(endpoint),
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
            for row in _records(effects)
        ],
    }


def _shown(value: float, shape: str) -> Number:
    """Scenarios that did not converge are left out, whatever became of the fit itself."""
    return Number(text=shown(float(value), shape), estimate=False)


def _predictive(left: Shown) -> Row:
    results, minimum = left.results, left.minimum
    fit, tables = results.fit, results.tables
    found: Row = {"events": [], "p_words": "", "replicated": [], "loo": []}
    whole = left.whole.tables.get("predictive")
    if whole is not None and len(whole):
        values = tables["predictive"]["p_value"]
        if len(values):
            extreme = int(((values < EXTREME) | (values > 1 - EXTREME)).sum())
            found["p_words"] = (
                f"Posterior predictive p-values of the {len(values)} intervals lie between "
                f"{probability(values.min())} and {probability(values.max())}; {extreme} outside "
                "0.025 to 0.975. Near 0 there were more events than the model expects, near 1 "
                "fewer. The data are those fitted, so that middling values say little and extreme "
                "ones much."
            )
        for index, endpoint in enumerate(_endpoints(whole)):
            if endpoint in left.withheld:
                continue
            rows = tables["predictive"]
            rows = rows[rows["endpoint"] == endpoint]
            if "lower" not in rows:
                replicated = replicated_events(fit, seed=fit.provenance.seed)
                rows = joined_events(replicated.sel(endpoint=endpoint), minimum=minimum)
            joined = (
                f"; neighbouring intervals are joined until each has {minimum} events"
                if len(rows) < (whole["endpoint"] == endpoint).sum()
                else ""
            )
            figure = None
            if len(rows):
                figure = figures.events(
                    f"events-{index}",
                    rows,
                    title=f"{endpoint}: events by interval",
                    unit=fit.person_time.unit,
                )
            found["events"].append({"endpoint": endpoint, "figure": figure, "joined": joined})
    if "predictive_curves" in tables and len(tables["predictive_curves"]):
        table = tables["predictive_curves"]
        for index, endpoint in enumerate(_endpoints(table)):
            rows = table[table["endpoint"] == endpoint]
            times = np.sort(rows["time"].unique()).astype(float)
            start = float(times[0])
            observed = _observed(results, endpoint, start, times)
            figure = figures.bands(
                f"replicated-{index}",
                rows,
                observed=observed,
                colours=_colours(results),
                title=f"{endpoint}: replicated and observed curves",
                axis=f"{fit.person_time.unit} from the origin, event-free at {start:g}",
            )
            hidden = "simon_makuch" in left.whole.tables and not observed
            found["replicated"].append({"figure": figure, "endpoint": endpoint, "hidden": hidden})
    if "leave_one_out" in tables:
        for row in _records(tables["leave_one_out"]):
            named = {
                "elpd": ("elpd", ".1f"),
                "se": ("se", ".1f"),
                "p_loo": ("p_loo", ".1f"),
                "k": ("largest_pareto_k", ".2f"),
            }
            cells = {
                name: number(row, column, shape, table="leave_one_out")
                for name, (column, shape) in named.items()
            }
            found["loo"].append(
                {"endpoint": row["endpoint"], **cells, "reliable": bool(row["reliable"])}
            )
    return found


def _criteria(results: Results) -> list[Row]:
    table = results.tables["diagnostics"]
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
        for row in _records(table[table["kind"] == "criterion"])
    ]


def _parameters(left: Shown) -> list[Row]:
    """Take the worst of each kind; single parameters may bear the names of patients."""
    table = left.whole.tables["diagnostics"]
    rows = table[table["kind"] == "parameter"]
    kinds = rows["name"].str.partition("[")[0]
    return [
        {
            "name": kind,
            # One for each patient, perhaps.
            "count": left.words(str(len(one))) if len(one) > 1 else "1",
            # Independent draws have no chains to compare.
            "r_hat": f"{one['r_hat'].max():.4f}" if one["r_hat"].notna().any() else "",
            "bulk": f"{one['ess_bulk'].min():.0f}",
            "tail": f"{one['ess_tail'].min():.0f}",
        }
        for kind, one in rows.groupby(kinds, sort=False)
    ]


def _scaling(results: Results) -> list[Row]:
    table = results.tables.get("prior_sensitivity")
    if table is None:
        return []
    found = []
    for row in _records(table):
        where = f"prior_sensitivity/{row['component']}/{row['alpha']:g}"
        found.append(
            {
                "endpoint": row["endpoint"],
                "component": row["component"],
                "alpha": f"{row['alpha']:g}",
                **{
                    name: number(row, name, ".2f", table=where)
                    for name in ("mean", "lower", "upper")
                },
                "below": number(row, "probability_below_null", PROBABILITY, table=where),
                "k": f"{row['pareto_k']:.2f}",
                "reading": row["reading"],
            }
        )
    return found


def _borrowed(results: Results) -> list[Row]:
    """Say what external patients add, and how they differ, without counts of patients."""
    table = results.tables.get("borrowing")
    if table is None:
        return []
    found = []
    for row in _records(table):
        where = f"borrowing/{row['part']}/{row['name']}/{row['source']}"
        shapes = {
            **dict.fromkeys(("hazard_ratio", "lower", "upper", "current", "alone"), ".2f"),
            **dict.fromkeys(("effective_events", "effective_events_error"), ".0f"),
        }
        found.append(
            {
                "endpoint": row["endpoint"],
                "what": f"hazard ratio of {row['name']}" if row["name"] else "hazard",
                "source": row["source"],
                "conflict": bool(row["conflict"]),
                **{
                    name: number(row, name, shape, table=where) if known(row, name) else None
                    for name, shape in shapes.items()
                },
            }
        )
    return found


def _implied(results: Results) -> list[Row]:
    table = results.tables.get("prior_predictive")
    if table is None:
        return []
    return [
        {
            "endpoint": row["endpoint"],
            "quantity": row["quantity"],
            **{
                name: number(
                    row,
                    name,
                    PROBABILITY if _is_survival(row["quantity"]) else shape_of(row),
                    table=f"prior_predictive/{row['quantity']}",
                    estimate=False,
                )
                for name in ("median", "lower", "upper")
            },
        }
        for row in _records(table)
        # What the model holds constant says nothing.
        if row["lower"] < row["upper"]
    ]


def _is_survival(quantity: str) -> bool:
    """Whether what a prior implies is survival, not a ratio or a difference."""
    return quantity.startswith("survival ") and " less " not in quantity


def _safety(results: Results) -> list[Row]:
    """Adverse events by phase."""
    table = results.tables.get("safety")
    if table is None:
        return []
    found = []
    for row in _records(table):

        def cell(column: str, shape: str, row: Row = row) -> Number | None:
            if not known(row, column):
                return None
            where = f"safety/{row['phase']}"
            return number(row, column, shape, table=where, estimate=False)

        found.append(
            {
                "phase": row["phase"],
                **{name: _count(row[name]) for name in ("patients", "with_event", "events")},
                "share": cell("incidence_median", PROBABILITY),
                "share_lower": cell("incidence_lower", PROBABILITY),
                "share_upper": cell("incidence_upper", PROBABILITY),
                "rate": cell("rate_per_year_median", ".2f"),
                "rate_lower": cell("rate_per_year_lower", ".2f"),
                "rate_upper": cell("rate_per_year_upper", ".2f"),
            }
        )
    return found


def _provenance(results: Results) -> list[tuple[str, str]]:
    fit, record = results.fit, results.record
    provenance, settings = fit.provenance, fit.provenance.settings

    def seconds(found: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {value:.1f} s" for name, value in found.items())

    rows = [
        ("command", str(record["command"])),
        ("begun", str(record.get("started", ""))),
        (
            "duration",
            f"{sum(record['seconds'].values()):.1f} s ({seconds(record['seconds'])})",
        ),
        ("of which the fit", seconds(provenance.seconds)),
        ("data", str(record["source"])),
    ]
    read = record.get("data_sha256", {})
    rows += [("SHA-256 of the data", f"{name}: {digest}") for name, digest in read.items()]
    return [
        *rows,
        ("SHA-256 of events and person-time", provenance.data_hash),
        ("model", f"{fit.definition.name} ({fit.definition.title})"),
        (
            "sampling",
            f"seed {provenance.seed}, {settings.chains} chains of {settings.draws} draws after "
            f"{settings.tune} for adaptation, engine {provenance.engine}",
        ),
        (
            "versions",
            ", ".join(f"{name} {one}" for name, one in provenance.versions.items()),
        ),
    ]
