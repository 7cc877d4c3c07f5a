"""The published numbers, and what stands beside them."""

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.classical.curves import median_time
from bayesblina.core.errors import EstimandError
from bayesblina.inference.fitting import Fit


def test_published_numbers() -> None:
    table = bb.paper.published().set_index(["quantity", "endpoint", "group"])
    assert table["value"]["patients"].tolist() == [267, 86, 36]
    assert table["value"]["median"]["rfs"].tolist() == [14.5, 9.8]
    assert table["value"]["median"]["os"]["no maintenance"] == 15.5
    assert np.isposinf(table["value"]["median"]["os"]["maintenance"])
    counts = np.array([35, 31, 26]) / 36 * 100
    np.testing.assert_allclose(table["value"]["adverse events"], counts, atol=0.05)
    assert set(table["source"]) == {"Blood Advances 2020;4(7):1518 (NCT02013167)"}


def test_compared(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    table = bb.paper.compare_with_published(cohort, synthetic_fit, landmark=8.0)
    assert table.attrs["synthetic"]
    assert len(table) == 2 * (2 * 3 + 1)
    curves = bb.simon_makuch(cohort, synthetic_fit.question)
    medians = bb.summary(
        bb.survival_quantile(synthetic_fit, regimes=[bb.From(8.0), bb.Never()], landmark=8.0)
    ).set_index(["endpoint", "regime"])
    for row in table.to_dict("records"):
        one = curves[(curves["endpoint"] == row["endpoint"]) & (curves["group"] == row["group"])]
        if row["source"] == "Simon-Makuch":
            expected = median_time(one)
            assert row["note"] == ("not reached" if np.isinf(expected) else "")
            assert row["median"] == expected
        elif row["source"] == "posterior":
            regime = "from 8" if row["group"] == "maintenance" else "never"
            for column in ("lower", "median", "upper"):
                expected = medians[column][row["endpoint"]][regime]
                assert row[column] == pytest.approx(expected)
        elif row["source"] == "Mantel-Byar":
            odds = bb.mantel_byar(cohort, synthetic_fit.question).sel(endpoint=row["endpoint"])
            assert row["odds_ratio"] == float(odds["peto_odds_ratio"])


def test_another_comparison_is_refused(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    with pytest.raises(EstimandError, match="not defined here"):
        bb.paper.compare_with_published(cohort, synthetic_fit, landmark=0.5)
