"""Adverse events by phase against hand computations, closed forms and a known truth."""

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from scipy import stats

import bayesblina as bb
from bayesblina.core.errors import DataError, EstimandError, SpecError
from bayesblina.estimands import safety
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.onsets import AdverseEvents
from bayesblina.studies.simulate.treatment import ADVERSE_EVENT_RATES


def cohort_of(rows: list[tuple[float, float | None, float | None]]) -> Cohort:
    table = pd.DataFrame(rows, columns=["months", "second", "third"]).astype(float)
    table["id"] = [f"p{row}" for row in range(len(rows))]
    table["died"] = 1
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died")},
        phases=bb.Phases(consolidation="second", maintenance="third"),
    )


def read(cohort: Cohort, rows: list[tuple[str, str, float, int]], **options: Any) -> AdverseEvents:
    table = pd.DataFrame(rows, columns=["id", "term", "month", "grade"])
    return bb.safety.adverse_events(
        table,
        cohort,
        patient="id",
        term="term",
        start="month",
        grade="grade",
        **options,
    )


def numbers(table: pd.DataFrame) -> list[dict[str, float]]:
    """Rows of a summary, as numbers."""
    columns = ["mean", "sd", "lower", "upper", "mcse"]
    return [dict(zip(columns, row, strict=True)) for row in table[columns].to_numpy().tolist()]


def test_events_and_time_by_hand() -> None:
    cohort = cohort_of([(10.0, 2.0, 6.0), (5.0, 3.0, None), (4.0, None, None), (6.0, 2.0, 6.0)])
    events = read(
        cohort,
        [
            ("p0", "fever", 0.0, 1),  # at the origin: before consolidation
            ("p0", "fever", 2.0, 2),  # at the start of consolidation: in it
            ("p0", "rash", 5.9, 3),
            ("p0", "rash", 6.0, 1),  # at the start of maintenance
            ("p0", "fever", 10.0, 4),  # at the end of follow-up
            ("p1", "fever", 2.9, 1),
            ("p3", "fever", 6.0, 2),  # maintenance would start when follow-up ends: not in it
        ],
    )
    assert events.phases == ("before consolidation", "consolidation", "maintenance")
    # The phase of each event: before consolidation 0, consolidation 1, maintenance 2.
    assert events.phase.tolist() == [0, 1, 1, 2, 2, 0, 1]
    table = events.table().set_index("phase")
    np.testing.assert_array_equal(table["person_time"], [2 + 3 + 4 + 2, 4 + 2 + 4, 4])
    np.testing.assert_array_equal(table["patients"], [4, 3, 1])
    np.testing.assert_array_equal(table["events"], [2, 3, 2])
    np.testing.assert_array_equal(table["with_event"], [2, 2, 1])
    severe = read(cohort, [("p0", "fever", 1.0, 2), ("p1", "rash", 1.0, 3)], minimum_grade=3)
    assert severe.counts.sum() == 1
    assert severe.terms == ("rash",)
    assert "p0" not in repr(events)


def test_phases_that_end() -> None:
    table = pd.DataFrame({"id": ["a"], "t": [10.0], "d": [1], "start": [2.0], "end": [4.0]})
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(late=bb.Phase(start="start", end="end")),
    )
    rows = [("a", "fever", 3.0, 1), ("a", "fever", 5.0, 1)]
    current = read(cohort, rows, phase_end="current").table().set_index("phase")
    assert current[["events", "person_time"]].to_numpy()[2].tolist() == [1, 6.0]
    assert current[["events", "person_time"]].to_numpy()[1].tolist() == [1, 2.0]
    ever = read(cohort, rows, phase_end="ever").table().set_index("phase")
    assert ever[["events", "person_time"]].to_numpy()[1].tolist() == [2, 8.0]
    with pytest.raises(SpecError, match="say phase_end"):
        read(cohort, rows)


def test_everything_wrong_at_once() -> None:
    cohort = cohort_of([(10.0, 2.0, 6.0)])
    with pytest.raises(DataError) as error:
        read(
            cohort,
            [("p9", "fever", 1.0, 1), ("p0", "", -1.0, 2), ("p0", "rash", 11.0, 7)],
        )
    for words in (
        "not in the cohort [1 patient: p9]",
        "without a term [1 patient: p0]",
        "starts before observation begins [1 patient: p0]",
        "after the end of follow-up [1 patient: p0]",
        "not 1, 2, 3, 4 or 5 [1 patient: p0]",
    ):
        assert words in error.value.words(show_ids=True)
    assert "p9" not in str(error.value)
    assert "not in the cohort [1 patient]" in str(error.value)
    with pytest.raises(DataError, match="no such column"):
        bb.safety.adverse_events(
            pd.DataFrame({"id": ["p0"]}), cohort, patient="id", term="term", start="month"
        )
    with pytest.raises(SpecError, match="no 'pfs'"):
        read(cohort, [("p0", "fever", 1.0, 1)], endpoint="pfs")


def published() -> AdverseEvents:
    """36 patients who had maintenance: 35, 31 and 26 have an event in the three phases."""
    cohort = cohort_of([(20.0, 3.0, 8.0)] * 36 + [(5.0, None, None)] * 4)
    rows = [
        (f"p{patient}", "any", month, 1)
        for month, count in ((1.0, 35), (4.0, 31), (9.0, 26))
        for patient in range(count)
    ]
    return read(cohort, rows)


def test_published_incidences_come_out_of_the_counts() -> None:
    events = published()
    found = bb.safety.incidence(events, seed=1, among="maintenance", draws=5000)
    np.testing.assert_array_equal(found["patients"], [36, 36, 36])
    np.testing.assert_array_equal(
        np.round(100 * found["with_event"] / found["patients"], 1), [97.2, 86.1, 72.2]
    )
    table = numbers(bb.summary(found))
    for row, hit in zip(table, (35, 31, 26), strict=True):
        exact = stats.beta(hit + 0.5, 36 - hit + 0.5)
        assert abs(row["mean"] - exact.mean()) < 4 * row["mcse"]
        assert row["sd"] == pytest.approx(exact.std(), rel=0.03)
        # Standard error of a quantile of 20,000 independent draws.
        for got, level in ((row["lower"], 0.025), (row["upper"], 0.975)):
            error = np.sqrt(level * (1 - level) / 20_000) / exact.pdf(exact.ppf(level))
            assert abs(got - exact.ppf(level)) < 4 * error
    everybody = bb.safety.incidence(events, seed=1)
    np.testing.assert_array_equal(everybody["patients"], [40, 36, 36])


def test_paired_incidence_is_the_dirichlet_posteriors() -> None:
    events = published()
    found = bb.safety.paired_incidence(events, "consolidation", "maintenance", seed=3, draws=5000)
    # The first 26 have events in both, the next 5 in consolidation only, 5 in neither.
    cells = [found.attrs[name] for name in ("both", "only_first", "only_second", "neither")]
    assert cells == [26, 5, 0, 5]
    (row,) = numbers(bb.summary(found))
    total = 37.0
    p, q = 5.25 / total, 0.25 / total
    assert abs(row["mean"] - (p - q)) < 4 * row["mcse"]
    variance = (p * (1 - p) + q * (1 - q) + 2 * p * q) / (total + 1)
    assert row["sd"] == pytest.approx(np.sqrt(variance), rel=0.03)
    ratio = bb.safety.paired_incidence(
        events, "consolidation", "maintenance", seed=3, kind="ratio", draws=5000
    )
    assert bool((ratio["incidence_ratio"] > 0).all())
    with pytest.raises(EstimandError, match="both sides"):
        bb.safety.paired_incidence(events, "maintenance", "maintenance", seed=1)
    with pytest.raises(EstimandError, match="Nearest: maintenance"):
        bb.safety.paired_incidence(events, "maintainance", "consolidation", seed=1)


@pytest.mark.parametrize(("per", "factor"), [("months", 1.0), ("years", 1 / 12)])
def test_event_rate_is_the_gamma_posteriors(per: str, factor: float) -> None:
    events = published()
    rates = bb.safety.event_rate(events, seed=2, per=per, draws=5000)
    np.testing.assert_allclose(
        rates["person_time"], np.array([36 * 3 + 4 * 5, 36 * 5, 36 * 12]) * factor
    )
    for index, count in enumerate((35, 31, 26)):
        exact = stats.gamma(count + 0.5, scale=1 / float(rates["person_time"][index]))
        values = rates["event_rate"].isel(phase=index).values.ravel()
        for level in (0.025, 0.5, 0.975):
            error = np.sqrt(level * (1 - level) / values.size) / exact.pdf(exact.ppf(level))
            assert abs(np.quantile(values, level) - exact.ppf(level)) < 4 * error
    ratio = bb.safety.phase_contrast(rates, "maintenance", "consolidation")["event_rate_ratio"]
    draws = rates["event_rate"]
    np.testing.assert_array_equal(
        ratio.values,
        (draws.sel(phase="maintenance").values / draws.sel(phase="consolidation").values),
    )
    assert len(bb.summary(ratio.to_dataset())) == 1
    with pytest.raises(EstimandError, match="paired_incidence"):
        bb.safety.phase_contrast(
            bb.safety.incidence(events, seed=1), "maintenance", "consolidation"
        )
    with pytest.raises(SpecError, match="per must be one of"):
        bb.safety.event_rate(events, seed=1, per="year")


def test_shrinkage_beats_raw_rates() -> None:
    """40 terms with the same true ratio between two phases, most of them rare."""
    generator = np.random.default_rng(8)
    size, terms = 60, 40
    cohort = cohort_of([(24.0, 12.0, None)] * size)
    base = np.exp(generator.normal(np.log(0.004), 1.0, terms))
    truth = np.stack([base, base * 0.5], axis=1)
    rows = []
    for term in range(terms):
        for phase in (0, 1):
            for patient in range(size):
                count = generator.poisson(truth[term, phase] * 12)
                rows += [
                    (f"p{patient}", f"t{term:02d}", float(12 * phase + month), 1)
                    for month in generator.random(count) * 12
                ]
    events = read(cohort, rows)
    rates = bb.safety.event_rates_by_term(events, seed=1, per="months")
    assert rates.attrs["converged"] == 1
    position = [int(name[1:]) for name in rates["term"].values]
    raw = np.array(
        [
            [sum(1 for r in rows if r[1] == f"t{t:02d}" and (r[2] >= 12) == k) for k in (0, 1)]
            for t in position
        ]
    ) / (size * 12)
    mean = rates["event_rate"].mean(("chain", "draw")).values
    error = ((mean - truth[position]) ** 2).sum()
    assert error < ((raw - truth[position]) ** 2).sum()
    ratio = bb.safety.phase_contrast(rates, rates["phase"].values[1], rates["phase"].values[0])
    table = bb.summary(ratio)
    covered = (table["lower"] < 0.5) & (table["upper"] > 0.5)
    # 95 % of 40, less three standard errors.
    assert covered.mean() > 0.84
    assert len(table) == len(position)


def test_coordinates_of_effects_leave_their_prior_alone() -> None:
    """Normal(0, sd) wherever the data are thought to put them, and however well."""
    with pm.Model(coords={"term": range(3)}):
        others = pm.Normal("others", 1.0, 2.0)
        likely, unit = others + np.array([-1.0, 0.0, 3.0]), np.array([0.05, 0.4, 2.0])
        effect = safety._effects("term", 0.7, likely, unit, ("term",))
        values, moved = pm.draw([effect, others], draws=4000, random_seed=1, mode="FAST_COMPILE")
    for column in values.T:
        assert stats.kstest(column / 0.7, stats.norm.cdf).pvalue > 1e-5
        assert abs(np.corrcoef(column, moved)[0, 1]) < 4.5 / np.sqrt(4000)


def test_shrinkage_needs_terms() -> None:
    with pytest.raises(EstimandError, match="at least two event terms"):
        bb.safety.event_rates_by_term(published(), seed=1)


def test_synthetic_events_have_their_rates() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(
        seed=1, n_patients=2000, n_consolidation=600, n_maintenance=200
    )
    table = bb.simulate.adverse_events(cohort, seed=4)
    assert table.attrs["synthetic"]
    events = bb.safety.adverse_events(
        table,
        cohort,
        patient="patient_id",
        term="term",
        start="month",
        grade="grade",
        transplant="ignore",
    )
    assert events.synthetic
    for phase, name in enumerate(events.phases):
        # Events are drawn in the first four months of each phase only.
        counts = np.bincount(events.term[events.phase == phase], minlength=len(events.terms))
        rates = np.array([ADVERSE_EVENT_RATES[term][phase] for term in events.terms])
        time = np.minimum(events.person_time[:, phase], 4.0).sum()
        expected = rates * time
        assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected)).all(), name
    with pytest.raises(SpecError, match="seed must be"):
        bb.simulate.adverse_events(cohort, seed=-1)
