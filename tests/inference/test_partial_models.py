"""Posteriors by partial likelihood, against their definition and against quadrature."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.special import betaincinv
from scipy.stats import norm

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import make_design
from bayesblina.hazards.parts import PhasesBySubgroup, PhasesOverTime, RandomWalk, SiteFrailty
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.inference.companion import partial_models, partial_posterior
from bayesblina.person_time.cells import PersonTime
from tests.inference.companions import (
    PRIMARY,
    QUESTION,
    SD,
    moments,
    naive,
    read,
    study,
    value_of,
    weighted,
)


class TestLikelihood:
    """Against loops over events and those at risk."""

    def test_phases_covariates_entry_and_weights(self) -> None:
        table = study(60, 2)
        weight = np.random.default_rng(3).uniform(0.2, 3.0, 60)
        beta = [0.4, -0.7, 0.3, 0.5]
        for used, compress in ((None, None), (weight, None), (weight, True)):
            person_time = bb.person_time(
                read(table, ("x", "site")), QUESTION, weights=used, compress=compress
            )
            design = make_design(person_time, PRIMARY)
            assert design.effects == ("b", "c")
            raw = pd.DataFrame({"x": table["x"], "site[s]": (table["site"] == "s") * 1.0})
            terms = design.standardised(raw[list(design.term_names)].to_numpy())
            pattern = dict(zip(table["id"], terms @ beta[2:], strict=True))

            def linear(row: pd.Series, state: str, own: dict[int, float] = pattern) -> float:
                return own[row.id] + {"a": 0.0, "b": beta[0], "c": beta[1]}[state]

            expected = naive(table, linear, weight=used)
            assert value_of(PRIMARY, person_time, beta) == pytest.approx(expected, rel=1e-9)

    def test_strata(self) -> None:
        table = study(60, 4)
        definition = bb.load_model("stratified").with_covariates(stratum="site")
        person_time = bb.person_time(read(table, ("site",)), QUESTION)

        effect = {"a": 0.0, "b": 0.4, "c": -0.7}
        expected = naive(table, lambda _, state: effect[state], stratum="site")
        assert value_of(definition, person_time, [0.4, -0.7]) == pytest.approx(expected, rel=1e-12)

    def test_derivatives(self) -> None:
        person_time = bb.person_time(read(study(60, 5), ("x",)), QUESTION)
        (model,) = partial_models(PRIMARY, person_time, make_design(person_time, PRIMARY))
        likelihood, point, step = model.problem.likelihood, np.array([0.3, -0.2, 0.5]), 1e-5
        value, gradient, information = likelihood.derivatives(point)
        moved = point + step * np.concatenate([np.eye(3), -np.eye(3)])
        values, gradients = likelihood.gradients(moved)
        np.testing.assert_allclose(values, likelihood.value(moved), rtol=1e-12)
        assert value == pytest.approx(float(likelihood.value(point[None])[0]), rel=1e-12)
        np.testing.assert_allclose(gradient, (values[:3] - values[3:]) / (2 * step), atol=1e-7)
        np.testing.assert_allclose(
            information, -(gradients[:3] - gradients[3:]) / (2 * step), atol=1e-7
        )


class TestAgainstQuadrature:
    """Few parameters, on the nodes of a quadrature."""

    def test_one_effect(self) -> None:
        table = study(40, 6).drop(columns=["c"])
        person_time = bb.person_time(read(table), QUESTION)
        grid = np.linspace(-5.0, 5.0, 401)

        def at(beta: float) -> float:
            return naive(table, lambda _, state: beta * (state == "b"))

        some = np.linspace(-5.0, 5.0, 41)
        log_likelihood = np.interp(grid, some, [0.0] * 41)
        # The likelihood is smooth: a polynomial through its values on a coarse grid is enough.
        polynomial = np.polynomial.Chebyshev.fit(some, [at(one) for one in some], 24)
        log_likelihood = polynomial(grid)
        mean, sd = weighted(grid, log_likelihood - 0.5 * grid**2 / SD**2)
        found = partial_posterior(PRIMARY, person_time, seed=1, draws=50_000)
        assert abs(moments(found)[0][0, 0] - mean) < 0.005 * sd
        assert abs(moments(found)[1][0, 0] / sd - 1.0) < 0.01
        assert found.draws is not None
        below = float((found.draws["log_hazard_ratio"] < 0.0).mean())
        share = np.exp(log_likelihood - 0.5 * grid**2 / SD**2 - log_likelihood.max())
        exact = share[grid < 0].sum() + share[grid == 0].sum() / 2.0
        assert abs(below - exact / share.sum()) < 0.005

    def test_no_exposed_event_leaves_the_prior(self) -> None:
        table = study(40, 6).drop(columns=["c"])
        table.loc[table["b"].notna(), "died"] = False
        person_time = bb.person_time(read(table), QUESTION)
        grid = np.linspace(-7.0, 5.0, 601)
        values = [
            value_of(PRIMARY, person_time, [one]) - 0.5 * one**2 / SD**2 for one in grid.tolist()
        ]
        mean, sd = weighted(grid, np.array(values))
        found = partial_posterior(PRIMARY, person_time, seed=1, draws=50_000)
        assert abs(moments(found)[0][0, 0] - mean) < 0.005 * sd
        assert abs(moments(found)[1][0, 0] / sd - 1.0) < 0.01
        flat = partial_posterior(PRIMARY, person_time, seed=1, flat=("phases",))
        assert flat.draws is None
        assert "improper" in flat.reason
        assert flat.table["method"].tolist() == ["none"]

    @pytest.mark.parametrize(
        ("kind", "known"),
        [("by_subgroup", False), ("over_time", False), ("over_time", True), ("frailty", False)],
    )
    def test_sds_are_integrated(self, kind: str, known: bool) -> None:
        table = study(50, 8).drop(columns=["c", "x"])
        definition = bb.load_model(kind)
        roles = {"by_subgroup": {"subgroup": "site"}, "frailty": {"group": "site"}}.get(kind, {})
        definition = definition.with_covariates(**roles)
        if kind == "by_subgroup":
            # Without the covariate's own effect there is little to integrate.
            definition = definition.with_priors(
                covariates=HazardRatioPrior.from_sd(0.001),
                phase_change=bb.SpreadPrior(hazard_ratio=(0.4, 2.5)),
            )
        if kind == "over_time" and not known:
            estimated = bb.SpreadPrior(hazard_ratio=(0.2, 5.0), known=False)
            definition = definition.with_priors(phase_change=estimated)
        covariates = ("site",) if roles else ()
        person_time = bb.person_time(read(table, covariates), QUESTION, cuts=[3.0, 7.0])
        mean, sd, others = brute_force(table, definition, person_time, kind)
        found = partial_posterior(definition, person_time, seed=1, draws=50_000)
        assert found.table["method"].tolist() == ["importance"]
        assert abs(moments(found)[0][0, 0] - mean) < 0.01 * sd
        assert abs(moments(found)[1][0, 0] / sd - 1.0) < 0.015
        name = {
            "by_subgroup": "log_hazard_ratio_by_subgroup",
            "over_time": "log_hazard_ratio_by_interval",
            "frailty": "group_effect",
        }[kind]
        means, sds = (one[0] for one in moments(found, name))
        for index, (expected, spread) in enumerate(others):
            assert abs(means[index] - expected) < 0.01 * spread
            assert abs(sds[index] / spread - 1.0) < 0.02

    def test_correlated(self) -> None:
        table = study(60, 9).drop(columns=["c", "x", "site"])
        late = np.random.default_rng(1).random(60) < 0.3
        table["relapse_time"] = np.where(late, table["time"] * 0.7, table["time"])
        table["relapse_time"] = np.maximum(table["relapse_time"], table["entry"] + 0.05)
        table["relapse"] = table["died"] | late
        cohort = read(table, (), relapse=True)
        person_time = bb.person_time(cohort, QUESTION)
        definition = bb.load_model("correlated").with_priors(
            phases=HazardRatioPrior(hazard_ratio=(0.15, 2.0))
        )
        prior = definition.phases.prior
        grid = np.linspace(-4.0, 4.0, 161)
        each = [
            np.array([value_of(PRIMARY, person_time, [one], endpoint) for one in grid.tolist()])
            for endpoint in (0, 1)
        ]
        first, second = np.meshgrid(grid, grid, indexing="ij")
        z = [(one - prior.mean) / prior.sd for one in (first, second)]
        density = np.zeros(first.shape)
        for share in (np.arange(200) + 0.5) / 200:
            rho = 2.0 * betaincinv(2.0, 2.0, share) - 1.0
            square = (z[0] ** 2 - 2 * rho * z[0] * z[1] + z[1] ** 2) / (1 - rho**2)
            density += np.exp(-0.5 * square) / np.sqrt(1 - rho**2)
        log_density = np.log(density) + each[0][:, None] + each[1][None, :]
        found = partial_posterior(definition, person_time, seed=1, draws=50_000)
        for index, values in enumerate((first, second)):
            mean, sd = weighted(values, log_density)
            assert abs(moments(found)[0][index, 0] - mean) < 0.01 * sd
            assert abs(moments(found)[1][index, 0] / sd - 1.0) < 0.01

    def test_one_baseline_of_two_endpoints(self) -> None:
        table = study(50, 10).drop(columns=["c", "x", "site"])
        table["relapse_time"] = table["time"]
        table["relapse"] = table["died"] | (np.arange(50) % 3 == 0)
        person_time = bb.person_time(read(table, (), relapse=True), QUESTION)
        definition = bb.load_model("shared_baseline")
        (model,) = partial_models(definition, person_time, make_design(person_time, definition))
        # Both endpoints' patients stand side by side, as patients of two levels of a covariate.
        both = pd.concat(
            [
                table.assign(second=0),
                table.assign(second=1, died=table["relapse"], id=table["id"] + 100),
            ]
        ).reset_index(drop=True)
        beta, gamma, offset = 0.4, -0.3, 0.2

        def linear(row: pd.Series, state: str) -> float:
            effect = (gamma if row.second else beta) * (state == "b")
            return float(effect + offset * row.second)

        value = float(model.problem.likelihood.value(np.array([[beta, gamma, offset]]))[0])
        assert value == pytest.approx(naive(both, linear), rel=1e-12)
        # The offset is the difference of two levels, independent and centred on the crude rates.
        assert isinstance(definition.baseline, RandomWalk)
        level = definition.baseline.level.sd
        target = model.problem.at(())
        assert target.linear[2, 2] == pytest.approx(level * np.sqrt(2.0))
        events = person_time.table["events"].sum(("interval", "phase", "pattern")).values
        time = person_time.table["person_time"].sum(("interval", "phase", "pattern")).values
        rate = np.log((events + 0.5) / time)
        assert target.problem.origin[2] == pytest.approx(rate[1] - rate[0])
        found = partial_posterior(definition, person_time, seed=1)
        assert found.draws is not None
        assert found.draws["log_hazard_ratio"].shape == (1, 4000, 2, 1)


def brute_force(
    table: pd.DataFrame, definition: ModelDefinition, person_time: PersonTime, kind: str
) -> tuple[float, float, list[tuple[float, float]]]:
    """Integrate an effect, two or three departures and their sd, on the nodes of a quadrature."""
    if kind == "frailty":
        assert isinstance(definition.groups, SiteFrailty)
        spread = definition.groups.spread
    else:
        assert isinstance(definition.phases, PhasesOverTime | PhasesBySubgroup)
        spread = definition.phases.change
    cells = np.array([0.0, 3.0, 7.0, np.inf])
    size = 3 if kind == "over_time" else 2
    basis, relative = np.eye(2), np.ones(2)
    if kind == "over_time":
        basis, relative = walk_basis(person_time)
    site = (table["site"] == "s").to_numpy(dtype=int)
    # Log partial likelihoods at an effect and at departures, as a function of linear predictors.
    events = []
    for time in np.unique(table["time"][table["died"]]):
        inside = ((table["entry"] < time) & (table["time"] >= time)).to_numpy()
        exposed = (table["b"] < time).to_numpy()
        cell = int(np.searchsorted(cells, time, side="left")) - 1
        label = np.full(len(table), cell) if kind == "over_time" else site
        who = (table["died"] & (table["time"] == time)).to_numpy()
        events.append((inside, exposed, label, who))
    grid = np.linspace(-3.5, 3.5, 36)
    unit, weight = np.polynomial.legendre.leggauss(24)
    sds = 2.5 * spread.scale * (unit + 1.0)
    half_normal = 0.5 * sds**2 / spread.scale**2
    if spread.known:
        sds, weight, half_normal = np.array([spread.scale]), np.ones(1), np.zeros(1)
    nodes, node_weight = np.polynomial.hermite_e.hermegauss(48 if spread.known else 16)
    beta, sd, *z = np.meshgrid(grid, sds, *[nodes] * basis.shape[1], indexing="ij")
    departure = [
        sum(basis[label, k] * relative[k] * z[k] for k in range(basis.shape[1])) * sd
        for label in range(size)
    ]
    total = norm.logpdf(beta, 0.0, SD) + (np.log(weight) - half_normal)[None, :, None, None]
    total = total + np.log(node_weight)[None, None, :, None]
    total = total + np.log(node_weight)[None, None, None, :]
    for inside, exposed, label, who in events:
        linear = {}
        for on, one in itertools.product((False, True), range(size)):
            moved = departure[one] if kind == "frailty" or on else 0.0
            linear[on, one] = beta * on + moved
        at_risk = sum(
            float((inside & (exposed == on) & (label == one)).sum()) * np.exp(value)
            for (on, one), value in linear.items()
        )
        for (on, one), value in linear.items():
            total = total + float((who & (exposed == on) & (label == one)).sum()) * value
        total = total - who.sum() * np.log(at_risk)
    mean, spread_of = weighted(beta, total)
    others = [weighted(value if kind == "frailty" else beta + value, total) for value in departure]
    return mean, spread_of, others


def walk_basis(person_time: PersonTime) -> tuple[Floats, Floats]:
    """Basis of a walk over three intervals whose event-weighted mean is zero, a second time.

    The walk's steps have variances equal to the distances; its weighted mean is taken off.
    """
    counts = person_time.table["events"].values[0].sum(axis=2)
    inside = counts[:, list(person_time.table["phase"].values).index("b")] + 0.5
    share = counts.sum(axis=1) / counts.sum()
    passed = np.cumsum(share) - share / 2.0
    last = float(person_time.table["last_exit"].values.max())
    middle = np.array([1.5, 5.0, (7.0 + last) / 2.0])
    steps = (np.diff(middle) / last + np.diff(passed)) / 2.0
    walk = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]) * np.sqrt(steps)
    centred = walk - (inside / inside.sum()) @ walk
    return centred, np.ones(2)
