"""Compressed covariates against direct sums over patients: likelihoods, fits and curves."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.estimands import averages
from bayesblina.hazards.build import build_model, draw_prior, with_weights
from bayesblina.hazards.effects import make_design
from bayesblina.hazards.likelihood import patient_log_likelihood, total_log_likelihood
from bayesblina.inference.drawing import compression_notes, swings
from bayesblina.inference.fitting import Fit
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime, front

EPS = float(np.finfo(np.float64).eps)
QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
REGIMES = [bb.Never(), bb.From(8.0)]
LANDMARK = 8.0


# Events and person-time ---------------------------------------------------------------------------


@cache
def table() -> pd.DataFrame:
    found = bb.simulate.blinatumomab_table(
        5, n_patients=1500, n_consolidation=480, n_maintenance=200
    )
    random = np.random.default_rng(7)
    found["score"] = random.normal(size=len(found))
    return found


@cache
def cohort_of(*covariates: str) -> Cohort:
    return bb.read_cohort(
        table(),
        patient="patient_id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os_months", event="died"),
            "rfs": bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        transplant="transplant_month",
        covariates=list(covariates),
    )


CUTS = [3.0, 6.0, 9.0, 15.0, 24.0]


@cache
def exposed(
    *covariates: str, compress: bool, weighted: bool = False, many: bool = False
) -> PersonTime:
    cohort = cohort_of(*covariates)
    weights = np.random.default_rng(3).exponential(size=cohort.size) + 0.1 if weighted else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front, "MANY", 0 if many else 10**9)
        return bb.person_time(cohort, QUESTION, cuts=CUTS, weights=weights, compress=compress)


def some_draws(person_time: PersonTime, *, size: int = 6, seed: int = 0) -> xr.Dataset:
    """Parameters at random, as a posterior."""
    random = np.random.default_rng(seed)
    endpoints, terms = list(person_time.endpoints), person_time.table["term"].values
    shape = (1, size, len(endpoints))
    return xr.Dataset(
        {
            "log_baseline": (
                ("chain", "draw", "endpoint", "interval"),
                random.normal(-3.0, 0.7, (*shape, person_time.table.sizes["interval"])),
            ),
            "log_hazard_ratio": (
                ("chain", "draw", "endpoint", "effect"),
                random.normal(0.0, 0.7, (*shape, 1)),
            ),
            "coefficient": (
                ("chain", "draw", "endpoint", "term"),
                random.normal(0.0, 0.5, (*shape, terms.size)),
            ),
        },
        coords={"chain": [0], "draw": np.arange(size), "endpoint": endpoints, "term": terms},
    )


COVARIATES = [
    ("score",),
    ("score", "age_group"),
    ("score", "marrow_blasts"),
    ("prior_salvage", "marrow_blasts", "score"),
]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("covariates", COVARIATES, ids="+".join)
def test_likelihoods_of_compressed_patients(
    covariates: tuple[str, ...], weighted: bool, many: bool
) -> None:
    """The same log-likelihood at any coefficients, within the bound of its sums of hazards."""
    exact = exposed(*covariates, compress=False, weighted=weighted)
    found = exposed(*covariates, compress=True, weighted=weighted, many=many)
    assert exact.compression is None
    assert found.compression is not None
    definition = bb.load_model("primary")
    design, other = make_design(exact, definition), make_design(found, definition)
    # Means and sds over patients are kept, and so is the meaning of coefficients.
    np.testing.assert_allclose(other.centre, design.centre, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(other.scale, design.scale, rtol=1e-10)
    # Summed over the nodes events and person-time by cell are exact.
    for name in ("events", "person_time"):
        one, two = (each.table[name].sum("pattern").values for each in (exact, found))
        np.testing.assert_allclose(two, one, rtol=1e-12, atol=1e-11 * one.max())
    draws = some_draws(exact)
    error = found.compression.hazard_error(swings(found, draws, other))
    assert error < 1e-6
    for endpoint in exact.endpoints:
        each = patient_log_likelihood(draws, exact, design, endpoint=endpoint)
        direct = each.sum("patient").values.ravel()
        ours = total_log_likelihood(draws, found, other, endpoint=endpoint)
        # What is expected: the log-likelihood without its events, so that nothing cancels.
        hazards = total_log_likelihood(draws, without_events(exact), design, endpoint=endpoint)
        compressed = total_log_likelihood(draws, without_events(found), other, endpoint=endpoint)
        assert (np.abs(compressed / hazards - 1.0) <= error + 1e-12).all()
        assert (np.abs(ours - direct) <= (error + 1e-12) * np.abs(hazards) + 1e-9).all()
        # Single patients have their own values, never those of nodes.
        own = patient_log_likelihood(draws, found, other, endpoint=endpoint)
        np.testing.assert_allclose(own.values, each.values, rtol=1e-9, atol=1e-9)


def without_events(person_time: PersonTime) -> PersonTime:
    empty = xr.zeros_like(person_time.table["events"])
    return replace(person_time, table=person_time.table.assign(events=empty))


@pytest.mark.parametrize("covariates", COVARIATES[:3], ids="+".join)
def test_patients_at_risk_and_other_weights(covariates: tuple[str, ...]) -> None:
    """What projects patients onto nodes: risk sets, and models whose patients are weighted."""
    exact, found = exposed(*covariates, compress=False), exposed(*covariates, compress=True)
    definition = bb.load_model("primary")
    projection = found.projection()
    np.testing.assert_allclose(np.asarray(projection.sum(axis=1)).ravel(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        np.asarray(projection @ found.table["design"].values),
        exact.terms_of(slice(None)),
        atol=1e-10,
    )
    # Products of matrices of other shapes add in another order: each weight is a sum of so many
    # terms, together no larger than about 2, and so is off by that number of roundings.
    assert found.compression is not None
    limit = 8.0 * EPS * sum(axis.nodes for axis in found.compression.axes)
    some = found.projection(np.array([5, 2, 9])).toarray()
    np.testing.assert_allclose(some, projection.toarray()[[5, 2, 9]], rtol=0, atol=limit)
    for landmark in (0.0, LANDMARK):
        one, two = exact.at_risk(landmark), found.at_risk(landmark)
        inside = (exact.people["begin"] <= landmark) & (exact.people["exit"] > landmark)
        np.testing.assert_array_equal(one.sum(axis=1), inside.sum("patient").values)
        # Exponentials over the risk set, as any smooth function's sum.
        for slope in (-0.5, 0.8):
            at_nodes = two @ np.exp(slope * make_design(found, definition).terms[:, -1])
            direct = one @ np.exp(slope * make_design(exact, definition).terms[:, -1])
            np.testing.assert_allclose(at_nodes, direct, rtol=1e-6, atol=1e-9)
    built = build_model(definition, found)
    draws = some_draws(exact)
    for seed in (1, 2):
        random = np.random.default_rng(seed)
        weight = random.choice(np.array([0.0, 1.0, 2.5]), found.people.sizes["patient"])
        with_weights(built, found, weight)
        data = {item.name: item.get_value() for item in built.model.data_vars}
        weighted = replace(
            found,
            table=found.table.assign(
                events=xr.zeros_like(found.table["person_time"]),
                person_time=(found.table["person_time"].dims, data["person_time"]),
            ),
        )
        expected = total_log_likelihood(draws, weighted, make_design(found, definition))
        each = patient_log_likelihood(
            draws, without_people_events(exact), make_design(exact, definition)
        )
        by_hand = (each.values * weight).sum(axis=-1).ravel()
        np.testing.assert_allclose(expected, by_hand, rtol=1e-6)
        event = exact.people["event"].values @ weight
        np.testing.assert_allclose(data["events_by_pattern"].sum(axis=-1), event, rtol=1e-12)


def without_people_events(person_time: PersonTime) -> PersonTime:
    held = person_time.patients()
    quiet = held.people.assign(event=xr.zeros_like(held.people["event"]))
    return replace(person_time, patients=lambda: replace(held, people=quiet))  # type: ignore[arg-type]


# Fits and curves ----------------------------------------------------------------------------------


@cache
def fitted(*, compress: bool, seed: int = 1) -> Fit:
    return bb.fit(
        cohort_of("score", "age_group", "marrow_blasts"),
        QUESTION,
        seed=seed,
        cuts=CUTS,
        compress=compress,
        progress=False,
    )


def both(*, factor: float = 1.0) -> tuple[Fit, Fit]:
    """Some draws, with larger coefficients, over the patients themselves and over nodes."""
    fit = fitted(compress=True)
    some = fit.posterior.isel(draw=slice(None, None, 20))
    some = some.assign(coefficient=factor * some["coefficient"])
    one = replace(fit, draws=xr.DataTree.from_dict({"/posterior": some}))
    return replace(one, person_time=fitted(compress=False, seed=2).person_time), one


def test_a_compressed_fit_has_the_same_posterior() -> None:
    found, exact = fitted(compress=True), fitted(compress=False, seed=2)
    assert found.person_time.compression is not None
    assert exact.person_time.compression is None
    names = ["log_hazard_ratio", "coefficient", "log_baseline"]
    one, two = found.posterior[names], exact.posterior[names]
    distances = []
    for name in names:
        errors = [bb_mcse(each[name]) for each in (one, two)]
        means = [each[name].mean(("chain", "draw")).values for each in (one, two)]
        distances.append(np.abs(means[0] - means[1]) / np.hypot(*errors))
        spread = [each[name].std(("chain", "draw")).values for each in (one, two)]
        # The sd of an sd from 400 independent draws, the least that converges, is 1 / sqrt(800).
        np.testing.assert_allclose(spread[0], spread[1], rtol=4 * math.sqrt(2 / 800))
    together = np.concatenate([each.ravel() for each in distances])
    # Of 24 standard normal numbers the largest is above 4 in one of 600 runs.
    assert together.size < 30
    assert together.max() < 4.0
    # The other kind of sums was not the same model by chance.
    assert np.abs(one["coefficient"].mean(("chain", "draw"))).max() > 0.05


def bb_mcse(values: xr.DataArray) -> Floats:
    import arviz as az

    return np.asarray(az.mcse(values.to_dataset(name="x"), method="mean")["x"].values)


def test_the_fit_says_how_far_it_may_be_off() -> None:
    fit = fitted(compress=True)
    assert fit.person_time.compression is not None
    largest = swings(fit.person_time, fit.posterior, fit.design)
    # By hand: the largest coefficient of any draw times half the range, in sds.
    for axis, swing in zip(fit.person_time.compression.axes, largest, strict=True):
        coefficient = np.abs(fit.posterior["coefficient"].sel(term=axis.name).values).max()
        sd = table().set_index("patient_id").loc[fit.person_time.people["patient"].values]
        half = (axis.high - axis.low) / 2
        expected = coefficient * half / float(np.std(sd[axis.name]))
        assert swing == pytest.approx(expected, rel=1e-9)
    hazard = fit.person_time.compression.hazard_error(largest)
    alive = fit.person_time.compression.survival_error(largest)
    (note,) = (one for one in fit.provenance.notes if "compressed" in one)
    assert f"1 plus or minus {hazard:.1g} in every draw" in note
    assert f"survival averaged over the patients within {alive:.1g}" in note
    assert "score to 25" in note
    assert not any("compressed" in one for one in fitted(compress=False, seed=2).provenance.notes)
    with pytest.raises(SpecError, match="compress=False"):
        compression_notes(fit.person_time, fit.posterior * 40.0, fit.design)


@pytest.mark.parametrize("by", [None, "age_group"])
def test_curves_of_compressed_patients(by: str | None) -> None:
    """The same draws over nodes and over the patients themselves, all within the bound."""
    one, other = both(factor=3.0)
    assert (other.person_time.at_risk(LANDMARK) < 0).any()
    arguments: dict[str, Any] = {"regimes": REGIMES, "landmark": LANDMARK, "by": by}
    times = np.linspace(LANDMARK, 30.0, 12)
    exact = bb.survival(one, times=times, **arguments)
    found = bb.survival(other, times=times, **arguments)
    assert "survival_error" not in exact.attrs
    bound = float(found.attrs["survival_error"])
    assert other.person_time.compression is not None
    assert bound == other.person_time.compression.survival_error(
        swings(other.person_time, other.posterior, other.design)
    )
    gap = np.abs(found["survival"] - exact["survival"])
    # Far more than rounding, and within the bound.
    assert 1e-11 < float(gap.max()) <= bound
    # Integrals of survival, each within the bound times the length.
    means = [bb.rmst(each, horizon=30.0, **arguments)["rmst"] for each in (one, other)]
    assert float(np.abs(means[0] - means[1]).max()) <= bound * (30.0 - LANDMARK)
    # Times: an error of survival over the slope of the curve, which is at least hazard x level.
    level = 0.8
    reach = [bb.survival_quantile(each, survival=level, **arguments) for each in (one, other)]
    density = bb.hazard(one, times=[*CUTS[-2:], 35.0], **arguments)["hazard"].min("time") * level
    times_found = reach[0]["reached"] & reach[1]["reached"]
    assert float(times_found.mean()) > 0.5
    late = abs(reach[0]["quantile"] - reach[1]["quantile"]).where(times_found, 0.0)
    assert (late <= 4.0 * bound / density + 1e-9).all()


def test_medians_of_compressed_patients_are_not_lost() -> None:
    one, other = both()
    for by in (None, "age_group"):
        arguments: dict[str, Any] = {"regimes": REGIMES, "landmark": LANDMARK, "by": by}
        exact, found = (bb.median_survival(each, **arguments) for each in (one, other))
        assert bool((exact["reached"] == found["reached"]).all())
        assert float(exact["reached"].mean()) > 0.2
        np.testing.assert_allclose(found["quantile"], exact["quantile"], rtol=1e-4)


def test_courses_of_compressed_patients() -> None:
    """Death with and without a relapse on the way, over nodes and over the patients."""
    definition, cohort = bb.load_model("illness_death"), cohort_of("score")
    exact, found = (
        person_time_for(definition, cohort, QUESTION, cuts=CUTS, compress=compress)
        for compress in (False, True)
    )
    # Draws from the prior do as well; larger effects, so that not all is rounding.
    prior = draw_prior(build_model(definition, exact), seed=1, draws=20)
    effects = np.clip(2.0 * prior["coefficient"], -0.7, 0.7)
    draws = xr.DataTree.from_dict({"/posterior": prior.assign(coefficient=effects)})
    one, other = (
        replace(fitted(compress=True), definition=definition, person_time=each, draws=draws)
        for each in (exact, found)
    )
    arguments: dict[str, Any] = {"regimes": REGIMES, "landmark": LANDMARK, "times": [10.0, 25.0]}
    curves_of = [bb.survival(each, **arguments) for each in (one, other)]
    assert found.compression is not None
    largest = swings(found, other.posterior, other.design)
    bound = float(curves_of[1].attrs["survival_error"])
    assert bound == found.compression.survival_error(largest, courses=True)
    gap = float(abs(curves_of[0]["survival"] - curves_of[1]["survival"]).max())
    assert 1e-13 < gap <= bound
    (note,) = compression_notes(found, other.posterior, other.design)
    assert f"within {bound:.1g}" in note
    states = [bb.state_occupancy(each, **arguments)["probability"] for each in (one, other)]
    # Each is a difference of two survivals or an integral over a density like theirs.
    assert float(abs(states[0] - states[1]).max()) <= 2.0 * bound


def test_averages_that_may_be_far_off_are_refused() -> None:
    exact, other = both(factor=12.0)
    arguments: dict[str, Any] = {"regimes": REGIMES, "landmark": LANDMARK}
    for ask in (
        bb.survival,
        bb.hazard,
        bb.cumulative_hazard,
        bb.median_survival,
        lambda *given, **named: bb.rmst(*given, horizon=20.0, **named),
    ):
        with pytest.raises(EstimandError, match=r"may be off by.*compress=False"):
            ask(other, **arguments)
    # Patients with their own values are averaged without nodes.
    patients = cohort_of("score", "age_group", "marrow_blasts")
    found = bb.survival(other, population=patients, times=[12.0], **arguments)
    assert "survival_error" not in found.attrs
    wanted = bb.survival(exact, population=patients, times=[12.0], **arguments)
    np.testing.assert_allclose(found["survival"], wanted["survival"], rtol=1e-9)
    # A level that is not told from 0 has no time.
    _, fit = both()
    known = float(bb.median_survival(fit, **arguments).attrs["survival_error"])
    with pytest.raises(EstimandError, match="not told from 0"):
        bb.survival_quantile(fit, survival=known / 2.0, **arguments)
    assert not bb.survival_quantile(fit, survival=known * 2.0, **arguments)["reached"].any()


def test_some_draws_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is that of all draws, and so are the curves."""
    fit = fitted(compress=True)
    arguments: dict[str, Any] = {"regimes": REGIMES, "landmark": LANDMARK}
    whole = bb.survival(fit, times=[10.0, 20.0], **arguments)
    seen = []
    averages_of = averages.averages_of

    def counted(part: Fit, *rest: Any) -> Any:
        seen.append(part.posterior.sizes["draw"])
        return averages_of(part, *rest)

    monkeypatch.setattr(averages, "averages_of", counted)
    patterns = fit.person_time.table.sizes["pattern"]
    monkeypatch.setattr(averages, "LARGEST", 4 * 300 * patterns)
    parts = bb.survival(fit, times=[10.0, 20.0], **arguments)
    assert seen == [300, 300, 300, 100]
    xr.testing.assert_identical(parts, whole)
