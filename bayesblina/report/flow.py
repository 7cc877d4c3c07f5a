"""The account of patients as the report shows it, with small counts masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bayesblina.account import POSITIONS
from bayesblina.report.figures import MASK
from bayesblina.report.masking import LESS, Masked, Sum, mask, terms

# Starts of a phase without time at risk in it.
WITHOUT = frozenset({POSITIONS["trailing"], POSITIONS["late"]})


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
    """

    rows: tuple[Mapping[str, str], ...]
    chains: tuple[tuple[str, tuple[Mapping[str, str], ...]], ...]
    masked: Masked

    def shows_events(self, endpoint: str) -> bool:
        """Whether the number of events in the analysis of an endpoint is shown."""
        return any(
            row["step"] == "eligible" and row["endpoint"] == endpoint and row["events"] != MASK
            for row in self.rows
        )

    def shows_steps(self, endpoint: str) -> bool:
        """Whether observed curves of an endpoint may be shown: their steps can be counted."""
        return not any(
            row["endpoint"] == endpoint
            and row["events"] == MASK
            and (row["step"] == "eligible" or row["what"] == "exposed")
            for row in self.rows
        )


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
    lines: list[dict[str, Any]] = [
        {str(key): value for key, value in row.items()} for row in table.to_dict("records")
    ]
    counts: dict[str, int] = {}
    for index, line in enumerate(lines):
        counts[f"{index}.patients"] = int(line["patients"])
        if not pd.isna(line["events"]):
            counts[f"{index}.events"] = int(line["events"])
    masked = mask(counts, _sums(lines, counts), minimum=minimum)
    times = _hidden_times(lines, masked)
    rows = []
    for index, line in enumerate(lines):
        time = line["person_time"]
        rows.append(
            {
                **{name: str(line[name]) for name in ("step", "endpoint", "phase", "what")},
                **{
                    column: _worded(f"{index}.{column}", counts, masked)
                    for column in ("patients", "events")
                },
                "person_time": ""
                if pd.isna(time)
                else MASK
                if index in times
                else f"{float(time):,.0f}",
            }
        )
    return Flow(rows=tuple(rows), chains=_chains(rows, exposed=exposed), masked=masked)


def _worded(name: str, counts: Mapping[str, int], masked: Masked) -> str:
    if name not in counts:
        return ""
    return MASK if name in masked.hidden else f"{counts[name]:,}"


def _sums(lines: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> list[Sum]:
    """Which counts add up to which; a sum that these numbers do not fulfil is none."""

    def of(*steps: str, endpoint: str = "", column: str = "patients") -> list[str]:
        return [
            f"{index}.{column}"
            for index, line in enumerate(lines)
            if line["step"] in steps
            and line["endpoint"] == endpoint
            and f"{index}.{column}" in counts
        ]

    out = of("excluded")
    found: list[Sum] = []
    for endpoint in dict.fromkeys(str(line["endpoint"]) for line in lines if line["endpoint"]):
        eligible = of("eligible", endpoint=endpoint)
        events = of("eligible", endpoint=endpoint, column="events")
        inside = of("in phase", endpoint=endpoint, column="events")
        seen = of("observed", endpoint=endpoint)
        left = [*of("left out", endpoint=endpoint), *eligible]
        found += [(whole, [*out, *parts]) for whole in of("read") for parts in (seen, left)]
        found += [(whole, inside) for whole in events]
        # Both add up to the cohort, whether or not the number read is shown; and of those under
        # observation and of those who never were, each by itself.
        if len(seen) == 1:
            found.append((seen[0], left))
        for never in (False, True):
            own = [
                [name for name in names if _never(lines[int(name.split(".")[0])]) == never]
                for names in (seen, left)
            ]
            found += [(whole, own[1]) for whole in own[0]]
            if not never:
                brief = of("follow-up", endpoint=endpoint)
                found += [(whole, brief) for whole in own[0]]
    found += _sums_of_starts(lines)
    return [
        one
        for one in found
        if len(terms(one)) > 1 and not sum(sign * counts[name] for name, sign in terms(one))
    ]


def _never(line: Mapping[str, Any]) -> bool:
    return str(line["what"]).startswith("never under observation")


def _sums_of_starts(lines: Sequence[Mapping[str, Any]]) -> list[Sum]:
    """Add up starts of phases: those with time at risk are in it, and endpoints share them all."""
    starts: dict[tuple[str, str], list[int]] = {}
    for index, line in enumerate(lines):
        if line["step"] == "phase start":
            starts.setdefault((str(line["phase"]), str(line["endpoint"])), []).append(index)
    found: list[Sum] = []
    first: dict[str, list[str]] = {}
    for (phase, endpoint), places in starts.items():
        names = [f"{index}.patients" for index in places]
        with_time = [f"{index}.patients" for index in places if lines[index]["what"] not in WITHOUT]
        for index, line in enumerate(lines):
            own = line["step"] == "in phase" and line["phase"] == phase
            if line["endpoint"] == endpoint and (own or line["step"] == "eligible"):
                found.append((f"{index}.patients", with_time))
        if phase in first:
            one, *others = first[phase]
            found.append((one, [*names, *(f"{LESS}{other}" for other in others)]))
        first.setdefault(phase, names)
    return found


def _hidden_times(lines: Sequence[Mapping[str, Any]], masked: Masked) -> set[int]:
    """Person-time of hidden patients is hidden, and never alone: the rest would give it away."""
    hidden = {index for index in range(len(lines)) if f"{index}.patients" in masked.hidden}
    for endpoint in dict.fromkeys(str(line["endpoint"]) for line in lines):
        group = [
            index
            for index, line in enumerate(lines)
            if line["endpoint"] == endpoint and line["step"] in ("eligible", "in phase")
        ]
        inside = [index for index in group if index in hidden]
        others = [index for index in group if index not in hidden]
        if len(inside) == 1 and others:
            hidden.add(min(others, key=lambda index: float(lines[index]["person_time"])))
    return hidden


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
