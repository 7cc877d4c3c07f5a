"""Hazard ratios that the baseline moves, or whose events are found at visits, are marked.

The fit of the synthetic study is taken as it is, but for the log hazard ratio of OS, which is moved
by 1: far from its companion's.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.classical.ladder import rungs
from bayesblina.core.tables.numbers import BAYESIAN, COMPANION, beside, failed, failed_in
from bayesblina.core.tables.table import read_csv
from bayesblina.inference.baseline_gate import gate_of
from bayesblina.inference.convergence import SamplerSettings, sampler_settings
from bayesblina.inference.fitting import Fit
from bayesblina.output.report.page import render
from bayesblina.output.report.results import read_results
from bayesblina.output.report.wording import compared, plain, pulled, sentence, weak_points
from bayesblina.person_time.event_times import EventTimes
from bayesblina.studies.what_if.reading import Sensitivity
from bayesblina.studies.what_if.running import run_scenario

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
MOVES = "THE BASELINE MOVES THE HAZARD RATIO"
SHORT = "BASELINE MOVES IT"
VISITS = "EVENT TIMES ARE THOSE OF VISITS"


def moved(fit: Fit, by: float = 1.0) -> Fit:
    """Move the log hazard ratio of OS, and judge anew."""
    shift = xr.DataArray([by, 0.0], coords={"endpoint": ["os", "rfs"]})
    posterior = fit.posterior
    logs = (posterior["log_hazard_ratio"] + shift).transpose(*posterior["log_hazard_ratio"].dims)
    tree = fit.draws.copy()
    tree["posterior"] = xr.DataTree(posterior.assign(log_hazard_ratio=logs))
    companion = fit.companion
    own = logs.to_dataset(name="log_hazard_ratio")
    gate = gate_of(own, companion.draws, stated=companion.table)
    return dataclasses.replace(fit, draws=tree, gate=gate)


def at_visits(fit: Fit) -> Fit:
    """Say of OS that its events are found at visits every three months."""
    assert fit.event_times is not None
    columns = {
        "unit": "3 months",
        "share_at_multiples": 1.0,
        "share_beyond_chance": 1.0,
        "starters_share": 0.3,
        "index": 0.8,
        "state": "failed",
    }
    table = fit.event_times.table.copy()
    for column, value in columns.items():
        table[column] = [value, table[column].iloc[1]]
    found = EventTimes(table=table, notes=fit.event_times.notes)
    return dataclasses.replace(fit, event_times=found)


@pytest.fixture(scope="module")
def wrong(synthetic_fit: Fit) -> Fit:
    return moved(synthetic_fit)


@pytest.fixture(scope="module")
def coarse(synthetic_fit: Fit) -> Fit:
    return at_visits(synthetic_fit)


def test_marks_of_a_row() -> None:
    assert failed({"converged": True, "baseline": "told", "event_times": "passed"}) == ()
    assert failed({"converged": False, "baseline": "failed"}) == ("converged", "baseline")
    assert failed({"baseline": np.nan, "event_times": None}) == ()
    table = pd.DataFrame({"baseline": ["passed", "failed"]})
    assert failed_in(table) == ("baseline",)
    # What stands beside each number outdoes what is said of all.
    table = pd.DataFrame({"baseline": ["passed"]})
    table.attrs["baseline"] = "failed"
    assert failed_in(table) == ()
    assert beside({"event_times": "failed"}) == "EVENT TIMES OF VISITS"


def test_a_fit_says_so(synthetic_fit: Fit, wrong: Fit, coarse: Fit) -> None:
    assert MOVES not in repr(synthetic_fit) + synthetic_fit._repr_html_()
    assert synthetic_fit.failed == ()
    assert wrong.failed == ("baseline",)
    # Two gates, two marks: the draws are as good as they were.
    assert wrong.converged
    assert "; converged; " in repr(wrong)
    assert MOVES in repr(wrong)
    assert MOVES in wrong._repr_html_()
    assert coarse.failed == ("event_times",)
    assert VISITS in repr(coarse)
    assert "declare them" in coarse._repr_html_()
    told = moved(synthetic_fit, 0.15)
    assert told.gate.state == "told"
    assert "baseline told" in repr(told)


def test_checks_do_not_pass(synthetic_fit: Fit, wrong: Fit, coarse: Fit) -> None:
    whole = bb.check(synthetic_fit)
    assert whole.passed
    # No hazard ratio hangs on leave-one-out prediction.
    assert dataclasses.replace(whole, loo=whole.loo.assign(reliable=False)).passed
    for one, words in ((wrong, MOVES), (coarse, "visits")):
        checks = dataclasses.replace(whole, gate=one.gate, event_times=one.event_times)
        assert checks.convergence.passed
        assert not checks.passed
        assert words in repr(checks)
        assert words in checks._repr_html_()


def test_summaries_and_tables(wrong: Fit, coarse: Fit) -> None:
    ratios = bb.hazard_ratio(wrong)
    table = bb.summary(ratios)
    assert table["baseline"].tolist() == ["failed", "passed"]
    assert table["event_times"].tolist() == ["passed", "passed"]
    assert table["converged"].all()
    printed = bb.tables.estimates(table, kind="ratio", quantity="HR")
    cells = {row[0]: row for row in printed.rows}
    assert SHORT in cells["os"][1]
    assert SHORT not in cells["rfs"][1]
    assert f"{MOVES}: do not use these numbers." in printed.notes
    # One endpoint by itself: its own mark, or none.
    for name, state in (("os", "failed"), ("rfs", "passed")):
        assert bb.summary(ratios.sel(endpoint=name))["baseline"].tolist() == [state]
    other = bb.summary(bb.hazard_ratio(coarse))
    assert other["event_times"].tolist() == ["failed", "passed"]
    printed = bb.tables.estimates(other, kind="ratio")
    assert any(note.startswith(VISITS) for note in printed.notes)
    assert "EVENT TIMES OF VISITS" in printed.rows[0][1]
    # Curves rest on the same fit.
    curves = bb.survival(wrong, regimes=[bb.Never()], times=[8.0, 12.0], landmark=8.0)
    notes = bb.tables.estimates(bb.summary(curves), kind="probability").notes
    assert any(note.startswith(MOVES) for note in notes)


def test_companion_beside_the_answer(synthetic_fit: Fit) -> None:
    """The columns are the quantiles of the companion's draws."""
    table = bb.summary(bb.hazard_ratio(synthetic_fit)).set_index("endpoint")
    assert synthetic_fit.companion.draws is not None
    draws = np.exp(synthetic_fit.companion.draws["log_hazard_ratio"].values[0, :, :, 0])
    for index, name in enumerate(("os", "rfs")):
        expected = np.quantile(draws[:, index], [0.5, 0.025, 0.975])
        row = table.to_dict("index")[name]
        found = [row[f"companion_{one}"] for one in ("median", "lower", "upper")]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        below = row["companion_probability_below_1"]
        assert below == pytest.approx((draws[:, index] < 1).mean(), abs=1e-12)
        gate = synthetic_fit.gate.table.set_index("endpoint").loc[name]
        assert row["baseline_shift"] == pytest.approx(gate["shift"], rel=1e-9)


def test_ratios_of_covariates_have_companions_too(synthetic_fit: Fit) -> None:
    older = bb.hazard_ratio(
        synthetic_fit, exposed={"age_group": "55+"}, reference={"age_group": "18-34"}
    )
    assert synthetic_fit.companion.draws is not None
    coefficient = synthetic_fit.companion.draws["coefficient"].sel(term="age_group[55+]")
    expected = np.exp(coefficient.median(("chain", "draw")))
    np.testing.assert_allclose(older["companion_median"], expected, rtol=1e-12)
    over = bb.hazard_ratio(synthetic_fit, over="interval")
    assert over["baseline"].dims == ("endpoint", "interval")
    assert set(over["baseline"].values.ravel()) == {"passed"}
    shown = bb.summary(over)
    assert len(shown) == over.sizes["endpoint"] * over.sizes["interval"]
    assert set(shown["event_times"]) == {"passed"}


def test_figures_say_so(wrong: Fit, coarse: Fit) -> None:
    for one, words in ((wrong, MOVES), (coarse, VISITS)):
        ratios = bb.hazard_ratio(one)
        for figure in (bb.plots.hazard_ratio(ratios), bb.plots.forest(bb.summary(ratios))):
            assert figure._suptitle is not None  # type: ignore[attr-defined]
            assert words in figure._suptitle.get_text().replace("\n", " ")  # type: ignore[attr-defined]
    drawn = bb.plots.forest(bb.summary(bb.hazard_ratio(wrong)))
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert [SHORT in text for text in texts] == [True, False]


def test_the_density_shows_both_answers(synthetic_fit: Fit) -> None:
    figure = bb.plots.hazard_ratio(bb.hazard_ratio(synthetic_fit), endpoint="os")
    assert "without a baseline" in {line.get_label() for line in figure.axes[0].lines}


def test_ladder(synthetic_fit: Fit, wrong: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    ladder = bb.classical.bias_ladder(cohort, QUESTION, fit=wrong)
    own = ladder[ladder["method"] == BAYESIAN].set_index("endpoint")
    assert own["note"].to_dict() == {"os": SHORT, "rfs": "posterior median"}
    rung = ladder[ladder["method"] == COMPANION].set_index("endpoint")
    table = bb.summary(bb.hazard_ratio(synthetic_fit)).set_index("endpoint")
    np.testing.assert_allclose(rung["estimate"], table["companion_median"], rtol=1e-12)
    np.testing.assert_allclose(rung["upper"], table["companion_upper"], rtol=1e-12)
    assert list(ladder.loc[ladder["endpoint"] == "os", "method"])[-2:] == [COMPANION, BAYESIAN]
    assert any(note.startswith(MOVES) for note in bb.tables.bias_ladder(ladder).notes)
    figure = bb.plots.bias_ladder(ladder)
    assert MOVES in figure._suptitle.get_text().replace("\n", " ")  # type: ignore[attr-defined]
    # Without a companion there is one rung less.
    row = {"endpoint": "os", "median": 0.5, "lower": 0.2, "upper": 1.2, "converged": False}
    counts = {"patients": 9, "events": 3, "events_exposed": 1, "events_reference": 2}
    found = rungs(row, beside=counts, adjusted=True)
    assert [one["note"] for one in found] == ["NOT CONVERGED"]


def test_what_the_gate_tells_stands_in_the_sentence(synthetic_fit: Fit) -> None:
    row = bb.summary(bb.hazard_ratio(synthetic_fit)).to_dict("records")[0]
    curves = dataclasses.replace(synthetic_fit, definition=bb.load_model("smooth"))
    passed, told = "The baseline does not move", "The baseline moves the hazard ratio a little."
    # Of a model of curves it always tells.
    assert passed not in sentence(row | {"baseline": "passed"}, synthetic_fit)
    assert sentence(row | {"baseline": "passed"}, curves).endswith(f"{passed} the hazard ratio.")
    for fit in (synthetic_fit, curves):
        assert sentence(row | {"baseline": "told"}, fit).endswith(told)
        assert told not in sentence(row | {"baseline": "failed"}, fit)
    gate = gate_of(synthetic_fit.posterior, None, reason="not compared: nothing to compare with")
    none = dataclasses.replace(synthetic_fit.companion, draws=None, reason="not compared: no words")
    without = dataclasses.replace(curves, gate=gate, companion=none)
    assert sentence(row | {"baseline": "not compared"}, without).endswith(
        "Not compared with a model without a baseline: no words."
    )
    assert "; converged, baseline not compared, " in repr(without)


def test_sentences(synthetic_fit: Fit, wrong: Fit) -> None:
    rows = bb.summary(bb.hazard_ratio(wrong)).to_dict("records")
    assert f"{MOVES}: do not use these numbers." in sentence(rows[0], wrong)
    assert MOVES not in sentence(rows[1], wrong)
    said = plain(compared(rows[0], wrong))
    assert MOVES in said
    row = bb.summary(bb.hazard_ratio(synthetic_fit)).to_dict("records")[0]
    row |= {"companion_median": 0.512, "companion_lower": 0.241, "companion_upper": 1.079}
    row |= {"median": 0.508, "companion_probability_below_1": 0.96, "lower": 0.25, "upper": 1.09}
    assert plain(compared(row, synthetic_fit)) == (
        "With a baseline hazard the hazard ratio is 0.51; without one, by Cox's partial likelihood "
        "with the same priors and covariates, it is 0.51 (0.24 to 1.08; probability below 1: "
        "0.960): the baseline does not move the hazard ratio."
    )
    row |= {"without_prior_median": 0.42, "without_covariate_priors_median": np.nan}
    row |= {"baseline_pull": -0.008}
    assert plain(pulled(row)) == (
        "What pulls it: the prior of the hazard ratio from 0.42 to 0.51; the baseline from 0.51 to "
        "0.51."
    )


@pytest.fixture(scope="module")
def folder(wrong: Fit, coarse: Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a fit that failed both gates, as run writes them."""
    both = dataclasses.replace(wrong, event_times=coarse.event_times)
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    out = tmp_path_factory.mktemp("marked")
    analysis = bb.analyse(
        cohort,
        QUESTION,
        fit=both,
        landmark=8.0,
        landmarks=[12.0],
        starts=[8.0],
        minimum_count=1,
    )
    return analysis.write(out, report=False)


def test_tables_of_results(folder: Path) -> None:
    ratios = read_csv(folder / "hazard_ratios.csv", texts=["endpoint"])
    assert ratios["baseline"].tolist() == ["failed", "passed"]
    assert ratios["event_times"].tolist() == ["failed", "passed"]
    assert ratios["converged"].all()
    gates = read_csv(folder / "diagnostics.csv", texts=["kind", "name", "limit"])
    rows = gates[gates["kind"] == "baseline"]
    assert rows["name"].tolist() == ["os, maintenance", "rfs, maintenance"]
    assert rows["passed"].astype(str).tolist() == ["False", "True"]
    rows = gates[gates["kind"] == "event times"]
    assert rows["passed"].astype(str).tolist() == ["False", "True"]
    ladder = read_csv(folder / "bias_ladder.csv", texts=["endpoint", "method", "note"])
    own = ladder[ladder["method"] == BAYESIAN]
    assert own["note"].tolist() == [f"{SHORT}, EVENT TIMES OF VISITS", "posterior median"]
    assert (ladder["method"] == COMPANION).sum() == 2
    scaled = read_csv(folder / "prior_sensitivity.csv", texts=["endpoint"])
    assert set(scaled.loc[scaled["endpoint"] == "os", "baseline"]) == {"failed"}


def test_summary_in_words(folder: Path) -> None:
    text = (folder / "summary.md").read_text()
    assert text.index(MOVES) < text.index("## Answer")
    assert text.index(VISITS) < text.index("## Answer")
    answer = text[text.index("## Answer") : text.index("## Prior")]
    assert "Without" not in answer
    assert "without one, by Cox's partial likelihood" in answer
    assert "What pulls it" in answer
    assert "What weakens it" in answer
    assert "cannot be seen in the times" in text


def test_event_times_that_are_told_weaken_the_answer(synthetic_fit: Fit, coarse: Fit) -> None:
    words = weak_points(coarse)
    assert words[:-1] == weak_points(synthetic_fit)
    assert "event times are those of visits: declare them. 100 % of the events" in words[-1]
    hidden = weak_points(coarse, coarse=True)[-1]
    assert "multiples of 3 months" in hidden
    assert "in posterior standard deviations, 0.8" in hidden
    assert "%" not in hidden


def test_report(folder: Path) -> None:
    results = read_results(folder)
    text = render(results, minimum_count=1)
    assert text.index(MOVES) < text.index("<nav")
    assert text.index(VISITS) < text.index("<nav")
    assert f"<title>{MOVES}: {VISITS}: " in text
    cards = text[text.index('<section id="answer"') : text.index('<section id="estimand"')]
    first, second = cards.split('<div class="card">')[1:]
    assert SHORT in first
    assert "without a baseline" in first
    # Its own number is not moved.
    assert SHORT not in second.split("What weakens it")[0]
    assert MOVES not in second.split("What weakens it")[0]
    assert f"{MOVES}: do not use this number." in first
    assert "nothing can be read off it" in first
    assert "nothing can be read off it" not in second
    rows = text[text.index('<section id="ratios"') : text.index('<section id="ladder"')]
    assert '<td class="fail">failed</td>' in rows
    section = text[text.index('<section id="baseline"') : text.index('<section id="prior"')]
    assert '<td class="fail">FAIL</td>' in section
    assert "3 months" in section


def test_hidden_counts_stay_hidden(folder: Path) -> None:
    """Where counts are hidden, nothing new is finer than the hazard ratio, nor a share of few."""
    results = read_results(folder)
    text = render(results, minimum_count=5)
    section = text[text.index('<section id="baseline"') : text.index('<section id="prior"')]
    assert "30 %" not in text[text.index("<body>") : text.index('<section id="estimand"')]
    assert "30 %" not in section
    assert "30 %" in render(results, minimum_count=1)
    cells = [cell.split("<")[0] for cell in section.split('<td class="n">')[1:]]
    assert cells
    assert all(len(cell.partition(".")[2]) <= 2 for cell in cells)
    assert all(len(cell.partition(".")[2]) <= 1 for cell in cells if cell[0] in "+-")


def called(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, [str(one) for one in arguments])


def test_report_exits_as_for_a_fit_that_did_not_converge(folder: Path, tmp_path: Path) -> None:
    result = called("report", folder, "--out", tmp_path / "r.html")
    assert result.exit_code == cli.MARKED == 1
    assert MOVES in result.stderr
    assert VISITS in result.stderr
    assert (tmp_path / "r.html").is_file()
    told = json.loads(called("report", folder, "--out", tmp_path / "r.html", "--json").stdout)
    assert told["exit_code"] == 1
    assert told["converged"]
    assert told["baseline"] == told["event_times"] == "failed"
    assert told["baseline_gate"][0]["state"] == "failed"


def unchanged(fit: Fit) -> Fit:
    return fit


@pytest.mark.parametrize("change", [moved, at_visits, unchanged])
def test_run_exits_as_for_a_fit_that_did_not_converge(
    synthetic_fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    cli.write_demo(tmp_path, seed=1)
    monkeypatch.setattr("bayesblina.inference.fitting.fit", lambda *_, **__: change(synthetic_fit))
    result = called("run", tmp_path / "study.toml", "--out", tmp_path / "out", "--no-report")
    assert result.exit_code == (0 if change is unchanged else 1), result.output
    told = [words in result.stderr for words in (MOVES, VISITS)]
    assert told == [change is moved, change is at_visits]
    assert "NOT CONVERGED" not in result.stderr
    assert (tmp_path / "out" / "hazard_ratios.csv").is_file()


def test_scenarios_keep_their_row_marked() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    base = bb.scenarios(cohort, QUESTION, {"lag": [1.0]})[0]
    settings = sampler_settings(200, 300, 4, 1, 1)
    record, _ = run_scenario(base, cohort=cohort, seed=1, settings=settings, draws=False)
    result = record["results"][0]
    assert result["baseline"] in ("passed", "told")
    assert np.isfinite(result["companion_median"])
    assert np.isfinite(result["baseline_shift"])
    worse = {
        **record,
        "key": "other",
        "label": "other",
        "status": "converged",
        "results": [{**one, "baseline": "failed"} for one in record["results"]],
    }
    # A line that an earlier version wrote says nothing of baselines.
    bare = [
        {key: value for key, value in one.items() if "companion" not in key and key != "baseline"}
        for one in record["results"]
    ]
    early = {**record, "key": "early", "label": "early", "status": "converged", "results": bare}
    header = {"synthetic": True}
    found = Sensitivity.of(header, [{**record, "status": "converged"}, worse, early])
    assert "1 marked" in repr(found)
    assert len(found.of_endpoint("os")) == 3
    holds = found.holds("os")
    assert holds.of == 3
    assert holds.marked == ("other",)
    assert "counted, but marked: other" in str(holds)
    printed = bb.tables.scenarios(found.table)
    cells = {row[0]: row for row in printed.rows if row[1] == "os"}
    assert SHORT in cells["other"][2]
    assert SHORT not in cells[record["label"]][2]
    assert SHORT not in cells["early"][2]
    figure = bb.plots.specification_curve(found, "os")
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [np.size(line.get_xdata()) for line in crosses] == [1]
    assert "crosses: the baseline moves" in figure._suptitle.get_text()  # type: ignore[attr-defined]
    from bayesblina.cli.studies import marked_scenarios

    assert marked_scenarios(found.table) == [f"other, {name}: {MOVES}" for name in ("os", "rfs")]


def test_bootstrap_of_a_marked_fit_is_marked(synthetic_fit: Fit) -> None:
    settings = SamplerSettings(draws=20, tune=50, chains=1)
    for fit, marks in ((synthetic_fit, ()), (moved(synthetic_fit), ("baseline",))):
        found = bb.bayesian_bootstrap(fit, seed=1, replicates=2, settings=settings)
        assert failed_in(found) == marks
