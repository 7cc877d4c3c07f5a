"""The account of patients as the report shows it, with small counts masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bayesblina.masking import Masked, mask_account
from bayesblina.report.figures import MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The account, ready to be shown.

    Attributes
    ----------
    rows
        Lines of the account: ``step``, ``endpoint``, ``phase``, ``what``, and the worded
        ``patients``, ``events`` and ``person_time``.
    chains
        For each endpoint the main steps, each with a worded ``count`` and ``words``.
    masked
        What is hidden.
    few
        Endpoints of which every estimate would tell a small count.
    closed
        Endpoints of which the events of a phase are hidden.
    """

    rows: tuple[Mapping[str, str], ...]
    chains: tuple[tuple[str, tuple[Mapping[str, str], ...]], ...]
    masked: Masked
    few: frozenset[str]
    closed: frozenset[str]

    def shows_events(self, endpoint: str) -> bool:
        """Whether events of an endpoint are shown: curves of steps and sums of them, too."""
        return endpoint not in self.closed


def account(table: pd.DataFrame, *, exposed: str, minimum: int) -> Flow:
    """Word the account of patients.

    Parameters
    ----------
    table
        ``step``, ``endpoint``, ``phase``, ``what``, ``patients``, ``events``, ``person_time``.
    exposed
        Name of the exposed phase.
    minimum
        Smallest count that is shown.

    Returns
    -------
    Flow
        The account.
    """
    found = mask_account(table, minimum=minimum)
    rows = []
    for index, line in enumerate(table.to_dict("records")):
        time = line["person_time"]
        rows.append(
            {
                **{name: str(line[name]) for name in ("step", "endpoint", "phase", "what")},
                **{
                    column: ""
                    if pd.isna(line[column])
                    else MASK
                    if f"{index}.{column}" in found.masked.hidden
                    else f"{int(line[column]):,}"
                    for column in ("patients", "events")
                },
                "person_time": ""
                if pd.isna(time)
                else MASK
                if index in found.times
                else f"{float(time):,.0f}",
            }
        )
    return Flow(
        rows=tuple(rows),
        chains=_chains(rows, exposed=exposed),
        masked=found.masked,
        few=found.few,
        closed=found.closed,
    )


def _chains(
    rows: Sequence[Mapping[str, str]], *, exposed: str
) -> tuple[tuple[str, tuple[Mapping[str, str], ...]], ...]:
    read = [row for row in rows if row["step"] == "read"]
    chains = []
    for endpoint in dict.fromkeys(row["endpoint"] for row in rows if row["endpoint"]):
        own = [row for row in rows if row["endpoint"] == endpoint]
        steps: list[Mapping[str, str]] = [
            {"count": row["patients"], "words": "in the table"} for row in read
        ]
        for row in own:
            if row["step"] == "observed" and row["what"] == "under observation":
                steps.append({"count": row["patients"], "words": "under observation"})
            if row["step"] == "eligible":
                words = f"eligible, {row['events']} events"
                steps.append({"count": row["patients"], "words": words})
        for row in own:
            if row["step"] == "in phase" and row["what"] == "exposed":
                words = f"ever in {row['phase'] or exposed}, {row['events']} events in it"
                steps.append({"count": row["patients"], "words": words})
        chains.append((endpoint, tuple(steps)))
    return tuple(chains)
