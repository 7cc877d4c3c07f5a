"""What scenarios say together: one table, in how many a conclusion holds, what moves it most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.core import tables
from bayesblina.core.errors import SpecError, nearest, require_kind
from bayesblina.core.escaping import html
from bayesblina.core.tables.numbers import beside
from bayesblina.estimands.ratios import (
    GIVEN,
    OWN,
    Direction,
    require_direction,
    sign_of,
    whose_conclusion,
)
from bayesblina.studies.axes import AXES, BASE
from bayesblina.studies.what_if.engine import Store
from bayesblina.studies.what_if.layout import BASE_LABEL

# Rows that a notebook shows.
DISPLAYED = 40
LEADING = ("scenario", "status", "reason")
SUMMARY = ("mean", "median", "sd", "lower", "upper", "probability_below_1", "mcse", "ess_bulk")
# What stands beside a hazard ratio, and says whether it may be used.
BESIDE_RATIO = (
    "baseline",
    "baseline_shift",
    "companion_median",
    "companion_lower",
    "companion_upper",
    "companion_probability_below_1",
    "event_times",
)
EFFECTS = (
    *("axis", "low", "high", "log_ratio_low", "log_ratio_high", "log_ratio_range"),
    *("probability_low", "probability_high", "probability_range", "scenarios"),
)
NUMBERS = (*SUMMARY, "mean_log", "sd_log", "patients", "events", "events_exposed", *BESIDE_RATIO)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sensitivity:
    """Results of scenarios.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per scenario and endpoint: ``scenario`` (what differs from the base case),
        ``status`` (``"converged"``, ``"not converged"``, ``"failed"``), ``reason``; one column per
        axis with its setting (``"base"`` for the base case's); ``endpoint``; of the hazard ratio
        ``mean``, ``median``, ``sd``, ``lower``, ``upper`` (95 %), ``probability_below_1``, ``mcse``
        and ``ess_bulk``; ``mean_log`` and ``sd_log`` of its logarithm; ``patients``, ``events``,
        ``events_exposed``; what stands beside the hazard ratio (`bayesblina.hazard_ratio`):
        ``baseline``, ``baseline_shift``, ``companion_median``, ``companion_lower``,
        ``companion_upper``, ``companion_probability_below_1``, ``event_times``; ``key``. A failed
        scenario has one row, without numbers; one of which the baseline moves the hazard ratio, or
        whose event times are those of visits, keeps its numbers, marked in these columns.
    axes : tuple of str
        Names of the axes.
    synthetic
        Whether the patients are simulated.
    direction
        What the study concludes, held against the scenarios: ``"lower"`` or ``"higher"`` hazard of
        the exposed; None takes what the base case says.
    """

    table: pd.DataFrame
    axes: tuple[str, ...]
    synthetic: bool
    direction: Direction | None = None

    @classmethod
    def of(cls, header: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Sensitivity:
        """Make the table from a store's header and records.

        Parameters
        ----------
        header
            What the results depend on.
        records
            One per scenario.

        Returns
        -------
        Sensitivity
            The results.
        """
        varied = {name for record in records for name in record["settings"]}
        axes = tuple(name for name in AXES if name in varied)
        rows = [
            {
                "scenario": record["label"],
                "status": record["status"],
                "reason": record["reason"],
                **{name: record["settings"].get(name, BASE) for name in axes},
                **result,
                "key": record["key"],
            }
            for record in records
            for result in record["results"] or [{"endpoint": None}]
        ]
        table = pd.DataFrame(rows, columns=[*LEADING, *axes, "endpoint", *NUMBERS, "key"])
        return cls(
            table=table,
            axes=axes,
            synthetic=bool(header["synthetic"]),
            direction=header.get("direction"),
        )

    def of_endpoint(self, endpoint: str) -> pd.DataFrame:
        """Rows of one endpoint that converged.

        Parameters
        ----------
        endpoint
            Endpoint.

        Returns
        -------
        pandas.DataFrame
            Of the table.

        Raises
        ------
        SpecError
            If no scenario of it converged.
        """
        known = [str(name) for name in self.table["endpoint"].dropna().unique()]
        if endpoint not in known:
            raise SpecError(f"No endpoint '{endpoint}'. {nearest(str(endpoint), known)}")
        inside = (self.table["endpoint"] == endpoint) & (self.table["status"] == "converged")
        if not inside.any():
            raise SpecError(f"{endpoint}: no scenario converged.")
        return self.table[inside].reset_index(drop=True)

    def holds(
        self,
        endpoint: str,
        *,
        probability: float = 0.975,
        ratio: float = 1.0,
        direction: Direction | None = None,
    ) -> Holds:
        """Count the scenarios in which a conclusion holds, and name the others.

        Parameters
        ----------
        endpoint
            Endpoint.
        probability
            The conclusion is that the hazard of the exposed is lower, or higher, with at least this
            posterior probability.
        ratio
            And that the median hazard ratio is beyond this: below it for a lower hazard, above its
            inverse for a higher one.
        direction
            ``"lower"`` or ``"higher"``; by default that of the study, else of the base case. Where
            the base case leaves it open, the conclusion is that it is open.

        Returns
        -------
        Holds
            How many, and which do not; scenarios that failed or did not converge count as neither.

        Raises
        ------
        SpecError
            If the endpoint is unknown, no scenario converged, a number or the direction is
            impossible, or no direction is given and the base case has no answer.
        """
        if not 0.5 < probability < 1:
            raise SpecError(f"probability must lie between 0.5 and 1, got {probability!r}.")
        if not ratio > 0:
            raise SpecError(f"ratio must be greater than 0, got {ratio!r}.")
        require_direction(direction)
        rows = self.of_endpoint(endpoint)
        given, is_base = direction or self.direction, self._is_base(rows)
        if given is None and not is_base.any():
            raise SpecError(
                f"{endpoint}: the base case has no answer, so that there is no conclusion to "
                "hold against the scenarios: give direction='lower' or 'higher'."
            )
        says = {
            "lower": (rows["probability_below_1"] >= probability) & (rows["median"] < ratio),
            "higher": (rows["probability_below_1"] <= 1 - probability)
            & (rows["median"] > 1 / ratio),
        }
        says["open"] = ~(says["lower"] | says["higher"])
        concluded: str = given or next(name for name, good in says.items() if good[is_base].iloc[0])
        good = says[concluded]
        silent = self.table[self.table["status"] != "converged"]
        return Holds(
            endpoint=endpoint,
            direction=concluded,
            source=OWN if given is None else GIVEN,
            probability=probability,
            ratio=ratio,
            holds=int(good.sum()),
            of=len(rows),
            not_in=tuple(rows.loc[~good, "scenario"]),
            without_answer=tuple(dict.fromkeys(silent["scenario"])),
            marked=tuple(row["scenario"] for row in rows.to_dict("records") if beside(row)),
        )

    def conclusion(self, endpoint: str) -> str:
        """Say in a sentence in how many scenarios the conclusion holds.

        Parameters
        ----------
        endpoint
            Endpoint.

        Returns
        -------
        str
            What `holds` gives; or that the base case has no answer.

        Raises
        ------
        SpecError
            If the endpoint is unknown or no scenario converged.
        """
        rows = self.of_endpoint(endpoint)
        if self.direction is None and not self._is_base(rows).any():
            return (
                f"{endpoint}: the base case has no answer, so that there is no conclusion to hold "
                f"against the {len(rows)} scenarios that have one."
            )
        return str(self.holds(endpoint))

    def _is_base(self, rows: pd.DataFrame) -> pd.Series[bool]:
        """Say which rows are of the base case."""
        return (rows[list(self.axes)] == BASE).all(axis=1)

    def effects(self, endpoint: str) -> pd.DataFrame:
        """How far each axis, and each pair of axes, moves the answer.

        Parameters
        ----------
        endpoint
            Endpoint.

        Returns
        -------
        pandas.DataFrame
            ``axis``; ``low`` and ``high`` (settings), ``log_ratio_low`` and ``log_ratio_high``
            (mean log hazard ratio over the scenarios with that setting), ``log_ratio_range``,
            ``probability_low``, ``probability_high``, ``probability_range`` (of P(HR < 1)),
            ``scenarios``. For a pair, from combinations of both, the settings of the largest
            departure from the sum of both axes' own effects, which stands in the ranges. Sorted by
            the range of the log ratio.

        Raises
        ------
        SpecError
            If the endpoint is unknown or no scenario converged.
        """
        rows = self.of_endpoint(endpoint)
        effects = [self._main(rows, axis) for axis in self.axes if len(rows[axis].unique()) > 1]
        effects += [
            pair
            for axis, other in combinations(self.axes, 2)
            if (pair := self._pair(rows, axis, other)) is not None
        ]
        return pd.DataFrame(effects, columns=list(EFFECTS)).sort_values(
            "log_ratio_range",
            key=lambda ranges: ranges.abs(),
            ascending=False,
            kind="stable",
            ignore_index=True,
        )

    def _main(self, rows: pd.DataFrame, axis: str) -> dict[str, Any]:
        """Compare settings of an axis, all others at their base or averaged over a full design."""
        others = [name for name in self.axes if name != axis]
        crossed = rows.groupby(axis)[others].nunique().gt(1).any(axis=1).all() if others else False
        inside = rows if crossed else rows[(rows[others] == BASE).all(axis=1)]
        means = inside.groupby(axis, sort=False)[["mean_log", "probability_below_1"]].mean()
        ratios, certain = means["mean_log"].sort_values(), means["probability_below_1"]
        return {
            "axis": axis,
            "low": ratios.index[0],
            "high": ratios.index[-1],
            "log_ratio_low": ratios.iloc[0],
            "log_ratio_high": ratios.iloc[-1],
            "log_ratio_range": ratios.iloc[-1] - ratios.iloc[0],
            "probability_low": certain.min(),
            "probability_high": certain.max(),
            "probability_range": certain.max() - certain.min(),
            "scenarios": len(inside),
        }

    def _pair(self, rows: pd.DataFrame, axis: str, other: str) -> dict[str, Any] | None:
        """Departure of combinations of two axes from the sum of both, against the base case."""
        rest = [name for name in self.axes if name not in (axis, other)]
        inside = rows[(rows[rest] == BASE).all(axis=1)] if rest else rows
        ratios, certain = (
            inside.pivot_table(index=axis, columns=other, values=column, sort=False)
            for column in ("mean_log", "probability_below_1")
        )
        if BASE not in ratios.index or BASE not in ratios.columns:
            return None
        base = list(ratios.index).index(BASE), list(ratios.columns).index(BASE)
        grids = [table.to_numpy(float) for table in (ratios, certain)]
        # What a combination has beyond both settings' own effects; 0 along the base case.
        beyond = [grid - grid[base[0]] - grid[:, [base[1]]] + grid[base] for grid in grids]
        beyond[0][base[0]] = beyond[0][:, base[1]] = np.nan
        if not np.isfinite(beyond[0]).any():
            return None
        first, second = map(int, np.unravel_index(np.nanargmax(np.abs(beyond[0])), beyond[0].shape))
        return {
            "axis": f"{axis} x {other}",
            "low": BASE_LABEL,
            "high": f"{axis} = {ratios.index[first]}, {other} = {ratios.columns[second]}",
            "log_ratio_low": grids[0][base],
            "log_ratio_high": grids[0][first, second],
            "log_ratio_range": beyond[0][first, second],
            "probability_low": grids[1][base],
            "probability_high": grids[1][first, second],
            "probability_range": beyond[1][first, second],
            "scenarios": int(np.isfinite(beyond[0]).sum()),
        }

    def __repr__(self) -> str:
        """Show counts."""
        scenarios = self.table.drop_duplicates("key")
        counts = scenarios["status"].value_counts().to_dict()
        counts["marked"] = len({row["key"] for row in self.table.to_dict("records") if beside(row)})
        shown = ("converged", "not converged", "failed", "marked")
        parts = [f"{counts[name]} {name}" for name in shown if counts.get(name)]
        kind = "; synthetic patients" if self.synthetic else ""
        return f"Sensitivity({len(scenarios)} scenarios; {', '.join(parts)}{kind})"

    def _repr_html_(self) -> str:
        shown = self.table.head(DISPLAYED)
        more = len(self.table) - len(shown)
        title = repr(self) + (f", the first {DISPLAYED} rows and {more} more" if more else "")
        return tables.scenarios(shown, title=title, synthetic=self.synthetic).to_html()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """In how many scenarios a conclusion holds.

    `direction`: the conclusion: that the exposed phase's hazard is ``"lower"`` or ``"higher"``, or
    that this is ``"open"``.
    `source`: whose it is: the ``"base case"``'s, or ``"given"``.
    `probability`, `ratio`: from when on it is concluded.
    `holds`, `of`: in so many of those that converged.
    `not_in`: scenarios in which it does not.
    `without_answer`: scenarios that failed or did not converge.
    `marked`: scenarios of which the baseline moves the hazard ratio, or whose event times are those
    of visits; they are counted among the others.
    """

    endpoint: str
    direction: str
    source: str
    probability: float
    ratio: float
    holds: int
    of: int
    not_in: tuple[str, ...]
    without_answer: tuple[str, ...]
    marked: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in a sentence."""
        others = {
            "not in": self.not_in,
            "without an answer": self.without_answer,
            "counted, but marked": self.marked,
        }
        notes = [f"; {words}: {' | '.join(names)}" for words, names in others.items() if names]
        counts = f"holds in {self.holds} of {self.of} scenarios"
        return f"{self.endpoint}: {self._conclusion()} {counts}{''.join(notes)}."

    def _conclusion(self) -> str:
        whose = whose_conclusion(self.source)
        sure = f"{self.probability:g}"
        if self.direction == "open":
            return (
                f"{whose}, that it is open whether the hazard is lower or higher (neither "
                f"P(HR < 1) nor P(HR > 1) at least {sure}),"
            )
        sign = sign_of(self.direction)
        limit = self.ratio if self.direction == "lower" else 1 / self.ratio
        beyond = "" if self.ratio == 1 else f", median {sign} {limit:.3g}"
        concluded = f"P(HR {sign} 1) at least {sure}{beyond}"
        return f"{whose}, that the hazard is {self.direction} ({concluded}),"

    def _repr_html_(self) -> str:
        return f"<p>{html(str(self))}</p>"


def load_sensitivity(folder: str | PathLike[str]) -> Sensitivity:
    """Load the scenarios that are finished, of a run that may not be.

    Parameters
    ----------
    folder
        The folder given as ``out`` to `bayesblina.sensitivity`.

    Returns
    -------
    Sensitivity
        What is there.

    Raises
    ------
    StorageError
        If there is nothing, or a line is damaged.
    SpecError
        If no scenario is finished yet.
    """
    require_kind(folder, str | PathLike, "folder")
    header, records, _ = Store(folder=Path(folder)).read()
    if header.get("what") != "scenarios":
        raise SpecError(f"'{folder}' holds no scenarios of an analysis but {header.get('what')}.")
    if not records:
        raise SpecError(f"'{folder}': no scenario is finished yet.")
    return Sensitivity.of(header, records)
