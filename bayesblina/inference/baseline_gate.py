"""The baseline gate: whether the baseline moves the hazard ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.core.tables.checks import baseline as table_of
from bayesblina.inference.convergence import mcse_mean

State = Literal["passed", "told", "failed", "not compared"]

# In sds of what the fit is compared with; and how much larger or smaller its own sd may be.
TOLD, FAILED, SPREAD = 0.25, 0.5, 0.25
# Log hazard ratios that differ by less are the same answer, however small the sd.
LEAST = 0.01
# No chance of the draws fails a fit: the difference must be too large by so many standard errors.
ERRORS = 2.0
RATIO = "log_hazard_ratio"
RATIOS = (RATIO, *(f"{RATIO}_by_{part}" for part in ("interval", "subgroup", "piece")))
AGAINST = "the partial likelihood with the same priors"
COLUMNS = (
    "endpoint",
    "effect",
    "mean",
    "sd",
    "companion_mean",
    "companion_sd",
    "difference",
    "shift",
    "sd_ratio",
    "mcse",
    "state",
    "reason",
)
# From the worst to the best.
STATES: tuple[State, ...] = ("failed", "told", "not compared", "passed")
WORDS: Mapping[str, str] = {
    "passed": "the baseline does not move the hazard ratio",
    "told": "the baseline moves the hazard ratio a little",
    "failed": "THE BASELINE MOVES THE HAZARD RATIO",
    "not compared": "not compared with a model without a baseline",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaselineGate:
    """Whether the baseline moves the hazard ratios: the fit against one that has no baseline.

    It says nothing on whether the answer is right: what both share, such as who is compared, the
    covariates and proportional hazards, it cannot see.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per endpoint and log hazard ratio: ``endpoint``, ``effect``, ``mean``, ``sd``,
        ``companion_mean``, ``companion_sd``, ``difference`` (of the means), ``shift`` (the same in
        sds of the companion), ``sd_ratio`` (sd by the companion's), ``mcse`` (Monte-Carlo standard
        error of the difference), ``state`` (``"passed"``, ``"told"``, ``"failed"``, ``"not
        compared"``) and ``reason``.
    against
        What the fit was compared with, in words.

    Notes
    -----
    Told: the means differ by more than 0.25 sds of the companion, or the sds by more than a
    quarter. Failed: the means differ by more than 0.5 sds, and would if the difference were smaller
    by two Monte-Carlo standard errors. Both only if the means differ by more than 0.01 as well.
    """

    table: pd.DataFrame
    against: str

    @property
    def passed(self) -> bool:
        """Whether no log hazard ratio failed; what could not be compared did not fail."""
        return self.state != "failed"

    @property
    def state(self) -> State:
        """The worst state of all rows; ``"not compared"`` where there are none."""
        return worst(self.table["state"])

    def state_of(self, endpoint: str) -> State:
        """Worst state of one endpoint's rows.

        ``"failed"``, ``"told"``, ``"not compared"`` or ``"passed"``.
        """
        return worst(self.table.loc[self.table["endpoint"] == endpoint, "state"])

    def failures(self) -> list[str]:
        """Word the rows that failed."""
        return self._worded("failed")

    def told(self) -> list[str]:
        """Word the rows that did not fail but must be told."""
        return self._worded("told")

    def words(self) -> str:
        """Say how it came out, in a line."""
        reasons = {
            "failed": self.failures(),
            "told": self.told(),
            "not compared": [self.reason],
            # Against something weaker than a partial likelihood it says less.
            "passed": [] if self.against in ("", AGAINST) else [f"compared with {self.against}"],
        }[self.state]
        more = "; ".join(filter(None, reasons))
        return f"{WORDS[self.state]}{f': {more}' if more else ''}"

    @property
    def reason(self) -> str:
        """Why nothing was compared; empty if something was."""
        if self.state != "not compared":
            return ""
        return "; ".join(dict.fromkeys(filter(None, self.table["reason"])))

    def _worded(self, state: State) -> list[str]:
        rows = self.table[self.table["state"] == state].to_dict("records")
        return [
            f"{row['endpoint']}, {row['effect']}: log hazard ratio {row['mean']:.2f} "
            f"(sd {row['sd']:.2f}) against {row['companion_mean']:.2f} "
            f"(sd {row['companion_sd']:.2f}) of {self.against}, a shift of {row['shift']:+.2f} sds"
            + (f" ({row['reason']})" if row["reason"] else "")
            for row in rows
        ]

    def __repr__(self) -> str:
        """Show the outcome, and what failed."""
        return f"BaselineGate({self.words()})"

    def _repr_html_(self) -> str:
        return table_of(
            self.table, title=f"Baseline gate: {WORDS[self.state]}", against=self.against
        ).to_html()


def worst(states: pd.Series) -> State:
    """Choose the worst of some states.

    ``"failed"`` before ``"told"`` before ``"not compared"`` before ``"passed"``; ``"not compared"``
    of none.
    """
    return next((state for state in STATES if (states == state).any()), "not compared")


def not_compared(reason: str, endpoints: tuple[str, ...] = ()) -> BaselineGate:
    """Say that nothing was compared."""
    return BaselineGate(
        table=_table(
            [
                {"endpoint": name, "effect": "", "state": "not compared", "reason": reason}
                for name in endpoints or ("",)
            ]
        ),
        against="",
    )


def judge(
    draws: Floats,
    companion: Floats,
    *,
    effective: Floats | float | None = None,
    error: Floats | float = 0.0,
) -> pd.DataFrame:
    """Hold log hazard ratios against those of a model without a baseline.

    `draws`, shape (chain, draw, quantity): log hazard ratios of the fit.
    `companion`, shape (chain, draw, quantity): the same of the companion; its numbers of chains and
    draws are its own.
    `effective`, shape (quantity,) or float: effective number of the companion's draws; by default
    worked out from them.
    `error`, shape (quantity,) or float: error of the companion's means that it states itself, such
    as that of a grid of times.
    Result: one row per quantity, with the columns of `BaselineGate.table` from ``mean`` on.
    """
    mean, sd, noise = _moments(draws)
    other, other_sd, other_noise = _moments(companion, effective)
    difference = mean - other
    mcse = np.hypot(noise, other_noise)
    size = np.abs(difference)
    far, beyond = size > LEAST, size > TOLD * other_sd
    wide = np.abs(sd - other_sd) > SPREAD * other_sd
    moved = far & (beyond | wide)
    failed = size - ERRORS * mcse > np.maximum(FAILED * other_sd, LEAST)
    stated = np.broadcast_to(np.asarray(error, dtype=np.float64), size.shape)
    within = (moved | failed) & (size <= stated)
    usable = np.isfinite(difference) & np.isfinite(other_sd) & (other_sd > 0)
    state = np.select(
        [~usable, failed & ~within, moved], ["not compared", "failed", "told"], default="passed"
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        shift, ratio = difference / other_sd, sd / other_sd
    reasons = [
        "the companion has no spread"
        if not fine
        else f"within the companion's own error of {bound:.2g}"
        if inside
        else "the spreads differ"
        if spread and not shifted
        else ""
        for fine, inside, bound, spread, shifted in zip(
            usable, within, stated, wide & moved, beyond, strict=True
        )
    ]
    return pd.DataFrame(
        {
            "mean": mean,
            "sd": sd,
            "companion_mean": other,
            "companion_sd": other_sd,
            "difference": difference,
            "shift": shift,
            "sd_ratio": ratio,
            "mcse": mcse,
            "state": state,
            "reason": reasons,
        }
    )


def gate_of(
    posterior: xr.Dataset,
    companion: xr.Dataset | None,
    *,
    stated: pd.DataFrame | None = None,
    reason: str = "",
    against: str = AGAINST,
) -> BaselineGate:
    """Compare every log hazard ratio of a fit with that of its companion.

    `companion`: draws of what it is compared with: variables of the same names and dimensions. None
    where there is nothing to compare with.
    """
    if companion is None:
        names = tuple(str(name) for name in posterior["endpoint"].values)
        return not_compared(reason.removeprefix("not compared: "), names)
    rows: list[dict[Any, Any]] = []
    for name in (ratio for ratio in RATIOS if ratio in posterior):
        own = posterior[name].transpose("chain", "draw", "endpoint", ...)
        labels = _labels(own)
        other = companion.get(name)
        if other is None:
            rows += [
                label | {"state": "not compared", "reason": "it has no such ratio"}
                for label in labels
            ]
            continue
        other = other.transpose("chain", "draw", *own.dims[2:])
        error = stated_of(stated, labels, "error")
        judged = judge(
            own.values.reshape(*own.shape[:2], -1),
            other.values.reshape(*other.shape[:2], -1),
            effective=stated_of(stated, labels, "effective_draws"),
            error=0.0 if error is None else np.nan_to_num(error),
        )
        rows += [label | row for label, row in zip(labels, judged.to_dict("records"), strict=True)]
    return BaselineGate(table=_table(rows), against=against)


def exposed_sds(posterior: xr.Dataset) -> dict[str, float]:
    """Posterior sd of each endpoint's log hazard ratio of the exposed phase."""
    logs = posterior[RATIO].isel(effect=0).std(("chain", "draw"), ddof=1)
    return {
        str(name): float(sd) for name, sd in zip(logs["endpoint"].values, logs.values, strict=True)
    }


def stated_of(
    stated: pd.DataFrame | None, labels: Sequence[Mapping[str, object]], column: str
) -> Floats | None:
    """Look up what a companion says of itself.

    Result, shape (quantity,): the column, for each quantity; None if there is no such table.
    """
    if stated is None or column not in stated:
        return None
    values = stated.set_index("endpoint")[column]
    return np.array([float(values[str(label["endpoint"])]) for label in labels])


def _table(rows: list[dict[Any, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        dict.fromkeys(COLUMNS[2:10], np.float64)
    )


def _labels(values: xr.DataArray) -> list[dict[str, str]]:
    """Name the quantities of a variable over (chain, draw, endpoint, ...)."""
    dims = values.dims[3:]
    return [
        {
            "endpoint": endpoint,
            "effect": ", ".join(
                label if dim == "effect" else f"{dim} {label}"
                for dim, label in zip(dims, labels, strict=True)
            ),
        }
        for endpoint, *labels in product(*(map(str, values[dim].values) for dim in values.dims[2:]))
    ]


def _moments(
    draws: Floats, effective: Floats | float | None = None
) -> tuple[Floats, Floats, Floats]:
    """Mean, sd, and the Monte-Carlo standard error of the mean; shape (quantity,) each."""
    mean = draws.mean(axis=(0, 1))
    squares = np.square(draws - mean)
    sd = np.sqrt(squares.sum(axis=(0, 1)) / max(draws.shape[0] * draws.shape[1] - 1, 1))
    if effective is not None:
        return mean, sd, sd / np.sqrt(effective)
    constant = ~(np.isfinite(sd) & (sd > 0))
    return mean, sd, np.where(constant, 0.0, mcse_mean(draws))
