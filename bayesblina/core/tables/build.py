"""From tidy tables to tables for print: which columns, under which titles, by which rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.core.arguments import require_kind
from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.masking import MASK, Masked, is_small, mask_account
from bayesblina.core.masking.tables import mask_ladder, mask_loo, mask_safety
from bayesblina.core.tables import numbers
from bayesblina.core.tables.marks import (
    BASELINE,
    BESIDE,
    EVENT_TIMES,
    FAILED,
    LONG,
    OWN,
    SHORT,
    beside,
    failed_in,
)
from bayesblina.core.tables.numbers import Kind
from bayesblina.core.tables.table import NOT_CONVERGED, SYNTHETIC, Table

# Columns of the summaries that are no coordinates.
STATISTICS = frozenset(
    {
        "mean",
        "median",
        "sd",
        "lower",
        "upper",
        "mcse",
        "ess_bulk",
        "ess_tail",
        "r_hat",
        "converged",
        "probability_reached",
    }
)
# How columns that hold numbers are written, wherever they stand.
KINDS: Mapping[str, Kind] = {
    "p_value": "probability",
    "probability": "probability",
    "probability_reached": "probability",
    "share": "percent",
    "odds_ratio": "ratio",
}
TITLES: Mapping[str, str] = {
    "r_hat": "R-hat",
    "ess_bulk": "bulk ESS",
    "ess_tail": "tail ESS",
    "mcse": "MCSE",
    "sd": "SD",
    "elpd": "ELPD",
    "se": "SE",
    "sampling_se": "SE of sampling",
    "p_loo": "effective parameters",
    "largest_pareto_k": "largest Pareto k",
    "pareto_k_limit": "limit of Pareto k",
    "share": "share, %",
    "p_value": "p-value",
}
# Identifiers never go into print.
IDENTIFIERS = frozenset({"patient", "patient_id", "usubjid", "subjid", "id"})
_BELOW = "probability_below_"


def publish(
    table: pd.DataFrame,
    *,
    title: str = "",
    columns: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    unit: str = "months",
    notes: Sequence[str] = (),
) -> Table:
    """Make any tidy table one for print.

    Parameters
    ----------
    table
        The tidy table. Its attributes ``synthetic`` and ``converged``, and a column ``converged``,
        become notes where there is something to say.
    title
        Title.
    columns
        Columns to show, in this order; by default all but ``converged`` where all rows agree.
    names
        Titles in place of the columns' names.
    kinds
        What numbers of columns are, in place of the rules that the names imply.
    unit
        Unit of columns that are times.
    notes
        Further notes below the table.

    Returns
    -------
    Table
        The table: counts as they stand, R-hat with three decimals, effective sample sizes as whole
        numbers, Monte-Carlo errors with two significant digits, the rest by the rules of
        `bayesblina.core.tables.numbers`.

    Raises
    ------
    SpecError
        If a column is not there, or holds identifiers of patients.

    Examples
    --------
    >>> table = pd.DataFrame({"model": ["primary"], "p_value": [0.0312]})
    >>> publish(table).rows
    (('primary', '0.031'),)
    """
    require_kind(table, pd.DataFrame, "table")
    known = [str(name) for name in table.columns]
    shown = list(columns) if columns is not None else known
    for name in (*shown, *(names or {}), *(kinds or {})):
        if name not in known:
            raise SpecError(f"No column '{name}'. {nearest(name, known)}")
    for name in shown:
        if name.lower() in IDENTIFIERS:
            raise SpecError(
                f"Column '{name}' may identify patients: choose columns= without it for print."
            )
    if columns is None and "converged" in shown and table["converged"].nunique() < 2:
        shown.remove("converged")
    numeric = tuple(
        pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name])
        for name in shown
    )
    writers = [_writer(name, {**KINDS, **(kinds or {})}.get(name), unit) for name in shown]
    rows = [
        tuple(write(cell) for write, cell in zip(writers, row, strict=True))
        for row in table[shown].itertuples(index=False, name=None)
    ]
    return Table(
        title=title,
        head=tuple((names or {}).get(name) or TITLES.get(name) or _words(name) for name in shown),
        rows=tuple(rows),
        numeric=numeric,
        notes=(*notes, *_warnings(table)),
    )


def estimates(
    summary: pd.DataFrame,
    *,
    kind: Kind,
    quantity: str = "",
    unit: str | None = None,
    title: str = "",
    mass: float = 0.95,
    diagnostics: bool = False,
    synthetic: bool = False,
) -> Table:
    """Make a table of estimates with their intervals.

    Parameters
    ----------
    summary
        What `bayesblina.summary` gives.
    kind
        What the estimates are: ``"ratio"``, ``"probability"``, ``"percent"`` (of a share),
        ``"time"`` or ``"number"``.
    quantity
        What they are called in the table's head, such as ``"HR"``.
    unit
        Unit of times; by default the summary's own, which is an attribute of it.
    title
        Title.
    mass
        Probability of the summary's intervals, for the head.
    diagnostics
        Whether to show Monte-Carlo errors, effective sample sizes and R-hat.
    synthetic
        Whether the patients are simulated, where the summary's attributes do not say so: tables
        that were joined may have lost them.

    Returns
    -------
    Table
        Coordinates, "median (lower to upper)", and probabilities. Times beyond the horizon are
        "not reached", and a note says what the horizon is.

    Raises
    ------
    SpecError
        If the table is no summary, or the kind is unknown.

    Examples
    --------
    >>> summary = pd.DataFrame(
    ...     {"endpoint": ["os"], "median": [0.45], "lower": [0.22], "upper": [0.91]}
    ... )
    >>> estimates(summary, kind="ratio", quantity="HR").rows
    (('os', '0.45 (0.22 to 0.91)'),)
    """
    _require(summary, ("median", "lower", "upper"), "bayesblina.summary")
    unit = unit or str(summary.attrs.get("unit", "months"))
    write = numbers.writer(kind, unit=unit)
    below = [str(name) for name in summary.columns if str(name).startswith(_BELOW)]
    labels = [
        str(name)
        for name in summary.columns
        if str(name) not in STATISTICS | BESIDE and not str(name).startswith(_BELOW)
    ]
    shown = summary[labels].copy()
    what = " ".join(filter(None, [quantity or "estimate", f"({mass:.0%} interval)"]))
    rows = summary.to_dict("records")
    shown[what] = [" ".join(filter(None, [_estimate(row, write), _apart(row)])) for row in rows]
    names = {what: what}
    kinds: dict[str, Kind] = {}
    for name in below:
        shown[name] = summary[name]
        kinds[name] = "probability"
        names[name] = f"P({quantity or 'estimate'} < {name.removeprefix(_BELOW)})"
    if "probability_reached" in summary:
        shown["probability_reached"] = summary["probability_reached"]
        names["probability_reached"] = "P(reached)"
    if diagnostics:
        for name in ("mcse", "ess_bulk", "ess_tail", "r_hat"):
            if name in summary:
                shown[name] = summary[name]
    if "companion_median" in summary:
        shown["companion"] = [_estimate(_companion(row), write) for row in rows]
        names["companion"] = "without a baseline"
    if BASELINE in summary:
        shown[BASELINE] = summary[BASELINE]
    if "converged" in summary:
        shown["converged"] = summary["converged"]
    shown.attrs = {**summary.attrs}
    if EVENT_TIMES in failed_in(summary):
        shown.attrs[EVENT_TIMES] = FAILED
    if synthetic:
        shown.attrs["synthetic"] = True
    columns = [str(name) for name in shown.columns]
    if "converged" in columns and shown["converged"].nunique() < 2:
        columns.remove("converged")
    made = publish(shown, title=title, columns=columns, names=names, kinds=kinds, unit=unit)
    horizon = summary.attrs.get("horizon")
    unreached = kind == "time" and np.isinf(summary[["median", "lower", "upper"]]).any(axis=None)
    notes = made.notes
    if unreached and horizon is not None:
        notes = (*notes, f"Not reached: by {numbers.time(float(horizon), unit)} {unit}.")
    place = columns.index(what)
    numeric = tuple(one or index == place for index, one in enumerate(made.numeric))
    return Table(title=made.title, head=made.head, rows=made.rows, numeric=numeric, notes=notes)


def probabilities(table: pd.DataFrame, *, title: str = "", synthetic: bool = False) -> Table:
    """Make a table of posterior probabilities of statements.

    Parameters
    ----------
    table
        What `bayesblina.probabilities` gives.
    title
        Title.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        The table.

    Raises
    ------
    SpecError
        If the table is another one.
    """
    _require(table, ("statement", "probability"), "bayesblina.probabilities")
    return publish(_flagged(table, synthetic), title=title)


def account(
    table: pd.DataFrame,
    *,
    unit: str,
    title: str = "",
    minimum: int = 1,
    synthetic: bool = False,
) -> Table:
    """Make a table of what happened to the patients.

    Parameters
    ----------
    table
        ``table`` of an account (`bayesblina.Cohort.account`, `bayesblina.PersonTime.account`):
        counts without ids.
    unit
        Time unit of the person-time: ``unit`` of the account.
    title
        Title.
    minimum
        Counts of patients and events from 1 to below this are masked, and as many other counts,
        and person-times, as it takes so that no sum gives one away. Which are which is not told:
        it would narrow the small ones. Estimates of the same patients beside this table would tell
        them again.
    synthetic
        Whether the patients are simulated: ``synthetic`` of the account.

    Returns
    -------
    Table
        The table; columns in which nothing stands are left out.

    Raises
    ------
    SpecError
        If the table is another one, or `minimum` is below 1.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> found = cohort.account()
    >>> account(found.table, unit=found.unit, synthetic=found.synthetic).notes
    ('Synthetic patients.',)
    """
    needed = ("step", "endpoint", "phase", "what", "patients", "events", "person_time")
    _require(table, needed, "Account.table")
    _require_minimum(minimum)
    found = mask_account(table, minimum=minimum)
    shown = table.copy()
    for name in ("patients", "events"):
        shown[name] = [
            ""
            if pd.isna(cell)
            else MASK
            if f"{index}.{name}" in found.masked.hidden
            else f"{cell:d}"
            for index, cell in enumerate(table[name])
        ]
    shown["person_time"] = [
        ""
        if pd.isna(cell)
        else MASK
        if index in found.times or f"{index}.events" in found.masked.hidden
        else numbers.time(float(cell), unit)
        for index, cell in enumerate(table["person_time"])
    ]
    columns = [str(name) for name in shown.columns if (shown[name] != "").any()]
    names = {name: name for name in columns} | {"person_time": f"person-{unit}"}
    made = publish(
        _flagged(shown, synthetic),
        title=title,
        columns=columns,
        names={name: text for name, text in names.items() if name in columns},
    )
    counts = tuple(name in ("patients", "events", "person_time") for name in columns)
    return Table(title=made.title, head=made.head, rows=made.rows, numeric=counts, notes=made.notes)


def bias_ladder(
    table: pd.DataFrame,
    *,
    title: str = "",
    minimum: int = 1,
    account: pd.DataFrame | None = None,
) -> Table:
    """Make a table of the bias ladder.

    Parameters
    ----------
    table
        What `bayesblina.bias_ladder` gives, or `bayesblina.cox`, `bayesblina.ever_never` and
        `bayesblina.landmark_analysis`.
    title
        Title.
    minimum
        Estimates with fewer than this many events, and any, on one side are left out: an interval
        tells how many.
    account
        ``table`` of the account that stands beside it: where that hides events of a phase, two
        rungs by other methods would tell them, and are left out too.

    Returns
    -------
    Table
        The table: what is biased says so in its note.

    Raises
    ------
    SpecError
        If the table is another one, or `minimum` is below 1.

    Examples
    --------
    >>> row = {"endpoint": "os", "method": "time-varying Cox", "estimate": 0.4, "lower": 0.1}
    >>> row |= {"upper": 1.6, "events_exposed": 3, "events_reference": 20, "note": ""}
    >>> bias_ladder(pd.DataFrame([row]), minimum=5).rows[0][2:]
    ('–', 'masked: it would tell how many events there were')
    """
    _require(
        table,
        ("endpoint", "method", "estimate", "lower", "upper", "note"),
        "bayesblina.bias_ladder",
    )
    _require_minimum(minimum)
    if minimum > 1:
        sides = ("events_exposed", "events_reference")
        _require(table, sides, "bayesblina.bias_ladder")
        found = None if account is None else mask_account(account, minimum=minimum)
        table = mask_ladder(
            table,
            minimum,
            closed=found.closed if found else (),
            few=found.few if found else (),
            own=OWN,
        ).drop(columns=["masked", "patients", "events", *sides], errors="ignore")
    summary = table.rename(columns={"estimate": "median"})
    made = estimates(summary, kind="ratio", quantity="hazard ratio")
    place = len(made.head) - 1
    order = [0, 1, place, *range(2, place)]
    marked = [
        LONG[name]
        for name, words in SHORT.items()
        if table["note"].str.contains(words, regex=False).any()
    ]
    return Table(
        title=title,
        head=tuple(made.head[index] for index in order),
        rows=tuple(tuple(row[index] for index in order) for row in made.rows),
        numeric=tuple(made.numeric[index] for index in order),
        notes=(*made.notes, *marked),
    )


def convergence(criteria: pd.DataFrame, *, title: str = "", synthetic: bool = False) -> Table:
    """Make a table of the convergence gate.

    Parameters
    ----------
    criteria
        ``criteria`` of a fit's ``convergence``.
    title
        Title.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        One row per criterion, passed or FAILED.

    Raises
    ------
    SpecError
        If the table is another one.
    """
    _require(criteria, ("criterion", "value", "limit", "passed"), "Convergence.criteria")
    shown = criteria.assign(
        value=[
            numbers.MISSING if math.isnan(value) else f"{value:.4g}"
            for value in criteria["value"].astype(float)
        ],
        passed=["yes" if passed else "FAILED" for passed in criteria["passed"]],
    )
    made = publish(_flagged(shown, synthetic), title=title)
    failed = not criteria["passed"].all()
    return Table(
        title=made.title,
        head=made.head,
        rows=made.rows,
        numeric=(False, True, True, False),
        notes=(*made.notes, *((NOT_CONVERGED,) if failed else ())),
    )


def leave_one_out(
    loo: pd.DataFrame, *, title: str = "", minimum: int = 1, synthetic: bool = False
) -> Table:
    """Make a table of leave-one-patient-out predictions.

    Parameters
    ----------
    loo
        ``loo`` of what `bayesblina.check` gives.
    title
        Title.
    minimum
        Counts of patients from 1 to below this are masked.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        The table; how many were left out stands in it where that is a sample of the patients.

    Raises
    ------
    SpecError
        If the table is another one, or `minimum` is below 1.
    """
    _require(loo, ("endpoint", "patients", "elpd", "se", "reliable"), "bayesblina.check")
    _require_minimum(minimum)
    if "evaluated" in loo and (loo["evaluated"] == loo["patients"]).all():
        # Nobody stands for others.
        loo = loo.drop(columns=["evaluated", "sampling_se"], errors="ignore")
    loo = mask_loo(loo, Masked(minimum=minimum))
    return publish(_flagged(loo, synthetic), title=title, kinds=_densities(loo))


def models(comparison: pd.DataFrame, *, title: str = "", synthetic: bool = False) -> Table:
    """Make a table of models compared by prediction.

    Parameters
    ----------
    comparison
        What `bayesblina.compare` gives.
    title
        Title.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        The table.

    Raises
    ------
    SpecError
        If the table is another one.
    """
    _require(comparison, ("model", "rank", "elpd", "elpd_difference"), "bayesblina.compare")
    kinds = _densities(comparison)
    if "weight" in comparison:
        kinds["weight"] = "probability"
    return publish(_flagged(comparison, synthetic), title=title, kinds=kinds)


def adverse_events(
    table: pd.DataFrame, *, unit: str, title: str = "", minimum: int = 1, synthetic: bool = False
) -> Table:
    """Make a table of adverse events by phase.

    Parameters
    ----------
    table
        ``table()`` of what `bayesblina.adverse_events` gives.
    unit
        Time unit of the person-time.
    title
        Title.
    minimum
        Counts of patients and events from 1 to below this are masked, with the shares, events and
        person-times that would tell them; and so are counts of which few patients are the rest.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        The table, shares as percentages.

    Raises
    ------
    SpecError
        If the table is another one, or `minimum` is below 1.

    Examples
    --------
    >>> row = {"phase": "m", "patients": 36, "with_event": 3, "share": 3 / 36, "events": 7}
    >>> table = pd.DataFrame([{**row, "person_time": 430.7}])
    >>> adverse_events(table, unit="months", minimum=5).rows[0][:5]
    ('m', '36', '*', '–', '*')
    """
    _require(table, ("phase", "patients", "with_event", "share"), "AdverseEvents.table()")
    _require_minimum(minimum)
    if minimum > 1:
        _require(table, ("events",), "AdverseEvents.table()")
        table = mask_safety(table, Masked(minimum=minimum))
    return publish(
        _flagged(table, synthetic),
        title=title,
        names={"with_event": "with an event", "person_time": f"person-{unit}"},
        kinds={"person_time": "time"},
        unit=unit,
    )


def scenarios(
    table: pd.DataFrame, *, title: str = "", minimum: int = 1, synthetic: bool = False
) -> Table:
    """Make a table of what-if scenarios.

    Parameters
    ----------
    table
        ``table`` of what `bayesblina.sensitivity` gives.
    title
        Title.
    minimum
        Estimates with fewer than this many events, and any, on one side are left out, and so are
        the reasons of scenarios that failed, which may count patients.
    synthetic
        Whether the patients are simulated: ``synthetic`` of the same.

    Returns
    -------
    Table
        One row per scenario and endpoint. A scenario that failed has its reason; numbers of one
        that did not converge are not shown; one of which the baseline moves the hazard ratio is
        marked.

    Raises
    ------
    SpecError
        If the table is another one.
    """
    needed = ("scenario", "status", "reason", "endpoint", "median", "lower", "upper")
    _require(table, needed, "bayesblina.sensitivity")
    _require_minimum(minimum)
    good = table["status"] == "converged"
    if minimum > 1:
        _require(table, ("events", "events_exposed"), "bayesblina.sensitivity")
        rest = table["events"] - table["events_exposed"]
        few = [
            is_small(one, minimum) or is_small(other, minimum)
            for one, other in zip(table["events_exposed"], rest, strict=True)
        ]
        table = table.assign(reason=["masked" if one else "" for one in few])
        good &= ~np.array(few, dtype=bool)
    rows = table.to_dict("records")
    shown = pd.DataFrame(
        {
            "scenario": table["scenario"],
            "endpoint": table["endpoint"].fillna(""),
            "hazard ratio (95% interval)": [
                " ".join(filter(None, [_estimate(row, numbers.ratio), _apart(row)]))
                if fine
                else numbers.MISSING
                for row, fine in zip(rows, good, strict=True)
            ],
            "P(HR < 1)": table["probability_below_1"].astype(float).where(good),
            "status": [
                str(row["status"]) if not row["reason"] else f"{row['status']}: {row['reason']}"
                for row in rows
            ],
        }
    )
    if "companion_median" in table:
        companions = [
            _estimate(_companion(row), numbers.ratio) if fine else numbers.MISSING
            for row, fine in zip(rows, good, strict=True)
        ]
        shown.insert(4, "without a baseline", companions)
        shown[BASELINE] = table[BASELINE].fillna("")
    return publish(_flagged(shown, synthetic), title=title, kinds={"P(HR < 1)": "probability"})


def _densities(table: pd.DataFrame) -> dict[str, Kind]:
    """Columns of log predictive densities and their errors."""
    names = ("elpd", "se", "p_loo", "elpd_difference", "se_difference")
    return {name: "log density" for name in names if name in table}


def _estimate(row: Mapping[Any, Any], write: Callable[[float], str]) -> str:
    """Write an estimate with its interval."""
    middle, lower, upper = (float(row[name]) for name in ("median", "lower", "upper"))
    if math.isnan(middle):
        return numbers.MISSING
    return f"{write(middle)} ({write(lower)} to {write(upper)})"


def _companion(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Put the companion's estimate in place of the fit's."""
    return {name: row[f"companion_{name}"] for name in ("median", "lower", "upper")}


def _apart(row: Mapping[Any, Any]) -> str:
    """Mark a number of a table in which others are not marked; convergence has its own column."""
    marks = beside({name: value for name, value in row.items() if name != "converged"})
    return f"[{marks}]" if marks else ""


def _writer(name: str, kind: Kind | None, unit: str) -> Callable[[object], str]:
    """Choose how the cells of a column are written."""

    def write(cell: Any) -> str:
        if isinstance(cell, str):
            return cell
        if cell is None or pd.isna(cell):
            return numbers.MISSING
        if isinstance(cell, bool) or pd.api.types.is_bool(cell):
            return "yes" if cell else "no"
        if not pd.api.types.is_number(cell):
            return str(cell)
        value = float(cell)
        if name == "r_hat":
            return f"{value:.3f}"
        if name in ("ess_bulk", "ess_tail"):
            return f"{value:.0f}"
        if name == "mcse":
            return f"{value:.2g}"
        if kind is not None:
            return numbers.writer(kind, unit=unit)(value)
        return numbers.number(value)

    return write


def _warnings(table: pd.DataFrame) -> list[str]:
    found = []
    if table.attrs.get("synthetic"):
        found.append(SYNTHETIC)
    return [*found, *(LONG[name] for name in failed_in(table))]


def _flagged(table: pd.DataFrame, synthetic: bool) -> pd.DataFrame:
    """Say of a copy whether its patients are simulated."""
    if not synthetic:
        return table
    copy = table.copy()
    copy.attrs["synthetic"] = True
    return copy


def _require_minimum(minimum: object) -> None:
    if isinstance(minimum, bool) or not isinstance(minimum, int) or minimum < 1:
        raise SpecError(f"minimum must be at least 1, got {minimum!r}.")


def _require(table: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    require_kind(table, pd.DataFrame, "table", made_by=source)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise SpecError(
            f"The table has no column '{missing[0]}'; expected what {source} gives, found columns "
            f"{', '.join(map(str, table.columns)) or 'none'}."
        )


def _words(name: str) -> str:
    return name.replace("_", " ")
