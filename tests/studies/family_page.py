"""The page of the study of the model family."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from tests.studies import family_courses as courses
from tests.studies import family_cure as cure
from tests.studies import family_engine as engine
from tests.studies import family_varying as varying
from tests.studies.baseline_page import exact_interval
from tests.studies.family_curves import BEYOND, WORST

LIBRARIES = ("pymc", "nutpie", "numpy", "numba")
MOST_BEYOND, MOST_SHIFT = 0.08, 0.2
LEAST_R_HAT = 1.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """What the parts of the study found, one row for each answer.

    Attributes
    ----------
    curves, varying, changes, fits, recovery, cure, courses
        As their modules make them.
    """

    curves: pd.DataFrame
    varying: pd.DataFrame
    changes: pd.DataFrame
    fits: pd.DataFrame
    recovery: pd.DataFrame
    cure: pd.DataFrame
    courses: pd.DataFrame


def measures(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Summarise answers of models of curves.

    Parameters
    ----------
    rows
        Of `family_curves.simulate`.
    by
        Columns to summarise by.
    """
    held = rows.assign(
        size=rows["shift"].abs(),
        beyond=rows["shift"].abs() > BEYOND,
        null=np.where(rows["ratio"] == 1.0, rows["success"].astype(float), np.nan),
    )
    found = held.groupby(by, sort=False)[
        [
            "shift",
            "size",
            "beyond",
            "failed",
            "covered",
            "null",
            "sd_ratio",
            "log_hazard",
            "unexposed",
            "exposed",
        ]
    ].mean()
    for column in ("log_hazard", "unexposed", "exposed"):
        found[column] = np.sqrt(found[column])
    found["count"] = held.groupby(by, sort=False).size()
    return found


def breaks(cells: pd.DataFrame) -> pd.Series:
    """Whether cells break the bounds of the default: on the mean shift, and on those beyond it."""
    low = pd.Series(
        [
            exact_interval(round(share * count), int(count))[0]
            for share, count in zip(cells["beyond"], cells["count"], strict=True)
        ],
        index=cells.index,
    )
    return (cells["shift"].abs() > MOST_SHIFT) | (low > MOST_BEYOND)


def _at(table: pd.DataFrame, *key: Any) -> dict[str, float]:
    """One row of a table with several indices."""
    (found,) = table.loc[[key]].to_dict("records")
    return {str(name): float(value) for name, value in found.items()}


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _table(*heads: str) -> list[str]:
    return [_row(*heads), _row(*("---" for _ in heads)).replace(" ", "")]


def curves_words(rows: pd.DataFrame) -> list[str]:
    """Word what models of curves do to the hazard ratio."""
    cell = ["patients", "entry", "baseline", "ratio", "model"]
    cells = measures(rows, cell)
    broken = breaks(cells).groupby(["patients", "model"]).sum()
    overall = measures(rows, ["patients", "model"])
    number = int(len(cells) / rows["model"].nunique() / rows["patients"].nunique())
    count = int(cells["count"].iloc[0])
    lines = [
        "## Models of curves and the hazard ratio",
        "",
        f"The eight worst scenarios of [the study of the baseline](baseline.md), hazard ratio 0.5 "
        f"and 1, {count} data sets each, the same ones as there; deterministic posteriors. Shifts "
        "are against the companion, in its sds. A cell breaks the default's bounds if its mean "
        f"shift is beyond {MOST_SHIFT:g}, or the exact 99.9 % interval of the share beyond "
        f"{BEYOND:g} lies above {MOST_BEYOND:.0%}. *Gate fails*: means more than "
        f"{2 * BEYOND:g} sds apart. "
        "*Success*: probability of at least 0.975 of a hazard ratio below 1. RMSE of the log "
        "hazard over months 0 to 24, and of survival at months 3, 6, 12, 18 and 24, in one in "
        "five data sets.",
        "",
        *_table(
            "patients",
            "model",
            "mean shift",
            "mean size of it",
            "beyond 0.25",
            "gate fails",
            f"of {number} cells break a bound",
            "coverage",
            "lowest of a cell",
            "success at HR 1",
            "RMSE log hazard",
            "RMSE S unexposed",
            "RMSE S exposed",
        ),
    ]
    lowest = cells["covered"].groupby(["patients", "model"]).min()
    for patients, model in overall.index:
        one = _at(overall, patients, model)
        hazard = "" if np.isnan(one["log_hazard"]) else f"{one['log_hazard']:.3f}"
        lines.append(
            _row(
                patients,
                model,
                f"{one['shift']:+.3f}",
                f"{one['size']:.3f}",
                f"{one['beyond']:.1%}",
                f"{one['failed']:.1%}",
                broken[patients, model],
                f"{one['covered']:.1%}",
                f"{lowest[patients, model]:.1%}",
                f"{one['null']:.1%}",
                hazard,
                f"{one['unexposed']:.4f}",
                f"{one['exposed']:.4f}",
            )
        )
    return [*lines, "", *_scenarios(cells)]


def _scenarios(cells: pd.DataFrame) -> list[str]:
    """Shifts, shares and coverage by scenario."""
    lines = [
        "Mean shift (share beyond 0.25; coverage), by scenario; hazard ratio 0.5, then 1:",
        "",
        *_table("patients", "entry", "baseline", *engine.MODELS, "companion's coverage"),
    ]
    for patients in cells.index.unique("patients"):
        for entry, baseline in WORST:
            said = []
            for model in (*engine.MODELS, "companion"):
                both = [_at(cells, patients, entry, baseline, r, model) for r in (0.5, 1.0)]
                said.append(
                    "; ".join(
                        f"{one['covered']:.1%}"
                        if model == "companion"
                        else f"{one['shift']:+.2f} ({one['beyond']:.0%}; {one['covered']:.1%})"
                        for one in both
                    )
                )
            lines.append(_row(patients, entry, baseline, *said))
    return [*lines, ""]


def fits_words(rows: pd.DataFrame) -> list[str]:
    """Word how far the engine lies from the sampler."""
    lines = [
        "### The engine is the package's model",
        "",
        f"{rows['setting'].nunique()} further data sets, fitted by `bb.fit`: differences are the "
        "engine's posterior mean of the log hazard ratio less the sampler's, in sds; of log "
        "hazards the largest of any interval, in sds; of survival at any time. The gate's states "
        "are those of these fits.",
        "",
        *_table(
            "model",
            "mean difference",
            "its Monte-Carlo error",
            "largest",
            "ratio of sds",
            "survival",
            "log hazard",
            "converged",
            "gate",
        ),
    ]
    for model, one in rows.groupby("model", sort=False):
        error = np.sqrt((one["error"] ** 2).sum()) / len(one)
        states = one["gate"].value_counts()
        lines.append(
            _row(
                model,
                f"{one['difference'].mean():+.4f}",
                f"{error:.4f}",
                f"{one['difference'].abs().max():.3f}",
                f"{one['sd_ratio'].min():.3f} to {one['sd_ratio'].max():.3f}",
                f"{one['survival'].max():.4f}",
                f"{one['log_hazard'].max():.2f}",
                f"{one['converged'].sum()} of {len(one)}",
                ", ".join(f"{states[name]} {name}" for name in states.index),
            )
        )
    return [*lines, ""]


def recovery_words(rows: pd.DataFrame) -> list[str]:
    """Word which model comes closest to a known hazard."""
    count = rows["cohort"].nunique()
    found = rows.groupby(["patients", "hazard", "model"], sort=False)[["log_hazard", "survival"]]
    table = found.mean() ** 0.5
    apart = rows.pivot_table(
        index=["patients", "hazard", "cohort"], columns="model", values="log_hazard"
    )
    lines = [
        "## Recovering a hazard",
        "",
        f"{count} cohorts of each size and hazard, a phase without effect that starts late; "
        "deterministic posteriors. RMSE of the log hazard over months 0 to 30 / of unexposed "
        "survival at months 3 to 24. *Smooth*: one wave. *Kinked*: rises to month 6, falls to "
        "month 18. *Weibull*: shape 0.6. *Steps*: up fourfold at month 6, down to half at 15.",
        "",
        *_table(
            "patients",
            "hazard",
            *engine.MODELS,
            "smooth against process, in paired standard errors",
        ),
    ]
    for patients in rows["patients"].unique():
        for hazard in rows["hazard"].unique():
            cells = [
                f"{one['log_hazard']:.3f} / {one['survival']:.4f}"
                for one in (_at(table, patients, hazard, model) for model in engine.MODELS)
            ]
            both = apart.loc[(patients, hazard)]
            difference = both["smooth"] - both["gaussian_process"]
            error = difference.std() / np.sqrt(len(difference))
            lines.append(_row(patients, hazard, *cells, f"{difference.mean() / error:+.1f}"))
    return [*lines, ""]


def varying_words(rows: pd.DataFrame) -> list[str]:
    """Word bias, coverage and shift of what varies."""
    settings = varying.SETTINGS
    lines = [
        "## Effects, baselines and groups that vary",
        "",
        f"Up to {int(rows.groupby('kind')['replication'].nunique().max())} data sets of each kind "
        f"and size, each fitted with {settings.chains} chains of {settings.tune} + "
        f"{settings.draws} draws. The truth varies as the model says; the hazard steps up about "
        "where patients enter. Bias is the mean of posterior means less the truth, its Monte-Carlo "
        "error in brackets; the companion has the same priors and no baseline, so that the bias "
        "which both have is the priors'. The shift is the mean difference of the two, in the "
        "companion's sds.",
        "",
        *_table(
            "kind",
            "patients",
            "data sets",
            "what",
            "truth",
            "bias",
            "companion's bias",
            "shift",
            "beyond 0.25",
            "coverage",
            "companion's coverage",
            "gate told / failed",
            f"R-hat below {LEAST_R_HAT:g}",
        ),
    ]
    for (kind, patients, what), one in rows.groupby(["kind", "patients", "quantity"], sort=False):
        error = one["mean"] - one["truth"]
        other = one["companion_mean"] - one["truth"]
        shift = (one["mean"] - one["companion_mean"]) / one["companion_sd"]
        known = bool(shift.notna().any())
        state = one["gate"].value_counts(normalize=True)
        lines.append(
            _row(
                kind,
                patients,
                len(one),
                what,
                f"{one['truth'].iloc[0]:.2f}",
                f"{error.mean():+.3f} ({error.std() / np.sqrt(len(one)):.3f})",
                f"{other.mean():+.3f}" if known else "",
                f"{shift.mean():+.3f}" if known else "",
                f"{(shift.abs() > BEYOND).mean():.1%}" if known else "",
                f"{one['covered'].mean():.1%}",
                f"{one['companion_covered'].mean():.1%}" if known else "",
                f"{state.get('told', 0.0):.0%} / {state.get('failed', 0.0):.0%}",
                f"{(one['r_hat'] < LEAST_R_HAT).mean():.0%}",
            )
        )
    return [*lines, ""]


def changes_words(rows: pd.DataFrame) -> list[str]:
    """Word what the prior of how far an effect varies does."""
    count = rows["replication"].nunique()
    lines = [
        "### The prior of how far an effect varies",
        "",
        f"Companions alone, {count} data sets of each kind and size: bias, RMSE and coverage under "
        "priors of the effect at the end against that at the beginning, or of one subgroup against "
        "the average (`phase_change`: 95 % lie in the interval, under an sd that is estimated or "
        "known). `over_time` and `since_entry` ship with 0.05 to 20, sd known; `by_subgroup` with "
        "0.05 to 20, sd estimated. An estimated sd of a walk is set low by the long part over "
        "which the effect is constant, and holds it there where it changes.",
        "",
        *_table("truth", "patients", "what", *varying.CHANGES),
    ]
    held = rows.assign(error=rows["mean"] - rows["truth"])
    held["squared"] = held["error"] ** 2
    keys = ["kind", "patients", "quantity", "change"]
    table = held.groupby(keys, sort=False)[["error", "squared", "covered"]].mean()
    for kind, patients, quantity in table.index.droplevel("change").unique():
        cells = [_at(table, kind, patients, quantity, change) for change in varying.CHANGES]
        said = [
            f"{one['error']:+.2f}, {one['squared'] ** 0.5:.2f}, {one['covered']:.0%}"
            for one in cells
        ]
        lines.append(_row(kind, patients, quantity, *said))
    return [*lines, ""]


def cure_words(rows: pd.DataFrame) -> list[str]:
    """Word whether the cured fraction is found."""
    lines = [
        "## A cured fraction",
        "",
        f"{cure.PATIENTS} patients of whom {cure.FRACTION:.0%} are cured, followed for "
        f"{cure.FOLLOW_UP[0]:g} to {cure.FOLLOW_UP[1]:g} months; a phase halves the hazard of the "
        "others. `mixture_cure` at its defaults.",
        "",
        *_table(
            "hazard of the others",
            "sets",
            "mean of posterior means",
            "of medians",
            "sd over sets",
            "coverage",
            "bias of the log HR",
            "its coverage",
            "converged",
            "gate",
        ),
    ]
    for hazard, one in rows.groupby("hazard", sort=False):
        lines.append(
            _row(
                hazard,
                len(one),
                f"{one['mean'].mean():.3f}",
                f"{one['median'].mean():.3f}",
                f"{one['mean'].std():.3f}",
                f"{one['covered'].mean():.0%}",
                f"{(one['log_ratio'] - np.log(cure.RATIO)).mean():+.3f}",
                f"{one['ratio_covered'].mean():.0%}",
                f"{one['converged'].sum()} of {len(one)}",
                ", ".join(sorted(set(one["gate"]))),
            )
        )
    return [*lines, ""]


def courses_words(rows: pd.DataFrame) -> list[str]:
    """Word whether models of several endpoints find survival that is known."""
    count = rows["cohort"].nunique()
    lines = [
        "## Endpoints together",
        "",
        f"{count} cohorts of {courses.PATIENTS} patients with relapse, death in remission and "
        f"death after relapse, as in the study of `illness_death` above. Survival at month "
        f"{courses.HORIZON:g} from remission, never exposed or from month {courses.STARTED:g} on "
        "while in remission; the truth from "
        f"{courses.MANY:,} simulated patients. Overall survival has no constant hazard ratio "
        "here, as a relapse changes the hazard: `primary` and `correlated` assume one.",
        "",
        *_table("endpoint", "regime", "truth", *(f"{one}: bias, RMSE" for one in courses.MODELS)),
    ]
    found = courses.against_truth(rows)
    for endpoint, regime in found.index.droplevel("model").unique():
        cells = [_at(found, endpoint, regime, model) for model in courses.MODELS]
        said = [f"{one['error']:+.3f}, {np.sqrt(one['squared']):.3f}" for one in cells]
        lines.append(_row(endpoint, regime, f"{cells[0]['truth']:.3f}", *said))
    lines += [
        "",
        *_table("model", "fits", "divergences", "largest R-hat", "smallest bulk ESS", "converged"),
    ]
    for model, one in rows.drop_duplicates(["model", "cohort"]).groupby("model", sort=False):
        lines.append(
            _row(
                model,
                len(one),
                one["divergences"].sum(),
                f"{one['r_hat'].max():.4f}",
                f"{one['ess'].min():.0f}",
                f"{one['converged'].sum()} of {len(one)}",
            )
        )
    return [*lines, ""]


def text(parts: Parts, *, command: str) -> str:
    """Write the page."""
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    lines = [
        "# The model family",
        "",
        "SIMULATED patients throughout; no number here is evidence about a treatment.",
        "",
        f"Made by `{command}` with {versions}. What follows from it for the models is decided in "
        "[0021](../decisions/0021-curve-models.md).",
        "",
        *curves_words(parts.curves),
        *fits_words(parts.fits),
        *recovery_words(parts.recovery),
        *varying_words(parts.varying),
        *changes_words(parts.changes),
        *cure_words(parts.cure),
        *courses_words(parts.courses),
    ]
    return "\n".join(lines)
