"""Events and person-time of the patients of a scan, by group, in a last pass."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.scan import combinations
from bayesblina.patients.scan.passes import State
from bayesblina.person_time.cells.blocks import Asked, Blocks
from bayesblina.person_time.cells.patterns import CovariateTerms, Terms
from bayesblina.person_time.cells.survey import LISTED
from bayesblina.person_time.compression import Compression
from bayesblina.person_time.tabulation import Tally, Tallying, merged, moments_by_group

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grouping:
    """Groups in which patients are summed: by the number of their combination of levels.

    `codes`, shape (code,): combinations, rising.
    `group`, shape (code,): group of each combination.
    `terms`: covariate terms of each group; those of compressed covariates are not used.
    `compression`: how continuous covariates are compressed.
    """

    codes: Ints
    group: Ints
    terms: Terms
    described: tuple[CovariateTerms, ...]
    compression: Compression | None

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.terms.design.shape[0])

    @property
    def moments(self) -> int:
        """Number of polynomials that sums are multiplied with."""
        return 1 if self.compression is None else self.compression.size

    @property
    def degrees(self) -> tuple[int, ...]:
        """Number of polynomials of each compressed covariate."""
        return () if self.compression is None else self.compression.degrees

    def group_of(self, codes: Ints) -> Ints:
        """Find the groups of combinations; 0 for one that no contributor has."""
        position = np.minimum(np.searchsorted(self.codes, codes), self.codes.size - 1)
        return np.where(self.codes[position] == codes, self.group[position], 0)


class GroupSums:
    """Sums by group: a `bayesblina.patients.scan.passes.Partial`.

    `axes`: positions of the compressed covariates among the continuous ones.

    `patients`, shape (group, moment): contributors.
    `at_risk`, shape (endpoint, landmark, group, moment): who is at risk at the landmarks.
    """

    def __init__(
        self,
        asked: Asked,
        grouping: Grouping,
        axes: tuple[int, ...],
        cuts: Floats,
        landmarks: Floats,
        combinations: int,
    ) -> None:
        self._asked, self._grouping, self._axes, self._cuts = asked, grouping, axes, cuts
        # Whoever is under observation at a landmark is so up to rounding.
        self._landmarks = landmarks * (1.0 + TIE_TOLERANCE)
        self._listed = (
            grouping.group_of(np.arange(combinations)) if combinations <= LISTED else None
        )
        self._tallyings = [[self._tallying()] for _ in asked.names]
        self.patients = np.zeros((grouping.groups, grouping.moments))
        self.at_risk = np.zeros((len(asked.names), landmarks.size, *self.patients.shape))

    def _tallying(self) -> Tallying:
        """Start a sum over nobody."""
        return Tallying(
            self._asked.course,
            cuts=self._cuts,
            groups=self._grouping.groups,
            degrees=self._grouping.degrees,
        )

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the patients of a block."""
        rows, grouping = self._asked.rows(batch), self._grouping
        code = rows.column("code")
        groups = grouping.group_of(code) if self._listed is None else self._listed[code]
        group = groups.astype(np.int32)
        scaled = None
        if grouping.compression is not None:
            columns = [
                axis.scaled(rows.column(f"x{index}"))
                for axis, index in zip(grouping.compression.axes, self._axes, strict=True)
            ]
            scaled = np.stack(columns, axis=1)
        sum_of = partial(
            moments_by_group,
            group=group,
            groups=grouping.groups,
            scaled=scaled,
            degrees=grouping.degrees,
        )
        anywhere = np.zeros(rows.size, dtype=np.bool_)
        for e, (risk, inside) in enumerate(self._asked.risks(rows)):
            anywhere |= inside
            self._tallyings[e][0].add(rows, risk, group, scaled=scaled)
            for index, time in enumerate(self._landmarks):
                present = inside & (risk.begin <= time) & (risk.stop > time)
                self.at_risk[e, index] += sum_of(present)
        self.patients += sum_of(anywhere)

    def state(self) -> State:
        """Lay out the sums, for another process."""
        state = {"patients": self.patients, "at_risk": self.at_risk}
        for e, (tallying,) in enumerate(self._tallyings):
            state |= {f"{name} {e}": values for name, values in tallying.sums.items()}
        return state

    def merge(self, state: State) -> None:
        """Add the sums over other patients."""
        self.patients += state["patients"]
        self.at_risk += state["at_risk"]
        for e, tallyings in enumerate(self._tallyings):
            tallying = self._tallying()
            tallying.sums = {name: state[f"{name} {e}"] for name in tallying.sums}
            tallyings.append(tallying)

    def tallies(self) -> list[Tally]:
        """Return events and person-time by endpoint, over all patients."""
        return [merged(tallyings) for tallyings in self._tallyings]


def group_sums(blocks: Blocks, grouping: Grouping, cuts: Floats, landmarks: Floats) -> GroupSums:
    """Sum events and person-time, and who is at risk at landmarks."""
    scan, compression = blocks.scan, grouping.compression
    axes = () if compression is None else compression.axes
    make = partial(
        GroupSums,
        blocks.asked,
        grouping,
        tuple(scan.continuous.index(axis.name) for axis in axes),
        cuts,
        landmarks,
        combinations(scan),
    )
    unread = set()
    if scan.embedded:  # else patients are added up in the order of their ids
        unread.add("id")
    if not scan.phase_ends_known:
        unread |= {f"end{index}" for index in range(len(scan.phases))}
    columns = [name for name in blocks.columns() if name not in unread]
    return blocks.summed(make, blocks.eligible(columns), in_order=True)
