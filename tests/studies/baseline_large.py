"""Many patients, entry about a step of the hazard: how many intervals the hazard ratio needs.

Maximum likelihood by cells against the maximum of the partial likelihood, on the same data: what
remains of the prior of the baseline is nothing, and the difference is that of the cuts alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesblina.core.intervals import default_cuts, number_of_intervals
from tests.studies import baseline_engine as engine
from tests.studies.baseline_methods import event_times, pooled_entries
from tests.studies.baseline_patients import one_phase
from tests.studies.baseline_settings import ONE_PHASE, Setting

SCENARIOS = (
    ("early", "step up"),
    ("early", "step down"),
    ("early", "pulse"),
    ("early", "rising"),
    ("early", "falling"),
    ("clustered", "step up"),
    ("clustered", "step down"),
    ("clustered", "pulse"),
    ("uniform", "falling"),
    ("late", "step up"),
    ("late", "pulse"),
)
SIZES = {2_000: 20, 20_000: 4, 200_000: 1}
PARTS = (10, 20, 40, 80)
DEFAULT, WITHOUT = "default", "default, no cuts at entry"


def biases(setting: Setting, replication: int) -> dict[str, float]:
    """Difference from the partial likelihood's estimate by rule, in its standard errors."""
    arm = one_phase(setting.entry, setting.baseline)
    data = arm.simulate(setting.patients, setting.log_ratio, setting.generator(replication))
    (one,) = data.endpoints.values()
    flat = np.zeros(1)
    columns = (one.observed_from, one.stop, one.event, one.start, one.pattern, arm.patterns)
    _, events, at_risk = engine.risk_sets(*columns)
    (best,), (error,) = engine.partial_estimate(events, at_risk, arm.design, flat)
    times, entries = event_times(data), pooled_entries(data)
    cuts = {
        f"{parts} parts": default_cuts(times, entry_times=entries, parts=parts) for parts in PARTS
    }
    cuts[DEFAULT] = default_cuts(times, entry_times=entries)
    cuts[WITHOUT] = default_cuts(times)
    found = {"events": float(times.size), "standard error": float(error)}
    found["parts"] = float(number_of_intervals(times.size))
    found["intervals"] = float(cuts[DEFAULT].size + 1)
    for rule, inner in cuts.items():
        by_interval, time = engine.tabulate(*columns, inner)
        # Given the log hazard ratio the hazards profile out: the same algebra as risk sets.
        used = by_interval.sum(axis=1) > 0
        (estimate,), _ = engine.partial_estimate(by_interval[used], time[used], arm.design, flat)
        found[rule] = float((estimate - best) / error)
    return found


def run(sizes: dict[int, int] | None = None) -> pd.DataFrame:
    """Mean bias by size and scenario."""
    rows = []
    for patients, replications in (SIZES if sizes is None else sizes).items():
        for entry, baseline in SCENARIOS:
            setting = Setting(ONE_PHASE, entry, baseline, patients, 0.5, replications)
            found = pd.DataFrame([biases(setting, number) for number in range(replications)])
            rows.append(
                {"patients": patients, "entry": entry, "baseline": baseline, **found.mean()}
            )
    return pd.DataFrame(rows)


def words(rows: pd.DataFrame) -> list[str]:
    """Lines of the page."""
    head = [
        "patients",
        "entry, baseline",
        "events",
        "default: parts",
        "intervals",
        "standard error",
    ]
    rules = [*(f"{parts} parts" for parts in PARTS), DEFAULT, WITHOUT]
    lines = [
        f"| {' | '.join([*head, *rules])} |",
        f"|{'---|' * (len(head) + len(rules))}",
    ]
    for _, row in rows.iterrows():
        said = [
            f"{row['patients']:,}",
            f"{row['entry']}, {row['baseline']}",
            f"{row['events']:,.0f}",
        ]
        said += [f"{row['parts']:.0f}", f"{row['intervals']:.0f}", f"{row['standard error']:.4f}"]
        lines.append(f"| {' | '.join([*said, *(f'{row[rule]:+.2f}' for rule in rules)])} |")
    worst = rows.loc[rows[DEFAULT].abs().idxmax()]
    return [
        "## Many patients",
        "",
        "Hazard ratio 0.5; means over "
        + ", ".join(f"{count} sets of {size:,} patients" for size, count in SIZES.items())
        + ". The estimate by maximum likelihood on the cells less that by partial likelihood, in "
        "standard errors: what the cuts alone do. Parts are those into which the events are "
        "shared; cuts where patients enter come with them.",
        "",
        *lines,
        "",
        f"The default's largest bias is {worst[DEFAULT]:+.2f} standard errors "
        f"({worst['entry']}, {worst['baseline']}, {worst['patients']:,} patients; "
        f"{worst[DEFAULT] * worst['standard error']:+.4f} in the log hazard ratio).",
        "",
    ]
