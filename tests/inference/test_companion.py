"""The companion against R, against likelihoods written a second time, and against quadrature."""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.special import betaincinv
from scipy.stats import norm

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import make_design
from bayesblina.hazards.parts import PhasesBySubgroup, PhasesOverTime, RandomWalk, SiteFrailty
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.inference import partial_draws
from bayesblina.inference.companion import Companion, partial_posterior
from bayesblina.inference.laplace import find_nodes
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.partial_models import partial_models
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.risk_sets import find_risk_sets, same_states
from tests.paths import DATA

PRIMARY = bb.load_model("primary")
SD = PRIMARY.phases.prior.sd
QUESTION = bb.Question(exposed="b", reference="a", eligible_from="entry")


def read(table: pd.DataFrame, covariates: tuple[str, ...] = (), **more: object) -> bb.Cohort:
    """Read a table with phases a and b, and c where it has one."""
    phases = {name: name for name in ("a", "b", "c") if name in table}
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died", entry="entry")}
        | {name: bb.Endpoint(time=f"{name}_time", event=name, entry="entry") for name in more},
        phases=bb.Phases(**phases),
        covariates=list(covariates),
    )


def study(patients: int, seed: int) -> pd.DataFrame:
    """Patients with delayed entry, ties, two later phases, and covariates."""
    rng = np.random.default_rng(seed)
    entry = np.round(rng.uniform(0.0, 2.0, patients), 1)
    time = np.round(entry + np.ceil(10.0 * rng.exponential(9.0, patients)) / 10.0, 1)
    begun = entry + rng.uniform(0.0, 8.0, patients)
    later = begun + rng.uniform(1.0, 8.0, patients)
    end = np.minimum(time, 20.0)
    return pd.DataFrame(
        {
            "id": np.arange(patients),
            "entry": entry,
            "time": end,
            "died": (time <= 20.0) & (rng.random(patients) < 0.8),
            "a": entry,
            "b": np.where((begun < end) & (rng.random(patients) < 0.7), begun, np.nan),
            "c": np.where(later < end, later, np.nan),
            "x": rng.normal(size=patients),
            "site": rng.choice(["n", "s"], patients),
        }
    )


def naive(
    table: pd.DataFrame,
    linear: Callable[[pd.Series, str], float],
    *,
    weight: Floats | None = None,
    stratum: str | None = None,
) -> float:
    """Log partial likelihood by loops over events and over those at risk at their times."""
    total = 0.0
    weights = np.ones(len(table)) if weight is None else weight
    patients = [row for _, row in table.iterrows()]
    for person, own in zip(patients, weights, strict=True):
        if not person.died:
            continue
        now = person.time
        at_risk = 0.0
        for other, weighted in zip(patients, weights, strict=True):
            apart = stratum is not None and other[stratum] != person[stratum]
            if other.entry < now <= other.time and not apart:
                state = "a"
                for phase in ("b", "c"):
                    if phase in table and other[phase] < now:
                        state = phase
                at_risk += weighted * np.exp(linear(other, state))
                if other.id == person.id:
                    mine = linear(other, state)
        total += own * (mine - np.log(at_risk))
    return total


def value_of(
    definition: ModelDefinition, person_time: PersonTime, parameters: list[float], endpoint: int = 0
) -> float:
    """Log partial likelihood of the companion."""
    (model,) = [
        one
        for one in partial_models(definition, person_time, make_design(person_time, definition))
        if one.members[0].endpoint == endpoint
    ]
    return float(model.problem.likelihood.value(np.array([parameters]))[0])


def moments(found: Companion, name: str = "log_hazard_ratio") -> tuple[Floats, Floats]:
    """Means and sds of the draws."""
    assert found.draws is not None, found.reason
    values = found.draws[name]
    return values.mean(("chain", "draw")).values, values.std(("chain", "draw")).values


def weighted(values: Floats, log_density: Floats) -> tuple[float, float]:
    """Mean and sd on the nodes of a quadrature."""
    share = np.exp(log_density - log_density.max())
    share = share / share.sum()
    mean = float((share * values).sum())
    return mean, float(np.sqrt((share * (values - mean) ** 2).sum()))


class TestAgainstR:
    """Numbers from tests/data/companion.R."""

    @staticmethod
    def mode(definition: ModelDefinition, person_time: PersonTime) -> tuple[Floats, Floats]:
        design = make_design(person_time, definition)
        (model,) = partial_models(definition, person_time, design, flat=("phases", "covariates"))
        nodes = find_nodes(model.problem)
        assert nodes is not None
        scale = np.concatenate([[1.0], design.scale])
        found = nodes[0].laplace
        return found.mode / scale, np.sqrt(np.diag(found.covariance)) / scale

    @pytest.mark.parametrize(
        ("covariates", "estimate", "error"),
        [
            ([], [0.123680513896], [0.300722438352]),
            (
                ["surgery"],
                [0.154288317323, -0.747284467123],
                [0.296443716449, 0.359606068132],
            ),
        ],
    )
    def test_stanford_heart(
        self, covariates: list[str], estimate: list[float], error: list[float]
    ) -> None:
        table = pd.read_csv(DATA / "stanford_jasa1.csv")
        table = table.merge(pd.read_csv(DATA / "stanford_surgery.csv"), on="id")
        table["surgery"] = table["surgery"].map({0: "no", 1: "yes"})
        cohort = bb.read_cohort(
            table,
            patient="id",
            unit="days",
            endpoints={"os": bb.Endpoint(time="days", event="died")},
            phases=bb.Phases(transplantation="transplant_day"),
            covariates=covariates,
        )
        question = bb.Question(exposed="transplantation", eligible_from="entry")
        found = self.mode(PRIMARY, bb.person_time(cohort, question))
        np.testing.assert_allclose(found, [estimate, error], rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("stratified", "estimate", "error"),
        [
            (False, [-0.353340514834, -0.159456313056], [0.263490055036, 0.137170115342]),
            (True, [-0.346344874368, -0.119279484386], [0.273321734975, 0.140526657600]),
        ],
    )
    def test_delayed_entry_ties_weights_strata(
        self, stratified: bool, estimate: list[float], error: list[float]
    ) -> None:
        i = np.arange(1, 81)
        entry = (7 * i) % 11 / 4
        time = entry + 1 + (13 * i) % 37 / 4
        begun = np.where(i % 3 == 0, np.nan, entry + (5 * i) % 17 / 2)
        table = pd.DataFrame(
            {
                "id": i,
                "entry": entry,
                "time": time,
                "died": i % 4 != 0,
                # One that never starts after its end, which nobody could mean.
                "b": np.where(begun >= time, np.nan, begun),
                "x": (17 * i) % 29 / 10,
                "s": np.where((11 * i) % 23 % 2 == 1, "odd", "even"),
            }
        )
        question = bb.Question(exposed="b", eligible_from="entry")
        names = ("x", "s") if stratified else ("x",)
        person_time = bb.person_time(read(table, names), question, weights=0.5 + (3 * i) % 7 / 4)
        definition = PRIMARY
        if stratified:
            definition = bb.load_model("stratified").with_covariates(stratum="s")
        found = self.mode(definition, person_time)
        np.testing.assert_allclose(found, [estimate, error], rtol=0, atol=1e-6)


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


def few_events() -> pd.DataFrame:
    """Four exposed events, and three effects."""
    table = study(70, 11)
    exposed = table["b"].notna() & ~(table["c"] < table["time"])
    spare = table.index[exposed & table["died"]][4:]
    table.loc[spare, "died"] = False
    return table


def metropolis(table: pd.DataFrame, *, steps: int, seed: int) -> Floats:
    """Random-walk Metropolis on a partial likelihood of its own, three effects, shape (step, 3)."""
    south = (table["site"] == "s").to_numpy(dtype=float)
    site = south - south.mean()
    rows = []
    for time in np.unique(table["time"][table["died"]]):
        inside = ((table["entry"] < time) & (table["time"] >= time)).to_numpy()
        in_c = (table["c"] < time).to_numpy()
        in_b = (table["b"] < time).to_numpy() & ~in_c
        rows.append((time, inside, np.stack([in_b * 1.0, in_c * 1.0, site], axis=1)))
    died, ends = table["died"].to_numpy(), table["time"].to_numpy()
    # Two phases between 0.2 and 5, a level of a covariate between 0.05 and 20.
    sds = np.log([5.0, 5.0, 20.0]) / 1.959963984540054

    def log_density(beta: Floats) -> float:
        total = -0.5 * float(((beta / sds) ** 2).sum())
        for now, risk_set, x in rows:
            linear = x @ beta
            who = died & (ends == now)
            total += float(linear[who].sum() - who.sum() * np.log(np.exp(linear[risk_set]).sum()))
        return total

    rng = np.random.default_rng(seed)
    chain = np.empty((steps, 3))
    place: Floats = np.zeros(3)
    value = log_density(place)
    jump = np.array([0.9, 0.8, 0.6])
    for index in range(steps):
        new = place + jump * rng.normal(size=3)
        new_value = log_density(new)
        if np.log(rng.random()) < new_value - value:
            place, value = new, new_value
        chain[index] = place
    return chain


class TestAgainstMetropolis:
    """Three effects, four exposed events."""

    @staticmethod
    def compare(steps: int, draws: int, tolerance: float) -> None:
        table = few_events()
        person_time = bb.person_time(read(table, ("site",)), QUESTION)
        exposed = person_time.table["events"].sel(phase="b").sum()
        assert int(exposed) == 4
        found = partial_posterior(PRIMARY, person_time, seed=1, draws=draws)
        assert found.table["method"].tolist() == ["importance"]
        means, sds = (
            np.concatenate([moments(found, name)[part][0] for name in NAMES]) for part in (0, 1)
        )
        chain = metropolis(table, steps=steps, seed=5)[steps // 20 :]
        assert np.abs((means - chain.mean(axis=0)) / sds).max() < tolerance
        assert np.abs(sds / chain.std(axis=0) - 1.0).max() < tolerance

    def test_short(self) -> None:
        # A chain whose draws are correlated over about fifteen steps: four standard errors.
        self.compare(steps=8000, draws=20_000, tolerance=4.0 * np.sqrt(15 / 7600))

    @pytest.mark.slow
    def test_long(self) -> None:
        self.compare(steps=200_000, draws=100_000, tolerance=0.03)


NAMES = ("log_hazard_ratio", "coefficient")


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
        assert target.origin[2] == pytest.approx(rate[1] - rate[0])
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


@pytest.fixture(scope="module")
def many() -> PersonTime:
    """Six thousand patients with times of their own."""
    rng = np.random.default_rng(2)
    size = 6000
    time = rng.exponential(20.0, size)
    begun = rng.uniform(0.0, 20.0, size)
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "entry": np.zeros(size),
            "time": np.minimum(time, 30.0),
            "died": time <= 30.0,
            "b": np.where(begun < np.minimum(time, 30.0), begun, np.nan),
            "site": rng.choice(["n", "s"], size),
        }
    )
    question = bb.Question(exposed="b", eligible_from="entry")
    return bb.person_time(read(table, ("site",)), question, cuts=[5.0, 10.0])


class TestManyPatients:
    """Event times in groups, draws by other means."""

    def test_the_stated_error_holds(
        self, many: PersonTime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exact = partial_posterior(PRIMARY, many, seed=1)
        assert float(exact.table["error"].item()) < 0.02 * moments(exact)[1][0, 0]
        monkeypatch.setattr("bayesblina.inference.partial_models.find_risk_sets", coarsely)
        coarse = partial_posterior(PRIMARY, many, seed=1)
        error = float(coarse.table["error"].item())
        sd = moments(exact)[1][0, 0]
        moved = abs(moments(coarse)[0] - moments(exact)[0])[0, 0]
        assert 0.0 < error < 0.5 * sd
        assert moved < error + 0.01 * sd

    def test_draws_on_coarser_times_keep_the_mode(
        self, many: PersonTime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exact = partial_posterior(PRIMARY, many, seed=1)
        monkeypatch.setattr(partial_draws, "BUDGET", 1.0)
        monkeypatch.setattr(partial_draws, "FEWEST_TIMES", 60)
        coarse = partial_posterior(PRIMARY, many, seed=1)
        sd = moments(exact)[1]
        assert (abs(moments(coarse)[0] - moments(exact)[0]) < 0.01 * sd).all()
        assert (abs(moments(coarse)[1] / sd - 1.0) < 0.01).all()

    def test_intervals_keep_their_own_times(self, many: PersonTime) -> None:
        same = same_states(make_design(many, PRIMARY).contrast)
        sets, grouped = find_risk_sets(many, [0], same=same, cuts=many.cuts, most_times=50)
        assert grouped
        assert [one.interval for one in sets] == [0, 1, 2]
        events = many.table["events"].sum(("phase", "pattern")).values[0]
        np.testing.assert_allclose([one.events.sum() for one in sets], events)


def coarsely(*arguments: object, **named: object) -> tuple[list[object], bool]:
    """Group event times into very few."""
    return find_risk_sets(*arguments, **named, most_times=60)  # type: ignore[arg-type,return-value]


class TestHamiltonian:
    """Draws by chains agree with those by importance."""

    @pytest.mark.parametrize("kind", ["primary", "by_subgroup"])
    def test_agree(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        person_time = bb.person_time(read(study(60, 12), ("site",)), QUESTION)
        definition = bb.load_model(kind)
        if kind == "by_subgroup":
            definition = definition.with_covariates(subgroup="site")
        weighed = partial_posterior(definition, person_time, seed=1, draws=20_000)
        monkeypatch.setattr(partial_draws, "LARGEST_K", -10.0)
        chained = partial_posterior(definition, person_time, seed=1, draws=20_000)
        assert chained.table["method"].tolist() == ["hmc"]
        effective = float(chained.table["effective_draws"].item())
        assert effective > 2000
        for name in weighed.draws or ():
            mean, sd = moments(weighed, str(name))
            other = moments(chained, str(name))
            assert (abs(other[0] - mean) / sd).max() < 5.0 / np.sqrt(effective) + 0.01
            assert abs(other[1] / sd - 1.0).max() < 0.06


class TestReasons:
    """What is not compared says why."""

    @pytest.mark.parametrize(
        ("model", "roles", "words"),
        [
            ("mixture_cure", {}, "cured"),
            ("patient_frailty", {}, "each patient"),
            ("commensurate", {"source": "site"}, "external"),
            ("robust_mixture", {"source": "site"}, "external"),
        ],
    )
    def test_models(self, model: str, roles: dict[str, str], words: str) -> None:
        definition = bb.load_model(model)
        definition = definition.with_covariates(**roles) if roles else definition
        # Effects of patients are not for late observation, which is not asked about here.
        patients = study(40, 1).assign(entry=0.0, a=0.0)
        person_time = person_time_for(definition, read(patients, ("site",)), QUESTION)
        found = partial_posterior(definition, person_time, seed=1)
        assert found.draws is None
        assert found.reason.startswith("not compared: ")
        assert words in found.reason

    def test_unknown_prior(self) -> None:
        person_time = bb.person_time(read(study(40, 1)), QUESTION)
        with pytest.raises(SpecError, match="flat: no prior 'level'"):
            partial_posterior(PRIMARY, person_time, seed=1, flat=("level",))


def test_layout_is_the_fits(synthetic_fit: bb.Fit) -> None:
    found = partial_posterior(synthetic_fit.definition, synthetic_fit.person_time, seed=1)
    assert found.draws is not None
    posterior = synthetic_fit.posterior
    for name in found.draws.data_vars:
        one, other = found.draws[name], posterior[name]
        assert one.dims == other.dims
        for dim in one.dims[2:]:
            assert one[dim].values.tolist() == other[dim].values.tolist()


def test_draws_repeat() -> None:
    person_time = bb.person_time(read(study(40, 1), ("x",)), QUESTION)
    first, second, other = (
        moments(partial_posterior(PRIMARY, person_time, seed=seed))[0][0] for seed in (1, 1, 2)
    )
    assert (first == second).all()
    assert (first != other).all()
