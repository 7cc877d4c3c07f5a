"""The page of the study of the baseline: bounds, tables, words."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd
from scipy.stats import beta

from tests.studies import baseline_engine as engine
from tests.studies.baseline_methods import METHODS
from tests.studies.baseline_settings import ARMS, COVARIATES, ONE_PHASE, RATIOS

CELL = ["arm", "entry", "baseline", "patients", "ratio", "endpoint"]
MARKED = 0.25  # companion sds, beyond which the gate tells
FAILED = 0.5
LARGEST_SHIFT = {40: 0.25}
LARGEST_SHARE = {40: 0.20}
SHIFT, SHARE = 0.2, 0.08
COVERAGE, POOLED_COVERAGE = 0.025, 0.93
WIDTH = 0.10
SUCCESS = 0.03
# An estimate or a standard error beyond this is none: no event on one side, or no comparison.
FURTHEST = 10.0
LEVEL = 0.999
# Scenarios that cannot be brought under a bound, with the reason; at most two may stand here.
EXCEPTIONS: dict[tuple[str, str], str] = {}


def exact_interval(count: int, size: int) -> tuple[float, float]:
    """Clopper and Pearson's 99.9 % interval of a probability.

    Examples
    --------
    >>> low, high = exact_interval(0, 400)
    >>> round(low, 4), round(high, 4)
    (0.0, 0.0188)
    """
    tail = (1.0 - LEVEL) / 2.0
    low = float(beta.ppf(tail, count, size - count + 1)) if count else 0.0
    high = float(beta.ppf(1.0 - tail, count + 1, size - count)) if count < size else 1.0
    return low, high


def _figures(rows: pd.DataFrame) -> pd.Series:
    """What a method does in one cell, or in several together."""
    exists = (rows["mean"].abs() < FURTHEST) & (rows["sd"] < FURTHEST)
    known = rows[exists]
    error = known["mean"] - np.log(known["ratio"])
    return pd.Series(
        {
            "data_sets": len(rows),
            "no_estimate": int((~exists).sum()),
            "intervals": rows["intervals"].mean(),
            "bias": error.mean(),
            "rmse": float(np.sqrt((error**2).mean())),
            "shift": known["shift"].mean(),
            "beyond": (rows["shift"].abs() > MARKED).mean(),
            "coverage": rows["covered"].mean(),
            "width": known["width"].mean(),
            "success": rows["success"].mean(),
            "rmse_survival_unexposed": float(np.sqrt(rows["unexposed"].mean())),
            "rmse_survival_exposed": float(np.sqrt(rows["exposed"].mean())),
            "rmse_survival": float(
                np.sqrt((rows["unexposed"].mean() + rows["exposed"].mean()) / 2.0)
            ),
        }
    )


def by_cell(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each cell and method; widths relative to the companion's."""
    groups = rows.groupby([*CELL, "method"], sort=False)
    found = pd.DataFrame([_figures(part) for _, part in groups], index=groups.size().index)
    width = found["width"].xs("companion", level="method")
    found["width_ratio"] = (
        found["width"] / width.reindex(found.index.droplevel("method")).to_numpy()
    )
    found["data_sets"] = found["data_sets"].astype(int)
    found["no_estimate"] = found["no_estimate"].astype(int)
    return found.round(5).reset_index()


def breaches(rows: pd.DataFrame) -> pd.DataFrame:
    """Each cell's default against the bounds; a count must exclude its own."""
    found = []
    for cell, part in rows.groupby(CELL, sort=False):
        default = part[part["method"] == "default"]
        companion = part[part["method"] == "companion"]
        size, patients = len(default), int(default["patients"].iloc[0])
        beyond = int((default["shift"].abs() > MARKED).sum())
        covered = int(default["covered"].sum())
        low, high = exact_interval(covered, size)
        aim = companion["covered"].mean()
        shift = abs(default["shift"].mean())
        ratio = default["width"].mean() / companion["width"].mean()
        found.append(
            {
                **dict(zip(CELL, cell, strict=True)),
                "shift": shift > LARGEST_SHIFT.get(patients, SHIFT),
                "share beyond": exact_interval(beyond, size)[0]
                > LARGEST_SHARE.get(patients, SHARE),
                "coverage": high < aim - COVERAGE or low > aim + COVERAGE,
                "width": abs(ratio - 1.0) > WIDTH,
            }
        )
    return pd.DataFrame(found)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(line)} |" for line in lines),
        "",
    ]


def _where(line: pd.Series) -> str:
    words = [line["entry"], line["baseline"]] if line["entry"] else [line["arm"]]
    if line["arm"] == COVARIATES:
        words.append("covariates")
    if line["endpoint"] != "y":
        words.append(line["endpoint"])
    return f"{', '.join(words)}, n = {line['patients']}, HR {line['ratio']:g}"


def _largest(cells: pd.DataFrame, column: pd.Series) -> tuple[float, str]:
    if not len(column):
        return float("nan"), ""
    place = int(column.abs().to_numpy().argmax())
    return float(column.iloc[place]), _where(cells.iloc[place])


def _bounds(rows: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """What was asked for beside what was found."""
    default = cells[cells["method"] == "default"].reset_index(drop=True)
    companion = cells[cells["method"] == "companion"].reset_index(drop=True)
    small = default["patients"] == 40
    broken = breaches(rows)
    lines = []
    for label, column, bounds, sign in (
        ("mean shift against the companion, companion sds", "shift", (0.25, 0.2), "{:+.3f}"),
        ("data sets beyond 0.25 companion sds", "beyond", (0.20, 0.08), "{:.1%}"),
    ):
        key = "shift" if column == "shift" else "share beyond"
        for chosen, bound, size in ((small, bounds[0], "n = 40"), (~small, bounds[1], "n ≥ 86")):
            part = default[chosen]
            value, where = _largest(part, part[column])
            count = int(broken.loc[chosen.to_numpy(), key].sum())
            told = f"{bound:g}" if column == "shift" else f"{bound:.0%}"
            lines.append([f"{label}, {size}", told, sign.format(value), where, str(count)])
    apart = default["coverage"] - companion["coverage"]
    value, where = _largest(default, apart)
    lines.append(
        [
            "coverage less the companion's, points",
            "2.5",
            f"{100 * value:+.1f}",
            where,
            str(int(broken["coverage"].sum())),
        ]
    )
    value, where = _largest(default, default["width_ratio"] - 1.0)
    lines.append(
        [
            "interval width against the companion's",
            "10 %",
            f"{value:+.1%}",
            where,
            str(int(broken["width"].sum())),
        ]
    )
    pooled = rows[rows["method"] == "default"]
    covered = pooled["covered"].mean()
    success = pooled.loc[pooled["ratio"] == 1.0, "success"].mean()
    lines.append(
        ["coverage, pooled", "≥ 93 %", f"{covered:.1%}", "", str(int(covered < POOLED_COVERAGE))]
    )
    lines.append(
        ["success at HR 1, pooled", "≤ 3 %", f"{success:.2%}", "", str(int(success > SUCCESS))]
    )
    return _table(["measure", "bound", "worst cell", "where", "cells that break it"], lines)


def _pooled(rows: pd.DataFrame) -> list[str]:
    """All methods by arm and size, over scenarios and hazard ratios."""
    lines = []
    groups = [
        *((f"n = {size}", ONE_PHASE, size) for size in (40, 86)),
        *((f"n = {size}, the worst", ONE_PHASE, size) for size in (267, 2000)),
        (f"{COVARIATES}, the worst", COVARIATES, 86),
        *((arm, arm, 86) for arm in ARMS[2:]),
    ]
    for label, arm, size in groups:
        part = rows[(rows["arm"] == arm) & (rows["patients"] == size)]
        for endpoint, of_one in part.groupby("endpoint", sort=False):
            width = of_one.loc[of_one["method"] == "companion", "width"].mean()
            for method in METHODS:
                one = of_one[of_one["method"] == method]
                figures = _figures(one)
                null = one.loc[one["ratio"] == 1.0, "success"].mean()
                lines.append(
                    [
                        label if endpoint == "y" else f"{label}: {endpoint}",
                        method,
                        f"{figures['intervals']:.0f}" if figures["intervals"] else "",
                        f"{figures['bias']:+.3f}",
                        f"{figures['shift']:+.3f}",
                        f"{figures['beyond']:.1%}",
                        f"{figures['rmse']:.3f}",
                        f"{figures['coverage']:.1%}",
                        f"{figures['width'] / width:.3f}",
                        f"{null:.2%}",
                        f"{figures['rmse_survival_unexposed']:.4f}",
                        f"{figures['rmse_survival_exposed']:.4f}",
                        f"{figures['rmse_survival']:.4f}",
                    ]
                )
    head = (
        "patients or arm, method, intervals, bias, shift (sds), beyond 0.25, RMSE log HR, "
        "coverage, width / companion's, success at HR 1, RMSE S unexposed, RMSE S exposed, "
        "RMSE S both"
    )
    return _table(head.split(", "), lines)


def _scenarios(cells: pd.DataFrame) -> list[str]:
    """The scenarios at 86 patients: default and old default, at both hazard ratios."""
    part = cells[(cells["arm"] == ONE_PHASE) & (cells["patients"] == 86)]
    by = part.set_index(["entry", "baseline", "ratio", "method"])
    shown = (
        ("shift", "default", "{:+.2f}"),
        ("shift", "old default", "{:+.2f}"),
        ("beyond", "default", "{:.1%}"),
        ("beyond", "old default", "{:.1%}"),
        ("coverage", "default", "{:.1%}"),
        ("coverage", "old default", "{:.1%}"),
        ("coverage", "companion", "{:.1%}"),
    )
    lines = []
    for entry, baseline in part[["entry", "baseline"]].drop_duplicates().itertuples(index=False):
        both = [
            " / ".join(
                sign.format(by.loc[(entry, baseline, ratio, method), column]) for ratio in RATIOS
            )
            for column, method, sign in shown
        ]
        lines.append([entry, baseline, *both])
    head = "entry, baseline, shift, old, beyond 0.25, old, coverage, old, companion's"
    return _table(head.split(", "), lines)


def _in_any(rows: pd.DataFrame, worst: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Keep the rows of some scenarios."""
    kept = pd.MultiIndex.from_tuples(worst)
    return rows[pd.MultiIndex.from_frame(rows[["entry", "baseline"]]).isin(kept)]


def _against_old(rows: pd.DataFrame, column: str) -> tuple[float, float, float]:
    """RMSEs of default and old default, and their difference in paired Monte-Carlo errors."""
    squared = {
        "log HR": (rows["mean"] - np.log(rows["ratio"])) ** 2,
        "S unexposed": rows["unexposed"],
        "S exposed": rows["exposed"],
        "S both": (rows["unexposed"] + rows["exposed"]) / 2.0,
    }[column]
    cell = [*CELL, "replication"]
    pairs = rows.assign(squared=squared).pivot_table(values="squared", index=cell, columns="method")
    new, old = pairs["default"].dropna(), pairs["old default"].dropna()
    error = (new - old).std() / np.sqrt(len(pairs))
    return float(new.mean() ** 0.5), float(old.mean() ** 0.5), float((new - old).mean() / error)


def _errors(rows: pd.DataFrame, worst: Sequence[tuple[str, str]]) -> list[str]:
    """RMSEs of the default against the old default's, by size."""
    one = rows[rows["arm"] == ONE_PHASE]
    groups = [
        ("40, all", one[one["patients"] == 40]),
        ("86, all", one[one["patients"] == 86]),
        *(
            (f"{size}, the worst", _in_any(one[one["patients"] == size], worst))
            for size in (40, 86, 267, 2000)
        ),
    ]
    lines = []
    for label, part in groups:
        line = [label]
        for column in ("log HR", "S both", "S unexposed", "S exposed"):
            new, old, apart = _against_old(part, column)
            line.append(f"{new:.4f} / {old:.4f} ({new / old - 1.0:+.1%}, {apart:+.1f})")
        lines.append(line)
    return [
        "RMSE of the default / of the old default (relative difference; difference of the squares "
        "in paired Monte-Carlo errors), by size and scenarios; survival in the first quarter of "
        "each cell's data sets:",
        "",
        *_table(["patients", "log HR", "S both", "S unexposed", "S exposed"], lines),
        "What is weakly smoothed is more variable: where the hazard is constant, and in the "
        "survival of who starts, the old default's errors are smaller. Its steps at entry cost "
        "more than that in unexposed survival and in the hazard ratio.",
        "",
    ]


def _fits_words(compared: pd.DataFrame) -> list[str]:
    """Say how the engine stands to the sampler."""
    size = compared["number"].nunique()
    limit = 0.03 + 3.0 * compared["error"]
    outside = int((compared["difference"].abs() > limit).sum())
    return [
        "## The engine is the package's model",
        "",
        f"On {size} further data sets ({len(compared)} posteriors) from all entries, baselines, "
        "sizes and arms `bb.fit` made "
        f"{'the same cuts in all' if compared['same_cuts'].all() else 'OTHER CUTS in some'}. "
        "The engine's posterior mean less the sampler's is on average "
        f"{compared['difference'].mean():+.4f} posterior sds (at most 0.01 asked for; Monte-Carlo "
        f"error {np.sqrt((compared['error'] ** 2).sum()) / len(compared):.4f}), at most "
        f"{compared['difference'].abs().max():.3f} in one, and {outside} lie further apart than "
        "0.03 sds and three Monte-Carlo errors. The sds' ratio lies between "
        f"{compared['sd_ratio'].min():.3f} and {compared['sd_ratio'].max():.3f}. Mean survival "
        f"differs by at most {compared['survival'].max():.3f}.",
        "",
        "The package's companion, from 100,000 draws, lies on average "
        f"{-compared['companion'].mean():+.4f} sds from the study's, which stands on a grid, at "
        f"most {compared['companion'].abs().max():.4f}; ratios of sds are "
        f"{compared['companion_sd_ratio'].min():.4f} to "
        f"{compared['companion_sd_ratio'].max():.4f}.",
        "",
    ]


def _intro(rows: pd.DataFrame, worst: Sequence[tuple[str, str]], command: str, spent: str) -> str:
    sets = rows.drop_duplicates([*CELL, "replication"])
    counts = sets.groupby(["arm", "patients"])["replication"].max().add(1)
    main = counts[(ONE_PHASE, 86)]
    return "\n".join(
        [
            "# The baseline must not move the hazard ratio",
            "",
            "SIMULATED patients throughout; no number here is evidence about a treatment.",
            "",
            f"Made by `{command}` in {spent} with numpy {version('numpy')}, scipy "
            f"{version('scipy')}, numba {version('numba')}.",
            "",
            "The hazard ratio is the answer; the baseline hazard is a nuisance. Cox's partial "
            "likelihood has no baseline,",
            "so the posterior under it with the same prior of the hazard ratio, the *companion*, "
            "is what a model",
            "whose baseline does no harm must find. The *shift* is the default's posterior mean of "
            "the log hazard ratio",
            "less the companion's, in companion sds. The *old default* is the random walk with an "
            "estimated scale on",
            "cuts at event times that this package had before; its rules are frozen in the study. "
            "*Cox* has no prior,",
            "and Wald intervals; curves of companion and Cox stand on jumps at event times. "
            "*Success* is a probability of",
            "at least 0.975 that the hazard ratio is below 1 (Cox: one-sided).",
            "",
            "Patients enter the exposed phase **clustered** about month 3 (seven in ten), "
            "**uniform**ly over 15 months",
            "(eight in ten), **early** (95 %, about month 0.7), or come **late** under observation "
            "(seven in ten, about",
            "month 2, half of them already exposed). The hazard is constant, rises, falls, peaks "
            "early, steps up, steps",
            "down, is U-shaped or has a pulse, each placed relative to entry, at the level at "
            "which six in ten have an event;",
            "censoring is uniform over months 12 to 36. "
            f"All at 86 patients, hazard ratio 0.5 and 1, {main} data sets each, and at 40, "
            f"{counts[(ONE_PHASE, 40)]};",
            f"at 267 ({counts[(ONE_PHASE, 267)]}) and 2000 patients ({counts[(ONE_PHASE, 2000)]}), "
            f"and with two covariates (one rarer in who starts; {counts[(COVARIATES, 86)]}), "
            f"the {len(worst)} with the largest",
            "mean shift of the default: " + "; ".join(f"{a}, {b}" for a, b in worst) + ".",
            "Other arms: induction, consolidation and maintenance, at risk from entry (against "
            "consolidation, induction with",
            "an effect of its own) and from consolidation; overall and relapse-free survival, the "
            "latter entered at remission,",
            "where its hazard steps up; everybody under observation late while the hazard falls.",
            "",
            f"The default: steps of sd {engine.STEP_SD:.3f} between neighbouring intervals, level "
            "of the same sd about the crude rate,",
            "`bayesblina.core.intervals.default_cuts`. Seeds are fixed in "
            "`tests/studies/baseline_settings.py`.",
            "",
        ]
    )


def _seen(cells: pd.DataFrame) -> list[str]:
    """The answer in short."""
    words = []
    companion = cells[cells["method"] == "companion"].reset_index(drop=True)
    for method in ("default", "old default"):
        part = cells[cells["method"] == method].reset_index(drop=True)
        shift, where = _largest(part, part["shift"])
        beyond, there = _largest(part, part["beyond"])
        place = int(part["coverage"].to_numpy().argmin())
        words.append(
            f"mean shift at most {abs(shift):.2f} companion sds ({where}); at most {beyond:.1%} of "
            f"a cell's data sets beyond 0.25 ({there}); lowest coverage of a cell "
            f"{part['coverage'][place]:.1%}, the companion's there "
            f"{companion['coverage'][place]:.1%} ({_where(part.iloc[place])}, "
            f"{part['data_sets'][place]} data sets)"
        )
    return [
        f"**Seen**, in {len(companion)} cells. The default: {words[0]}. The old default: "
        f"{words[1]}. No baseline helps against confounding, or against event times that are "
        "those of visits: both fool companion and default alike, and neither is simulated here.",
        "",
    ]


def text(
    rows: pd.DataFrame,
    compared: pd.DataFrame,
    worst: Sequence[tuple[str, str]],
    many: Sequence[str],
    *,
    command: str,
    seconds: float,
) -> str:
    """Word the page."""
    cells = by_cell(rows)
    broken = breaches(rows)
    any_broken = broken[broken[["shift", "share beyond", "coverage", "width"]].any(axis=1)]
    names = "; ".join(_where(line) for _, line in any_broken.iterrows())
    default = rows[rows["method"] == "default"]
    told = (default["shift"].abs() > MARKED) & (default["difference"].abs() > 0.01)
    failed = (default["shift"].abs() > FAILED) & (default["difference"].abs() > 0.01)
    cox = cells[(cells["method"] == "Cox") & (cells["no_estimate"] > 0)]
    lines = [
        _intro(rows, worst, command, f"{seconds / 60:.0f} minutes"),
        *_seen(cells),
        "## Bounds",
        "",
        "A cell breaks a bound on a share only if the exact 99.9 % binomial interval of the share "
        "excludes it.",
        "",
        *_bounds(rows, cells),
        f"Cells that break a bound: {names}." if names else "No cell breaks a bound.",
        *(f"{entry}, {baseline}: {why}" for (entry, baseline), why in EXCEPTIONS.items()),
        f"The gate would tell in {told.mean():.2%} of these {len(default)} fits and fail "
        f"{failed.mean():.2%}.",
        "",
        "## Old and new",
        "",
        "Means over scenarios and both hazard ratios. Shifts of either sign cancel in a mean; the "
        "shares beyond 0.25 sds do not.",
        "",
        *_pooled(rows),
        *_errors(rows, worst),
        "Cox's estimate does not exist (no event on one side, or none that compares) in "
        f"{int(cox['no_estimate'].sum())} data sets, left out of its bias, RMSE and width.",
        "",
        "## Scenario by scenario, 86 patients",
        "",
        "Hazard ratio 0.5 / 1.",
        "",
        *_scenarios(cells),
        "All cells and methods, with bias, RMSE, width, success and RMSE of survival: "
        "{download}`baseline.csv`.",
        "",
        *many,
        *_fits_words(compared),
    ]
    return "\n".join(lines)
