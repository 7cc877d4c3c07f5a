"""CDISC ADaM: ADSL, ADTTE and ADEX to a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.cohort import Cohort, Exclusion, Outcome, Phases, Recorded, require_recorded
from bayesblina.errors import DataError, Problem, SpecError, nearest
from bayesblina.readers.columns import Columns, CovariateKind, Parts, Repairs, make_cohort
from bayesblina.readers.roles import require_roles
from bayesblina.readers.sources import load_table, missing_columns
from bayesblina.rules import DAYS_PER_UNIT

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CYCLE = r"(?i)cycle\s*0*(\d+)\b"
CYCLE_COLUMNS = ("AVISIT", "VISIT", "EPOCH", "AVISITN", "CYCLE")
AVALU = MappingProxyType(
    {
        **dict.fromkeys(("DAY", "DAYS"), "days"),
        **dict.fromkeys(("WEEK", "WEEKS"), "weeks"),
        **dict.fromkeys(("MONTH", "MONTHS"), "months"),
        **dict.fromkeys(("YEAR", "YEARS"), "years"),
    }
)
# First dose of cycle 3 and of cycle 6, as in NCT02013167.
BLINATUMOMAB_PHASES: Mapping[str, int | str] = MappingProxyType(
    {"consolidation": 3, "maintenance": 6}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamEndpoint:
    """One endpoint of ADTTE.

    Parameters
    ----------
    paramcd
        Its PARAMCD.
    some_patients
        Whether only some patients have it, such as relapse-free survival in those who reached
        remission. Patients without a record were then never under observation for it; without
        this a missing record is an error.
    recorded
        How events are recorded, as for `bayesblina.Endpoint`.

    Raises
    ------
    SpecError
        As for `bayesblina.Endpoint`.

    Examples
    --------
    >>> AdamEndpoint(paramcd="RFS", some_patients=True).paramcd
    'RFS'
    """

    paramcd: str
    some_patients: bool = False
    recorded: Recorded | None = None

    def __post_init__(self) -> None:
        require_recorded(self.recorded)


def read_adam(
    adsl: Any,
    adtte: Any,
    adex: Any = None,
    *,
    endpoints: Mapping[str, AdamEndpoint],
    unit: str,
    origin: str = "TRTSDT",
    phases: Mapping[str, int | str] = BLINATUMOMAB_PHASES,
    cycle: str | None = None,
    covariates: Sequence[str] | Mapping[str, CovariateKind] = (),
    population: str | None = None,
    transplant: str | None = None,
    value: Literal["dates", "AVAL"] | None = None,
    repairs: Repairs | None = None,
    synthetic: bool | None = None,
) -> Cohort:
    """Read CDISC ADaM datasets into a validated cohort.

    Parameters
    ----------
    adsl, adtte, adex
        Subject-level, time-to-event and exposure datasets, as tables or paths (see
        `read_cohort`). Without ADEX, phases are ADSL's date columns, given in `phases`.
    endpoints
        Endpoints by the names wanted. An event is CNSR = 0; any CNSR > 0 is censored.
    unit
        Unit that the times get.
    origin
        ADSL's column with the date from which all times count. An endpoint whose STARTDT lies
        later has delayed entry there.
    phases
        Phases in order. With ADEX: the number of the cycle whose first dose starts the phase (any
        cycle from there up to the next phase's), or a text that the cycle column holds. Without:
        a date column of ADSL.
    cycle
        ADEX's column that names cycles ("Cycle 3 Day 1", "CYCLE 03", or a number); by default the
        first present of AVISIT, VISIT, EPOCH, AVISITN and CYCLE.
    covariates
        Columns of ADSL, as for `read_cohort`.
    population
        ADSL's population flag (such as SAFFL or FASFL): patients for whom it is not "Y" are left
        out, and listed in the cohort's account. None takes everybody.
    transplant
        ADSL's column with the date of transplant.
    value
        Where follow-up ends: ``"dates"`` (ADT less STARTDT, whole days) or ``"AVAL"`` (the
        analysis value after STARTDT, in AVALU). By default dates where ADTTE has ADT, else AVAL.
    repairs
        Repairs to make, partial dates among them; by default none.
    synthetic
        Whether the patients are simulated; by default what ``adsl.attrs["synthetic"]`` says.

    Returns
    -------
    Cohort
        The patients of ADSL, in its order.

    Raises
    ------
    DataError
        If a dataset cannot be read or anything is wrong, with all problems at once.
    SpecError
        If the call itself is impossible.

    Notes
    -----
    Doses count from the beginning of their day. Where AVAL counts the first day (ADT - STARTDT + 1,
    the convention of CDISC), follow-up ends with its last day; dates alone end at its beginning.
    Variables as in the ADaM Implementation Guide and the ADaM Basic Data Structure for
    Time-to-Event Analyses.

    Examples
    --------
    >>> import pandas as pd
    >>> adsl = pd.DataFrame({"USUBJID": ["1", "2"], "TRTSDT": ["2015-01-01", "2015-02-01"]})
    >>> adtte = pd.DataFrame(
    ...     {
    ...         "USUBJID": ["1", "2"],
    ...         "PARAMCD": ["OS", "OS"],
    ...         "STARTDT": ["2015-01-01", "2015-02-01"],
    ...         "ADT": ["2015-03-01", "2016-02-01"],
    ...         "CNSR": [0, 1],
    ...     }
    ... )
    >>> adex = pd.DataFrame(
    ...     {"USUBJID": ["2"], "AVISIT": ["Cycle 3 Day 1"], "ASTDT": ["2015-05-01"]}
    ... )
    >>> read_adam(adsl, adtte, adex, endpoints={"os": AdamEndpoint(paramcd="OS")}, unit="days")
    Cohort(2 patients, days; os: 1 events; phases consolidation: 1, maintenance: 0)
    """
    if unit not in DAYS_PER_UNIT:
        raise SpecError(f"unit must be one of {', '.join(DAYS_PER_UNIT)}, got {unit!r}.")
    if not endpoints or not all(isinstance(one, AdamEndpoint) for one in endpoints.values()):
        raise SpecError("endpoints must map names to AdamEndpoint values.")
    if value not in (None, "dates", "AVAL"):
        raise SpecError(f"value must be 'dates' or 'AVAL', got {value!r}.")
    if isinstance(covariates, str):
        raise SpecError("covariates must be a list of columns, not one string.")
    if not isinstance(phases, Mapping):
        raise SpecError("phases must map names to cycles, texts or columns.")
    names = Phases.from_dict(dict.fromkeys(phases, "column")).names
    partial = "refuse" if repairs is None else repairs.partial_dates

    subjects, source = _load(adsl, "ADSL")
    without = adex is None
    wanted = ["USUBJID", origin, *covariates, *([population] if population else [])]
    wanted += [transplant] if transplant else []
    columns_of_phases = {name: str(column) for name, column in phases.items()} if without else {}
    if without:
        if not all(isinstance(column, str) for column in phases.values()):
            raise SpecError(
                "phases: without ADEX each needs a date column of ADSL, such as "
                f"{{'maintenance': 'MAINTDT'}}, got {dict(phases)!r}."
            )
        wanted += columns_of_phases.values()
    require_roles(
        {"patient": "USUBJID", "origin": origin}
        | {f"{name}.start": column for name, column in columns_of_phases.items()}
        | ({} if transplant is None else {"transplant": transplant}),
        covariates,
    )
    missing = missing_columns(subjects, wanted)
    if missing:
        raise DataError(missing, source=source)
    everybody = Columns(subjects, "USUBJID")
    everybody.report(
        "USUBJID",
        pd.Series(everybody.ids).duplicated(keep=False).to_numpy(),
        "ids that stand in more than one row",
        "ADSL has one row per patient.",
    )
    keep, exclusions = _population(everybody, population)
    frame = subjects.loc[keep].reset_index(drop=True)
    frame.attrs = dict(subjects.attrs)
    people = Columns(frame, "USUBJID", partial_dates=partial)
    people.problems = everybody.problems
    zero = people.dates(origin)
    people.report(
        origin, people.text(origin) == "", "missing dates of origin", "Every patient needs one."
    )
    phase_days = [people.dates(column) for column in columns_of_phases.values()]
    transplanted = None if transplant is None else people.dates(transplant)
    baseline = people.covariates(covariates)
    if people.problems:
        raise DataError(people.problems, source=source)
    known = pd.Series(np.arange(people.ids.size), index=people.ids)
    excluded = frozenset(patient for one in exclusions for patient in one.patients)

    table, time_source = _load(adtte, "ADTTE")
    outcomes = _outcomes(
        table, time_source, people, known, excluded, zero, endpoints, unit, value, partial
    )
    per_unit = DAYS_PER_UNIT[unit]
    if without:
        days = np.stack(phase_days, axis=1)
    else:
        doses, dose_source = _load(adex, "ADEX")
        days = _first_doses(doses, dose_source, people, known, excluded, phases, cycle, partial)
    starts = (days - zero[:, None]) / per_unit
    parts = Parts(
        outcomes=outcomes,
        phases=names,
        starts=starts,
        ends=np.full(starts.shape, np.nan),
        ends_known=False,
        transplant=None if transplanted is None else (transplanted - zero) / per_unit,
        covariates=baseline,
    )
    roles = {"patient": "USUBJID"}
    for name, endpoint in endpoints.items():
        where = f"ADTTE {endpoint.paramcd}"
        roles |= {
            f"{name}.time": f"{where} time",
            f"{name}.event": f"{where} CNSR",
            f"{name}.entry": f"{where} STARTDT",
        }
    for name in names:
        roles[f"{name}.start"] = columns_of_phases[name] if without else f"ADEX start of {name}"
    if transplant is not None:
        roles["transplant"] = transplant
    return make_cohort(
        people,
        parts,
        unit=unit,
        repairs=repairs,
        roles=roles,
        source=source,
        synthetic=synthetic,
        exclusions=exclusions,
    )


def _load(table: Any, name: str) -> tuple[pd.DataFrame, str]:
    frame, source = load_table(table)
    return frame, name if source == "the table" else source


def _population(columns: Columns, flag: str | None) -> tuple[Bools, tuple[Exclusion, ...]]:
    """Rows in the population, and whom that leaves out."""
    if flag is None:
        return np.ones(columns.ids.size, dtype=bool), ()
    text = columns.text(flag)
    columns.report(
        flag,
        ~np.isin(text, ("Y", "N", "")),
        "flags other than Y and N",
        "A population flag is Y, N or empty.",
    )
    keep = text == "Y"
    out = tuple(str(patient) for patient in columns.ids[~keep])
    exclusions = (Exclusion(reason=f"{flag} is not Y", patients=out),) if out else ()
    return keep, exclusions


def _without(table: pd.DataFrame, excluded: frozenset[str]) -> pd.DataFrame:
    """Leave out the rows of patients outside the population, whatever is in them."""
    outside = pd.Series(Columns(table, "USUBJID").ids).isin(excluded).to_numpy()
    return table.loc[~outside].reset_index(drop=True)


def _match(columns: Columns, known: pd.Series) -> NDArray[np.int64]:
    """Row of ADSL of each row; -1 for strangers, who are reported."""
    row = pd.Series(columns.ids).map(known)
    columns.report(
        "USUBJID",
        row.isna().to_numpy(),
        "patients who are not in ADSL",
        "Every USUBJID must have a row in ADSL.",
    )
    return row.fillna(-1).to_numpy(dtype=np.int64)


def _outcomes(
    table: pd.DataFrame,
    source: str,
    people: Columns,
    known: pd.Series,
    excluded: frozenset[str],
    zero: Floats,
    endpoints: Mapping[str, AdamEndpoint],
    unit: str,
    value: Literal["dates", "AVAL"] | None,
    partial: Any,
) -> dict[str, Outcome]:
    by_dates = value == "dates" or (value is None and "ADT" in table.columns)
    wanted = [
        "USUBJID",
        "PARAMCD",
        "STARTDT",
        "CNSR",
        *(["ADT"] if by_dates else ["AVAL", "AVALU"]),
    ]
    missing = missing_columns(table, wanted)
    if missing:
        raise DataError(missing, source=source)
    table = _without(table, excluded)
    codes = Columns(table, "USUBJID").text("PARAMCD")
    outcomes = {}
    problems: list[Problem] = []
    for name, endpoint in endpoints.items():
        chosen = codes == endpoint.paramcd
        if not chosen.any():
            found = sorted(set(codes.tolist()) - {""})
            problems.append(
                Problem(
                    column="PARAMCD",
                    found=f"no record of {endpoint.paramcd}",
                    expected=nearest(endpoint.paramcd, found),
                )
            )
            continue
        rows = Columns(table.loc[chosen].reset_index(drop=True), "USUBJID", partial_dates=partial)
        row = _match(rows, known)
        rows.report(
            "USUBJID",
            pd.Series(rows.ids).duplicated(keep=False).to_numpy(),
            f"more than one record of {endpoint.paramcd}",
            "Expected one for each patient.",
        )
        begin = rows.dates("STARTDT")
        rows.report(
            "STARTDT", rows.text("STARTDT") == "", "missing dates", "Every record needs one."
        )
        if by_dates:
            days = rows.dates("ADT") - begin
            rows.report("ADT", rows.text("ADT") == "", "missing dates", "Every record needs one.")
        else:
            days = _analysis_days(rows)
        censoring = rows.numbers("CNSR")
        rows.report(
            "CNSR",
            ~((censoring >= 0) & (censoring == np.round(censoring))),
            "values other than 0, 1, 2 and so on",
            "CNSR is 0 for an event and a whole number above 0 for censoring.",
        )
        inside = row >= 0
        time, entry = (np.full(people.ids.size, np.nan) for _ in range(2))
        event = np.zeros(people.ids.size, dtype=bool)
        target = row[inside]
        delay = begin[inside] - zero[target]
        entry[target] = delay / DAYS_PER_UNIT[unit]
        time[target] = (delay + days[inside]) / DAYS_PER_UNIT[unit]
        event[target] = censoring[inside] == 0
        people.imputed |= rows.imputed
        problems += rows.problems
        if not endpoint.some_patients:
            absent = np.setdiff1d(np.arange(people.ids.size), target)
            if absent.size:
                problems.append(
                    Problem(
                        column="PARAMCD",
                        found=f"patients without a record of {endpoint.paramcd}",
                        expected="Every patient needs one; where only some have the endpoint, say "
                        "AdamEndpoint(some_patients=True).",
                        patients=tuple(str(patient) for patient in people.ids[absent]),
                    )
                )
        outcomes[name] = Outcome(time=time, event=event, entry=entry, recorded=endpoint.recorded)
    if problems:
        raise DataError(problems, source=source)
    return outcomes


def _analysis_days(rows: Columns) -> Floats:
    """AVAL in days."""
    units = pd.Series(rows.text("AVALU")).str.upper()
    factor = units.map({name: DAYS_PER_UNIT[unit] for name, unit in AVALU.items()})
    unknown = factor.isna()
    shown = ", ".join(repr(text[:20]) for text in units[unknown].unique()[:3])
    rows.report(
        "AVALU",
        unknown.to_numpy(),
        f"unknown units ({shown})",
        "Expected DAYS, WEEKS, MONTHS or YEARS.",
    )
    values = rows.numbers("AVAL")
    rows.report("AVAL", np.isnan(values), "missing values", "Every record needs one.")
    return values * factor.to_numpy(dtype=np.float64, na_value=np.nan)


def _first_doses(
    table: pd.DataFrame,
    source: str,
    people: Columns,
    known: pd.Series,
    excluded: frozenset[str],
    phases: Mapping[str, int | str],
    cycle: str | None,
    partial: Any,
) -> Floats:
    """Day of each patient's first dose in each phase, shape (patient, phase)."""
    if cycle is None:
        cycle = next((name for name in CYCLE_COLUMNS if name in table.columns), CYCLE_COLUMNS[0])
    date = "ASTDT" if "ASTDT" in table.columns else "EXSTDTC"
    missing = missing_columns(table, ["USUBJID", cycle, date])
    if missing:
        raise DataError(missing, source=source)
    rows = Columns(_without(table, excluded), "USUBJID", partial_dates=partial)
    row = _match(rows, known)
    text = pd.Series(rows.text(cycle))
    numbered = [start for start in phases.values() if isinstance(start, int)]
    number = text.str.extract(CYCLE, expand=False)
    number = number.where(number.notna(), text.where(text.str.fullmatch(r"\d+"))).astype("Float64")
    cycles = number.to_numpy(dtype=np.float64, na_value=np.nan)
    if numbered != sorted(set(numbered)):
        raise SpecError(f"phases: the cycles must rise, got {dict(phases)!r}.")
    texts = [start for start in phases.values() if not isinstance(start, int)]
    written = sorted({*Columns(table, "USUBJID").text(cycle).tolist()} - {""})
    rows.problems += [
        Problem(column=cycle, found=f"no row with {start!r}", expected=nearest(start, written))
        for start in texts
        if start not in written
    ]
    if numbered:
        rows.report(
            cycle,
            np.isnan(cycles) & ~text.isin(texts).to_numpy(),
            "rows that name no cycle",
            "Expected texts such as 'Cycle 3 Day 1', or numbers; give the column with cycle=, and "
            "leave rows that are no doses out.",
        )
    days = rows.dates(date)
    rows.report(date, rows.text(date) == "", "missing dates of doses", "Every dose needs one.")
    starts = np.full((people.ids.size, len(phases)), np.inf)
    for index, start in enumerate(phases.values()):
        if isinstance(start, int):
            later = [other for other in numbered if other > start]
            chosen = (cycles >= start) & (cycles < (later[0] if later else np.inf))
        else:
            chosen = (text == start).to_numpy()
        chosen &= row >= 0
        np.fmin.at(starts[:, index], row[chosen], days[chosen])
    people.imputed |= rows.imputed
    if rows.problems:
        raise DataError(rows.problems, source=source)
    return np.where(np.isfinite(starts), starts, np.nan)
