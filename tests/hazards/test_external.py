"""External patients: what is borrowed of them, against numerical integration."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm

import bayesblina as bb
from bayesblina.checks.weaknesses import early_and_late, weaknesses
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.hazards.build import build_model
from bayesblina.hazards.definition import ModelDefinition, parse_model
from bayesblina.hazards.likelihood import total_log_likelihood
from bayesblina.hazards.parts import Commensurate, Part, RobustMixture
from bayesblina.inference.model_data import person_time_for
from bayesblina.output.report.wording import estimand_of
from bayesblina.studies import external
from tests.hazards.family import prior_points

QUESTION = bb.Question(exposed="late", eligible_from="entry")
CUT = 6.0


def table_of(
    *, seed: int, current: int, external: int, baseline: float, log_ratios: tuple[float, float]
) -> pd.DataFrame:
    """Patients whose hazard is 0.05, `baseline` times it in the external ones, until they enter."""
    generator = np.random.default_rng(seed)
    size = current + external
    outside = np.arange(size) >= current
    rate = 0.05 * np.where(outside, baseline, 1.0)
    start = generator.exponential(5.0, size)
    spent = generator.exponential(1.0, size)
    before = rate * start
    relative = np.exp(np.where(outside, log_ratios[1], log_ratios[0]))
    time = np.where(spent < before, spent / rate, start + (spent - before) / (rate * relative))
    end = np.minimum(time, 24.0)
    return pd.DataFrame(
        {
            "id": np.arange(size),
            "time": end,
            "event": (time <= 24.0).astype(int),
            "start": np.where(start < end, start, np.nan),
            "source": np.where(outside, "external", "current"),
            "arm": generator.choice(["a", "b"], size),
        }
    )


def read(table: pd.DataFrame, *covariates: str) -> bb.Cohort:
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=list(covariates),
    )


def borrowing_model(name: str) -> ModelDefinition:
    """A shipped model under which arms hardly differ, in whatever source.

    Numerical integration may leave them out; and with a covariate the structure is one that other
    tests have compiled.
    """
    none, wider = ({"hazard_ratio": (1.0 / up, up), "mass": 0.95} for up in (1.0001, 1.0002))
    content = bb.load_model(name).model_dump(by_alias=True)
    content["covariates"]["prior"] = none
    content["borrowing"]["source"] = "source"
    mixture = {"probability": 0.5, "close": none, "apart": wider}
    content["borrowing"]["covariates"] = none if name == "commensurate" else mixture
    return parse_model(content, source=f"{name}, with arms that hardly differ")


def cells(table: pd.DataFrame) -> tuple[Floats, Floats]:
    """Events and time by (current or external, before or after the cut, unexposed or exposed)."""
    events, spent = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    columns = [table[name].tolist() for name in ("source", "start", "time", "event")]
    for name, entered, time, event in zip(*columns, strict=True):
        source = int(name == "external")
        start = math.inf if math.isnan(entered) else entered
        for interval, (left, right) in enumerate(((0.0, CUT), (CUT, math.inf))):
            for exposed, (low, high) in enumerate(((0.0, start), (start, math.inf))):
                begin, end = max(left, low), min(right, high, time)
                spent[source, interval, exposed] += max(end - begin, 0.0)
        late = int(time > CUT), int(time > start)
        events[source, late[0], late[1]] += event
    return events, spent


def prior_density(model: ModelDefinition, part: str, at: Floats) -> Floats:
    """Prior of a difference, its sd integrated out by a sum over its quantiles."""
    kind = model.borrowing
    if isinstance(kind, Commensurate):
        prior = kind.phases if part == "phases" else kind.spread
        assert prior is not None
        sds = prior.scale * norm.ppf(0.5 + (np.arange(400) + 0.5) / 800.0)
        return np.asarray(norm.pdf(at[:, None], 0.0, sds).mean(axis=1))
    assert isinstance(kind, RobustMixture)
    mixture = kind.phases if part == "phases" else kind
    assert mixture is not None
    share = mixture.probability
    close, apart = mixture.close, mixture.apart
    return np.asarray(
        share * norm.pdf(at, close.mean, close.sd)
        + (1.0 - share) * norm.pdf(at, apart.mean, apart.sd)
    )


def integrate(model: ModelDefinition, table: pd.DataFrame) -> dict[str, float]:
    """Integrate over level, log hazard ratio, both differences and steps, on grids.

    Means and variances of the current patients' quantities, with external patients and without.
    """
    events, spent = cells(table)
    weight = events[0].sum(axis=1) + 0.5
    share = weight / weight.sum()
    centre = math.log((events[0].sum() + 0.5) / spent[0].sum())
    level = centre + np.linspace(-1.8, 1.8, 49)
    ratio = np.linspace(-2.4, 2.4, 57)
    apart = np.linspace(-3.5, 3.5, 211)
    steps = np.linspace(-3.0, 3.0, 21)
    sd, ratio_sd = (math.log(end) / norm.ppf(0.975) for end in (20.0, 5.0))
    own = events[0].sum(axis=1) / events[0].sum()
    densities = [prior_density(model, part, apart) for part in ("baseline", "phases")]
    wide = centre + np.linspace(-9.0, 9.0, 1501)

    def log_cells(source: int, exposed: int, at: Floats, step: float) -> Floats:
        shift = np.array([-share[1] * step, share[0] * step])
        counts, time = events[source, :, exposed], spent[source, :, exposed]
        # Near the largest value, so that exponentials stay in range.
        peak = float(counts.sum()) * (math.log(counts.sum() / time.sum()) - 1.0)
        linear = at * float(counts.sum()) + float(counts @ shift)
        return np.asarray(linear - np.exp(at) * float(time @ np.exp(shift)) - peak)

    # External patients given the current level and log hazard ratio; the step is their own.
    external = np.zeros((level.size, ratio.size))
    for step in steps:
        exposed = np.exp(log_cells(1, 1, wide[:, None] + apart, step)) @ densities[1]
        unexposed = np.exp(log_cells(1, 0, level[:, None] + apart, step)) * densities[0]
        for index, one in enumerate(apart):
            there = np.interp(level[:, None] + ratio + one, wide, exposed)
            external += norm.pdf(step, 0.0, sd) * unexposed[:, index][:, None] * there
    moments = np.zeros((2, 2, 3))
    grid = np.ix_(level, ratio)
    for step in steps:
        shift = own @ np.array([-share[1] * step, share[0] * step])
        log = log_cells(0, 0, grid[0], step) + log_cells(0, 1, grid[0] + grid[1], step)
        log = log + norm.logpdf(grid[0], centre, sd) + norm.logpdf(grid[1], 0.0, ratio_sd)
        alone = np.exp(log + norm.logpdf(step, 0.0, sd))
        for place, density in enumerate((alone, alone * external)):
            for which, value in enumerate((grid[0] + shift, grid[1])):
                moments[place, which] += [
                    density.sum(),
                    (density * value).sum(),
                    (density * value**2).sum(),
                ]
    mean = moments[..., 1] / moments[..., 0]
    variance = moments[..., 2] / moments[..., 0] - mean**2
    found = {}
    for which, part in enumerate(("baseline", "phases")):
        found[f"{part} mean"] = mean[1, which]
        found[f"{part} sd"] = math.sqrt(variance[1, which])
        found[f"{part} alone"] = mean[0, which]
        gain = variance[0, which] / variance[1, which] - 1.0
        found[f"{part} events"] = events[0].sum() * gain
    return found


@pytest.mark.parametrize("name", ["commensurate", "robust_mixture"])
def test_events_gained_are_those_of_numerical_integration(name: str) -> None:
    table = table_of(
        seed=1, current=60, external=120, baseline=1.0, log_ratios=(math.log(0.5), 0.0)
    )
    model = borrowing_model(name)
    expected = integrate(model, table)
    fit = bb.fit(
        read(table, "source", "arm"),
        QUESTION,
        model=model,
        cuts=[CUT],
        seed=1,
        draws=2000,
        progress=False,
    )
    assert fit.converged
    logs = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values.ravel())
    # Four Monte-Carlo errors of at least 1,000 effective draws.
    error = 4.0 * expected["phases sd"] / math.sqrt(1000)
    assert logs.mean() == pytest.approx(expected["phases mean"], abs=error)
    rows = {str(row["part"]): row for row in bb.borrowing(fit).to_dict("records")}
    for part in ("baseline", "phases"):
        row = rows[part]
        assert row["effective_events"] == pytest.approx(
            expected[f"{part} events"], abs=4.0 * row["effective_events_error"]
        )
        # The errors tell something: a gain of 0 or of all external events is far from them.
        assert row["effective_events_error"] < 0.15 * row["effective_events"]
    assert math.log(rows["phases"]["alone"]) == pytest.approx(expected["phases alone"], abs=0.05)
    current = int(table.loc[table["source"] == "current", "event"].sum())
    assert {row["current_events"] for row in rows.values()} == {current}


def test_a_conflict_of_hazard_ratios_is_told_and_does_not_move_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = table_of(
        seed=2, current=120, external=300, baseline=1.0, log_ratios=(math.log(0.3), math.log(2.0))
    )
    model = borrowing_model("commensurate")
    patients = read(table, "source", "arm")
    fit = bb.fit(patients, QUESTION, model=model, cuts=[CUT], seed=1, progress=False)
    rows = {str(row["part"]): row for row in bb.borrowing(fit).to_dict("records")}
    row = rows["phases"]
    assert row["conflict"]
    assert not rows["baseline"]["conflict"]
    expected = integrate(model, table)
    logs = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values.ravel())
    # Four Monte-Carlo errors of at least 1,000 effective draws.
    error = 4.0 * expected["phases sd"] / math.sqrt(1000)
    assert logs.mean() == pytest.approx(expected["phases mean"], abs=error)
    # Agreeing levels are borrowed from, and may move it; the external ratio lies 1.9 above.
    assert abs(math.log(row["current"]) - math.log(row["alone"])) < 0.3
    # The truth is a ratio of hazard ratios of 6.7.
    assert row["lower"] < 2.0 / 0.3 < row["upper"]
    told = [one for one in weaknesses(fit) if "conflict" in one]
    assert len(told) == 1
    assert told[0].startswith(
        "os: the hazard ratio of late in external patients (source external) is "
    )
    assert bb.hazard_ratio(fit).attrs["kind"].endswith("of current patients")
    whose = estimand_of(fit)["population"]
    assert whose.startswith("current patients (all patients, from each endpoint's own entry); ")
    assert whose.endswith("external patients (external) only inform about them")
    # The external patients' effect is no departure of the current ones' from proportionality.
    now = read(table[table["source"] == "current"], "arm")
    alone = bb.fit(now, QUESTION, cuts=[CUT], seed=1, draws=200, progress=False)
    assert estimand_of(alone) == QUESTION.estimand()
    for one, other in zip(early_and_late(fit), early_and_late(alone), strict=True):
        assert one.late == pytest.approx(other.late, rel=1e-6)
    with pytest.raises(EstimandError, match="has no external patients"):
        bb.borrowing(alone)
    with pytest.raises(SpecError, match="mass must lie"):
        bb.borrowing(fit, mass=1.0)
    # Were the current patients alone told with the same draws, or with twice their spread.
    events = int(table.loc[table["source"] == "current", "event"].sum())
    ratio = fit.posterior["log_hazard_ratio"]
    middle = ratio.mean(("chain", "draw"))
    for factor, gained in ((1.0, 0.0), (2.0, 3.0 * events)):
        wider = fit.posterior.assign(log_hazard_ratio=middle + factor * (ratio - middle))
        spread = replace(fit, draws=xr.DataTree.from_dict({"posterior": wider}))
        monkeypatch.setattr(external, "_alone", lambda _, spread=spread: (spread, True))
        phases = bb.borrowing(fit).set_index("part").loc["phases"]
        assert phases["effective_events"] == pytest.approx(gained, abs=1e-6)
    monkeypatch.setattr(external, "_alone", lambda _: (fit, False))
    missing = bb.borrowing(fit)
    assert missing["effective_events"].isna().all()
    assert missing.attrs["alone_converged"] == 0


def with_everything(name: str) -> ModelDefinition:
    """External patients, strata and subgroups in one model."""
    content = bb.load_model(name).model_dump(by_alias=True)
    content["baseline"] |= {"stratified": True, "stratum": "arm"}
    content["phases"] = bb.load_model("by_subgroup").model_dump()["phases"] | {"subgroup": "sex"}
    content["borrowing"]["source"] = "source"
    return parse_model(content, source="a model with everything")


@pytest.mark.parametrize("name", ["commensurate", "robust_mixture"])
def test_density_is_the_sum_over_cells_written_out(name: str) -> None:
    """Three sources, strata and subgroups; every cell's hazard from the variables by name."""
    table = table_of(seed=3, current=40, external=60, baseline=1.0, log_ratios=(0.0, 0.0))
    generator = np.random.default_rng(4)
    table["sex"] = generator.choice(["f", "m"], len(table))
    older = (table["source"] == "external") & (generator.random(len(table)) < 0.5)
    table.loc[older, "source"] = "older"
    model = with_everything(name)
    person_time = person_time_for(model, read(table, "source", "arm", "sex"), QUESTION, cuts=[CUT])
    built = build_model(model, person_time)
    posterior, density = prior_points(built, draws=2, seed=5)
    terms = [str(one) for one in person_time.table["term"].values]
    raw = person_time.table["design"].values
    column = {one: raw[:, terms.index(one)] for one in terms}
    mean = np.average(column["sex[m]"], weights=person_time.table["patients"].values)
    for draw in range(2):
        one = posterior.isel(chain=0, draw=draw).sel(endpoint="os")
        total = 0.0
        for pattern in range(raw.shape[0]):
            sex, arm = ("fm"[int(column["sex[m]"][pattern])], "ab"[int(column["arm[b]"][pattern])])
            source = next(
                (s for s in ("external", "older") if column[f"source[{s}]"][pattern]), None
            )
            slope = float(one["coefficient"].sel(term="sex[m]"))
            level = np.zeros(2)
            ratio = float(one["log_hazard_ratio_by_subgroup"].sel(subgroup=sex))
            if source is not None:
                other = one.sel(source=source)
                level = (
                    float(other["source_effect"]) + other["source_shape"].sel(stratum=arm).values
                )
                ratio += float(other["source_phase_effect"].sel(effect="late"))
                slope += float(other["source_coefficient"].sel(term="sex[m]"))
            for interval in range(2):
                for state, role in enumerate(person_time.table["role"].values):
                    cell = {"interval": interval, "phase": state, "pattern": pattern}
                    cell |= {"endpoint": 0}
                    log = float(one["log_baseline"].sel(stratum=arm).values[interval])
                    log += float(level[interval])
                    log += slope * ((sex == "m") - mean) + ratio * (role == "exposed")
                    total += float(person_time.table["events"].isel(cell)) * log
                    total -= float(person_time.table["person_time"].isel(cell)) * math.exp(log)
        assert density[draw] == pytest.approx(total, rel=1e-10)
    found = total_log_likelihood(posterior, person_time, built.design)
    np.testing.assert_allclose(found, density, rtol=1e-10)


def test_what_is_shared_is_chosen_in_file_and_call() -> None:
    patients = read(
        table_of(seed=3, current=40, external=60, baseline=1.0, log_ratios=(0.0, 0.0)),
        "source",
        "arm",
    )
    parts: dict[Part, str] = {
        "baseline": "source_effect",
        "shape": "source_shape",
        "phases": "source_phase_effect",
        "covariates": "source_coefficient",
    }
    for name in ("commensurate", "robust_mixture"):
        shipped = bb.load_model(name).with_covariates(source="source")
        assert isinstance(shipped.borrowing, Commensurate | RobustMixture)
        assert shipped.borrowing.covers == tuple(parts)
        structures = set()
        chosen: list[tuple[Part, ...]] = [tuple(parts), ("shape",), ("baseline",), ("phases",)]
        chosen.append(("covariates", "baseline"))
        for covers in chosen:
            model = shipped.with_borrowing(covers=covers)
            built = build_model(model, person_time_for(model, patients, QUESTION, cuts=[CUT]))
            variables = {one for one in parts.values() if one in built.model.named_vars}
            assert variables == {parts[part] for part in covers}
            assert built.design.blocks == (2 if {"phases", "shape"} & set(covers) else 1)
            structures.add(built.structure)
        assert len(structures) == 5
        with pytest.raises(SpecError, match="covers must name some of baseline, shape, phases"):
            shipped.with_borrowing(covers=[])
        with pytest.raises(SpecError, match=r"borrowing\.covers"):
            shipped.with_borrowing(covers=["level"])  # type: ignore[list-item]
        content = shipped.model_dump(by_alias=True)
        content["borrowing"]["covers"] = ["baseline"]
        with pytest.raises(SpecError, match="a prior for phases, which covers does not name"):
            parse_model(content, source="a file")
    with pytest.raises(SpecError, match="no external patients who may differ"):
        bb.load_model("power_prior").with_borrowing(covers=["baseline"])
