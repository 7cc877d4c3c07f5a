"""The ladder: its rungs against the methods alone, simulated truth and R."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.cohort import Cohort
from tests.classical.tables import NAMED, TRANSPLANT, read


def test_ladder_on_the_stanford_data(heart: Cohort) -> None:
    ladder = bb.classical.bias_ladder(heart, TRANSPLANT, landmarks=[30.0, 60.0]).set_index("method")
    assert list(ladder.index) == [
        "ever against never",
        "ever against never, adjusted",
        "landmark at 30",
        "landmark at 30, adjusted",
        "landmark at 60",
        "landmark at 60, adjusted",
        "Mantel-Byar (Peto)",
        "time-varying Cox",
        "time-varying Cox, adjusted",
    ]
    assert ladder["adjusted"].tolist() == [name.endswith(", adjusted") for name in ladder.index]
    # R, survival 3.5-3, tests/data/stanford_heart.R: age and surgery beside the transplant.
    adjusted = ladder[["estimate", "lower", "upper"]].T["time-varying Cox, adjusted"]
    np.testing.assert_allclose(
        adjusted.to_numpy(float), [1.0162258, 0.5550365, 1.8606254], rtol=1e-6
    )
    # R: coxph on the ever transplanted, tests/data/stanford_heart.R.
    assert ladder.loc["ever against never", "estimate"] == pytest.approx(0.2662166, rel=1e-6)
    assert ladder.loc["Mantel-Byar (Peto)", "estimate"] == pytest.approx(1.13280, abs=6e-6)
    # R: coxph of those alive after day 30 by transplant until then, tests/data/stanford_landmark.R.
    landmark = ladder.loc["landmark at 30"]
    assert (landmark["patients"], landmark["events"]) == (79, 52)
    assert landmark["estimate"] == pytest.approx(1.054236, abs=6e-7)


def test_the_naive_rung_is_wrong_and_the_others_are_not() -> None:
    # A relapse changes nothing for death here, which makes the true ratio of survival exact.
    cohort, truth = bb.simulate.blinatumomab_cohort(
        5,
        n_patients=13_350,
        n_consolidation=4_300,
        n_maintenance=1_800,
        truth=bb.simulate.Truth.without_confounding(),
    )
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    ladder = bb.classical.bias_ladder(cohort, question)
    naive = ladder[ladder["method"] == "ever against never"].set_index("endpoint")
    adjusted = bb.cox(cohort, question, adjusted=True).set_index("endpoint")
    for name, log_ratio in truth.log_hazard_ratio.items():
        assert naive["upper"][name] < np.exp(log_ratio)
        row = adjusted.loc[name]
        assert row["note"] == ""
        error = np.log(row["upper"] / row["lower"]) / (2 * 1.959964)
        assert abs(np.log(row["estimate"]) - log_ratio) < 4 * error


def test_with_a_fit(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    ladder = bb.classical.bias_ladder(cohort, synthetic_fit.question, fit=synthetic_fit)
    bayesian = ladder[ladder["method"] == "Bayesian"].set_index("endpoint")
    table = bb.summary(bb.hazard_ratio(synthetic_fit)).set_index("endpoint")
    pd.testing.assert_series_equal(
        bayesian["estimate"], table["median"], check_names=False, check_exact=False
    )
    with pytest.raises(SpecError, match="answers another question"):
        bb.classical.bias_ladder(cohort, TRANSPLANT, fit=synthetic_fit)


def test_a_fit_made_on_another_processor_is_of_the_same_patients(synthetic_fit: Fit) -> None:
    """Sums that differ in their last bits are the same; a day more of one patient is not."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    whole = synthetic_fit.person_time
    random = np.random.default_rng(1)

    def with_time(factor: np.ndarray) -> Fit:
        time = whole.table["person_time"] * factor
        person_time = replace(whole, table=whole.table.assign(person_time=time))
        return replace(synthetic_fit, person_time=person_time)

    size = whole.table["person_time"].shape
    rounded = with_time(1.0 + 1e-14 * random.integers(-9, 10, size))
    ladder = bb.classical.bias_ladder(cohort, synthetic_fit.question, fit=rounded)
    assert "Bayesian" in set(ladder["method"])
    longer = np.ones(size)
    largest = np.unravel_index(int(whole.table["person_time"].values.argmax()), size)
    longer[largest] += (1 / 30.4375) / float(whole.table["person_time"].values[largest])
    with pytest.raises(SpecError, match="other patients"):
        bb.classical.bias_ladder(cohort, synthetic_fit.question, fit=with_time(longer))


def test_the_figure_shows_every_rung_and_the_truth(synthetic_fit: Fit) -> None:
    cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    ladder = bb.classical.bias_ladder(
        cohort, synthetic_fit.question, landmarks=[0.5, 8.0], fit=synthetic_fit
    )
    ratios = {name: float(np.exp(value)) for name, value in truth.log_hazard_ratio.items()}
    figure = bb.plots.bias_ladder(ladder, truth=ratios)
    assert figure.get_suptitle() == "synthetic patients"
    for axis, name in zip(figure.axes, ("os", "rfs"), strict=True):
        rows = ladder[ladder["endpoint"] == name]
        drawn = [line for line in axis.lines if line.get_linestyle() == "None"]
        np.testing.assert_allclose(
            [float(np.ravel(line.get_xdata())[0]) for line in drawn],
            rows["estimate"].dropna().to_numpy(),
        )
        dashed = [line for line in axis.lines if line.get_label() == "simulated truth"]
        assert np.ravel(dashed[0].get_xdata())[0] == pytest.approx(ratios[name])
        # At 0.5 nobody is at risk, without covariates and with them.
        assert [text.get_text() for text in axis.texts] == ["no finite estimate"] * 2
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[0] == "ever against never, unadjusted (biased)"
    assert labels[1] == "ever against never, adjusted (biased)"
    assert labels[-1] == "Bayesian, adjusted"
    ladder.loc[ladder["method"] == "Bayesian", "note"] = "NOT CONVERGED"
    assert "NOT CONVERGED" in bb.plots.bias_ladder(ladder).get_suptitle()


def test_rungs_stand_alone() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    ladder = bb.classical.bias_ladder(cohort, question, landmarks=[8.0, 10.0])
    alone = pd.concat(
        [
            bb.classical.ever_never(cohort, question),
            bb.classical.landmark_analysis(cohort, question, landmarks=[8.0, 10.0]),
            bb.cox(cohort, question),
        ]
    )
    merged = alone.merge(ladder, on=["endpoint", "method"], suffixes=("", "_ladder"))
    assert len(merged) == 8
    for column in ("estimate", "lower", "upper", "events"):
        np.testing.assert_array_equal(merged[column], merged[f"{column}_ladder"])
    with pytest.raises(SpecError, match="landmarks must be times"):
        bb.classical.landmark_analysis(cohort, question, landmarks=[-1.0])


def states() -> Cohort:
    """Patients in two phases and a third that is neither exposed nor reference."""
    place = np.arange(90)
    time = 3.0 + 0.41 * (place * 11 % 83)
    one = np.where(place % 3 > 0, 0.5 + 0.1 * (place * 7 % 13), np.nan)
    two = np.where((place % 3 == 2) & (time > 4), 2.0 + 0.17 * (place * 5 % 11), np.nan)
    one, two = (np.where(start < time, start, np.nan) for start in (one, two))
    table = pd.DataFrame({"id": place, "t": time, "d": (place * 5 % 7 < 5).astype(int)})
    table["one"], table["two"] = one, two
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(one="one", two="two"),
    )


def plain_cox(rows: pd.DataFrame, columns: list[str]) -> float:
    matrix = rows[columns].to_numpy(float)
    event = rows["event"].to_numpy() == 1
    fit = fit_cox(rows["start"].to_numpy(float), rows["stop"].to_numpy(float), event, matrix)
    return float(np.exp(fit.estimate[0]))


def test_states_are_what_they_are_to_the_question_in_every_rung() -> None:
    """A named reference is not everybody else: time before it has a hazard of its own."""
    cohort = states()
    rows = cohort.to_counting_process()
    rows["other"] = (~rows["phase"].isin(["one", "two"])).astype(float)
    rows["exposed"] = (rows["phase"] == "two").astype(float)
    name = "patient" if "patient" in rows else rows.columns[0]
    ever = rows.groupby(name)["exposed"].transform("max")
    rows["ever"] = ever * (1 - rows["other"])
    ladder = bb.classical.bias_ladder(cohort, NAMED, landmarks=[4.0]).set_index("method")
    expected = plain_cox(rows, ["exposed", "other"])
    assert ladder.loc["time-varying Cox", "estimate"] == pytest.approx(expected, rel=1e-9)
    naive = plain_cox(rows, ["ever", "other"])
    assert ladder.loc["ever against never", "estimate"] == pytest.approx(naive, rel=1e-9)
    # The mistake it would be to compare with everybody else.
    rows["all"] = ever
    assert abs(np.log(plain_cox(rows, ["all"]) / naive)) > 0.05
    # At the landmark: by the state then, whatever follows.
    now = rows[(rows["start"] <= 4.0) & (rows["stop"] > 4.0)].set_index(name)
    later = rows[rows["stop"] > 4.0].copy()
    later["start"] = later["start"].clip(lower=4.0)
    for column in ("exposed", "other"):
        later[column] = later[name].map(now[column])
    at = plain_cox(later, ["exposed", "other"])
    assert ladder.loc["landmark at 4", "estimate"] == pytest.approx(at, rel=1e-9)
    counts = ladder[["events_exposed", "events_reference"]].T["landmark at 4"].tolist()
    by_state = [
        later.loc[later["exposed"] == 1, "event"].sum(),
        later.loc[(later["exposed"] == 0) & (later["other"] == 0), "event"].sum(),
    ]
    assert counts == by_state


def test_petos_odds_ratio_is_called_near_only_where_it_is() -> None:
    """Few in the phase, and all of them die soon: one step from 1 goes too far."""
    near = bb.classical.bias_ladder(states(), bb.Question(exposed="two", eligible_from="entry"))
    rows = near.set_index("method")
    ratio = rows["estimate"]["Mantel-Byar (Peto)"] / rows["estimate"]["time-varying Cox"]
    assert max(ratio, 1 / ratio) < 1.1
    assert rows.loc["Mantel-Byar (Peto)", "note"] == "odds ratio, near the hazard ratio"
    place = np.arange(200)
    start = np.where(place < 12, 1.0 + 0.01 * place, np.nan)
    days = np.where(place < 12, 2.0 + 0.9 * place, 2.0 + 0.25 * (place * 37 % 199))
    died = np.where(place < 12, 1, place % 2)
    table = pd.DataFrame({"id": place, "days": days, "died": died, "t": start})
    rows = bb.classical.bias_ladder(read(table, unit="months", start="t"), TRANSPLANT).set_index(
        "method"
    )
    peto, cox = rows["estimate"]["Mantel-Byar (Peto)"], rows["estimate"]["time-varying Cox"]
    # R 4.2, survival 3.5-3: coxph(Surv(start, stop, died) ~ phase) on the counting process.
    assert cox == pytest.approx(19.36209, rel=1e-6)
    assert peto > 1000 * cox
    assert "NOT near the hazard ratio" in rows["note"]["Mantel-Byar (Peto)"]
