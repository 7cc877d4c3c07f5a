"""What a masked report leaves out, because it was computed from small counts; the account first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.checks.replicates import replicated_events
from bayesblina.core.masking import MASK, Masked, MaskedAccount, is_small, mask_account
from bayesblina.core.masking.tables import (
    OBSERVED_DECIMALS,
    RATIO_DIGITS,
    TIMES,
    coarse_times,
    digits,
    join_rows,
    mask_at_risk,
    mask_borrowing,
    mask_flow,
    mask_ladder,
    mask_loo,
    mask_safety,
    read_observed,
    without_counts,
)
from bayesblina.core.tables.numbers import OWN
from bayesblina.hazards.parts import Free
from bayesblina.inference.baseline_gate import RATIO, worst
from bayesblina.inference.fitting import Fit
from bayesblina.output.report.results import Results
from bayesblina.output.report.steps import by_phase, named_for_phases, withheld_by_step
from bayesblina.output.report.wording import count, records
from bayesblina.studies.what_if.reading import Sensitivity

# Tables that hold no estimate; the account and adverse events are masked count by count.
COUNTS = ("diagnostics", "patient_flow", "safety", "at_risk")
# Dimensions of parameters whose length follows from numbers of patients, sites, or events.
MANY = frozenset({"group", "interval", "component", "piece", "phase_component"})
# Digits of curves that jump at event times.
COARSE_DIGITS = 2
FEW = (
    "Few patients or events were in a state that is compared. Every estimate, with its interval, "
    "would tell how many: none is shown"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The account of patients, ready to be shown.

    `rows`: lines of the account: ``step``, ``endpoint``, ``phase``, ``what``, and the worded
    ``patients``, ``events`` and ``person_time``.
    `chains`: for each endpoint the main steps, each with a worded ``count`` and ``words``.
    `table`: the account as it is shown: hidden cells hold the mask.
    `masking`: what is hidden.
    """

    table: pd.DataFrame
    rows: tuple[Mapping[str, str], ...]
    chains: tuple[tuple[str, tuple[Mapping[str, str], ...]], ...]
    masking: MaskedAccount


def account(
    table: pd.DataFrame, *, exposed: str, minimum: int, at_risk: pd.DataFrame | None = None
) -> Flow:
    """Word the account of patients."""
    masking = mask_account(table, minimum=minimum, at_risk=at_risk)
    shown = mask_flow(table, masking)

    rows = [
        {
            **{name: str(line[name]) for name in ("step", "endpoint", "phase", "what")},
            **{name: count(line[name]) for name in ("patients", "events", "person_time")},
        }
        for line in shown.to_dict("records")
    ]
    chains = tuple(
        (endpoint, tuple(_chain(rows, endpoint, exposed)))
        for endpoint in dict.fromkeys(row["endpoint"] for row in rows if row["endpoint"])
    )
    return Flow(table=shown, rows=tuple(rows), chains=chains, masking=masking)


def _chain(rows: Sequence[Mapping[str, str]], endpoint: str, exposed: str) -> list[dict[str, str]]:
    """Word the main steps of an endpoint, each with its count."""
    own = [row for row in rows if row["endpoint"] == endpoint]
    steps = [(row, "in the table") for row in rows if row["step"] == "read"]
    for row in own:
        if row["step"] == "observed" and row["what"] == "under observation":
            steps.append((row, "under observation"))
        if row["step"] == "eligible":
            steps.append((row, f"eligible, {row['events']} events"))
    steps += [
        (row, f"ever in {row['phase'] or exposed}, {row['events']} events in it")
        for row in own
        if row["step"] == "in phase" and row["what"] == "exposed"
    ]
    return [{"count": row["patients"], "words": words} for row, words in steps]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """Results without what would tell a small count: what page, tables and figures are made of.

    `results`: the results: hidden counts hold the mask, hidden estimates are missing or not there.
    Rungs of the ladder that are hidden have the truth value ``masked``.
    `whole`: the results as they were computed.
    `flow`: the account as it is shown; None if there is none.
    `masking`: which counts are hidden.
    `withheld`: endpoints of which no estimate is left.
    `scenarios`: number of scenarios, over endpoints, that are left out.
    """

    results: Results
    whole: Results
    flow: Flow | None
    masking: MaskedAccount
    withheld: tuple[str, ...] = ()
    scenarios: int = 0

    @property
    def minimum(self) -> int:
        """Smallest count that is shown."""
        return self.masking.masked.minimum

    @property
    def coarse(self) -> bool:
        """Whether sentences leave out counts."""
        return self.minimum > 1

    @property
    def gate(self) -> pd.DataFrame:
        """The baseline gate, without what would tell a small count."""
        fit = self.whole.fit
        return _gate(fit, self.withheld) if self.coarse else fit.gate.table

    @property
    def fit_notes(self) -> tuple[str, ...]:
        """What the fit has to tell."""
        return tuple(map(self.words, self.whole.fit.provenance.notes))

    def words(self, text: str) -> str:
        """Take small counts out of a text."""
        return without_counts(text, self.masking.masked) if self.coarse else text


def without_few(results: Results, *, minimum: int) -> Shown:
    """Leave out what was computed from small counts: the one place where that is decided.

    An estimate is a function of few numbers where few events stand on one side of it: the variance
    of a log hazard ratio is about the sum of one over each side's events. So no estimate is left
    of an endpoint of which a compared state has few patients or events; no rung of the ladder by
    another method, and no sum of risk sets, where any number of events by phase is hidden; and no
    rung or scenario with few events on one side. Observed curves end before few are at risk, and
    none of their steps is that of few events.

    `results`: the results. Without an account of patients, only counts that are small by themselves
    are hidden.
    """
    fit, whole, flow = results.fit, results.tables, None
    if minimum > 1 and "patient_flow" in whole:
        whole = {**whole, "patient_flow": by_phase(whole["patient_flow"], fit)}
    nothing: frozenset[Any] = frozenset()
    masking = MaskedAccount(
        masked=Masked(minimum=minimum), times=nothing, few=nothing, closed=nothing
    )
    if "patient_flow" in whole:
        flow = account(
            whole["patient_flow"],
            exposed=fit.question.exposure,
            minimum=minimum,
            at_risk=whole.get("at_risk"),
        )
        masking = flow.masking
    everything = Shown(results=results, whole=results, flow=flow, masking=masking)
    if not everything.coarse:
        return everything
    own = set(fit.person_time.endpoints)
    named = {
        str(name)
        for table, rows in whole.items()
        if table not in COUNTS and "endpoint" in rows
        for name in rows["endpoint"]
    }
    # A baseline of jumps has one at each event time. And curves of endpoints rest on every
    # transition of an illness-death course.
    jumps = masking.closed if isinstance(fit.definition.baseline, Free) else frozenset()
    few = set(masking.few | jumps)
    few |= named - own if few else set()
    landmarks = _landmarks(whole)
    tables = {
        name: coarse_times(
            rows if name in COUNTS or "endpoint" not in rows else _without(rows, few), landmarks
        )
        for name, rows in whole.items()
    }
    scenarios, left_out = None, 0
    if results.sensitivity is not None:
        scenarios, left_out = _scenarios(results.sensitivity, few, minimum)
    withheld = tuple(sorted(few & (own | set(whole["survival"]["endpoint"]))))
    tables |= _counted(whole, tables, flow, masking, withheld)
    tables |= _observed(whole, tables, masking)
    if "hazard_ratios_by_step" in tables:
        tables["hazard_ratios_by_step"] = _without(
            tables["hazard_ratios_by_step"], withheld_by_step(fit, minimum, masking.closed)
        )
    tables["diagnostics"] = join_rows(
        tables["diagnostics"], joined_names(fit, tables["diagnostics"])
    )
    if "prior_predictive" in tables:
        tables["prior_predictive"] = named_for_phases(tables["prior_predictive"], fit)
    if "predictive" in tables:
        tables["predictive"] = _by_joined_interval(
            results, tables["predictive"], masking, landmarks
        )
    notes = {name: everything.words(text) for name, text in results.record["notes"].items()}
    record = {**results.record, "notes": notes}
    return replace(
        everything,
        results=replace(results, tables=tables, sensitivity=scenarios, record=record),
        withheld=withheld,
        scenarios=left_out,
    )


def _gate(fit: Fit, withheld: Collection[str]) -> pd.DataFrame:
    """Take the baseline gate without withheld endpoints, and without numbers of parts of an effect.

    The standard deviation of a log hazard ratio tells the events behind it, and those of a part
    (levels, intervals, other phases) are in no account that could say that they are few. Of
    intervals and of pieces there is one row, the worst: how many there are follows from the events.
    """
    table = fit.gate.table[~fit.gate.table["endpoint"].isin(withheld)]
    numbers = table.select_dtypes("float").columns
    of_parts = table["effect"] != fit.question.exposure
    table = table.assign(**{str(name): table[name].mask(of_parts) for name in numbers})
    parts = _parts_of(fit)
    names = table["effect"].map(lambda effect: parts.get(effect, effect))
    kept = [
        rows
        if name == rows["effect"].iloc[0]
        else rows[rows["state"] == worst(rows["state"])].iloc[[0]].assign(effect=str(name))
        for (_, name), rows in table.groupby(["endpoint", names], sort=False)
    ]
    return pd.concat(kept, ignore_index=True) if kept else table


def _parts_of(fit: Fit) -> dict[str, str]:
    """Name together the parts of an effect of which there are as many as events allow."""
    return {
        f"{dim} {part}": f"{dim}s, the worst"
        for dim in ("interval", "piece")
        if f"{RATIO}_by_{dim}" in fit.posterior
        for part in fit.posterior[dim].values
    }


def joined_names(fit: Fit, diagnostics: pd.DataFrame) -> pd.Series:
    """Name rows of diagnostics of which the number, or the names, would tell counts or patients.

    Rows with one name are one row of a masked table.
    """
    ends = {f", {part}": f", {name}" for part, name in _parts_of(fit).items()}

    def named(kind: str, name: str) -> str:
        if kind == "parameter":
            variable = name.partition("[")[0]
            return variable if _many(fit, variable) else name
        end = next((end for end in ends if name.endswith(end)), None)
        return name if kind != "baseline" or end is None else name.removesuffix(end) + ends[end]

    rows = zip(diagnostics["kind"], diagnostics["name"], strict=True)
    return pd.Series([named(str(kind), str(name)) for kind, name in rows], index=diagnostics.index)


def _many(fit: Fit, variable: str) -> bool:
    """Whether how many parameters of a kind there are follows from patients, sites or events."""
    return variable in fit.posterior and not MANY.isdisjoint(fit.posterior[variable].dims)


def _landmarks(tables: Mapping[str, pd.DataFrame]) -> frozenset[float]:
    """Collect times from which curves start: the study's own, or rounded ones."""
    landmarks = {float(tables["survival"]["time"].min())} if len(tables["survival"]) else set()
    for rows in tables.values():
        if "landmark" in rows:
            landmarks |= {float(landmark) for landmark in rows["landmark"]}
    return frozenset(landmarks)


def _counted(
    whole: Mapping[str, pd.DataFrame],
    tables: Mapping[str, pd.DataFrame],
    flow: Flow | None,
    masking: MaskedAccount,
    withheld: Collection[str],
) -> dict[str, pd.DataFrame]:
    """Mask the tables that hold counts, or what follows from them without a model."""
    masked, closed = masking.masked, masking.closed
    shown = {} if flow is None else {"patient_flow": flow.table}
    masks: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
        "at_risk": lambda table: mask_at_risk(table, masking),
        "safety": lambda table: _masked_safety(table, whole.get("patient_flow"), masking),
        "bias_ladder": lambda table: mask_ladder(table, masked.minimum, closed=closed, own=OWN),
        "borrowing": lambda table: mask_borrowing(table, masked),
        "leave_one_out": lambda table: mask_loo(table, masked),
    }
    shown |= {
        name: hide(whole[name] if name in COUNTS else tables[name])
        for name, hide in masks.items()
        if name in whole
    }
    # Sums over risk sets, and curves that jump at event times, where these tell no count.
    for name, places in (("classical", RATIO_DIGITS), ("curve_shift", COARSE_DIGITS)):
        if name in tables:
            rows = _without(tables[name], closed)
            shown[name] = rows.assign(
                **{
                    str(column): [digits(float(value), places) for value in rows[column]]
                    for column in rows.select_dtypes("float")
                    if column not in TIMES
                }
            )
    diagnostics = tables["diagnostics"]
    kept = [
        kind == "parameter" or bool(about_others([f"{name}, "], withheld))
        for kind, name in zip(diagnostics["kind"], diagnostics["name"], strict=True)
    ]
    shown["diagnostics"] = diagnostics[kept].reset_index(drop=True)
    return shown


def _without(rows: pd.DataFrame, endpoints: Collection[str]) -> pd.DataFrame:
    """Leave out the rows of some endpoints."""
    return rows[~rows["endpoint"].isin(endpoints)].reset_index(drop=True)


def _masked_safety(
    table: pd.DataFrame, flow: pd.DataFrame | None, masking: MaskedAccount
) -> pd.DataFrame:
    """Mask adverse events beside the account of patients."""
    lines = [] if flow is None else flow.to_dict("records")
    # Starts of a phase have no person-time that could be told.
    phases = {
        index: str(line["phase"]) for index, line in enumerate(lines) if line["step"] == "in phase"
    }
    hidden = masking.masked.hidden
    told = {name for index, name in phases.items() if f"{index}.patients" not in hidden}
    return mask_safety(
        table,
        masking.masked,
        timeless={name for index, name in phases.items() if index in masking.times},
        # Where one endpoint shows about as many, another's hide nothing here.
        untold={*phases.values()} - told,
    )


def _observed(
    whole: Mapping[str, pd.DataFrame],
    tables: Mapping[str, pd.DataFrame],
    masking: MaskedAccount,
) -> dict[str, pd.DataFrame]:
    """Read observed curves, and bands of replicated ones, as far as they tell of no few."""
    if "simon_makuch" not in whole:
        return {}
    observed, minimum = whole["simon_makuch"], masking.masked.minimum
    name = "survival_by_landmark" if "survival_by_landmark" in tables else "survival"
    curves = tables[name]
    if "landmark" not in curves:
        curves = curves.assign(landmark=curves["time"].min())
    left = []
    ends: dict[tuple[str, str, float], float] = {}
    for key, rows in observed.groupby(["endpoint", "landmark", "group"], sort=False):
        endpoint, landmark, group = str(key[0]), float(str(key[1])), str(key[2])
        few = rows.loc[rows["at_risk"] < minimum, "time"]
        ends[endpoint, group, landmark] = float(few.min()) if len(few) else float("inf")
        own = curves[(curves["endpoint"] == endpoint) & (curves["landmark"] == landmark)]
        if endpoint in masking.closed or own.empty:
            continue
        times = np.sort(own["time"].unique()).astype(float)
        at, values = read_observed(rows, times, minimum=minimum)
        curve = pd.DataFrame({"endpoint": endpoint, "group": group, "time": at})
        left.append(
            curve.assign(
                survival=values,
                lower=np.nan,
                upper=np.nan,
                at_risk=MASK,
                events=MASK,
                landmark=landmark,
            )
        )
    shown = {"simon_makuch": pd.concat(left, ignore_index=True) if left else observed.iloc[:0]}
    if "predictive_curves" in tables:
        bands = tables["predictive_curves"]
        start = bands["time"].min()
        inside = [
            row["time"] < ends.get((row["endpoint"], row["group"], start), float("inf"))
            for row in records(bands)
        ]
        shown["predictive_curves"] = (
            bands.round(dict.fromkeys(("lower", "median", "upper"), OBSERVED_DECIMALS))
            .loc[inside]
            .reset_index(drop=True)
        )
    return shown


def joined_events(replicated: Any, *, minimum: int) -> pd.DataFrame:
    """Join neighbouring intervals until each has enough events to be shown."""
    observed = replicated["observed"].sum("phase").values
    expected = replicated["expected"].sum("phase").mean(("chain", "draw")).values
    drawn = replicated["replicated"].sum("phase")
    drawn = drawn.transpose("chain", "draw", "interval").values.reshape(-1, observed.size)
    groups: list[list[int]] = [[]]
    for index in range(observed.size):
        groups[-1].append(index)
        if observed[groups[-1]].sum() >= minimum and index + 1 < observed.size:
            groups.append([])
    if len(groups) > 1 and observed[groups[-1]].sum() < minimum:
        groups[-2:] = [[*groups[-2], *groups[-1]]]
    replicates = np.column_stack([drawn[:, group].sum(axis=1) for group in groups])
    seen = np.array([observed[group].sum() for group in groups], dtype=np.float64)
    lower, upper = np.quantile(replicates, [0.025, 0.975], axis=0)
    return pd.DataFrame(
        {
            "interval_start": replicated["interval_start"].values[[group[0] for group in groups]],
            "interval_stop": replicated["interval_stop"].values[[group[-1] for group in groups]],
            "observed": seen,
            "expected": [float(expected[group].sum()) for group in groups],
            "lower": lower,
            "upper": upper,
            "p_value": (replicates > seen).mean(axis=0) + 0.5 * (replicates == seen).mean(axis=0),
        }
    )


def _by_joined_interval(
    results: Results, table: pd.DataFrame, masking: MaskedAccount, landmarks: Collection[float]
) -> pd.DataFrame:
    """Join intervals until each has enough events; none of an endpoint whose events are hidden."""
    minimum, parts = masking.masked.minimum, []
    replicated = replicated_events(results.fit, seed=results.fit.provenance.seed)
    for endpoint in dict.fromkeys(table["endpoint"]):
        rows = joined_events(replicated.sel(endpoint=endpoint), minimum=minimum)
        few = any(is_small(count, minimum) for count in rows["observed"])
        if endpoint not in masking.closed and not few:
            parts.append(rows.assign(endpoint=endpoint, converged=results.fit.converged))
    if not parts:
        return table.iloc[:0]
    joined = coarse_times(pd.concat(parts, ignore_index=True), landmarks)
    return joined[["endpoint", *(name for name in joined.columns if name != "endpoint")]]


def _scenarios(
    sensitivity: Sensitivity, few: Collection[str], minimum: int
) -> tuple[Sensitivity | None, int]:
    """Leave out scenarios of withheld endpoints, and those with few events on one side."""
    table = sensitivity.table[~sensitivity.table["endpoint"].isin(few)]
    exposed = table["events_exposed"]
    small = [
        is_small(events, minimum) or is_small(others, minimum)
        for events, others in zip(exposed, table["events"] - exposed, strict=True)
    ]
    kept = table[~np.array(small, dtype=bool)].reset_index(drop=True)
    return (replace(sensitivity, table=kept) if len(kept) else None), sum(small)


def about_others(sentences: Collection[str], withheld: Collection[str]) -> tuple[str, ...]:
    """Leave out sentences on endpoints that are withheld.

    >>> about_others(["os: few events", "rfs: few events"], ["os"])
    ('rfs: few events',)
    """
    return tuple(
        sentence
        for sentence in sentences
        if not any(sentence.startswith((f"{name}: ", f"{name}, ")) for name in withheld)
    )
