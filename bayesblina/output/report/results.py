"""Results of one study: what is computed from a fit, and how it lies in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.checks.curves import curve_shift
from bayesblina.checks.pointwise import leave_one_out_total
from bayesblina.checks.posterior import Checks, check
from bayesblina.checks.priors.predictive import prior_predictive
from bayesblina.checks.priors.scaling import power_scaling
from bayesblina.checks.pulls import COLUMNS as PULLS
from bayesblina.checks.pulls import pulls
from bayesblina.checks.replicates import replicated_simon_makuch
from bayesblina.classical.comparison import Comparison
from bayesblina.classical.curves import numbers_at_risk_of, simon_makuch_of
from bayesblina.classical.ladder import ladder_of
from bayesblina.classical.rank_tests import mantel_byar_of
from bayesblina.core.arguments import require_kind
from bayesblina.core.csv_files import read_csv, to_csv
from bayesblina.core.errors import BayesblinaError, DataError, EstimandError, StorageError
from bayesblina.core.files import read_whole, trouble_of, write_bytes, write_text
from bayesblina.core.tables.marks import BASELINE, EVENT_TIMES
from bayesblina.estimands.comparisons import contrast
from bayesblina.estimands.curves import rmst, survival
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.estimands.regimes import From, Never, Regime
from bayesblina.estimands.safety import event_rate, incidence
from bayesblina.estimands.summaries import prior_table, summary
from bayesblina.hazards.parts import PowerPrior
from bayesblina.inference.baseline_gate import FAILED
from bayesblina.inference.fitting import Fit, weights_of
from bayesblina.inference.storage import load
from bayesblina.patients.account import KINDS, Account
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.sources import sha256_of
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time.event_times import FAILED as COARSE
from bayesblina.person_time.onsets import AdverseEvents
from bayesblina.studies.external import borrowing
from bayesblina.studies.study_file import in_memory
from bayesblina.studies.what_if import load_sensitivity
from bayesblina.studies.what_if.layout import BASE_LABEL
from bayesblina.studies.what_if.reading import Sensitivity
from bayesblina.studies.what_if.running import hash_of_cohort
from bayesblina.studies.what_if.store import NAME as SCENARIOS
from bayesblina.studies.what_if.store import Store

if TYPE_CHECKING:
    from xarray import Dataset

FIT = "fit.nc"
# The tables as they were computed, where those beside it are masked.
UNMASKED = "unmasked.json"
RECORD = "results.json"
FORMAT = "bayesblina results"
FORMAT_UNMASKED = "bayesblina unmasked tables"
SCHEMA = 1
# Tables that a folder of results may have, with their columns of texts.
TEXTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hazard_ratios": ("endpoint",),
        "survival": ("endpoint", "regime"),
        "survival_by_landmark": ("endpoint", "regime"),
        "restricted_means": ("endpoint", "regime"),
        "diagnostics": ("kind", "name", "limit"),
        "classical": ("endpoint",),
        "curve_shift": ("endpoint", "regime"),
        "bias_ladder": ("endpoint", "method", "note"),
        "simon_makuch": ("endpoint", "group"),
        "at_risk": ("endpoint", "group"),
        "patient_flow": ("step", "endpoint", "phase", "what"),
        "predictive": ("endpoint",),
        "predictive_curves": ("endpoint", "group"),
        "leave_one_out": ("endpoint",),
        "prior_predictive": ("endpoint", "quantity"),
        "prior_sensitivity": ("endpoint", "component", "reading"),
        "safety": ("phase",),
        "borrowing": ("endpoint", "part", "name", "source"),
    }
)
NEEDED = ("hazard_ratios", "survival", "diagnostics")
# Tables read off the draws that do not know by themselves whether these converged.
OFF_DRAWS = ("predictive", "predictive_curves", "leave_one_out", "prior_sensitivity")
# Power-scaling looks at each prior at half and at twice its weight.
ALPHAS = (0.5, 2.0)
PRIOR_DRAWS = 1000
FURTHER_TIMES = 26
AT_RISK_TIMES = 7
REPLICATES = 200
MASS = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What curves are drawn, beside those that the study's own section asks for.

    Attributes
    ----------
    regimes
        Regimes at the first landmark.
    landmark
        The first landmark; None takes that of `bayesblina.survival`.
    times
        Times at the first landmark; None takes those of `bayesblina.survival`.
    landmarks
        Further landmarks; None takes the quartiles of the times at which eligible patients entered
        the exposed phase.
    thresholds
        Hazard ratios below which the posterior probability is asked for, besides 1.
    """

    regimes: tuple[Regime, ...] = (Never(),)
    landmark: float | None = None
    times: Sequence[float] | None = None
    landmarks: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """Everything that a report tells.

    Attributes
    ----------
    fit
        The fit.
    tables
        Tables by name: those of `TEXTS` that could be computed.
    record
        Title, command, durations, hashes and notes; what is no table and not in the fit.
    sensitivity
        Scenarios of the same patients, if any were run.
    """

    fit: Fit
    tables: Mapping[str, pd.DataFrame]
    record: Mapping[str, Any]
    sensitivity: Sensitivity | None = None

    @property
    def synthetic(self) -> bool:
        """Whether the patients are simulated."""
        return self.fit.person_time.synthetic


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis:
    """What is computed from a fit and its cohort.

    Attributes
    ----------
    tables
        Tables by name.
    ratios, curves
        Draws of the hazard ratios, and of survival at the first landmark.
    notes
        Why a table could not be computed, by name.
    """

    tables: Mapping[str, pd.DataFrame]
    ratios: Dataset
    curves: Dataset
    notes: Mapping[str, str]


def analyse(
    fit: Fit,
    cohort: Cohort | CohortScan,
    *,
    curves: Curves,
    safety: AdverseEvents | None = None,
    stage: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """Compute all tables of a study.

    The tables. One that this model or this cohort does not allow is left out, with the reason.

    Parameters
    ----------
    cohort
        Its patients; what looks at single ones is left out where they are in a query engine.
    """
    notes: dict[str, str] = {}
    tables: dict[str, pd.DataFrame] = {}

    def attempt(name: str, compute: Callable[[], pd.DataFrame]) -> None:
        try:
            tables[name] = compute()
        except DataError:
            # Its words name patients.
            notes[name] = "the data do not allow it"
        except BayesblinaError as error:
            notes[name] = str(error).rstrip(".")

    @cache
    def comparison() -> Comparison:
        return Comparison.of(in_memory(cohort), fit.question)

    stage("hazard ratios")
    ratios = hazard_ratio(fit)
    thresholds = tuple(dict.fromkeys([1.0, *curves.thresholds]))
    tables["hazard_ratios"] = _with_pulls(summary(ratios, thresholds=thresholds), fit)
    tables["diagnostics"] = _diagnostics(fit)
    stage("curves")
    drawn = survival(fit, regimes=curves.regimes, times=curves.times, landmark=curves.landmark)
    tables["survival"] = summary(drawn)
    start = float(drawn.attrs["landmark"])
    end = float(drawn["time"].max())
    wanted = curves.landmarks
    if wanted is None:
        wanted = _quartiles(comparison()) if isinstance(cohort, Cohort) else ()
    tables["survival_by_landmark"], starts = _by_landmark(
        fit, wanted, curves, tables["survival"], start=start, end=end
    )
    attempt("restricted_means", lambda: _restricted_means(fit, starts, end=end))
    stage("comparisons")
    attempt(
        "classical",
        lambda: mantel_byar_of(comparison()).to_dataframe().reset_index(),
    )
    asked = (curves.landmark, fit.question.landmark, *(curves.landmarks or ()))
    named = {float(one) for one in asked if one is not None}
    landmarks = tuple(sorted(one for one in starts if one > 0 and (one in named or not named)))
    attempt("bias_ladder", lambda: _ladder(fit, comparison(), tables["hazard_ratios"], landmarks))
    attempt(
        "simon_makuch",
        lambda: pd.concat(
            [_observed(comparison(), fit, landmark=one).assign(landmark=one) for one in starts],
            ignore_index=True,
        ),
    )
    attempt(
        "at_risk",
        lambda: pd.concat(
            [
                numbers_at_risk_of(comparison(), at_risk_times(one, end), landmark=one).assign(
                    landmark=one
                )
                for one in starts
            ],
            ignore_index=True,
        ),
    )
    attempt(
        "curve_shift", lambda: curve_shift(fit, in_memory(cohort), drawn, regimes=curves.regimes)
    )
    account = account_of_both(cohort, fit)
    tables["patient_flow"] = account.table
    stage("checks")
    _checks(fit, attempt, start=start)
    for name in OFF_DRAWS:
        if name in tables:
            tables[name] = tables[name].assign(converged=fit.converged)
    if "prior_sensitivity" in tables:
        # Its numbers are hazard ratios too.
        states = tables["hazard_ratios"].set_index("endpoint")
        endpoints = tables["prior_sensitivity"]["endpoint"]
        for name in (BASELINE, EVENT_TIMES):
            if name in states:
                tables["prior_sensitivity"][name] = states[name].reindex(endpoints).to_numpy()
    if fit.definition.borrowing is not None:
        stage("external patients")
        attempt("borrowing", lambda: borrowing(fit))
    if safety is not None:
        stage("safety")
        attempt("safety", lambda: _safety(safety, seed=fit.provenance.seed))
    return Analysis(tables=tables, ratios=ratios, curves=drawn, notes=notes)


def _observed(comparison: Comparison, fit: Fit, *, landmark: float) -> pd.DataFrame:
    """Curves of the patients as they were fitted, with their weights."""
    weights = weights_of(fit, comparison.cohort)
    return simon_makuch_of(comparison, landmark=landmark, weights=weights)


def _with_pulls(ratios: pd.DataFrame, fit: Fit) -> pd.DataFrame:
    """Set beside every answer how far the priors and the baseline pull it."""
    pulled = pulls(fit).set_index("endpoint").loc[ratios["endpoint"]]
    place = list(ratios.columns).index("converged")
    for column in PULLS:
        ratios.insert(place, column, pulled[column].to_numpy())
        place += 1
    return ratios


def account_of_both(cohort: Cohort | CohortScan, fit: Fit) -> Account:
    """Join what happened to the patients of the table and of the analysis."""
    if isinstance(cohort, Cohort):
        return cohort.account(cuts=fit.person_time.cuts) + fit.person_time.account()
    return cohort.account() + fit.person_time.account()


def _ladder(
    fit: Fit, comparison: Comparison, ratios: pd.DataFrame, landmarks: Sequence[float]
) -> pd.DataFrame:
    """Set the answer below those of other methods; its rung is the table of hazard ratios'."""
    if isinstance(fit.definition.borrowing, PowerPrior):
        raise EstimandError("external patients would count in full in the other methods")
    adjusted = bool(fit.design.term_names)
    return ladder_of(comparison, landmarks=landmarks, answers=ratios, adjusted=adjusted)


def _by_landmark(
    fit: Fit,
    wanted: Sequence[float],
    curves: Curves,
    first: pd.DataFrame,
    *,
    start: float,
    end: float,
) -> tuple[pd.DataFrame, dict[float, tuple[Regime, ...]]]:
    """Curves from each landmark on; those of the first are the ones already there."""

    def read(draws: Dataset, landmark: float) -> pd.DataFrame:
        values, over = draws["survival"], ("chain", "draw")
        tail = (1.0 - MASS) / 2.0
        bands = values.quantile([tail, 0.5, 1.0 - tail], over)
        wide = {
            name: bands.isel(quantile=index, drop=True).to_series()
            for index, name in enumerate(("lower", "median", "upper"))
        }
        table: pd.DataFrame = pd.DataFrame(wide).reset_index()
        return table.assign(landmark=landmark, converged=fit.converged)[columns]

    columns = ["endpoint", "landmark", "regime", "time", "median", "lower", "upper", "converged"]
    parts = [first.assign(landmark=start)[columns]]
    found: dict[float, tuple[Regime, ...]] = {start: curves.regimes}
    starts = [one.start for one in curves.regimes if isinstance(one, From)]
    for landmark in sorted({float(one) for one in wanted} - {start}):
        # Asked for by name, a landmark has the study's later starts too.
        later = [one for one in starts if one > landmark and curves.landmarks is not None]
        regimes: tuple[Regime, ...] = (
            Never(),
            *(From(one) for one in sorted({landmark, *later}) if one < end),
        )
        if landmark >= end:
            continue
        try:
            more = survival(
                fit,
                regimes=regimes,
                landmark=landmark,
                times=np.linspace(landmark, end, FURTHER_TIMES),
            )
        except EstimandError:
            # Asked for by the study file it was refused before the fit; a quartile may not do.
            continue
        parts.append(read(more, landmark))
        found[landmark] = regimes
    if len(curves.regimes) == 1:
        # Nobody asked for a regime with the exposed phase: it starts at the landmark if it can.
        regimes = (Never(), From(start))
        try:
            both = survival(fit, regimes=regimes, landmark=start, times=curves.times)
        except EstimandError:
            pass
        else:
            parts.insert(1, read(both.sel(regime=[regimes[1].label]), start))
            found[start] = regimes
    return pd.concat(parts, ignore_index=True), found


def _quartiles(comparison: Comparison) -> tuple[float, ...]:
    """First and third quartile of the times at which eligible patients enter the exposed phase."""
    cohort, question = comparison.cohort, comparison.question
    index, episodes = cohort.phases.index(question.exposed), comparison.episodes
    who = np.unique(np.concatenate([found.patient for found in episodes.values()]))
    times = cohort.phase_start[who, index]
    times = times[np.isfinite(times) & (times > (question.landmark or 0.0))]
    if not times.size:
        return ()
    # Two digits: nobody's own date.
    return tuple(float(f"{one:.2g}") for one in np.quantile(times, [0.25, 0.75]))


def _restricted_means(
    fit: Fit, starts: Mapping[float, tuple[Regime, ...]], *, end: float
) -> pd.DataFrame:
    """Compare mean times event-free up to the end of the curves with those under never."""
    parts = []
    for landmark, regimes in starts.items():
        if len(regimes) < 2 or not isinstance(regimes[0], Never):
            continue
        means = rmst(fit, horizon=end, regimes=regimes, landmark=landmark)
        for regime in regimes[1:]:
            gain = summary(contrast(means, regime, regimes[0]))
            parts.append(gain.assign(landmark=landmark, regime=regime.label, horizon=end))
    if not parts:
        raise EstimandError("No regime enters the exposed phase: give [curves] starts.")
    table = pd.concat(parts, ignore_index=True)
    leading = ["endpoint", "landmark", "regime", "horizon"]
    return table[[*leading, *(name for name in table.columns if name not in leading)]]


def at_risk_times(start: float, end: float) -> NDArray[np.float64]:
    """Round times at which to count the patients at risk below a curve, its start among them.

    Parameters
    ----------
    start, end
        Where the curve starts and ends.

    Returns
    -------
    ndarray, shape (time,)
        The start, and round times after it that leave room for its count.
    """
    from matplotlib.ticker import MaxNLocator

    ticks = np.asarray(MaxNLocator(AT_RISK_TIMES).tick_values(start, end))
    apart = (end - start) / (2.0 * AT_RISK_TIMES)
    return np.concatenate([[start], ticks[(ticks >= start + apart) & (ticks <= end)]])


def _checks(
    fit: Fit, attempt: Callable[[str, Callable[[], pd.DataFrame]], None], *, start: float
) -> None:
    """Predictive checks, leave-one-out prediction and what the priors do."""
    checked: list[Checks] = []

    def predictive() -> pd.DataFrame:
        checked.append(check(fit))
        fit.definition.require_hazard("Prediction of events")
        return checked[0].predictive

    def leave_one_out() -> pd.DataFrame:
        if not checked:
            raise EstimandError("the fit could not be checked")
        if checked[0].loo.empty:
            # Raises, and says why.
            leave_one_out_total(fit)
        return checked[0].loo

    attempt("predictive", predictive)
    attempt("leave_one_out", leave_one_out)

    def replicates() -> pd.DataFrame:
        sizes = fit.posterior.sizes
        draws = min(REPLICATES, sizes["chain"] * sizes["draw"])
        curves = replicated_simon_makuch(
            fit, seed=fit.provenance.seed, draws=draws, landmark=start
        )["survival"]
        tail = (1.0 - MASS) / 2.0
        # NaN after the end of a group's follow-up.
        known = curves.count("replicate") > 0
        bands = curves.where(known, 0.0).quantile([tail, 0.5, 1.0 - tail], "replicate")
        bands = bands.where(known)
        names = ("lower", "median", "upper")
        wide = {
            name: bands.isel(quantile=index, drop=True).to_series()
            for index, name in enumerate(names)
        }
        return pd.DataFrame(wide).reset_index()

    attempt("predictive_curves", replicates)
    attempt(
        "prior_predictive",
        lambda: prior_table(
            prior_predictive(
                fit.definition, fit.person_time, seed=fit.provenance.seed, draws=PRIOR_DRAWS
            )
        ),
    )
    attempt("prior_sensitivity", lambda: power_scaling(fit, alphas=ALPHAS))


def _safety(events: AdverseEvents, *, seed: int) -> pd.DataFrame:
    """Count by phase, with the posteriors of the share of patients and of the rate."""
    table = events.table()
    for name, found in (
        ("incidence", incidence(events, seed=seed)),
        ("rate_per_year", event_rate(events, seed=seed, per="years")),
    ):
        estimates = summary(found).set_index("phase").loc[list(events.phases)]
        for column in ("median", "lower", "upper"):
            table[f"{name}_{column}"] = estimates[column].to_numpy()
    return table


def _diagnostics(fit: Fit) -> pd.DataFrame:
    """Join the criteria of all gates and every parameter's diagnostics in one table."""
    rows: list[dict[str, Any]] = [
        {
            "kind": "criterion",
            "name": row["criterion"],
            "value": row["value"],
            "limit": row["limit"],
            "passed": row["passed"],
        }
        for row in fit.convergence.criteria.to_dict("records")
    ]
    rows += [
        {
            "kind": "baseline",
            "name": ", ".join(filter(None, [row["endpoint"], row["effect"]])),
            "value": row["shift"],
            "limit": "not compared" if row["state"] == "not compared" else f"within {FAILED:g} sds",
            "passed": row["state"] != "failed",
        }
        for row in fit.gate.table.to_dict("records")
    ]
    if fit.event_times is not None:
        rows += [
            {
                "kind": "event times",
                "name": row["endpoint"],
                "value": row["index"],
                "limit": f"at most {COARSE:g} sds",
                "passed": row["state"] != "failed",
            }
            for row in fit.event_times.table.to_dict("records")
        ]
    rows += [
        {"kind": "parameter", "name": row["parameter"]}
        | {name: row[name] for name in ("r_hat", "ess_bulk", "ess_tail", "pareto_k") if name in row}
        for row in fit.convergence.table.to_dict("records")
    ]
    columns = ["kind", "name", "value", "limit", "passed", "r_hat", "ess_bulk", "ess_tail"]
    columns += ["pareto_k"] if "pareto_k" in fit.convergence.table else []
    return pd.DataFrame(rows, columns=columns).assign(converged=fit.converged)


def write_tables(folder: str | PathLike[str], tables: Mapping[str, pd.DataFrame]) -> None:
    """Write tables as CSV files."""
    for name, table in tables.items():
        write_text(Path(folder) / f"{name}.csv", to_csv(table))


def make_record(
    folder: str | PathLike[str],
    *,
    title: str,
    command: str,
    source: str,
    cohort: Cohort | CohortScan,
    seconds: Mapping[str, float],
    started: str,
    notes: Mapping[str, str],
    starts: Sequence[float] | None = None,
    minimum_count: int = 1,
    safety: AdverseEvents | None = None,
) -> str:
    """Describe a folder of results, so that a report can tell whether its files belong together.

    Parameters
    ----------
    starts
        Times from which the regimes of the curves give the exposed phase; None does not tell.
    safety
        Adverse events, where there are any.
    """
    folder = Path(folder)
    # Of the bytes that were analysed: the file may be another by now.
    read = dict(cohort.file_hashes) if isinstance(cohort, Cohort) else cohort.hash_files()
    read |= {} if safety is None else safety.file_hashes
    record = {
        "format": FORMAT,
        "schema": SCHEMA,
        "title": title,
        "command": command,
        "source": source,
        "data_sha256": read,
        "cohort_sha256": hash_of_cohort(cohort) if isinstance(cohort, Cohort) else None,
        "started": started,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "starts": None if starts is None else list(starts),
    }
    return seal_record(folder, record, notes=notes, minimum_count=minimum_count)


def seal_record(
    folder: str | PathLike[str],
    record: Mapping[str, Any],
    *,
    notes: Mapping[str, str],
    minimum_count: int,
    beside: str | PathLike[str] | None = None,
) -> str:
    """Write into a record what a folder's files are.

    Parameters
    ----------
    folder
        The folder, with all tables in it, and the fit if it is not beside them.
    """
    held = {FIT: Path(beside or folder) / FIT}
    held |= {f"{name}.csv": Path(folder) / f"{name}.csv" for name in TEXTS}
    # Not of the unmasked tables: their hash would let guesses at what is hidden be tried.
    whole = {
        **record,
        "notes": dict(notes),
        "minimum_count": minimum_count,
        # Whether there are any: which ones may be seen is another question.
        "figures": bool(record.get("figures")) or any(Path(folder).glob("*.svg")),
        "sha256": {name: sha256_of(path) for name, path in held.items() if path.is_file()},
    }
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_unmasked(
    folder: str | PathLike[str],
    tables: Mapping[str, pd.DataFrame],
    *,
    fit: Fit,
    notes: Mapping[str, str],
) -> None:
    """Write tables as they were computed, into one file for their owner alone."""
    # In one order, whether they were computed now or read.
    texts = {name: to_csv(tables[name]) for name in TEXTS if name in tables}
    content = {"of": _mark_of(fit), "notes": dict(notes), "tables": texts}
    whole = {"format": FORMAT_UNMASKED, **content, "seal": _seal(content)}
    words = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(Path(folder) / UNMASKED, words.encode("utf-8"), private=True)


def _mark_of(fit: Fit) -> str:
    """Tell a fit from another: the data and the draws that it has."""
    return f"{fit.provenance.data_hash} {fit.definition.name} {fit.provenance.seed}"


def _seal(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read_unmasked(folder: Path, fit: Fit) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Read the tables, and the notes, that are masked beside them."""
    path = folder / UNMASKED
    if trouble_of(path) == "no such file":
        raise StorageError(
            f"'{path}' is missing, which belongs to these results: their tables are masked, and a "
            "report needs what they hide. Ask whoever ran the study, or run it again."
        )
    again = "run the study again."
    try:
        found = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        raise StorageError(f"'{path}' is damaged ({error}): {again}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT_UNMASKED:
        raise StorageError(f"'{path}' does not hold tables that bayesblina run wrote: {again}")
    content = {name: found.get(name) for name in ("of", "notes", "tables")}
    if found.get("seal") != _seal(content):
        raise StorageError(f"'{path}' was changed after the analysis: {again}")
    if content["of"] != _mark_of(fit):
        raise StorageError(f"'{path}' is of another fit than '{folder / FIT}': {again}")
    texts = {name: text for name, text in found["tables"].items() if name in TEXTS}
    tables = {
        name: read_csv(StringIO(text), texts=TEXTS[name], named=f"{path}: {name}")
        for name, text in texts.items()
    }
    return tables, dict(found["notes"])


def read_results(
    folder: str | PathLike[str],
    *,
    sensitivity: str | PathLike[str] | None = None,
    beside: str | PathLike[str] | None = None,
) -> Results:
    """Read a folder of results, and check that its files belong together.

    Parameters
    ----------
    folder
        What ``bayesblina run`` wrote.
    sensitivity
        Folder of the scenarios, which must be of the same analysis. By default they are looked
        for in `folder`, and left out with a note if they are of another one.
    beside
        Where to look for them by default, in place of `folder`.

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
    for name, digest in record["sha256"].items():
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
    missing = [name for name in NEEDED if f"{name}.csv" not in record["sha256"]]
    if missing or FIT not in record["sha256"]:
        raise StorageError(f"'{folder / RECORD}' lacks {', '.join(missing) or FIT}.")
    fit = load(folder / FIT)
    if record.get("minimum_count", 1) > 1:
        whole, notes = _read_unmasked(folder, fit)
        record["notes"] |= notes
        tables = {name: one for name, one in whole.items() if f"{name}.csv" in record["sha256"]}
    else:
        tables = {
            name: read_csv(folder / f"{name}.csv", texts=texts)
            for name, texts in TEXTS.items()
            if f"{name}.csv" in record["sha256"]
        }
    if "patient_flow" in tables:
        tables["patient_flow"] = tables["patient_flow"].astype(dict(KINDS))
    where = Path(sensitivity or beside or folder)
    scenarios, why = _scenarios(where, record, tables["hazard_ratios"])
    if sensitivity is not None and scenarios is None:
        raise StorageError(f"'{sensitivity}': {why or f'there is no {SCENARIOS}'}.")
    if why:
        record["notes"]["sensitivity"] = why
    return Results(fit=fit, tables=tables, record=record, sensitivity=scenarios)


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if trouble_of(path) == "no such file":
        raise StorageError(
            f"'{folder}' has no {RECORD}: expected a folder that bayesblina run wrote, and that it "
            "finished."
        )
    try:
        record = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        raise StorageError(f"'{path}' is damaged ({error}): run the study again.") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise StorageError(f"'{path}' is not a record that bayesblina run wrote.")
    if record.get("schema") != SCHEMA:
        raise StorageError(
            f"'{path}' has schema {record.get('schema')}; this bayesblina reads {SCHEMA}."
        )
    expected = {"title", "command", "source", "cohort_sha256", "seconds", "notes", "sha256"}
    if not expected <= set(record):
        raise StorageError(f"'{path}' lacks {', '.join(sorted(expected - set(record)))}.")
    minimum = record.get("minimum_count", 1)
    if isinstance(minimum, bool) or not isinstance(minimum, int) or minimum < 1:
        raise StorageError(f"'{path}' is damaged (minimum_count is no count): run the study again.")
    for name in ("seconds", "notes", "sha256", "data_sha256"):
        if not isinstance(record.get(name, {}), dict):
            raise StorageError(f"'{path}' is damaged ({name} is no table): run the study again.")
    known = {FIT, *(f"{name}.csv" for name in TEXTS)}
    if not set(record["sha256"]) <= known:
        raise StorageError(f"'{path}' names files that are no results.")
    return dict(record)


def _scenarios(
    folder: Path, record: Mapping[str, Any], ratios: pd.DataFrame
) -> tuple[Sensitivity | None, str]:
    """Read scenarios, if they are of the same patients and their base case is this analysis."""
    if not (folder / SCENARIOS).is_file():
        return None, ""
    header, _, _ = Store(folder=folder).read()
    if header.get("what") != "scenarios":
        return None, "these are no scenarios of an analysis"
    if header.get("data") != record["cohort_sha256"]:
        return None, "the scenarios are of other patients"
    found = load_sensitivity(folder)
    base = found.table[found.table["scenario"] == BASE_LABEL].dropna(subset=["endpoint"])
    for row in base.to_dict("records"):
        own = ratios[ratios["endpoint"] == row["endpoint"]]
        error = float(np.hypot(own["mcse"].iloc[0], row["mcse"])) if len(own) else 0.0
        # Other seeds, same posterior: six Monte-Carlo standard errors are never passed by chance.
        if not len(own) or abs(float(own["mean"].iloc[0]) - row["mean"]) > 6 * error + 1e-9:
            return None, "the scenarios' base case is another analysis than this one"
    return found, ""
