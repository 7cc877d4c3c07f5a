"""The Cox model against R, and the ladder from the biased method to the sound one."""

import runpy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.cohort import Cohort
from tests.paths import ROOT

NAN = float("nan")
TRANSPLANT = bb.Question(exposed="transplantation", eligible_from="entry")


def read(table: pd.DataFrame, unit: str = "days", **columns: str) -> Cohort:
    names = {"patient": "id", "time": "days", "start": "transplant_day"} | columns
    return bb.read_cohort(
        table,
        patient=names["patient"],
        unit=unit,
        endpoints={"os": bb.Endpoint(time=names["time"], event="died")},
        phases=bb.Phases(transplantation=names["start"]),
        covariates=[name for name in ("age", "surgery") if name in table],
    )


@pytest.fixture(scope="module")
def heart() -> Cohort:
    table = runpy.run_path(str(ROOT / "examples" / "stanford_heart.py"))["one_row_per_patient"]()
    return read(table.reset_index(), patient="patient")


@pytest.fixture(scope="module")
def jasa1() -> Cohort:
    return read(pd.read_csv(ROOT / "tests" / "data" / "stanford_jasa1.csv"))


def test_cox_equals_r(heart: Cohort, jasa1: Cohort) -> None:
    # R 4.2, survival 3.5-3; tests/data/stanford_heart.R for the adjusted one.
    for ties, expected in (("breslow", 1.13390), ("efron", 1.13558)):
        row = bb.cox(heart, TRANSPLANT, ties=ties).iloc[0]  # type: ignore[arg-type]
        assert row["estimate"] == pytest.approx(expected, abs=6e-6)
    row = bb.cox(jasa1, TRANSPLANT).iloc[0]
    assert np.log(row["estimate"]) == pytest.approx(0.1252, abs=6e-5)
    error = np.log(row["upper"] / row["lower"]) / (2 * 1.959964)
    assert error == pytest.approx(0.3008, abs=6e-5)
    adjusted = bb.cox(heart, TRANSPLANT, adjusted=True).iloc[0]
    found = [adjusted[name] for name in ("estimate", "lower", "upper")]
    np.testing.assert_allclose(found, [1.0162258, 0.5550365, 1.8606254], rtol=1e-6)


def test_any_unit(jasa1: Cohort) -> None:
    table = pd.read_csv(ROOT / "tests" / "data" / "stanford_jasa1.csv")
    table[["days", "transplant_day"]] /= 365.25
    ladders = [
        bb.bias_ladder(jasa1, TRANSPLANT, landmarks=[30.0]),
        bb.bias_ladder(read(table, unit="years"), TRANSPLANT, landmarks=[30 / 365.25]),
    ]
    columns = ["estimate", "lower", "upper", "patients", "events"]
    pd.testing.assert_frame_equal(ladders[0][columns], ladders[1][columns])


def test_ladder_on_the_stanford_data(heart: Cohort) -> None:
    ladder = bb.bias_ladder(heart, TRANSPLANT, landmarks=[30.0, 60.0]).set_index("method")
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
    ladder = bb.bias_ladder(cohort, question)
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
    ladder = bb.bias_ladder(cohort, synthetic_fit.question, fit=synthetic_fit)
    bayesian = ladder[ladder["method"] == "Bayesian"].set_index("endpoint")
    table = bb.summary(bb.hazard_ratio(synthetic_fit)).set_index("endpoint")
    pd.testing.assert_series_equal(
        bayesian["estimate"], table["median"], check_names=False, check_exact=False
    )
    with pytest.raises(SpecError, match="answers another question"):
        bb.bias_ladder(cohort, TRANSPLANT, fit=synthetic_fit)


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
    ladder = bb.bias_ladder(cohort, synthetic_fit.question, fit=rounded)
    assert "Bayesian" in set(ladder["method"])
    longer = np.ones(size)
    largest = np.unravel_index(int(whole.table["person_time"].values.argmax()), size)
    longer[largest] += (1 / 30.4375) / float(whole.table["person_time"].values[largest])
    with pytest.raises(SpecError, match="other patients"):
        bb.bias_ladder(cohort, synthetic_fit.question, fit=with_time(longer))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(1, 6),
            st.booleans(),
            st.integers(0, 1),
            st.integers(-2, 2),
        ),
        min_size=6,
        max_size=25,
    ),
    st.sampled_from(["efron", "breslow"]),
)
def test_against_plain_sums(rows: list[tuple[int, int, bool, int, int]], ties: str) -> None:
    """The score is zero at the estimate, with the partial likelihood summed event by event."""
    start = np.array([row[0] for row in rows], dtype=float)
    stop = start + np.array([row[1] for row in rows])
    event = np.array([row[2] for row in rows])
    columns = np.array([row[3:] for row in rows], dtype=float)
    fit = fit_cox(start, stop, event, columns, ties=ties)  # type: ignore[arg-type]
    if not np.isfinite(fit.estimate).all():
        return

    def log_likelihood(parameter: np.ndarray) -> float:
        linear = columns @ parameter
        total = 0.0
        for time in np.unique(stop[event]):
            tied = event & (stop == time)
            at_risk = (start < time) & (time <= stop)
            total += linear[tied].sum()
            for index in range(int(tied.sum())):
                gone = index / tied.sum() if ties == "efron" else 0.0
                whole = np.exp(linear[at_risk]).sum() - gone * np.exp(linear[tied]).sum()
                total -= np.log(whole)
        return float(total)

    step = 1e-4
    here = log_likelihood(fit.estimate)
    for direction in np.eye(2):
        moved = [log_likelihood(fit.estimate + sign * step * direction) for sign in (1, -1)]
        assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(0.0, abs=1e-5)
        assert max(moved) <= here + 1e-12
        curvature = -(moved[0] - 2 * here + moved[1]) / step**2
        information = np.linalg.inv(fit.covariance)
        assert curvature == pytest.approx(float(direction @ information @ direction), abs=1e-4)


def test_the_score_test_is_mantel_byars_without_ties() -> None:
    generator = np.random.default_rng(4)
    for _ in range(20):
        time = generator.exponential(10, 40) + 0.1
        start = np.where(generator.random(40) < 0.6, time * generator.random(40), np.nan)
        table = pd.DataFrame(
            {"id": range(40), "days": time, "died": generator.integers(0, 2, 40), "t": start}
        )
        cohort = read(table, unit="months", start="t")
        rows = cohort.to_counting_process()
        fit = fit_cox(
            rows["start"].to_numpy(),
            rows["stop"].to_numpy(),
            rows["event"].to_numpy() == 1,
            (rows["phase"] == "transplantation").to_numpy().astype(np.float64)[:, None],
        )
        compared = bb.mantel_byar(cohort, TRANSPLANT)
        assert fit.score_test == pytest.approx(float(compared["chi2"].values[0]))


def nuisances() -> pd.DataFrame:
    """A phase entered later, a level without events, and columns that repeat each other."""
    place = np.arange(60)
    start, stop = 1.0 + 0.37 * (place * 7 % 29), 2.0 + 0.61 * (place * 11 % 53)
    level = place % 3
    event = (place * 5 % 7 < 5) & (level != 2)
    age = 40.0 + place * 13 % 31
    early = pd.DataFrame({"start": 0.0, "stop": np.minimum(start, stop), "m": 0.0, "id": place})
    late = pd.DataFrame({"start": start, "stop": stop, "m": 1.0, "id": place})[start < stop]
    early["event"], late["event"] = event & (start >= stop), event[start < stop]
    rows = pd.concat([early, late], ignore_index=True)
    who = rows["id"].to_numpy()
    for number, name in enumerate("abc"):
        rows[name] = (level[who] == number).astype(float)
    return rows.assign(age=age[who], again=2 * age[who] + 1, same=rows["m"])


@pytest.mark.parametrize(
    ("columns", "estimate", "error"),
    [
        # R 4.2, survival 3.5-3, tests/data/nuisances.R; NA there for what repeats, and an estimate
        # of 20 or more in size with a standard error without meaning for what runs away.
        (
            ["m", "b", "c"],
            [1.601574100240, 0.235670579818, NAN],
            [0.908456498898, 0.38687441663, NAN],
        ),
        (["m", "a", "b"], [1.601574100240, NAN, NAN], [0.908456498898, NAN, NAN]),
        (
            ["m", "age", "again"],
            [1.62087668379442, -0.00925717372749, NAN],
            [0.9214944802647, 0.0196686471143, NAN],
        ),
        (
            ["m", "c", "age", "again", "b"],
            [1.60388579919842, NAN, 0.00533258080549, NAN, 0.22546018253041],
            [0.9073462837195, NAN, 0.0196737944211, NAN, 0.3884795278931],
        ),
        (
            ["m", "same", "age"],
            [1.62087668379442, NAN, -0.00925717372749],
            [0.9214944802647, NAN, 0.0196686471143],
        ),
        (["m", "a", "b", "c"], [1.601574100240, NAN, NAN, NAN], [0.908456498898, NAN, NAN, NAN]),
    ],
)
def test_nuisances_leave_the_phase_as_r_has_it(
    columns: list[str], estimate: list[float], error: list[float]
) -> None:
    rows = nuisances()
    for unit in (1.0, 1e4):
        matrix = rows[columns].to_numpy(float) * unit
        fit = fit_cox(
            rows["start"].to_numpy(), rows["stop"].to_numpy(), rows["event"].to_numpy(), matrix
        )
        assert fit.converged
        np.testing.assert_allclose(fit.estimate * unit, estimate, rtol=1e-7)
        np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)) * unit, error, rtol=1e-6)


def test_an_offender_is_named() -> None:
    generator = np.random.default_rng(4)
    start, time = generator.exponential(6, 150), generator.exponential(15, 150)
    table = pd.DataFrame({"id": range(150), "days": time, "died": generator.random(150) < 0.7})
    table["died"] = table["died"].astype(int)
    table["t"] = np.where(start < time, start, np.nan)
    table["site"] = generator.choice(["A", "B", "C"], 150)
    table["age"] = generator.normal(50, 10, 150)
    table["months"] = 12 * table["age"] + 5
    table.loc[table["site"] == "C", "died"] = 0

    def adjusted(*names: str) -> pd.Series:
        cohort = bb.read_cohort(
            table,
            patient="id",
            unit="days",
            endpoints={"os": bb.Endpoint(time="days", event="died")},
            phases=bb.Phases(transplantation="t"),
            covariates=list(names),
        )
        return bb.cox(cohort, TRANSPLANT, adjusted=True).iloc[0]

    assert adjusted("site")["note"] == "no finite estimate of site[C]"
    assert np.isfinite(adjusted("site")["estimate"])
    once, twice = adjusted("age"), adjusted("age", "months")
    assert once["note"] == ""
    assert twice["note"] == "no finite estimate of months"
    for name in ("estimate", "lower", "upper"):
        assert twice[name] == pytest.approx(once[name], rel=1e-9)


def test_no_finite_estimate() -> None:
    table = pd.DataFrame(
        {"id": range(6), "days": [1.0, 2, 3, 4, 5, 6], "died": [1, 1, 1, 0, 0, 0], "t": [None] * 6}
    )
    table["t"] = [np.nan, np.nan, np.nan, 0.5, 0.5, 0.5]
    row = bb.cox(read(table, unit="months", start="t"), TRANSPLANT).iloc[0]
    assert np.isnan(row["estimate"])
    assert row["note"] == "no finite estimate"


def test_the_figure_shows_every_rung_and_the_truth(synthetic_fit: Fit) -> None:
    cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    ladder = bb.bias_ladder(cohort, synthetic_fit.question, landmarks=[0.5, 8.0], fit=synthetic_fit)
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
    ladder = bb.bias_ladder(cohort, question, landmarks=[8.0, 10.0])
    alone = pd.concat(
        [
            bb.ever_never(cohort, question),
            bb.landmark_analysis(cohort, question, landmarks=[8.0, 10.0]),
            bb.cox(cohort, question),
        ]
    )
    merged = alone.merge(ladder, on=["endpoint", "method"], suffixes=("", "_ladder"))
    assert len(merged) == 8
    for column in ("estimate", "lower", "upper", "events"):
        np.testing.assert_array_equal(merged[column], merged[f"{column}_ladder"])
    with pytest.raises(SpecError, match="landmarks must be times"):
        bb.landmark_analysis(cohort, question, landmarks=[-1.0])


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


NAMED = bb.Question(exposed="two", reference="one", eligible_from="entry")


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
    ladder = bb.bias_ladder(cohort, NAMED, landmarks=[4.0]).set_index("method")
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


def test_who_enters_the_phase_at_the_landmark_is_in_it() -> None:
    rows = [(10.0, 1, 4.0), (12.0, 1, 4.0), (9.0, 1, np.nan), (14.0, 0, np.nan), (6.0, 1, np.nan)]
    table = pd.DataFrame(rows, columns=["days", "died", "t"]).assign(id=range(5))
    cohort = read(table, unit="months", start="t")
    row = bb.landmark_analysis(cohort, TRANSPLANT, landmarks=[4.0]).iloc[0]
    assert (row["patients"], row["events"]) == (5, 4)
    assert (row["events_exposed"], row["events_reference"]) == (2, 2)
    fit = fit_cox(
        np.full(5, 4.0),
        table["days"].to_numpy(),
        table["died"].to_numpy() == 1,
        table["t"].notna().to_numpy().astype(np.float64)[:, None],
    )
    assert row["estimate"] == pytest.approx(float(np.exp(fit.estimate[0])), rel=1e-9)


def test_without_the_reference_there_is_nothing_to_compare_with() -> None:
    """All are in another state where the exposed are at risk: no estimate, not another contrast."""
    rows = [(10.0, 1, 1.0, 2.0), (12.0, 1, 1.0, 2.0), (9.0, 1, np.nan, 3.0), (5.0, 1, np.nan, 4.0)]
    table = pd.DataFrame(rows, columns=["t", "d", "one", "two"]).assign(id=range(4))
    table.loc[2:, "two"] = np.nan
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(one="one", two="two"),
    )
    row = bb.cox(cohort, NAMED).iloc[0]
    assert np.isnan(row["estimate"])
    assert row["note"] == "no finite estimate"


def test_petos_odds_ratio_is_called_near_only_where_it_is() -> None:
    """Few in the phase, and all of them die soon: one step from 1 goes too far."""
    near = bb.bias_ladder(states(), bb.Question(exposed="two", eligible_from="entry"))
    rows = near.set_index("method")
    ratio = rows["estimate"]["Mantel-Byar (Peto)"] / rows["estimate"]["time-varying Cox"]
    assert max(ratio, 1 / ratio) < 1.1
    assert rows.loc["Mantel-Byar (Peto)", "note"] == "odds ratio, near the hazard ratio"
    place = np.arange(200)
    start = np.where(place < 12, 1.0 + 0.01 * place, np.nan)
    days = np.where(place < 12, 2.0 + 0.9 * place, 2.0 + 0.25 * (place * 37 % 199))
    died = np.where(place < 12, 1, place % 2)
    table = pd.DataFrame({"id": place, "days": days, "died": died, "t": start})
    rows = bb.bias_ladder(read(table, unit="months", start="t"), TRANSPLANT).set_index("method")
    peto, cox = rows["estimate"]["Mantel-Byar (Peto)"], rows["estimate"]["time-varying Cox"]
    # R 4.2, survival 3.5-3: coxph(Surv(start, stop, died) ~ phase) on the counting process.
    assert cox == pytest.approx(19.36209, rel=1e-6)
    assert peto > 1000 * cox
    assert "NOT near the hazard ratio" in rows["note"]["Mantel-Byar (Peto)"]
