"""The report: what the tables say, put into one HTML file that asks for nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bayesblina.core.escaping import printable
from bayesblina.core.masking import MASK, MINIMUM_COUNT
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.tables.marks import CONVERGED
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.hazards.mathematics import mathematics
from bayesblina.output.report import checks, estimates
from bayesblina.output.report.answer import (
    banners,
    event_times_in_words,
    gate_rows,
    gate_words,
    weak_points,
)
from bayesblina.output.report.figures import COLOURS, shorten
from bayesblina.output.report.hiding import FEW, Shown, about_others, without_few
from bayesblina.output.report.methods import REFERENCES, checklist, numbered, paragraphs
from bayesblina.output.report.results import Results
from bayesblina.output.report.wording import (
    Row,
    endpoints_of,
    estimand_of,
    mark_of,
    prior_sentence,
    provenance_of,
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
        "subtitle": f"{question.exposed} against {question.against}: {', '.join(named)}",
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
        "exposed": question.exposed,
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
    times = event_times_in_words(fit, coarse=left.coarse)
    return {
        "weaknesses": about_others(weak, left.withheld),
        "gate": gate_rows(left.gate),
        "states": STATES,
        "gate_words": gate_words(fit),
        "event_times": about_others(times, left.withheld),
        **checks.predictive(left),
        "criteria": checks.criteria(results),
        "parameters": checks.parameters(left),
        "prior_sentence": prior_sentence(fit),
        "scaling": checks.scaling(results),
        "implied": checks.implied(results),
        "borrowed": checks.borrowed(results),
    }


def _account(left: Shown) -> Row:
    """Gather how it was done, adverse events, and where it came from."""
    results, fit = left.results, left.results.fit
    shown = [*results.tables, *(["thresholds"] if len(_thresholds(results)) > 1 else [])]
    methods = paragraphs(fit, shown=shown, unit=fit.person_time.unit)
    return {
        "safety": checks.safety(results),
        "methods": methods,
        "mathematics": mathematics(fit.definition),
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
