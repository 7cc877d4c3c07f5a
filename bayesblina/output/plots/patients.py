"""Figures of patients: who is in the analysis, and the course of single ones."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bayesblina.core.courses import Stays
from bayesblina.core.episodes import OFF_TREATMENT, near
from bayesblina.core.errors import SpecError, require_at_least, require_kind
from bayesblina.core.escaping import literal
from bayesblina.core.masking import MASK, mask_account
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.masking.tables import mask_flow
from bayesblina.core.tables import numbers
from bayesblina.output.plots.style import (
    ALARM,
    DARK,
    GREY,
    INCHES,
    SMALL,
    TINY,
    Width,
    canvas,
    chosen,
    colours,
    entitle,
    explain,
    hide_scale,
    say,
)
from bayesblina.patients.account import Account
from bayesblina.patients.cohort import Cohort

FOR_THE_ANALYST = "single patients: for the analyst, not for release"
WITH_IDS = "single patients with their ids: for the analyst, not for release"
# Inches of a line of text, and between a box's frame and its text.
LINE, PAD, GAP = 0.118, 0.07, 0.2
# Letters on an inch, at the size of the boxes' texts; where arrows run, from a column's left.
LETTERS, ARROW = 17.0, 0.35
CENSORED = "end of follow-up"
FOUND = "event, between two visits"
# Height of the bar of time in no phase.
GAP_HEIGHT = 0.3
# How the reason begins that both accounts give.
NEVER = "never under observation"


def swimmer(
    cohort: Cohort,
    endpoint: str,
    *,
    among: str | None = None,
    largest: int = 60,
    ids: bool = False,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw the course of single patients: stays in phases, transplant, event or end of follow-up.

    Every stay is drawn, also where phases recur; a thin bar is time off treatment, or before any.
    A white line parts stays in one phase that follow each other without a gap. An event that was
    found at a visit is a dark line from the last visit without it to that one, in between which it
    lies.

    It shows single patients, and says so: it is for the analyst's eyes, not for release.

    Parameters
    ----------
    cohort
        The patients.
    endpoint
        The endpoint whose follow-up is drawn.
    among
        Only patients who start this phase within follow-up.
    largest
        Number of patients above which some are left out: those drawn are evenly spaced in the
        order of follow-up.
    ids
        Whether to write the patients' ids beside their lines.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        One line per patient, the longest follow-up on top.

    Raises
    ------
    SpecError
        If the endpoint or the phase is unknown, or nobody is to be drawn.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> figure = swimmer(cohort, "os", among="maintenance")
    >>> figure.get_suptitle()
    'synthetic patients - single patients: for the analyst, not for release'
    """
    require_kind(cohort, Cohort, "cohort")
    cohort = cohort.whole()
    chosen(list(cohort.endpoints), endpoint)
    require_at_least(largest, 1, "largest")
    rows = cohort.to_counting_process(endpoint=endpoint)
    if among is not None:
        chosen(cohort.phases, among, what="phase")
        rows = rows[rows["patient"].isin(rows.loc[rows["phase"] == among, "patient"].unique())]
    if rows.empty:
        raise SpecError("There is nobody to draw.")
    ends = rows.groupby("patient", sort=False)["stop"].max().sort_values(kind="stable")
    count = f"{len(ends)}"
    if len(ends) > largest:
        count = f"{largest} of {len(ends)}"
        ends = ends.iloc[np.round(np.linspace(0, len(ends) - 1, largest)).astype(int)]
    place = pd.Series(np.arange(len(ends)), index=ends.index)
    rows = rows[rows["patient"].isin(place.index)]
    drawn = canvas(height=0.9 + (0.115 if ids else 0.075) * len(ends), width=width, ax=ax)
    axis = drawn.axis
    _draw_phases(axis, cohort, rows, place)
    _draw_ends(axis, cohort, endpoint, rows, place)
    named = list(map(literal, ends.index)) if ids else []
    axis.set_yticks(range(len(named)), named, fontsize=TINY)
    hide_scale(axis)
    axis.set(
        ylim=(-1, len(ends)),
        xlim=(0, float(ends.max()) * 1.02),
        xlabel=f"{literal(cohort.unit)} from the origin",
    )
    who = "" if among is None else f" who start {among}"
    entitle(axis, f"{endpoint.upper()}: {count} patients{who}")
    explain(axis, place="lower right")
    more = WITH_IDS if ids else FOR_THE_ANALYST
    return say(drawn, synthetic=cohort.synthetic, more=more)


def _draw_phases(axis: Axes, cohort: Cohort, rows: pd.DataFrame, place: pd.Series[int]) -> None:
    """Draw a bar for each stay of a patient in a phase."""
    states = _states(cohort, rows)
    shades = iter(colours(sum(state in cohort.phases for state in states), "phases"))
    for state in states:
        stays, inside = rows[rows["phase"] == state], state in cohort.phases
        pale = "0.6" if state == OFF_TREATMENT else "0.82"
        axis.barh(
            place[stays["patient"]].to_numpy(),
            stays["stop"] - stays["start"],
            left=stays["start"],
            height=0.75 if inside else GAP_HEIGHT,
            color=next(shades) if inside else pale,
            label=literal(state),
        )
    if cohort.stays is not None:
        _part_stays(axis, cohort, cohort.stays, rows, place)


def _part_stays(
    axis: Axes, cohort: Cohort, stays: Stays, rows: pd.DataFrame, place: pd.Series[int]
) -> None:
    """Draw a line between stays in one phase of which one begins where the one before ends."""
    same = (stays.patient[1:] == stays.patient[:-1]) & (stays.phase[1:] == stays.phase[:-1])
    goes_on = np.flatnonzero(same & near(stays.start[1:], stays.stop[:-1])) + 1
    ids = pd.Index([str(patient) for patient in cohort.patients[stays.patient[goes_on]]])
    ends = rows.groupby("patient", sort=False)["stop"].max().reindex(ids).to_numpy()
    begins = rows.groupby("patient", sort=False)["start"].min().reindex(ids).to_numpy()
    at = stays.start[goes_on]
    drawn = (at > begins) & (at < ends)
    line = place.reindex(ids[drawn]).to_numpy()
    axis.vlines(at[drawn], line - 0.375, line + 0.375, color="white", linewidth=0.7)


def _found_since(cohort: Cohort, endpoint: str, rows: pd.DataFrame) -> pd.Series[float]:
    """Find since when events that were found at visits may have happened, by id; NaN elsewhere."""
    ids = [str(patient) for patient in cohort.patients]
    outcome = cohort.endpoints[endpoint]
    if outcome.last_negative is None:
        return pd.Series(np.nan, index=ids)
    begin = rows.groupby("patient", sort=False)["start"].min().reindex(ids).to_numpy()
    free = np.maximum(outcome.known_free, begin)
    return pd.Series(np.where(outcome.event & (free < outcome.time), free, np.nan), index=ids)


def _draw_ends(
    axis: Axes, cohort: Cohort, endpoint: str, rows: pd.DataFrame, place: pd.Series[int]
) -> None:
    """Mark how each patient's follow-up ended, and the transplant within it."""
    last = rows.groupby("patient", sort=False).tail(1).set_index("patient")
    event = last["event"] == 1
    since = _found_since(cohort, endpoint, rows)[last.index]
    found = event & since.notna()
    if found.any():
        line = place[last.index[found]].to_numpy()
        axis.hlines(line, since[found], last["stop"][found], color=DARK, linewidth=1.6, label=FOUND)
    for ended, marker, label in (
        (last[event & ~found], "x", "event"),
        (last[~event], ">", CENSORED),
    ):
        axis.plot(
            ended["stop"].to_numpy(),
            place[ended.index].to_numpy(),
            marker,
            color=DARK,
            markersize=3.5,
            markerfacecolor="white",
            label=label,
            clip_on=False,
        )
    if cohort.transplant is None:
        return
    times = pd.Series(cohort.transplant, index=[str(patient) for patient in cohort.patients])
    within = times[last.index][times[last.index] <= last["stop"]]
    if len(within):
        line = place[within.index].to_numpy()
        axis.plot(within.to_numpy(), line, "D", color=ALARM, markersize=3, label="transplant")


def patient_flow(
    account: Account,
    *,
    endpoint: str | None = None,
    minimum: int = 1,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw the flow of patients, from the table that was read to the phases analysed.

    Parameters
    ----------
    account
        ``cohort.account()``, ``person_time.account()``, or better the sum of both.
    endpoint
        Endpoint to draw; by default all, side by side.
    minimum
        Counts of patients and events from 1 to below this are masked, with as many others as it
        takes so that no difference between boxes tells them; the person-time beside them is left
        out.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure. They need the room of a
        page's column for each endpoint.

    Returns
    -------
    matplotlib.figure.Figure
        Boxes with counts, never ids; beside them who is left out, and why. Patients count in every
        phase that they are in.

    Raises
    ------
    SpecError
        If there is nothing to draw, the endpoint is unknown, or `minimum` is below 1.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> figure = patient_flow(cohort.account())
    >>> figure.axes[0].texts[0].get_text()
    '267 patients in the table'
    """
    require_kind(account, Account, "account")
    require_minimum(minimum)
    table = mask_flow(account.table, mask_account(account.table, minimum=minimum))
    names = chosen([name for name in table["endpoint"] if name], endpoint)
    chart, across = _Chart(unit=account.unit), INCHES.get(width, 0.0)
    each, top = across / len(names), chart.common(table, across)
    bottom = max(
        chart.column(table[table["endpoint"] == name], name, each * place, each, top)
        for place, name in enumerate(names)
    )
    drawn = canvas(height=bottom + 0.3, width=width, ax=ax)
    drawn.axis.set_axis_off()
    drawn.axis.set(xlim=(0, across), ylim=(bottom, 0))
    chart.draw(drawn.axis)
    return say(drawn, synthetic=account.synthetic)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    left: float
    top: float
    width: float
    lines: tuple[str, ...]
    framed: bool

    @property
    def bottom(self) -> float:
        return self.top + 2 * PAD + LINE * len(self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chart:
    """Boxes and arrows, in inches from the upper left corner."""

    unit: str
    boxes: list[_Box] = field(default_factory=list)
    arrows: list[tuple[float, float, float]] = field(default_factory=list)

    def common(self, table: pd.DataFrame, across: float) -> float:
        """Lay out what all endpoints share; give where it ends."""
        rows = table[table["step"].isin(["read", "excluded", "repaired"])].to_dict("records")
        lines = [
            f"{_count(row['patients'])} {row['what']}"
            if row["step"] == "read"
            else f"{row['step']}: {_reason(row)}"
            for row in rows
        ]
        return self._add(0.0, 0.0, across, lines).bottom if lines else 0.0

    def column(
        self, table: pd.DataFrame, name: str, left: float, width: float, top: float
    ) -> float:
        """Lay out one endpoint below what all share; give where it ends."""
        records = table.to_dict("records")
        never = [
            _reason(row)
            for row in records
            if row["step"] == "observed" and row["what"] != "under observation"
        ]
        left_out = [
            _reason(row)
            for row in records
            # The cohort's account says it, too.
            if row["step"] == "left out" and not (never and row["what"].startswith(NEVER))
        ]
        steps = [
            (before, [f"{name.upper()}: {_count(row['patients'])} {words}", *self._sizes(row)])
            for step, words, before in (
                ("observed", "under observation", never),
                ("eligible", "at risk", left_out),
            )
            for row in records
            if row["step"] == step and row["what"] == words
        ]
        phases: list[str] = []
        for row in table[table["step"] == "in phase"].to_dict("records"):
            phases += [f"{row['phase']} ({row['what']}): {_count(row['patients'])}"]
            phases += [f"   {text}" for text in self._sizes(row)]
        if phases:
            steps.append(([], phases))
        arrow = left + ARROW
        for before, lines in steps:
            end = top + GAP if top or before else top
            if before:
                notes = self._add(arrow + PAD, top, width - ARROW - 2 * PAD, before, framed=False)
                end = max(end, notes.bottom)
            if top:
                self.arrows.append((arrow, top, end))
            top = self._add(left, end, width * 0.72, lines).bottom
        return top

    def _sizes(self, row: Mapping[Any, Any]) -> list[str]:
        """Events and time of a row, if it has any; no time where a count is masked."""
        events, time, patients = (row[name] for name in ("events", "person_time", "patients"))
        if pd.isna(events):
            return []
        texts = [f"{_count(events)} events"]
        if not pd.isna(time) and MASK not in (events, time, patients):
            texts.append(f"{numbers.time(float(time), self.unit)} person-{self.unit}")
        return [", ".join(texts)]

    def _add(
        self, left: float, top: float, width: float, texts: list[str], *, framed: bool = True
    ) -> _Box:
        room = max(8, int((width - 2 * PAD) * LETTERS))
        lines: list[str] = []
        for text in texts:
            indent = " " * (len(text) - len(text.lstrip()))
            lines += textwrap.wrap(
                literal(text),
                room,
                initial_indent=indent,
                subsequent_indent=f"{indent}  ",
                break_on_hyphens=False,
            )
        box = _Box(left=left, top=top, width=width, lines=tuple(lines), framed=framed)
        self.boxes.append(box)
        return box

    def draw(self, axis: Axes) -> None:
        for box in self.boxes:
            if box.framed:
                axis.add_patch(
                    Rectangle(
                        (box.left, box.top),
                        box.width,
                        box.bottom - box.top,
                        facecolor="white",
                        edgecolor=DARK,
                        linewidth=0.7,
                        clip_on=False,
                    )
                )
            axis.text(
                box.left + PAD,
                box.top + PAD,
                "\n".join(box.lines),
                ha="left",
                va="top",
                fontsize=SMALL,
                color=DARK if box.framed else GREY,
                linespacing=1.15,
                style="normal" if box.framed else "italic",
            )
        for across, start, end in self.arrows:
            axis.annotate(
                "",
                (across, end),
                (across, start),
                arrowprops={"arrowstyle": "-|>", "color": DARK, "linewidth": 0.7},
                annotation_clip=False,
            )


def _count(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.0f}"


def _reason(row: Mapping[Any, Any]) -> str:
    return f"{row['what']} ({_count(row['patients'])})"


def _states(cohort: Cohort, rows: pd.DataFrame) -> list[str]:
    """States in the order of treatment: before, the phases, and what comes after."""

    def rank(state: str) -> int:
        if state in cohort.phases:
            return cohort.phases.index(state)
        return -1 if state.startswith("before ") else len(cohort.phases)

    return sorted(map(str, rows["phase"].unique()), key=rank)
