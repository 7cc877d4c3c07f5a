"""Follow-up cut where patients start, leave and enter again what is exposed.

Each of the three has a hazard of its own, on its own clock: of starting by time since becoming
eligible, of leaving by time since the stay began, of entering again by time since the last one
ended. Stays must begin under observation, so that these clocks are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints, rows_in_runs
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import TIE_TOLERANCE, snap
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.follow_up import Episodes
from bayesblina.person_time.segments import stays_of
from bayesblina.studies.weighting.pieces import (
    POINTS,
    Cells,
    Changes,
    Pieces,
    StartingCourse,
    Switch,
    covariates_of,
    cut_at_grid,
    join_cells,
    start_cuts,
)

KINDS = ("starting", "leaving", "entering again")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spells:
    """Time in what is exposed and out of it, in turn: by patient, and each patient's by time.

    `patient`, `start`, `stop`, shape (spell,).
    `kind`, shape (spell,): what ends it if anything does, a position in `KINDS`.
    `ends`, shape (spell,): whether it does, before follow-up ends.
    """

    patient: Ints
    start: Floats
    stop: Floats
    kind: Ints
    ends: Bools


def spells_of(episodes: Episodes, exposed: str) -> Spells:
    """Put episodes together that are all exposed, or none of them."""
    inside = np.asarray(episodes.phase_names)[episodes.phase] == exposed
    who = episodes.patient
    opens = np.append(True, (np.diff(who) != 0) | (np.diff(inside.astype(int)) != 0))[: who.size]
    first = np.flatnonzero(opens)
    last = np.append(first[1:], who.size) - 1
    patient, on = who[first], inside[first]
    fresh = np.append(True, np.diff(patient) != 0)[: patient.size]
    # Out of it for the first time, or again: two spells in turn, the first is either.
    again = ~on & ~fresh
    return Spells(
        patient=patient,
        start=episodes.start[first],
        stop=episodes.stop[last],
        kind=np.where(on, 1, np.where(again, 2, 0)),
        ends=np.append(~fresh[1:], False)[: patient.size],
    )


def switching_course(
    cohort: Cohort,
    episodes: Episodes,
    *,
    exposed: str,
    phases: Sequence[int],
    chosen: Sequence[str],
    adjust: Sequence[str],
    changes: Changes,
    cuts: Floats | None,
) -> StartingCourse:
    """Cut follow-up where weights of starting, leaving and entering again, or covariates, change.

    `exposed`, `phases`: what is exposed, by its name and by positions of phases.
    `cuts`: where the hazard of starting may change; None for quartiles of the starts.
    """
    spells = spells_of(episodes, exposed)
    begin, end, start = np.full((3, cohort.size), np.nan)
    begin[spells.patient[::-1]] = spells.start[::-1]
    end[spells.patient] = spells.stop
    on = spells.kind == 1
    start[:] = np.inf
    start[spells.patient[on][::-1]] = spells.start[on][::-1]
    _require_seen(cohort, phases, begin)
    if not on.any():
        raise SpecError(f"Nobody is in {exposed} while under observation.")
    if not spells.ends.any():
        raise SpecError(f"Nobody starts or leaves {exposed} while under observation.")
    pieces, spell, inner = _pieces(spells, begin, changes, cuts)
    patient = spells.patient[spell]
    names, values, kept = covariates_of(cohort, chosen, adjust, changes, patient, pieces.first)
    spread = values.std(axis=0)
    constant = [name for name, sd in zip(names, spread, strict=True) if not sd > 0]
    if constant:
        raise SpecError(f"{constant[0]} is the same for everybody at risk: leave it out.")
    standard = (values - values.mean(axis=0)) / spread
    died = np.zeros(cohort.size, dtype=bool)
    died[episodes.patient[episodes.event]] = True
    ending = spells.ends[spell] & (pieces.last == spells.stop[spell])
    switches = []
    for number, kind in enumerate(KINDS):
        at_risk = spells.kind[spell] == number
        if not (ending & at_risk).any():
            # What never happens has no part in any weight.
            continue
        interval = np.searchsorted(inner[number], pieces.since, side="right")
        cells = join_cells(
            replace(pieces, patient=spell), interval, standard, at_risk, at_risk & ending
        )
        cells = replace(cells, patient=spells.patient[cells.patient])
        switches.append(
            Switch(
                kind=kind,
                cells=cells,
                intervals=inner[number].size + 1,
                done=_done(cells, patient),
            )
        )
    return StartingCourse(
        patient=patient,
        first=pieces.first,
        last=pieces.last,
        since=pieces.since,
        until=pieces.until,
        middle=pieces.middle,
        cohort=cohort,
        endpoint=episodes.endpoint,
        adjust=tuple(adjust),
        begin=begin,
        start=start,
        prevalent=start <= begin,
        after=pieces.first >= start[patient],
        inside=spells.kind[spell] == 1,
        current=True,
        event=died[patient] & (pieces.last == end[patient]),
        intervals=inner[0].size + 1,
        names=names,
        scale=spread,
        kept=kept,
        cells=_no_cells(patient.size, len(names)),
        switches=tuple(switches),
    )


def _require_seen(cohort: Cohort, phases: Sequence[int], begin: Floats) -> None:
    """Refuse stays that began before patients became eligible: who left them is not seen."""
    stays = stays_of(cohort)
    early = stays.start < begin[stays.patient] * (1.0 - TIE_TOLERANCE)
    count = np.unique(stays.patient[early & np.isin(stays.phase, phases)]).size
    if count:
        raise SpecError(
            f"{count} patients were in the exposed phase before they became eligible, so that who "
            "had left it by then is not seen, and weights of leaving are not known: take an "
            "eligible_from that comes before it, or the exposed phase itself."
        )


def _pieces(
    spells: Spells, begin: Floats, changes: Changes, cuts: Floats | None
) -> tuple[Pieces, Ints, list[Floats]]:
    """Cut spells at changes of covariates and on a grid of their own clocks.

    Result: pieces; the spell of each; inner cut points of each kind's hazard.
    """
    origin = np.where(spells.kind == 0, begin[spells.patient], spells.start)
    length = spells.stop - origin
    # Which spell a covariate changes in.
    at = np.searchsorted(spells.patient, changes.patient)
    counts = np.searchsorted(spells.patient, changes.patient, side="right") - at
    change, of = rows_in_runs(at, counts)
    time = changes.time[change]
    within = (time > spells.start[of]) & (time < spells.stop[of])
    marks = pd.DataFrame(
        {
            "spell": np.concatenate([np.arange(spells.patient.size), of[within]]),
            "when": np.concatenate([spells.start, time[within]]),
        }
    )
    marks = marks.drop_duplicates().sort_values(["spell", "when"])
    spell, when = marks["spell"].to_numpy(), marks["when"].to_numpy()
    goes_on = np.append(spell[1:] == spell[:-1], False)
    stop = np.where(goes_on, np.append(when[1:], 0.0), spells.stop[spell])
    parts: list[tuple[Ints, Floats, Floats, Floats]] = []
    inner: list[Floats] = []
    for number in range(len(KINDS)):
        own = spells.kind == number
        switched = length[own & spells.ends]
        if number == 0 and cuts is not None:
            inner.append(cuts)
        else:
            inner.append(start_cuts(switched) if switched.size else np.empty(0))
        rows = np.flatnonzero(own[spell])
        if not rows.size:
            continue
        # Waiting is cut alike however long it lasts, as where starts alone are weighed.
        longest = (spells.stop - begin[spells.patient]).max() if number == 0 else length[own].max()
        spans = [float(longest), *([float(switched.max())] if switched.size else [])]
        grid = [np.linspace(0.0, to, POINTS + 1)[1:] for to in spans]
        points = np.unique(np.concatenate([inner[-1], *grid]))
        clock = origin[spell[rows]]
        # Near-ties are made exact, so that no piece is as short as a rounding error.
        low, high, points = snap([when[rows] - clock, stop[rows] - clock, points])
        points = np.unique(points[points > 0])
        part, since, until, middle = cut_at_grid(low, high, np.zeros(rows.size, dtype=bool), points)
        parts.append((rows[part], since, until, middle))
    row, since, until, middle = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((since, row))
    row, since, until, middle = row[order], since[order], until[order], middle[order]
    # Ends are taken from the data where they are ends of the data, so that ties stay exact.
    changed = row[1:] != row[:-1]
    last = np.where(np.append(changed, True), stop[row], origin[spell[row]] + until)
    first = np.where(np.append(True, changed), when[row], np.append(0.0, last[:-1]))
    pieces = Pieces(
        patient=spells.patient[spell[row]],
        first=first,
        last=last,
        since=since,
        until=until,
        middle=middle,
    )
    return pieces, spell[row], inner


def _done(cells: Cells, patient: Ints) -> Ints:
    """Find the last cell of a patient before each piece, -1 for none."""
    before = np.maximum.accumulate(cells.of)
    own = (before >= 0) & (cells.patient[np.maximum(before, 0)] == patient)
    return np.where(own, before, -1)


def _no_cells(pieces: int, columns: int) -> Cells:
    return Cells(
        of=np.full(pieces, -1, dtype=np.int64),
        patient=np.empty(0, dtype=np.int64),
        opens=np.empty(0),
        time=np.empty(0),
        interval=np.empty(0, dtype=np.int64),
        values=np.empty((0, columns)),
        start=np.empty(0, dtype=bool),
    )
