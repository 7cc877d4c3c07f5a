"""The report: what the tables say, put into one HTML file that asks for nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bayesblina.checks.replicates import replicated_events
from bayesblina.core.escaping import printable
from bayesblina.core.masking import MASK, MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.tables.numbers import CONVERGED, probability
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.hazards.mathematics import mathematics
from bayesblina.output.report import estimates, figures
from bayesblina.output.report.estimates import colours_of, observed_of
from bayesblina.output.report.figures import COLOURS, shorten
from bayesblina.output.report.hiding import (
    FEW,
    Shown,
    about_others,
    joined_events,
    joined_names,
    without_few,
)
from bayesblina.output.report.methods import REFERENCES, checklist, numbered, paragraphs
from bayesblina.output.report.results import Results
from bayesblina.output.report.steps import by_step
from bayesblina.output.report.wording import (
    INTERVAL,
    PROBABILITY,
    Number,
    Row,
    banners,
    count,
    endpoints_of,
    estimand_of,
    event_times_in_words,
    gate_rows,
    gate_words,
    known,
    mark_of,
    number,
    numbers_of,
    prior_sentence,
    provenance_of,
    shape_of,
    weak_points,
)

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
OPTION_LENGTH = 60
# Works that are cited outside Methods.
CITED = ("e9", "immortal", "simon", "rmst", "rhat", "bfmi", "loo", "scaling", "masking", "barg")


def render(results: Results, *, minimum_count: int = MINIMUM_COUNT) -> str:
    """Write results as one HTML page.

    The page. Every text is escaped, and its content-security policy allows nothing that is not in
    it.

    `minimum_count`: smallest count of patients or events that is shown; 1 shows all.
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
    content = {
        **_heading(left),
        **_estimates(left),
        **_evidence(left),
        **_account(left),
        "css": Markup(css),
        "script": Markup(script),
        "policy": _policy(css, script),
    }
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

    >>> str(embedded({"regime": "</script>"}))
    '{"regime":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _heading(left: Shown) -> Row:
    """Gather what stands above everything else, and the words of the whole page."""
    results = left.results
    fit, question = results.fit, results.fit.question
    # An illness-death model has hazard ratios of transitions, and curves of endpoints.
    named = endpoints_of(left.whole.tables["survival"])
    return {
        "title": results.record["title"],
        "subtitle": f"{question.exposure} against {question.against}: {', '.join(named)}",
        "version": fit.provenance.versions.get("bayesblina", ""),
        "synthetic": results.synthetic,
        "converged": fit.converged,
        "failures": fit.convergence.failures(),
        "banners": [
            {**banner, "failures": about_others(banner["failures"], left.withheld)}
            for banner in banners(fit, left.gate, coarse=left.coarse)
        ],
        "marks": [mark_of(name) for name in fit.failed if name != CONVERGED],
        "sections": SECTIONS,
        "notes": {**results.record["notes"], **_masked_away(left)},
        "withheld": left.withheld,
        "few": FEW,
        "mask": MASK,
        "minimum": left.minimum,
        "unit": fit.person_time.unit,
        "exposed": question.exposure,
        "estimand": list({**estimand_of(fit), "variable": ", ".join(named)}.items()),
        "flow": left.flow,
        "fit_notes": left.fit_notes,
    }


def _estimates(left: Shown) -> Row:
    """Gather hazard ratios, curves and what is compared with them, with their figures."""
    results, fit = left.results, left.results.fit
    endpoints = endpoints_of(results.tables["survival"])
    draws = hazard_ratio(fit)
    curves, data, landmarks, regimes = estimates.curves(left, endpoints)
    thresholds = _thresholds(results)
    marks = [" (synthetic patients)"] if results.synthetic else []
    mark = " ".join([*marks, *map(mark_of, fit.failed)])
    return {
        "kind": str(draws.attrs["kind"]),
        "answers": estimates.answers(results),
        "curve_shift": estimates.curve_shift(results),
        "endpoints": endpoints,
        "landmarks": [f"{landmark:g}" for landmark in landmarks],
        "first_landmark": estimates.first_landmark(results, landmarks),
        "regimes": regimes,
        "curves": curves,
        "groups": list(estimates.colours_of(results).items()),
        "steps": "Observed curves are masked: their steps would tell how many events there were.",
        "means": estimates.means(results),
        "densities": estimates.densities(results, draws["hazard_ratio"], thresholds),
        "thresholds": thresholds,
        "ratios": estimates.ratios(results, thresholds),
        "by_step": by_step(results),
        "stepped": "hazard_ratios_by_step" in left.whole.tables,
        "ladder": estimates.ladder(results),
        "sensitivity": estimates.sensitivity(results.sensitivity, masked=left.scenarios),
        "data": embedded({"curves": data, "colours": COLOURS, "mark": mark}),
    }


def _thresholds(results: Results) -> list[str]:
    """Name the hazard ratios for each of which a probability is told."""
    below = "probability_below_"
    columns = map(str, results.tables["hazard_ratios"].columns)
    return [name.removeprefix(below) for name in columns if name.startswith(below)]


def _evidence(left: Shown) -> Row:
    """Gather what tells whether to believe the estimates."""
    results, fit = left.results, left.results.fit
    weak = weak_points(fit, loo=results.tables.get("leave_one_out"), coarse=left.coarse)
    return {
        "weaknesses": about_others(weak, left.withheld),
        "gate": gate_rows(left.gate),
        "states": STATES,
        "gate_words": gate_words(fit),
        "event_times": about_others(event_times_in_words(fit, coarse=left.coarse), left.withheld),
        **predictive(left),
        "criteria": criteria(results),
        "parameters": parameters(left),
        "prior_sentence": prior_sentence(fit),
        "scaling": scaling(results),
        "implied": implied(results),
        "borrowed": borrowed(results),
    }


def _account(left: Shown) -> Row:
    """Gather how it was done, adverse events, and where it came from."""
    results, fit = left.results, left.results.fit
    shown = [*results.tables, *(["thresholds"] if len(_thresholds(results)) > 1 else [])]
    methods = paragraphs(fit, shown=shown, unit=fit.person_time.unit, coarse=left.coarse)
    return {
        "safety": safety(results),
        "methods": methods,
        "mathematics": mathematics(
            fit.definition,
            scale=fit.question.scale(fit.person_time.unit) if fit.question.stepped else "",
        ),
        "numbers": numbered(methods, *CITED),
        "references": REFERENCES,
        "checklist": checklist(fit, shown=shown, sensitivity=left.whole.sensitivity is not None),
        "provenance": _provenance(results),
    }


def _masked_away(left: Shown) -> dict[str, str]:
    """Say of tables of which masking leaves nothing that this is why."""
    why = "masked, since few patients or events are behind it"
    notes = {
        name: why
        for name, rows in left.results.tables.items()
        if rows.empty and len(left.whole.tables[name])
    }
    if left.whole.sensitivity is not None and left.results.sensitivity is None:
        notes["sensitivity"] = why
    return notes


def _provenance(results: Results) -> list[tuple[str, str]]:
    record, durations = results.record, results.record["seconds"]

    def seconds(of_stages: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {value:.1f} s" for name, value in of_stages.items())

    read = record.get("data_sha256", {})
    return [
        ("command", str(record["command"])),
        ("begun", str(record.get("started", ""))),
        ("duration", f"{sum(durations.values()):.1f} s ({seconds(durations)})"),
        ("of which the fit", seconds(results.fit.provenance.seconds)),
        ("data", str(record["source"])),
        *(("SHA-256 of the data", f"{name}: {digest}") for name, digest in read.items()),
        *provenance_of(results.fit).items(),
    ]


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
        # Whether any are joined would tell how many there were.
        if left.coarse or len(rows) < (computed["endpoint"] == endpoint).sum():
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
