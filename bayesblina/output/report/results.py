"""Results of one study: how they lie in a folder, and are read from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.core.errors import StorageError, require_kind
from bayesblina.core.files import read_whole, trouble_of, write_bytes
from bayesblina.core.tables.table import read_csv, to_csv
from bayesblina.estimands.regimes import content_of
from bayesblina.inference.fitting import Fit
from bayesblina.inference.storage import load
from bayesblina.output.report.wording import Row, records
from bayesblina.output.request import Request
from bayesblina.output.result_files import FIGURE, FIT, NEEDED, RECORD, TEXTS, UNMASKED
from bayesblina.patients.account import KINDS
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.sources import sha256_of
from bayesblina.person_time.onsets import AdverseEvents
from bayesblina.studies.what_if import Sensitivity, engine, load_sensitivity
from bayesblina.studies.what_if.layout import BASE_LABEL
from bayesblina.studies.what_if.running import hash_of_cohort

FORMAT = "bayesblina results"
FORMAT_UNMASKED = "bayesblina unmasked tables"
SCHEMA = 1
# What every record tells.
EXPECTED = frozenset(
    {"title", "command", "source", "cohort_sha256", "seconds"}
    | {"starts", "regimes", "notes", "sha256"}
)
# Name of the note that says why scenarios are not shown.
SENSITIVITY = "sensitivity"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """Everything that a report tells.

    `record`: title, command, durations, hashes and notes; what is no table and not in the fit.
    `sensitivity`: scenarios of the same patients, if any were run.
    """

    fit: Fit
    tables: Mapping[str, pd.DataFrame]
    record: Mapping[str, Any]
    sensitivity: Sensitivity | None = None

    @property
    def synthetic(self) -> bool:
        """Whether the patients are simulated."""
        return self.fit.person_time.synthetic

    def rows(self, name: str) -> list[Row]:
        """Take the rows of a table; none where it could not be computed."""
        return records(self.tables[name]) if name in self.tables else []


def begin_record(
    request: Request, *, notes: Mapping[str, str], adverse_events: AdverseEvents | None
) -> dict[str, Any]:
    """Describe an analysis: what is no table and not in the fit."""
    cohort = request.cohort
    # Of the bytes that were analysed: the file may be another by now.
    read = dict(cohort.file_hashes) if isinstance(cohort, Cohort) else cohort.hash_files()
    read |= {} if adverse_events is None else adverse_events.file_hashes
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "title": request.title,
        "command": request.command,
        "source": cohort.source,
        "data_sha256": read,
        "cohort_sha256": hash_of_cohort(cohort) if isinstance(cohort, Cohort) else None,
        "started": request.started,
        "seconds": {},
        # Times from which the regimes of the curves give the exposed phase.
        "starts": list(request.curves.starts),
        # Further regimes, as a study file names them.
        "regimes": [content_of(regime) for regime in request.curves.further],
        "notes": dict(notes),
    }


def seal_record(
    folder: Path,
    record: Mapping[str, Any],
    *,
    notes: Mapping[str, str],
    minimum_count: int,
    beside: Path,
) -> str:
    """Write into a record what a folder's files are, so that a report can tell whether they belong.

    `folder`: the folder, with all tables in it, and the fit if it is not in `beside`.
    """
    fit = folder if (folder / FIT).is_file() else beside
    held = [fit / FIT, *(folder / f"{name}.csv" for name in TEXTS)]
    drawn = sorted(path.name for path in folder.iterdir() if FIGURE.fullmatch(path.name))
    return _json_of(
        {
            **record,
            "notes": lasting(notes),
            "minimum_count": minimum_count,
            # Whether there are any: which ones may be seen is another question.
            "figures": bool(record.get("figures") or drawn),
            "figure_files": drawn,
            # Not of the unmasked tables: their hash would let guesses at what is hidden be tried.
            "sha256": {path.name: sha256_of(path) for path in held if path.is_file()},
        }
    )


def _json_of(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def lasting(notes: Mapping[str, str]) -> dict[str, str]:
    """Leave out why scenarios are not shown: that is found out at each reading."""
    return {name: why for name, why in notes.items() if name != SENSITIVITY}


def write_unmasked(folder: Path, results: Results) -> None:
    """Write tables as they were computed, into one file for their owner alone."""
    # In one order, whether they were computed now or read.
    texts = {name: to_csv(results.tables[name]) for name in TEXTS if name in results.tables}
    notes = lasting(results.record["notes"])
    content = {"of": _mark_of(results.fit), "notes": notes, "tables": texts}
    sealed = _json_of({"format": FORMAT_UNMASKED, **content, "seal": _seal(content)})
    write_bytes(folder / UNMASKED, sealed.encode("utf-8"), private=True)


def _mark_of(fit: Fit) -> str:
    """Tell a fit from another: the data and the draws that it has."""
    return f"{fit.provenance.data_hash} {fit.definition.name} {fit.provenance.seed}"


def _seal(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read_unmasked(folder: Path, fit: Fit) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Read the tables, and the notes, that are masked beside them."""
    path = folder / UNMASKED
    kept = _read_json(
        path,
        f"'{path}' is missing, which belongs to these results: their tables are masked, and a "
        "report needs what they hide. Ask whoever ran the study, or run it again.",
    )
    trouble = ""
    if not isinstance(kept, dict) or kept.get("format") != FORMAT_UNMASKED:
        trouble = "does not hold tables that bayesblina run wrote"
    elif kept.get("seal") != _seal({name: kept.get(name) for name in ("of", "notes", "tables")}):
        trouble = "was changed after the analysis"
    elif kept["of"] != _mark_of(fit):
        trouble = f"is of another fit than '{folder / FIT}'"
    if trouble:
        raise StorageError(f"'{path}' {trouble}: run the study again.")
    tables = {
        name: read_csv(StringIO(text), texts=TEXTS[name], named=f"{path}: {name}")
        for name, text in kept["tables"].items()
        if name in TEXTS
    }
    return tables, dict(kept["notes"])


def read_results(
    folder: str | PathLike[str],
    *,
    sensitivity: str | PathLike[str] | None = None,
) -> Results:
    """Read a folder of results, and check that its files belong together.

    Parameters
    ----------
    folder
        What ``bayesblina run`` wrote.
    sensitivity
        Folder of the scenarios, which must be of the same analysis. By default they are looked
        for in `folder`, and left out with a note if they are of another one.

    Returns
    -------
    Results
        The results.

    Raises
    ------
    StorageError
        If there are none, a file is damaged or was changed since, or the scenarios of
        `sensitivity` are those of other patients or another analysis.
    """
    require_kind(folder, str | PathLike, "folder")
    folder = Path(folder)
    if not folder.is_dir():
        raise StorageError(f"No folder '{folder}': expected one that bayesblina run wrote.")
    record = _read_record(folder)
    digests = record["sha256"]
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise StorageError(
                f"'{path}' is missing, which belongs to these results: run the study again."
            )
        if sha256_of(path) != digest:
            raise StorageError(
                f"'{path}' was changed after the analysis: its numbers are not those of the fit. "
                "Run the study again."
            )
    missing = [name for name in NEEDED if f"{name}.csv" not in digests]
    if missing or FIT not in digests:
        raise StorageError(f"'{folder / RECORD}' lacks {', '.join(missing) or FIT}.")
    fit = load(folder / FIT)
    if record.get("minimum_count", 1) > 1:
        tables, notes = _read_unmasked(folder, fit)
        record["notes"] |= notes
    else:
        held = [name for name in TEXTS if f"{name}.csv" in digests]
        tables = {name: read_csv(folder / f"{name}.csv", texts=TEXTS[name]) for name in held}
    tables = {name: table for name, table in tables.items() if f"{name}.csv" in digests}
    if "patient_flow" in tables:
        tables["patient_flow"] = tables["patient_flow"].astype(dict(KINDS))
    results = Results(fit=fit, tables=tables, record=record)
    return with_scenarios(results, sensitivity or folder, needed=sensitivity is not None)


def with_scenarios(
    results: Results, folder: str | PathLike[str], *, needed: bool = False
) -> Results:
    """Add the scenarios that lie in a folder, or note why they are of another analysis.

    `needed`: whether it is an error if there are none of this analysis.
    """
    scenarios, why = _scenarios(Path(folder), results)
    if needed and scenarios is None:
        raise StorageError(f"'{folder}': {why or f'there is no {engine.NAME}'}.")
    notes = {**results.record["notes"], **({SENSITIVITY: why} if why else {})}
    return replace(results, sensitivity=scenarios, record={**results.record, "notes": notes})


def _read_json(path: Path, missing: str) -> Any:
    if trouble_of(path) == "no such file":
        raise StorageError(missing)
    try:
        return json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        raise StorageError(f"'{path}' is damaged ({error}): run the study again.") from None


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    record = _read_json(
        path,
        f"'{folder}' has no {RECORD}: expected a folder that bayesblina run wrote, and that it "
        "finished.",
    )
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise StorageError(f"'{path}' is not a record that bayesblina run wrote.")
    trouble = _trouble_in(record)
    if trouble:
        raise StorageError(f"'{path}' {trouble}.")
    return record


def _trouble_in(record: Mapping[str, Any]) -> str:
    """Say what is wrong with a record, if anything is."""
    if record.get("schema") != SCHEMA:
        return f"has schema {record.get('schema')}; this bayesblina reads {SCHEMA}"
    missing = EXPECTED - set(record)
    if missing:
        return f"lacks {', '.join(sorted(missing))}"
    minimum = record.get("minimum_count", 1)
    if isinstance(minimum, bool) or not isinstance(minimum, int) or minimum < 1:
        return "is damaged (minimum_count is no count): run the study again"
    for name in ("seconds", "notes", "sha256", "data_sha256"):
        if not isinstance(record.get(name, {}), dict):
            return f"is damaged ({name} is no table): run the study again"
    known = {FIT, *(f"{name}.csv" for name in TEXTS)}
    return "" if set(record["sha256"]) <= known else "names files that are no results"


def _scenarios(folder: Path, results: Results) -> tuple[Sensitivity | None, str]:
    """Read scenarios, if they are of the same patients and their base case is this analysis."""
    if not (folder / engine.NAME).is_file():
        return None, ""
    header, _, _ = engine.Store(folder=folder).read()
    if header.get("what") != "scenarios":
        return None, "these are no scenarios of an analysis"
    if header.get("data") != results.record["cohort_sha256"]:
        return None, "the scenarios are of other patients"
    scenarios, ratios = load_sensitivity(folder), results.tables["hazard_ratios"]
    base = scenarios.table[scenarios.table["scenario"] == BASE_LABEL].dropna(subset=["endpoint"])
    for row in base.to_dict("records"):
        own = ratios[ratios["endpoint"] == row["endpoint"]]
        error = float(np.hypot(own["mcse"].iloc[0], row["mcse"])) if len(own) else 0.0
        # Other seeds, same posterior: six Monte-Carlo standard errors are never passed by chance.
        if not len(own) or abs(float(own["mean"].iloc[0]) - row["mean"]) > 6 * error + 1e-9:
            return None, "the scenarios' base case is another analysis than this one"
    return scenarios, ""
