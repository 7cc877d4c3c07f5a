"""What few patients or events would tell is not in the report."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.core.masking import MASK, Masked
from bayesblina.core.masking.tables import mask_safety, read_observed
from bayesblina.core.tables.table import read_csv
from bayesblina.output.report.folder import write_report
from bayesblina.output.report.hiding import account, joined_events
from bayesblina.output.report.page import render, safety
from bayesblina.output.report.results import read_results


@pytest.mark.parametrize("minimum", [20, 60])
def test_no_small_count_is_in_the_report(demo: tuple[Path, Any], minimum: int) -> None:
    results = read_results(demo[0])
    text = render(results, minimum_count=minimum)
    flow = re.search(r'<section id="flow".*?</section>', text, flags=re.DOTALL)
    safety = re.search(r'<section id="safety".*?</section>', text, flags=re.DOTALL)
    assert flow is not None
    assert safety is not None
    cells = re.findall(r'<td class="n">([\d,]+)</td>', flow.group(0))
    cells += re.findall(r"<b>([\d,]+)</b>", flow.group(0))
    cells += re.findall(r"(\d+) events", flow.group(0))
    counts = [int(cell.replace(",", "")) for cell in cells]
    # Person-time is no count; the shortest here is 365 months.
    assert all(count >= minimum for count in counts), sorted(counts)
    assert MASK in flow.group(0)
    whole = [int(one) for one in re.findall(r'<td class="n">(\d+)</td>', safety.group(0))]
    assert all(count >= minimum for count in whole)
    at_risk = [
        match
        for drawing in re.findall(r'<svg[^>]*class="chart survival".*?</svg>', text, re.DOTALL)
        for match in re.findall(r'<text [^>]*text-anchor="middle"[^>]*>(\d+)</text>', drawing)
    ]
    # With 60 no curve is left.
    assert (len(at_risk) > 30) == (minimum < 60)
    ticks = {f"{one:g}" for one in read_csv(demo[0] / "at_risk.csv")["time"].unique()}
    # 0 tells of nobody, and is shown.
    assert all(one in ticks or int(one) == 0 or int(one) >= minimum for one in at_risk)


def test_curves_whose_steps_would_tell_hidden_events_are_not_drawn(demo: tuple[Path, Any]) -> None:
    """3 events of OS in a further phase hide those of another phase, and of RFS none."""
    results = read_results(demo[0])
    # As if those who began consolidation after a relapse had begun it before: what is hidden of
    # so few would hide more.
    patients = results.tables["patient_flow"]
    late = ("after the end of follow-up", "follow-up ended by the start of eligibility")
    kept = patients[~patients["what"].isin(late)].copy()
    eligible = kept.loc[kept["step"] == "eligible", "patients"]
    kept["patients"] = kept["patients"].replace(eligible.min(), eligible.max())
    reference = (kept["endpoint"] == "os") & (kept["what"] == "reference")
    kept.loc[reference, "events"] -= 3
    further = kept[reference].assign(phase="further", patients=20, events=3, person_time=90.0)
    tables = {**results.tables, "patient_flow": pd.concat([kept, further], ignore_index=True)}
    results = replace(results, tables=tables)
    flow = account(tables["patient_flow"], exposed="maintenance", minimum=5)
    assert flow.masking.few == frozenset()
    assert "os" in flow.masking.closed
    assert "rfs" not in flow.masking.closed
    text = render(results, minimum_count=5)
    for found in re.findall(r"<figure data-curves.*?</figure>", text, re.DOTALL):
        hidden = 'data-endpoint="0"' in found
        if not hidden and 'data-landmark="0"' not in found:
            # After later landmarks there are few events anyway.
            continue
        assert (">maintenance (observed)</title>" in found) != hidden
        assert ("dotted: observed" in found) != hidden
        assert ("Observed curves are masked" in found) == hidden
    checks = re.findall(r'<figure id="replicated-\d">.*?</figure>', text, re.DOTALL)
    assert ["Observed curves are masked" in one for one in checks] == [True, False]
    whole = render(results, minimum_count=1)
    assert "Observed curves are masked" not in whole


def test_safety_hides_what_gives_a_count_away(demo: tuple[Path, Any]) -> None:
    results = read_results(demo[0])
    table = results.tables["safety"].iloc[[0, 1, 2, 0, 0, 1]].reset_index(drop=True)
    table["patients"] = [80, 60, 36, 3, 33, 70]
    table["with_event"] = [70, 57, 4, 2, 20, 40]
    table["events"] = [90, 99, 8, 2, 50, 42]
    # Another table hides 33 with a small count.
    masked = Masked(minimum=5, hidden=frozenset({"x"}), values=frozenset({33}))
    shown = mask_safety(table, masked)
    rows = safety(replace(results, tables={**results.tables, "safety": shown}))
    assert [row["patients"] for row in rows] == ["80", "60", "36", MASK, MASK, "70"]
    # 60 - 57 and 4 are few; estimates would tell them. So are those who had the two events of
    # 42 beyond one for each of 40.
    assert [row["with_event"] for row in rows] == ["70", MASK, MASK, MASK, MASK, "40"]
    assert [row["share"] is None for row in rows] == [False, True, True, True, True, False]
    assert [row["events"] for row in rows] == ["90", MASK, MASK, MASK, MASK, MASK]
    assert [row["rate"] is None for row in rows] == [False, True, True, True, True, True]


def test_observed_curves_end_with_their_patients(demo: tuple[Path, Any]) -> None:
    results = read_results(demo[0])
    table = results.tables["simon_makuch"]
    times = np.linspace(8.0, 34.0, 53)
    for minimum in (1, 5, 15):
        for group in ("maintenance", "no maintenance"):
            rows = table[
                (table["endpoint"] == "os") & (table["landmark"] == 8.0) & (table["group"] == group)
            ]
            at, values = read_observed(rows, times, minimum=minimum)
            # 15 at risk, and 15 events: few curves have them.
            assert (len(at) > 1) == (minimum < 15)
            assert set(at) <= set(times)
            for time in at:
                assert rows.loc[rows["time"] <= time, "at_risk"].min() >= minimum
            if minimum == 1:
                for time, value in zip(at, values, strict=True):
                    before = rows[rows["time"] <= time]
                    # No finer: a jump is one over the number at risk.
                    assert value == round(before["survival"].iloc[-1], 2)


def test_intervals_are_joined_until_they_hold_enough(demo: tuple[Path, Any]) -> None:
    fit = bb.load(demo[0] / "fit.nc")
    events = bb.checks.replicated_events(fit, seed=1).sel(endpoint="os")
    whole = joined_events(events, minimum=0)
    table = read_results(demo[0]).tables["predictive"]
    table = table[table["endpoint"] == "os"]
    np.testing.assert_array_equal(whole["observed"], table["observed"])
    np.testing.assert_allclose(whole["expected"], table["expected"])
    joined = joined_events(events, minimum=5)
    assert joined["observed"].min() >= 5
    assert joined["observed"].sum() == table["observed"].sum()
    assert joined["expected"].sum() == pytest.approx(table["expected"].sum())
    assert math.isinf(joined["interval_stop"].iloc[-1])
    np.testing.assert_array_equal(joined["interval_start"][1:], joined["interval_stop"][:-1])


@pytest.mark.parametrize("minimum", [0, -1, 2.5, True, "5"])
def test_a_minimum_is_a_whole_number(demo: tuple[Path, Any], minimum: Any) -> None:
    with pytest.raises(SpecError, match="whole number from 1 on"):
        write_report(demo[0], minimum_count=minimum)
