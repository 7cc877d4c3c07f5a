"""The account of patients as the report shows it, with small counts masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bayesblina.core.masking import MaskedAccount, mask_account
from bayesblina.core.masking.tables import mask_flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The account, ready to be shown.

    `rows`: lines of the account: ``step``, ``endpoint``, ``phase``, ``what``, and the worded
    ``patients``, ``events`` and ``person_time``.
    `chains`: for each endpoint the main steps, each with a worded ``count`` and ``words``.
    `table`: the account as it is shown: hidden cells hold the mask.
    `found`: what is hidden.
    """

    table: pd.DataFrame
    rows: tuple[Mapping[str, str], ...]
    chains: tuple[tuple[str, tuple[Mapping[str, str], ...]], ...]
    found: MaskedAccount

    @property
    def few(self) -> frozenset[str]:
        """Endpoints of which every estimate would tell a small count."""
        return self.found.few

    @property
    def closed(self) -> frozenset[str]:
        """Endpoints of which the events of a phase are hidden."""
        return self.found.closed

    def shows_events(self, endpoint: str) -> bool:
        """Whether events of an endpoint are shown: curves of steps and sums of them, too."""
        return endpoint not in self.closed


def account(
    table: pd.DataFrame, *, exposed: str, minimum: int, at_risk: pd.DataFrame | None = None
) -> Flow:
    """Word the account of patients."""
    masked = mask_account(table, minimum=minimum, at_risk=at_risk)
    shown = mask_flow(table, masked)

    def word(cell: Any, shape: str) -> str:
        if isinstance(cell, str):
            return cell
        return "" if pd.isna(cell) else f"{float(cell):{shape}}"

    rows = [
        {
            **{name: str(line[name]) for name in ("step", "endpoint", "phase", "what")},
            **{name: word(line[name], ",.0f") for name in ("patients", "events", "person_time")},
        }
        for line in shown.to_dict("records")
    ]
    return Flow(table=shown, rows=tuple(rows), chains=_chains(rows, exposed=exposed), found=masked)


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
