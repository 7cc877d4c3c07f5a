"""Tables to cohorts: one row per patient, from a DataFrame, a CSV file or a Parquet file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.cohort import (
    Cohort,
    Covariate,
    Endpoint,
    Outcome,
    Phases,
    Repair,
    is_after,
    last_seen,
)
from bayesblina.errors import DataError, Problem, SpecError, nearest

Floats = NDArray[np.float64]
CovariateKind = Literal["categorical", "continuous"]

MOST_LEVELS = 50
DECIMAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repairs:
    """Repairs that a reader may make; each counts whom it changed.

    Parameters
    ----------
    zero_times
        Replace times of exactly 0 by this small time (as R's examples use half a day), in the
        cohort's unit. None leaves them an error.
    drop_late_phases
        Treat a phase (or transplant) that starts after the end of follow-up as never started.
    """

    zero_times: float | None = None
    drop_late_phases: bool = False

    def __post_init__(self) -> None:
        if self.zero_times is not None and not 0 < self.zero_times < np.inf:
            raise SpecError("zero_times must be a small time greater than 0.")


def read_cohort(
    table: pd.DataFrame | str | PathLike[str],
    *,
    patient: str,
    unit: str,
    endpoints: Mapping[str, Endpoint] | Endpoint,
    phases: Phases,
    covariates: Sequence[str] | Mapping[str, CovariateKind] = (),
    transplant: str | None = None,
    repairs: Repairs | None = None,
    synthetic: bool | None = None,
) -> Cohort:
    """Read one row per patient into a validated cohort.

    Parameters
    ----------
    table
        A pandas DataFrame, or the path of a ``.csv`` or ``.parquet`` file.
    patient
        Column with patient ids; unique, none missing.
    unit
        Unit of all times: ``"days"``, ``"weeks"``, ``"months"`` or ``"years"``.
    endpoints
        Endpoints by name, or a single one (then called ``"survival"``).
    phases
        Ordered treatment phases.
    covariates
        Baseline covariates: column names, whose type is taken from the column (numbers are
        continuous; text, categories and booleans are categorical), or a mapping of names to
        ``"categorical"`` or ``"continuous"``.
    transplant
        Column with the time of transplant, if there is one.
    repairs
        Repairs to make; by default none, and whatever is wrong is an error.
    synthetic
        Whether the patients are simulated. By default what ``table.attrs["synthetic"]`` says,
        else False.

    Returns
    -------
    Cohort
        The patients in the table's order.

    Raises
    ------
    DataError
        If the table cannot be read or anything in it is wrong, with all problems at once.
    SpecError
        If the call itself is impossible.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"id": ["a", "b"], "months": [4.0, 9.0], "died": [1, 0], "start": [2.0, None]}
    ... )
    >>> read_cohort(
    ...     table,
    ...     patient="id",
    ...     unit="months",
    ...     endpoints={"os": Endpoint(time="months", event="died")},
    ...     phases=Phases(maintenance="start"),
    ... )
    Cohort(2 patients, months; os: 1 events; phases maintenance: 1)
    """
    frame, source = _load(table)
    if isinstance(endpoints, Endpoint):
        endpoints = {"survival": endpoints}
    if not isinstance(phases, Phases):
        raise SpecError("phases must be a Phases value: Phases(maintenance='maintenance_month').")
    if isinstance(covariates, str):
        raise SpecError("covariates must be a list of columns, not one string.")
    roles = _roles(patient, endpoints, phases, transplant)
    missing = _missing_columns(frame, [*roles.values(), *covariates])
    if missing:
        raise DataError(missing, source=source)
    reader = _Reader(frame, patient)
    outcomes = {name: reader.outcome(endpoint) for name, endpoint in endpoints.items()}
    starts = np.stack([reader.times(phase.start) for _, phase in phases.items()], axis=1)
    ends = np.stack([reader.times(phase.end) for _, phase in phases.items()], axis=1)
    transplanted = None if transplant is None else reader.times(transplant)
    made: list[Repair] = []
    if repairs is not None and repairs.zero_times is not None:
        outcomes, repair = _repair_zero_times(outcomes, repairs.zero_times, reader.ids)
        made.append(repair)
    if repairs is not None and repairs.drop_late_phases:
        starts, ends, transplanted, repair = _drop_late_phases(
            outcomes, starts, ends, transplanted, reader.ids
        )
        made.append(repair)
    kinds = covariates if isinstance(covariates, Mapping) else dict.fromkeys(covariates)
    covariate_values = {name: reader.covariate(name, kind) for name, kind in kinds.items()}
    flagged = synthetic if synthetic is not None else bool(frame.attrs.get("synthetic", False))
    try:
        cohort = Cohort(
            patients=reader.ids,
            unit=unit,
            endpoints=outcomes,
            phases=phases.names,
            phase_start=starts,
            phase_end=ends,
            phase_ends_known=any(phase.end is not None for _, phase in phases.items()),
            transplant=transplanted,
            covariates=covariate_values,
            synthetic=flagged,
            source=source,
            repairs=tuple(made),
        )
    except DataError as error:
        found = _merge(reader.problems, error.problems, roles)
        raise DataError(found, source=source) from None
    if reader.problems:
        raise DataError(reader.problems, source=source)
    return cohort


def _load(table: pd.DataFrame | str | PathLike[str]) -> tuple[pd.DataFrame, str]:
    """Return the table and a name for it; CSV cells stay text, so that nothing is guessed."""
    if isinstance(table, pd.DataFrame):
        repeated = table.columns[table.columns.duplicated()]
        if len(repeated):
            raise DataError([_duplicate_header(str(name)) for name in repeated.unique()])
        return table, "the table"
    if not isinstance(table, str | PathLike):
        raise SpecError(f"Expected a pandas DataFrame or a path, got {type(table).__name__}.")
    path = Path(table)
    source = path.name

    def unreadable(found: str, expected: str) -> DataError:
        problem = Problem(column="file", found=found, expected=expected)
        return DataError([problem], source=source)

    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise unreadable(f"'{path}' is {what}", "Expected a .csv or .parquet file.")
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path), source
        if suffix == ".csv":
            return _read_csv(path), source
    except UnicodeDecodeError:
        raise unreadable("not UTF-8 text", "Save the file as UTF-8.") from None
    except (OSError, ValueError, csv.Error) as error:
        reason = str(error).splitlines()[0][:200]
        raise unreadable(f"it cannot be read ({reason})", "Export it again.") from None
    raise unreadable(f"files of type '{suffix}' are not read", "Expected .csv or .parquet.")


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        header = next((line for line in lines if line), [])
        # pandas fills lines that are too short and cuts those that are too long.
        uneven = [lines.line_num for line in lines if line and len(line) != len(header)]
    problems = [_duplicate_header(name) for name in dict.fromkeys(header) if header.count(name) > 1]
    if problems:
        raise DataError(problems, source=path.name)
    if uneven:
        first = ", ".join(str(number) for number in uneven[:10])
        raise DataError(
            [
                Problem(
                    column="file",
                    found=f"lines with too few or too many cells ({len(uneven)}; first: {first})",
                    expected=f"Expected {len(header)} cells in each line, as in the header; is the "
                    "file cut short, or a comma not quoted?",
                )
            ],
            source=path.name,
        )
    return pd.read_csv(
        path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
    )


def _duplicate_header(name: str) -> Problem:
    return Problem(
        column=name, found="more than one column has this name", expected="Rename one of them."
    )


def _roles(
    patient: str, endpoints: Mapping[str, Endpoint], phases: Phases, transplant: str | None
) -> dict[str, str]:
    """Map each role of `bayesblina.cohort.find_problems` to the user's column."""
    roles = {"patient": patient}
    for name, endpoint in endpoints.items():
        roles[f"{name}.time"] = endpoint.time
        roles[f"{name}.event"] = endpoint.event
        if endpoint.entry is not None:
            roles[f"{name}.entry"] = endpoint.entry
    for name, phase in phases.items():
        roles[f"{name}.start"] = phase.start
        if phase.end is not None:
            roles[f"{name}.end"] = phase.end
    if transplant is not None:
        roles["transplant"] = transplant
    return roles


def _missing_columns(frame: pd.DataFrame, wanted: Sequence[str]) -> list[Problem]:
    present = list(frame.columns)
    return [
        Problem(column=name, found="no such column", expected=nearest(name, present))
        for name in dict.fromkeys(wanted)
        if name not in present
    ]


def _merge(
    read: Sequence[Problem], found: Sequence[Problem], roles: Mapping[str, str]
) -> list[Problem]:
    """Join the reader's problems with the cohort's, each patient once for each column."""
    known: dict[str, set[str]] = {}
    for problem in read:
        known.setdefault(problem.column, set()).update(problem.patients)
    merged = list(read)
    for problem in found:
        column = roles.get(problem.column, problem.column)
        seen = known.get(column, set())
        left = tuple(patient for patient in problem.patients if patient not in seen)
        if left or not problem.patients:
            merged.append(replace(problem, column=column, patients=left))
    return merged


class _Reader:
    """Reads the columns of one table and collects what could not be read."""

    def __init__(self, frame: pd.DataFrame, patient: str) -> None:
        self.frame = frame
        self.problems: list[Problem] = []
        self.ids = self._text(patient)

    def _text(self, column: str) -> NDArray[np.str_]:
        series = self.frame[column]
        if pd.api.types.is_float_dtype(series):
            values = series.to_numpy(dtype=np.float64, na_value=np.nan)
            whole = np.isfinite(values) & (values == np.round(values))
            text = np.where(whole, np.where(whole, values, 0).astype(np.int64).astype(str), "")
            return np.where(np.isfinite(values) & ~whole, values.astype(str), text).astype(str)
        missing = series.isna().to_numpy()
        return np.where(missing, "", series.astype(str).str.strip().to_numpy(dtype=str)).astype(str)

    def _report(self, column: str, rows: NDArray[np.bool_], found: str, expected: str) -> None:
        if rows.any():
            who = tuple(str(patient) for patient in self.ids[rows])
            self.problems.append(
                Problem(column=column, found=found, expected=expected, patients=who)
            )

    def numbers(self, column: str) -> Floats:
        """Read numbers; text that is no plain decimal number is reported and becomes NaN."""
        series = self.frame[column]
        if pd.api.types.is_bool_dtype(series):
            return series.to_numpy(dtype=np.float64, na_value=np.nan)
        if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_complex_dtype(series):
            # A copy: the cohort must not change with the caller's table.
            return series.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        text = pd.Series(self._text(column))
        readable = text.str.fullmatch(DECIMAL).to_numpy(dtype=bool)
        bad = ~readable & (text != "").to_numpy()
        examples = ", ".join(repr(value[:20]) for value in text[bad].unique()[:3])
        self._report(
            column,
            bad,
            f"values that are not numbers ({examples})",
            "Expected plain decimal numbers such as 12.5; leave missing values empty.",
        )
        values = np.full(text.size, np.nan)
        values[readable] = text[readable].astype(np.float64)
        return values

    def times(self, column: str | None) -> Floats:
        """Read times that may be missing; all are missing where there is no column."""
        if column is None:
            return np.full(len(self.frame), np.nan)
        return self.numbers(column)

    def outcome(self, endpoint: Endpoint) -> Outcome:
        """Read one endpoint; patients without entry never came under observation."""
        time = self.numbers(endpoint.time)
        entry = np.zeros(time.size) if endpoint.entry is None else self.numbers(endpoint.entry)
        event = self.numbers(endpoint.event)
        entered = np.isfinite(entry)
        self._report(
            endpoint.event,
            entered & ~np.isin(event, (0.0, 1.0)),
            "values other than 0 and 1",
            "Expected 1 for an event and 0 for censoring.",
        )
        return Outcome(time=time, event=event == 1.0, entry=entry)

    def covariate(self, column: str, kind: CovariateKind | None) -> Covariate:
        """Read a covariate, taking its kind from the column unless it is given."""
        if kind not in (None, "categorical", "continuous"):
            raise SpecError(
                f"covariate '{column}': unknown type '{kind}'; expected 'categorical' or "
                "'continuous'."
            )
        series = self.frame[column]
        categorical = isinstance(series.dtype, pd.CategoricalDtype)
        if kind is None:
            text = pd.Series(self._text(column))
            numeric = pd.api.types.is_numeric_dtype(series) or bool(
                not categorical and (text.str.fullmatch(DECIMAL) | (text == "")).all()
            )
            logical = pd.api.types.is_bool_dtype(series)
            kind = "continuous" if numeric and not logical else "categorical"
            if pd.api.types.is_datetime64_any_dtype(series):
                self._report(
                    column,
                    np.ones(len(series), dtype=bool),
                    "dates, which are no covariate",
                    "Turn them into numbers or groups first.",
                )
        if kind == "continuous":
            return Covariate(kind="continuous", values=self.numbers(column))
        text = pd.Series(self._text(column))
        known = set(text) - {""}
        levels = (
            tuple(level for level in map(str, series.cat.categories) if level in known)
            if categorical
            else tuple(sorted(known))
        )
        if len(levels) > MOST_LEVELS:
            self._report(
                column,
                np.ones(len(series), dtype=bool),
                f"{len(levels)} different texts",
                f"A categorical covariate has at most {MOST_LEVELS} levels; group them, or say "
                "'continuous' if it is a number.",
            )
        position = {level: float(index) for index, level in enumerate(levels)}
        return Covariate(
            kind="categorical",
            values=text.map(position).to_numpy(dtype=np.float64, na_value=np.nan),
            levels=levels,
        )


def _repair_zero_times(
    outcomes: Mapping[str, Outcome], instead: float, ids: NDArray[np.str_]
) -> tuple[dict[str, Outcome], Repair]:
    changed = np.zeros(ids.size, dtype=bool)
    repaired = {}
    for name, outcome in outcomes.items():
        zero = outcome.time == 0
        changed |= zero
        repaired[name] = replace(outcome, time=np.where(zero, instead, outcome.time))
    rule = f"times of 0 became {instead:g}"
    return repaired, Repair(rule=rule, patients=tuple(map(str, ids[changed])))


def _drop_late_phases(
    outcomes: Mapping[str, Outcome],
    starts: Floats,
    ends: Floats,
    transplant: Floats | None,
    ids: NDArray[np.str_],
) -> tuple[Floats, Floats, Floats | None, Repair]:
    last = last_seen(outcomes)
    late = is_after(starts, last[:, None])
    changed = late.any(axis=1)
    if transplant is not None:
        late_transplant = is_after(transplant, last)
        changed |= late_transplant
        transplant = np.where(late_transplant, np.nan, transplant)
    repair = Repair(
        rule="phases after the end of follow-up count as never started",
        patients=tuple(map(str, ids[changed])),
    )
    return np.where(late, np.nan, starts), np.where(late, np.nan, ends), transplant, repair
