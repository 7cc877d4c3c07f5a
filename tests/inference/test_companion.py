"""The companion of a fit: against R, against a sampler of its own, and why there is none."""

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import make_design
from bayesblina.inference.companion import partial_models, partial_posterior
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.partial_draws import find_nodes
from bayesblina.person_time.cells import PersonTime
from tests.inference.companions import NAMES, PRIMARY, QUESTION, moments, read, study
from tests.paths import DATA


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
