"""All tables of a study, computed from a fit and its cohort."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from xarray import DataArray, Dataset

from bayesblina.checks import Checks, check, curve_shift, replicated_simon_makuch
from bayesblina.checks.pointwise import leave_one_out_total
from bayesblina.checks.priors import power_scaling, prior_predictive
from bayesblina.checks.weaknesses import COLUMNS as PULLS
from bayesblina.checks.weaknesses import pulls
from bayesblina.classical.comparison import Comparison, mantel_byar_of
from bayesblina.classical.curves import numbers_at_risk_of, simon_makuch_of
from bayesblina.classical.ladder import ladder_of
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import BayesblinaError, DataError, EstimandError
from bayesblina.core.tables.numbers import BASELINE, EVENT_TIMES
from bayesblina.estimands.comparisons import contrast
from bayesblina.estimands.curves import rmst, survival
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.estimands.regimes import From, Never, Regime
from bayesblina.estimands.safety import event_rate, incidence
from bayesblina.estimands.summaries import prior_table, summary
from bayesblina.hazards.parts import PowerPrior
from bayesblina.inference.baseline_gate import FAILED, RATIO
from bayesblina.inference.fitting import Fit, weights_of
from bayesblina.output.progress import Progress
from bayesblina.output.report.wording import INTERVAL
from bayesblina.output.request import Curves
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time.event_times import FAILED as COARSE
from bayesblina.person_time.onsets import AdverseEvents
from bayesblina.studies.external import borrowing
from bayesblina.studies.study_file import in_memory

# Tables read off the draws that do not know by themselves whether these converged.
OFF_DRAWS = ("predictive", "predictive_curves", "leave_one_out", "prior_sensitivity")
# What every parameter's diagnostics tell of its draws.
DRAWN = ("r_hat", "ess_bulk", "ess_tail")
# Power-scaling looks at each prior at half and at twice its weight.
ALPHAS = (0.5, 2.0)
PRIOR_DRAWS = 1000
FURTHER_TIMES = 26
AT_RISK_TIMES = 7
REPLICATES = 200
BY_STEP = f"{RATIO}_by_piece"
TAIL = (1.0 - 0.95) / 2.0
QUANTILES = (TAIL, 0.5, 1.0 - TAIL)


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables by name, and why one could not be computed."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str, compute: Callable[[], pd.DataFrame]) -> None:
        """Compute a table, or note why this model or this cohort does not allow it."""
        try:
            self.tables[name] = compute()
        except DataError:
            # Its words name patients.
            self.notes[name] = "the data do not allow it"
        except BayesblinaError as error:
            self.notes[name] = str(error).rstrip(".")


def compute_tables(
    fit: Fit,
    cohort: Cohort | CohortScan,
    *,
    curves: Curves,
    adverse_events: AdverseEvents | None = None,
    progress: Progress,
) -> tuple[Tables, Dataset]:
    """Compute all tables of a study, and draw survival at the first landmark.

    `cohort`: its patients; what looks at single ones is left out where they are in a query engine.
    """
    computed = Tables()

    @cache
    def comparison() -> Comparison:
        return Comparison.of(in_memory(cohort), fit.question)

    with progress.stage("hazard ratios"):
        thresholds = tuple(dict.fromkeys([1.0, *curves.thresholds]))
        ratios = summary(hazard_ratio(fit), thresholds=thresholds)
        computed.tables["hazard_ratios"] = _with_pulls(ratios, fit)
        if BY_STEP in fit.posterior:
            by_step = summary(hazard_ratio(fit, over="step"), thresholds=thresholds)
            computed.tables["hazard_ratios_by_step"] = by_step
        computed.tables["diagnostics"] = _diagnostics(fit)
    with progress.stage("curves"):
        drawn = survival(fit, regimes=curves.regimes, times=curves.times, landmark=curves.landmark)
        wanted = curves.landmarks
        if wanted is None:
            wanted = _quartiles(comparison()) if isinstance(cohort, Cohort) else ()
        regimes = _curves(computed, fit, wanted, curves, drawn)
    with progress.stage("comparisons"):
        _comparisons(computed, fit, comparison, curves, drawn, starts=tuple(regimes))
        account = (
            cohort.account(cuts=fit.person_time.cuts)
            if isinstance(cohort, Cohort)
            else cohort.account()
        )
        computed.tables["patient_flow"] = (account + fit.person_time.account()).table
    with progress.stage("checks"):
        _checks(computed, fit, start=float(drawn.attrs["landmark"]))
    if fit.definition.borrowing is not None:
        with progress.stage("external patients"):
            computed.attempt("borrowing", lambda: borrowing(fit))
    if adverse_events is not None:
        with progress.stage("safety"):
            computed.attempt("safety", partial(_safety, adverse_events, seed=fit.provenance.seed))
    return computed, drawn


def _with_pulls(ratios: pd.DataFrame, fit: Fit) -> pd.DataFrame:
    """Set beside every answer how far the priors and the baseline pull it."""
    pulled = pulls(fit).set_index("endpoint").loc[ratios["endpoint"]]
    before = list(ratios.columns).index("converged")
    for offset, column in enumerate(PULLS):
        ratios.insert(before + offset, column, pulled[column].to_numpy())
    return ratios


def _diagnostics(fit: Fit) -> pd.DataFrame:
    """Join the criteria of all gates and every parameter's diagnostics in one table."""
    criteria, parameters = fit.convergence.criteria, fit.convergence.table
    rows: list[dict[str, Any]] = [
        {"kind": "criterion", "name": row["criterion"]}
        | {name: row[name] for name in ("value", "limit", "passed")}
        for row in criteria.to_dict("records")
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
    rows += [
        {
            "kind": "event times",
            "name": row["endpoint"],
            "value": row["index"],
            "limit": f"at most {COARSE:g} sds",
            "passed": row["state"] != "failed",
        }
        for row in ([] if fit.event_times is None else fit.event_times.table.to_dict("records"))
    ]
    numbers = [name for name in ("r_hat", "ess_bulk", "ess_tail", "pareto_k") if name in parameters]
    rows += [
        {"kind": "parameter", "name": row["parameter"]} | {name: row[name] for name in numbers}
        for row in parameters.to_dict("records")
    ]
    columns = ["kind", "name", "value", "limit", "passed", *dict.fromkeys([*DRAWN, *numbers])]
    return pd.DataFrame(rows, columns=columns).assign(converged=fit.converged)


def _curves(
    computed: Tables, fit: Fit, wanted: Sequence[float], curves: Curves, drawn: Dataset
) -> dict[float, tuple[Regime, ...]]:
    """Summarise curves from each landmark on, and the means under them; return their regimes."""
    first = computed.tables["survival"] = summary(drawn)
    start, end = float(drawn.attrs["landmark"]), float(drawn["time"].max())
    parts, regimes = _by_landmark(fit, wanted, curves, start=start, end=end)
    columns = ["endpoint", "landmark", "regime", "time", "median", "lower", "upper", "converged"]
    if fit.person_time.layout is not None and "supported" in first:
        # Where phases recur nobody may have a history for a while, and somebody later.
        columns.insert(-1, "supported")
    parts = [part[columns] for part in (first.assign(landmark=start), *parts)]
    computed.tables["survival_by_landmark"] = pd.concat(parts, ignore_index=True)
    computed.attempt("restricted_means", partial(_restricted_means, fit, regimes, end=end))
    return regimes


def _by_landmark(
    fit: Fit, wanted: Sequence[float], curves: Curves, *, start: float, end: float
) -> tuple[list[pd.DataFrame], dict[float, tuple[Regime, ...]]]:
    """Draw curves from each further landmark on; those of the first are there already."""
    parts: list[pd.DataFrame] = []
    by_landmark: dict[float, tuple[Regime, ...]] = {start: curves.regimes}
    asked: list[tuple[float, tuple[Regime, ...], Sequence[float] | Floats | None]] = []
    if len(curves.regimes) == 1:
        # Nobody asked for a regime with the exposed phase: it starts at the landmark if it can.
        asked.append((start, (Never(), From(start)), curves.times))
    for landmark in sorted({float(time) for time in wanted} - {start}):
        # Asked for by name, a landmark has the study's later starts too.
        later = [time for time in curves.starts if time > landmark and curves.landmarks is not None]
        entries = [From(time) for time in sorted({landmark, *later}) if time < end]
        if landmark < end:
            times = np.linspace(landmark, end, FURTHER_TIMES)
            asked.append((landmark, (Never(), *entries), times))
    for landmark, regimes, at in asked:
        # Asked for by name a landmark was refused before the fit; a quartile may not do.
        with suppress(EstimandError):
            draws = survival(fit, regimes=regimes, landmark=landmark, times=at)["survival"]
            # Never is among the first curves already.
            draws = draws.isel(regime=[1]) if landmark == start else draws
            table = _bands(draws.quantile(QUANTILES, ("chain", "draw")))
            if fit.person_time.layout is not None and "supported" in draws.coords:
                known = draws["supported"].to_series().rename("supported").reset_index()
                table = table.merge(known, on=["endpoint", "regime", "time"], how="left")
            parts.append(table.assign(landmark=landmark, converged=fit.converged))
            by_landmark[landmark] = regimes
    return parts, by_landmark


def _bands(quantiles: DataArray) -> pd.DataFrame:
    """Tabulate the ends of the central 95 % and the median."""
    columns = {
        name: quantiles.isel(quantile=index, drop=True).to_series()
        for index, name in enumerate(("lower", "median", "upper"))
    }
    return pd.DataFrame(columns).reset_index()


def _quartiles(comparison: Comparison) -> tuple[float, ...]:
    """First and third quartile of the times at which eligible patients enter the exposed phase."""
    cohort, question = comparison.cohort.whole(), comparison.question
    followed = np.unique(np.concatenate([found.person for found in comparison.episodes.values()]))
    phases = [cohort.phases.index(name) for name in question.exposed_phases]
    starts = cohort.phase_start[followed][:, phases]
    times = np.where(np.isnan(starts), np.inf, starts).min(axis=1)
    times = times[np.isfinite(times) & (times > (question.landmark or 0.0))]
    # Two digits: nobody's own date.
    quartiles = np.quantile(times, [0.25, 0.75]) if times.size else []
    return tuple(float(f"{quartile:.2g}") for quartile in quartiles)


def _restricted_means(
    fit: Fit, starts: Mapping[float, tuple[Regime, ...]], *, end: float
) -> pd.DataFrame:
    """Compare mean times event-free up to the end of the curves with those under never."""
    parts = []
    for landmark, (never, *entries) in starts.items():
        if entries:
            means = rmst(fit, horizon=end, regimes=(never, *entries), landmark=landmark)
        for regime in entries:
            gain = summary(contrast(means, regime, never))
            parts.append(gain.assign(landmark=landmark, regime=regime.label, horizon=end))
    if not parts and fit.question.amount == "dose":
        raise EstimandError(
            "A start says nothing of doses, which the question counts: compare regimes with "
            "rmst(fit, regimes=[Never(), Cycles(..., dose=)])."
        )
    if not parts:
        raise EstimandError(
            "No regime enters the exposed phase: give starts or regimes (in a study file under "
            "[curves])."
        )
    table = pd.concat(parts, ignore_index=True)
    return table[list(dict.fromkeys(["endpoint", "landmark", "regime", "horizon", *table]))]


def _comparisons(
    computed: Tables,
    fit: Fit,
    comparison: Callable[[], Comparison],
    curves: Curves,
    drawn: Dataset,
    *,
    starts: Sequence[float],
) -> None:
    """Set the answer and its curves beside those of other methods."""
    end = float(drawn["time"].max())
    asked = (curves.landmark, fit.question.landmark, *(curves.landmarks or ()))
    named = {float(landmark) for landmark in asked if landmark is not None}

    def at_each(compute: Callable[[float], pd.DataFrame]) -> pd.DataFrame:
        parts = [compute(landmark).assign(landmark=landmark) for landmark in starts]
        return pd.concat(parts, ignore_index=True)

    def observed(landmark: float) -> pd.DataFrame:
        # As they were fitted, with their weights.
        weights = weights_of(fit, comparison().cohort)
        return simon_makuch_of(comparison(), landmark=landmark, weights=weights)

    def at_risk(landmark: float) -> pd.DataFrame:
        return numbers_at_risk_of(comparison(), at_risk_times(landmark, end), landmark=landmark)

    def ladder() -> pd.DataFrame:
        if isinstance(fit.definition.borrowing, PowerPrior):
            raise EstimandError("external patients would count in full in the other methods")
        return ladder_of(
            comparison(),
            landmarks=sorted(time for time in starts if time > 0 and (time in named or not named)),
            # Its last rung is that of the table of hazard ratios.
            answers=computed.tables["hazard_ratios"],
            adjusted=bool(fit.design.term_names),
        )

    computed.attempt("classical", lambda: mantel_byar_of(comparison()).to_dataframe().reset_index())
    computed.attempt("bias_ladder", ladder)
    computed.attempt("simon_makuch", lambda: at_each(observed))
    computed.attempt("at_risk", lambda: at_each(at_risk))
    computed.attempt(
        "curve_shift", lambda: curve_shift(fit, comparison().cohort, drawn, regimes=curves.regimes)
    )


def at_risk_times(start: float, end: float) -> Floats:
    """Round times at which to count the patients at risk below a curve, its start among them.

    `start`, `end`: where the curve starts and ends.
    Result, shape (time,): the start, and round times after it that leave room for its count.
    """
    from matplotlib.ticker import MaxNLocator

    ticks = np.asarray(MaxNLocator(AT_RISK_TIMES).tick_values(start, end))
    apart = (end - start) / (2.0 * AT_RISK_TIMES)
    return np.concatenate([[start], ticks[(ticks >= start + apart) & (ticks <= end)]])


def _checks(computed: Tables, fit: Fit, *, start: float) -> None:
    """Predictive checks, leave-one-out prediction and what the priors do."""
    tables, seed = computed.tables, fit.provenance.seed
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

    def replicates() -> pd.DataFrame:
        sizes = fit.posterior.sizes
        draws = min(REPLICATES, sizes["chain"] * sizes["draw"])
        curves = replicated_simon_makuch(fit, seed=seed, draws=draws, landmark=start)["survival"]
        # None after the end of a group's follow-up.
        known = curves.count("replicate") > 0
        return _bands(curves.where(known, 0.0).quantile(QUANTILES, "replicate").where(known))

    def priors() -> pd.DataFrame:
        draws = prior_predictive(fit.definition, fit.person_time, seed=seed, draws=PRIOR_DRAWS)
        return prior_table(draws)

    computed.attempt("predictive", predictive)
    computed.attempt("leave_one_out", leave_one_out)
    computed.attempt("predictive_curves", replicates)
    computed.attempt("prior_predictive", priors)
    computed.attempt("prior_sensitivity", lambda: power_scaling(fit, alphas=ALPHAS))
    for name in OFF_DRAWS:
        if name in tables:
            tables[name] = tables[name].assign(converged=fit.converged)
    if "prior_sensitivity" in tables:
        # Its numbers are hazard ratios too.
        states = tables["hazard_ratios"].set_index("endpoint").filter([BASELINE, EVENT_TIMES])
        own = states.reindex(tables["prior_sensitivity"]["endpoint"])
        tables["prior_sensitivity"] = tables["prior_sensitivity"].assign(
            **{str(name): own[name].to_numpy() for name in own}
        )


def _safety(events: AdverseEvents, *, seed: int) -> pd.DataFrame:
    """Count by phase, with the posteriors of the share of patients and of the rate."""
    table = events.table()
    for name, draws in (
        ("incidence", incidence(events, seed=seed)),
        ("rate_per_year", event_rate(events, seed=seed, per="years")),
    ):
        estimates = summary(draws).set_index("phase").loc[list(events.phases)]
        table = table.assign(
            **{f"{name}_{column}": estimates[column].to_numpy() for column in INTERVAL}
        )
    return table
