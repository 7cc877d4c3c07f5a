"""The study of events found at visits: its cells, its sums, and a few replications of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.studies.visits import (
    CELLS,
    EXACT,
    FOLDER,
    KEYS,
    RATIOS,
    by_cell,
    failing,
    page,
    replication,
)


def test_cells_are_those_that_must_be_shown() -> None:
    regular = {(cell.mechanism, cell.every, cell.ratio) for cell in CELLS[:12]}
    expected = {
        (mechanism, every, ratio)
        for mechanism in ("found", "event")
        for every in (3.0, 6.0, 12.0)
        for ratio in (0.5, 1.0)
    }
    assert regular == expected
    assert [len(cell.likelihoods) for cell in CELLS] == [2] * 12 + [1] * 4
    assert [cell.truth.death_share for cell in CELLS[12:]] == [0.0, 0.4, 0.0, 0.4]


def rows_of(*, shift: float, half: float, wrong: float) -> pd.DataFrame:
    """Two replications: means of exact times 0 and 0.1, others shifted; intervals +- `half`."""
    lines = []
    for seed in (0, 1):
        for mechanism, every, likelihood, moved in (
            ("", np.nan, EXACT, 0.0),
            ("found", 6.0, "found", shift),
            ("found", 6.0, "event", wrong),
        ):
            mean = 0.1 * seed + moved
            line = [seed, mechanism, every, 1.0, "regular" if mechanism else "", likelihood]
            lines.append([*line, mean, 0.1, mean - half, mean + half, 0.2, mean, 0.11])
    columns = ["seed", *KEYS, "mean", "sd", "lower", "upper", "pareto_k"]
    return pd.DataFrame(lines, columns=[*columns, "sampled_mean", "sampled_sd"])


def test_sums_by_hand() -> None:
    table = by_cell(rows_of(shift=0.02, half=0.11, wrong=0.3)).set_index("likelihood")
    assert table.loc[EXACT, "difference"] == 0.0
    assert table.loc["found", "mean"] == pytest.approx(0.07)
    assert table.loc["found", "difference"] == pytest.approx(0.02)
    assert table.loc["found", "difference_mcse"] == pytest.approx(0.0, abs=1e-12)
    # Of 0.02 and 0.12, each +- 0.11, the first covers 0.
    assert table.loc["found", "coverage"] == 0.5
    assert table.loc["event", "coverage"] == 0.0
    assert table["replications"].eq(2).all()


def test_what_fails_is_named() -> None:
    good = by_cell(rows_of(shift=0.02, half=1.0, wrong=0.3)).assign(coverage=0.95)
    assert failing(good) == []
    assert failing(good.assign(coverage=0.9)) == ["found, every 6, HR 1, regular: covers 90.0%"]
    (far,) = failing(by_cell(rows_of(shift=0.06, half=1.0, wrong=0.3)).assign(coverage=0.95))
    assert far.endswith("+0.060 from exact times")
    (near,) = failing(by_cell(rows_of(shift=0.02, half=1.0, wrong=0.03)).assign(coverage=0.95))
    assert near.endswith("the wrong likelihood is close")


def test_the_page_shows_every_likelihood() -> None:
    written = page(rows_of(shift=0.02, half=0.11, wrong=0.3))
    assert "| every 6 months | 1 | +0.070 | +0.050 | +0.020 ± 0.000 | 50.0% | 0.100 |" in written
    assert "under the WRONG likelihood" in written
    assert "SYNTHETIC" in written


def test_the_stored_table_holds() -> None:
    table = pd.read_csv(FOLDER / "visits.csv")
    assert len(table) == len(RATIOS) + sum(len(cell.likelihoods) for cell in CELLS)
    assert failing(table) == []
    right = table[(table["mechanism"] == table["likelihood"]) | (table["likelihood"] == EXACT)]
    assert right["replications"].eq(200).all()
    assert right["difference_mcse"].max() < 0.01


@pytest.mark.slow
def test_visits_answer_as_exact_times_do() -> None:
    """Three replications: differences to exact times within four Monte-Carlo standard errors."""
    table = by_cell(pd.DataFrame([row for seed in range(3) for row in replication(seed)]))
    right = table[table["mechanism"] == table["likelihood"]]
    assert len(right) == len(CELLS)
    # A difference has a standard deviation of up to 0.05 in a replication.
    assert right["difference"].abs().max() < 0.05 + 4.0 * 0.05 / np.sqrt(3.0)
    wrong = table[(table["likelihood"] != table["mechanism"]) & (table["every"] == 12.0)]
    assert wrong["difference"].abs().min() > 0.05
    assert table["pareto_k"].max() < 0.7
