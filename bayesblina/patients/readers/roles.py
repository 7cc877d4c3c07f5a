"""What the columns of a table of one row per patient are for."""

from __future__ import annotations

from collections.abc import Mapping

from bayesblina.core.errors import SpecError
from bayesblina.patients.calendar import Calendar
from bayesblina.patients.declarations import Courses, Endpoint, Phases
from bayesblina.patients.readers.dates import ISO, require_date_format

ENDPOINT_COLUMNS = ("time", "event", "entry", "last_negative")


def roles_of_columns(
    patient: str,
    endpoints: Mapping[str, Endpoint],
    phases: Phases | Courses,
    transplant: str | None,
) -> dict[str, str]:
    """Map each role of a column (`bayesblina.patients.rules`) to the user's column."""
    roles: dict[str, str | None] = {"patient": patient}
    for name, endpoint in endpoints.items():
        roles |= {f"{name}.{kind}": getattr(endpoint, kind) for kind in ENDPOINT_COLUMNS}
    for name, phase in phases.items():
        roles |= {f"{name}.start": phase.start, f"{name}.end": phase.end}
    roles["transplant"] = transplant
    return {role: column for role, column in roles.items() if column is not None}


def role_of_origin(calendar: Calendar | None) -> dict[str, str]:
    """Name the column of time origins that a calendar needs."""
    if calendar is None or calendar.origin is None:
        return {}
    return {"calendar.origin": calendar.origin}


def require_date_of_origin(date_format: str, calendar: Calendar | None) -> None:
    """Refuse a format of dates where no column holds any."""
    require_date_format(date_format)
    if calendar is None and date_format != ISO:
        raise SpecError("date_format: without a calendar no column here holds dates: leave it out.")
