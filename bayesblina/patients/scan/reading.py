"""PatientColumns of a table of an engine: their arithmetic, and how they are read strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bayesblina.core.endpoint_order import Breach
from bayesblina.core.errors import SpecError
from bayesblina.patients.declarations import Courses, Endpoint, Phases
from bayesblina.patients.readers.columns import DECIMAL, LONGEST_TEXT, NOT_NUMBERS, CovariateKind
from bayesblina.patients.rules import PatientColumns
from bayesblina.patients.scan.engines import ibis_module, number, run, stripped


class InEngine:
    """`bayesblina.patients.rules.Arithmetic` of columns of an engine."""

    def missing(self, values: Any) -> Any:
        """Say which values are missing."""
        return values.isnull()

    def infinite(self, values: Any) -> Any:
        """Say which values are infinite."""
        return values.abs() == float("inf")

    def known(self, values: Any) -> Any:
        """Say which values are neither missing nor infinite."""
        return values.notnull() & (values.abs() < float("inf"))

    def latest(self, columns: Sequence[Any]) -> Any:
        """Take the latest finite time of each patient; infinite where there is none."""
        ibis = ibis_module()
        times = [
            ibis.ifelse(column.abs() < float("inf"), column, None).cast("float64").fill_null(-1.0)
            for column in columns
        ]
        last = times[0] if len(times) == 1 else ibis.greatest(*times)
        return ibis.ifelse(last < 0, float("inf"), last)

    def choose(self, condition: Any, yes: Any, no: Any) -> Any:
        """Take one value where a condition holds, and another where it does not."""
        yes, no = (number(value) if isinstance(value, float) else value for value in (yes, no))
        return ibis_module().ifelse(condition, yes, no)

    def number(self, value: float) -> Any:
        """Write a number that is just this one."""
        return number(value)


class Reading:
    """Reads columns strictly: what cannot be read is missing, and remembered as a problem."""

    def __init__(self, raw: Any, patient: str) -> None:
        self.raw = raw
        self.patient = patient
        self.broken: dict[tuple[str, str], Breach] = {}
        # PatientColumns of times, by name.
        self.times: dict[str, Any] = {}
        self.ids = self.text(patient)
        whole = raw[patient].type().is_integer()
        # Numbers are compared as numbers: a hundred million texts take long.
        self.key = raw[patient] if whole else self.ids.nullif("")
        if not whole:
            self._refuse_long(patient, self.ids)

    def constant(self, value: Any) -> Any:
        """Make a column of a constant."""
        return ibis_module().ifelse(self.raw[self.patient].isnull(), value, value)

    def report(self, column: str, rows: Any, found: str, expected: str) -> None:
        """Remember who breaks a rule."""
        self.broken[column, found] = Breach(role=column, rows=rows, found=found, expected=expected)

    def text(self, column: str) -> Any:
        """Read texts; empty where there is none."""
        values = self.raw[column]
        if values.type().is_floating():
            ibis = ibis_module()
            whole = ibis.ifelse(
                (values == values.floor()) & (values.abs() < 2.0**53),
                values.cast("int64").cast("string"),
                values.cast("string"),
            )
            return ibis.ifelse(values.isnan(), None, whole).fill_null("")
        return stripped(values.cast("string")).fill_null("")

    def _refuse_long(self, column: str, text: Any) -> None:
        self.report(
            column,
            text.length() > LONGEST_TEXT,
            f"texts of more than {LONGEST_TEXT} characters",
            "Expected an id or a short name; is a quotation mark missing?",
        )

    def number(self, column: str) -> Any:
        """Read numbers; missing where there is none."""
        ibis = ibis_module()
        values = self.raw[column]
        kind = values.type()
        if kind.is_floating():
            wide = values.cast("float64")
            return ibis.ifelse(wide.isnan(), None, wide).cast("float64")
        if kind.is_numeric():
            return values.cast("float64")
        if kind.is_boolean():
            return values.cast("int8").cast("float64")
        text = self.text(column)
        readable = text.re_search(f"^(?:{DECIMAL})$")
        dates = "; for dates there is read_dated_cohort" if kind.is_temporal() else ""
        self.report(
            column,
            (text != "") & ~readable,
            NOT_NUMBERS,
            f"Expected plain decimal numbers such as 12.5; leave missing values empty{dates}.",
        )
        return ibis.ifelse(readable, text, None).cast("string").cast("float64")

    def time(self, column: str) -> Any:
        """Read times; missing where there is none."""
        self.times[column] = self.number(column)
        return self.times[column]

    def event(self, column: str, entry: Any) -> Any:
        """Read 1 (event) and 0 (censored), which everybody under observation must have."""
        event = self.number(column)
        self.report(
            column,
            (entry.notnull() & (entry.abs() < float("inf")))
            & ~((event == 0.0) | (event == 1.0)).fill_null(False),
            "values other than 0 and 1",
            "Expected 1 for an event and 0 for censoring.",
        )
        return (event == 1.0).fill_null(False)

    def words(self, column: str) -> Any:
        """Read levels; missing where there is none."""
        text = self.text(column)
        self._refuse_long(column, text)
        return text.nullif("")


def kinds_of(
    raw: Any, covariates: Sequence[str] | Mapping[str, CovariateKind], source: str
) -> dict[str, CovariateKind]:
    """Take the kinds of covariates from their columns, unless they are given."""
    given = covariates if isinstance(covariates, Mapping) else dict.fromkeys(covariates)
    kinds: dict[str, CovariateKind] = {}
    for name, kind in given.items():
        if kind not in (None, "categorical", "continuous"):
            raise SpecError(
                f"covariate '{name}': unknown type '{kind}'; expected 'categorical' or "
                "'continuous'."
            )
        kinds[name] = _kind_of(raw, name, source) if kind is None else kind
    return kinds


def _kind_of(raw: Any, name: str, source: str) -> CovariateKind:
    """Take numbers, and texts that are numbers, for continuous."""
    column = raw[name]
    numeric = column.type().is_numeric()
    if column.type().is_string():
        text = stripped(column).fill_null("")
        other = raw.filter((text != "") & ~text.re_search(f"^(?:{DECIMAL})$"))
        numeric = int(run(other.limit(1).count(), source)) == 0
    return "continuous" if numeric else "categorical"


def column_name(kind: str, name: str = "") -> str:
    """Name a column by what it holds; users' names never meet."""
    return f"{kind}:{name}" if name else kind


def read_columns(
    reading: Reading,
    endpoints: Mapping[str, Endpoint],
    phases: Phases | Courses,
    transplant: str | None,
    kinds: Mapping[str, CovariateKind],
) -> dict[str, Any]:
    """Read all columns, by the names that they have in a `CohortScan`."""
    columns = {column_name("patient"): reading.key}
    for name, endpoint in endpoints.items():
        columns[column_name("time", name)] = reading.time(endpoint.time)
        entry = (
            reading.constant(number(0.0))
            if endpoint.entry is None
            else reading.time(endpoint.entry)
        )
        columns[column_name("entry", name)] = entry
        columns[column_name("event", name)] = reading.event(endpoint.event, entry)
    for name, phase in phases.items():
        columns[column_name("start", name)] = reading.time(phase.start)
        columns[column_name("end", name)] = (
            reading.constant(ibis_module().null("float64"))
            if phase.end is None
            else reading.time(phase.end)
        )
    if transplant is not None:
        columns[column_name("transplant")] = reading.time(transplant)
    columns |= {
        column_name("covariate", name): reading.number(name)
        if kind == "continuous"
        else reading.words(name)
        for name, kind in kinds.items()
    }
    for name, kind in kinds.items():  # after all that is wrong with single values
        if kind == "categorical":
            reading.report(
                name,
                columns[column_name("covariate", name)].isnull(),
                "missing or infinite values",
                "Every patient needs a value; impute before, or leave the covariate out.",
            )
    return columns


def numbers_of(
    columns: Mapping[str, Any],
    endpoints: Mapping[str, Endpoint],
    phases: Phases | Courses,
    kinds: Mapping[str, CovariateKind],
) -> PatientColumns:
    """Pick the columns of numbers, by what they hold."""

    def picked(kind: str, names: Iterable[str]) -> dict[str, Any]:
        return {name: columns[column_name(kind, name)] for name in names}

    with_columns = [name for name, _ in phases.items()]
    return PatientColumns(
        time=picked("time", endpoints),
        entry=picked("entry", endpoints),
        start=picked("start", with_columns),
        end=picked("end", with_columns),
        transplant=columns.get(column_name("transplant")),
        covariates=picked("covariate", [name for name in kinds if kinds[name] == "continuous"]),
    )
