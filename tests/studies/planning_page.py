"""The page of the study of planning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tests.studies.planning_parts import (
    BASELINES,
    DEMO,
    FITS,
    POWER,
    PRIOR_SD,
    SIZES_MANY,
    SIZES_REPLICATIONS,
    SUCCESS,
    TIMED,
    TYPE_ONE,
    TYPE_ONE_SEED,
    integrated_size,
)


def introduction() -> str:
    """What was simulated."""
    described = "; ".join(
        f"**{name}**: {' then '.join(map(str, hazards))} a month, cut at month "
        f"{' and '.join(f'{cut:g}' for cut in cuts)}"
        for name, (hazards, cuts) in BASELINES.items()
    )
    counts = ", ".join(f"{count} of {patients} patients" for patients, count in TYPE_ONE.items())
    paragraphs = (
        "# Planning",
        "SIMULATED patients throughout.",
        "Made by `uv run python tests/studies/planning.py`.",
        "A design is simulated and analysed many times. The default analysis is the *companion*: "
        "the posterior of the log hazard ratio by Breslow's partial likelihood and the prior of "
        f"the primary model (normal, sd {PRIOR_SD:.4f}), which has no baseline, so that none can "
        "be wrong. It stands in for a fit of the model. Success is P(HR < 1) of at least "
        f"{SUCCESS}. Every ± is one Monte-Carlo standard error.",
        "Cohorts in which there is no event, or nobody is in the phase or out of it, are no "
        "success, and are left out of bias and coverage; `analysed` counts the others.",
        "## Effects that are not there",
        f"Hazard ratio 1. Patients enter the phase at {DEMO.start_hazards[1]:g} a month from month "
        f"{DEMO.start_cuts[0]:g} on, while the baseline hazard changes: {described}. Accrual "
        f"{DEMO.accrual:g} months, {DEMO.follow_up:g} more of follow-up, dropout {DEMO.dropout:g} "
        f"a month; {counts}; seed {TYPE_ONE_SEED}. Beside it, what a normal posterior with a "
        "baseline free in eight intervals finds, which was the analysis before.",
    )
    return "\n\n".join(paragraphs) + "\n"


def page(parts: dict[str, pd.DataFrame]) -> str:
    """The page of the results."""
    table = parts["type_one"]
    lines = [introduction()]
    lines += [
        "| baseline | patients | success | coverage | bias | eight intervals: success | coverage |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        lines.append(
            f"| {row['baseline']} | {row['patients']} | {_percent(row, 'success')} "
            f"| {_percent(row, 'coverage')} | {row['bias']:+.4f} ± {row['bias_mcse']:.4f} "
            f"| {row['old_success']:.1%} | {row['old_coverage']:.1%} |"
        )
    over = table[table["success"] > 0.025 + 2.0 * table["success_mcse"]]
    lines += [
        "",
        f"**Seen**: {len(over)} of {len(table)} designs have more than 2.5 % successes and two "
        f"errors; the most is {table['success'].max():.2%}, of eight intervals "
        f"{table['old_success'].max():.1%}. Coverage is {table['coverage'].min():.1%} to "
        f"{table['coverage'].max():.1%}, of eight intervals at worst "
        f"{table['old_coverage'].min():.1%}. With few patients the prior, which is centred at 1, "
        "makes successes rarer than 2.5 %.",
        "",
    ]
    lines += _power_lines(pd.concat([parts[name] for name in POWER]))
    lines += _size_lines(parts["sizes"], parts["schoenfeld"])
    timed = parts["seconds"]
    lines += [
        "## Seconds",
        "",
        f"{TIMED} cohorts, one thread; ratios hold elsewhere, too.",
        "",
        "| patients | simulation | eight intervals | companion | whole, after / before |",
        "|---|---|---|---|---|",
    ]
    for row in timed.to_dict("records"):
        before = row["simulation"] + row["eight intervals"]
        after = row["simulation"] + row["companion"]
        lines.append(
            f"| {row['patients']} | {row['simulation']:.2f} | {row['eight intervals']:.2f} "
            f"| {row['companion']:.2f} | {after / before:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _percent(row: Mapping[Any, Any], name: str) -> str:
    return f"{row[name]:.2%} ± {row[f'{name}_mcse']:.2%}"


def _power_lines(rows: pd.DataFrame) -> list[str]:
    lines = [
        "## Power by three ways",
        "",
        f"The design of the tutorial: {DEMO.patients} patients. In the *own loop* patients are "
        "drawn one by one by code of its own, and every cohort is analysed three times: on a "
        "*grid* by the partial likelihood, risk set by risk set, and the prior; by *Cox and "
        "prior*, estimate and standard error of `bayesblina.cox` and the normal posterior that "
        "they make with the prior; and by *Cox alone*, whose success is an upper Wald bound below "
        f"1. {FITS} cohorts are the same for companion, model and Cox.",
        "",
        "| hazard ratio | way | seed | cohorts | success | bias | coverage | width | converged |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.to_dict("records"):
        covered, width = (
            "" if math.isnan(row[name]) else text.format(row[name])
            for name, text in (("coverage", "{:.1%}"), ("width", "{:.2f}"))
        )
        fitted = f"{row['converged']:.2%}" if row["way"].startswith("model") else ""
        lines.append(
            f"| {row['hazard_ratio']:g} | {row['way']} | {row['seed']} | {row['replications']:.0f} "
            f"| {_percent(row, 'success')} | {row['bias']:+.3f} ± {row['bias_mcse']:.3f} "
            f"| {covered} | {width} | {fitted} |"
        )
    known: dict[tuple[float, str], Mapping[Any, Any]] = {
        (row["hazard_ratio"], row["way"]): row for row in rows.to_dict("records")
    }
    short = known[0.5, "model, 500 draws after 500"]
    told = []
    for ratio in (0.5, 1.0):
        many = known[ratio, "companion"]
        own = known[ratio, "own loop, grid"]
        error = math.hypot(many["success_mcse"], own["success_mcse"])
        told.append(
            f"at hazard ratio {ratio:g} the own loop differs from the companion by "
            f"{own['success'] - many['success']:+.2%} (error {error:.2%})"
        )
    fits = known[0.5, "model, the same cohorts"]
    paired = fits["success"] - known[0.5, "companion, the same cohorts"]["success"]
    told.append(
        f"at 0.5 the model from the companion of the same cohorts by {paired:+.2%} (the error of "
        f"either alone is {fits['success_mcse']:.2%})"
    )
    lines += [
        "",
        f"**Seen**: {'; '.join(told)}. Cox takes the likelihood for normal, "
        "and with so few events it is not: the standard error is that at the estimate, where fewer "
        f"events are expected in the phase than nearer to 1. So Cox and prior has "
        f"{_gain(known, 'Cox and prior', '')} power than the companion with the prior, and Cox "
        f"alone {_gain(known, 'Cox alone', ', flat prior')} than the companion with a flat one; at "
        "hazard ratio 1 that hardly shows.",
        "",
        f"With 500 draws after 500, the default before, R-hat is above "
        f"1.01 by chance in the fits that are not converged, of {short['replications']:.0f}.",
        "",
    ]
    return lines


def _gain(known: Mapping[tuple[float, str], Mapping[Any, Any]], way: str, prior: str) -> str:
    """Say by how much the power of Cox's approximation lies below the companion's."""
    less = known[0.5, f"companion{prior}"]["success"] - known[0.5, f"own loop, {way}"]["success"]
    return f"{100 * less:.1f} points less" if less >= 0 else f"{-100 * less:.1f} points more"


def _size_lines(sizes_: pd.DataFrame, formula: pd.DataFrame) -> list[str]:
    exact = sizes_[sizes_["replications"] == SIZES_MANY].iloc[0]
    some = sizes_[sizes_["replications"] == SIZES_REPLICATIONS]
    held = ((some["lower"] <= exact["patients"]) & (exact["patients"] <= some["upper"])).sum()
    return [
        "## Sample sizes and their range",
        "",
        f"The tutorial's design at 80 % power, {SIZES_REPLICATIONS} cohorts of each size tried; "
        f"the last line {SIZES_MANY}.",
        "",
        "| seed | patients | 95 % Monte-Carlo range |",
        "|---|---|---|",
        *(
            f"| {row['seed']} | {row['patients']} | {row['lower']} to {row['upper']} |"
            for row in sizes_.to_dict("records")
        ),
        "",
        f"**Seen**: {held} of {len(some)} ranges hold the {exact['patients']:.0f} of the last "
        "line.",
        "",
        "Against Schoenfeld's formula (1983, doi:10.2307/2531021): half of the patients are "
        "exposed from the first moment on, hazard 0.03 a month, 24 months of follow-up, a flat "
        "prior.",
        "",
        "| hazard ratio | formula | with shares at risk as they change | patients "
        "| 95 % Monte-Carlo range |",
        "|---|---|---|---|---|",
        *(
            f"| {row['hazard_ratio']:g} | {row['formula']:.1f} "
            f"| {integrated_size(row['hazard_ratio']):.1f} | {row['patients']:.0f} "
            f"| {row['lower']:.0f} to {row['upper']:.0f} |"
            for row in formula.to_dict("records")
        ),
        "",
        "In the formula shares at risk stay at one half, which is right for small effects.",
        "",
    ]
