"""The companion, its clock and the cuts where phases recur, against loops over stays."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.hazards.baseline import clock, step_scale
from bayesblina.hazards.effects import make_design
from bayesblina.inference.companion import partial_models, partial_posterior
from bayesblina.inference.model_data import person_time_for
from tests.recurring import CUTS, STEPS, cohort, question, read, step_at, tables


@cache
def risk_sets(kind: str) -> list[tuple[int, list[tuple[int | None, float]]]]:
    """Who dies, by number among those at risk, and the step and covariate of each of these."""
    patients, stays = tables(40, 3)
    own = {str(who): rows for who, rows in stays.groupby("id")}
    centre = float((patients["sex"] == "m").mean())
    sets = []
    for person in patients[patients["died"] == 1].to_dict("records"):
        at_risk = patients[patients["time"] >= person["time"]]
        held = [
            (step_at(kind, own.get(who, stays.iloc[:0]), person["time"]), (sex == "m") - centre)
            for who, sex in zip(at_risk["id"], at_risk["sex"], strict=True)
        ]
        sets.append((at_risk["id"].tolist().index(person["id"]), held))
    return sets


def loops(kind: str, by_step: Floats, slope: float) -> float:
    """Log partial likelihood of log hazard ratios by step, over events and those at risk."""
    total = 0.0
    for died, held in risk_sets(kind):
        linear = [
            slope * value + (0.0 if step is None else float(by_step[step])) for step, value in held
        ]
        total += linear[died] - float(np.log(np.exp(linear).sum()))
    return total


@pytest.mark.parametrize("kind", ["current", *STEPS])
def test_the_partial_likelihood_of_recurring_states(kind: str) -> None:
    model = bb.load_model("primary" if kind == "current" else "since_entry")
    person_time = person_time_for(model, cohort(), question(kind), cuts=CUTS)
    design = make_design(person_time, model)
    (partial,) = partial_models(model, person_time, design)
    likelihood = partial.problem.likelihood
    random = np.random.default_rng(2)
    values, wanted = [], []
    for _ in range(4):
        parameter = random.normal(0.0, 0.5, likelihood.dimension)
        read_off = partial.members[0].read(parameter[None], design)
        found = {name: values_of[0] for name, _, _, values_of in read_off}
        by_step = found.get("log_hazard_ratio_by_piece", found["log_hazard_ratio"])
        values.append(float(likelihood.value(parameter[None])[0]))
        wanted.append(loops(kind, by_step, float(found["coefficient"][0])))
    # Up to a constant.
    np.testing.assert_allclose(np.diff(values), np.diff(wanted), rtol=1e-8, atol=1e-8)


def test_the_companion_of_a_set_of_phases() -> None:
    """Posterior mean and sd by quadrature of the loops' likelihood and the prior."""
    model = bb.load_model("primary")
    patients, stays = tables(40, 3)
    person_time = person_time_for(model, read(patients, stays), question("current"), cuts=CUTS)
    drawn = partial_posterior(model, person_time, seed=1, draws=4000)
    values = drawn.draws["log_hazard_ratio"].values[0, :, 0, 0]  # type: ignore[index]
    grid = np.linspace(-4.0, 4.0, 161)
    prior = model.phases.prior
    density = np.array([loops("current", np.array([ratio]), 0.0) for ratio in grid])
    density -= 0.5 * ((grid - prior.mean) / prior.sd) ** 2
    weight = np.exp(density - density.max())
    weight /= weight.sum()
    mean = float(weight @ grid)
    sd = float(np.sqrt(weight @ (grid - mean) ** 2))
    assert drawn.table["method"].tolist() == ["importance"]
    # Four standard errors of 4000 independent draws.
    assert values.mean() == pytest.approx(mean, abs=4.0 * sd / np.sqrt(4000))
    assert values.std() == pytest.approx(sd, rel=4.0 / np.sqrt(2 * 4000))


@pytest.mark.parametrize(
    ("kind", "begins", "end"),
    [
        # Amounts and numbers: the last step is as wide as the one before.
        ("time", [0.0, 1.0, 2.5], None),
        ("dose", [0.0, 2.5, 6.0], None),
        ("cycles", [0.0, 1.0, 2.0], None),
        ("episode", [0.0, 1.0, 2.0], None),
        # Time in it is none since its end.
        ("since_end", [0.0, 0.0, 0.5, 2.0], "ended"),
        ("since_entry", [0.0, 1.5, 4.0], "entered"),
    ],
)
def test_the_clock_of_the_steps(kind: str, begins: list[float], end: str | None) -> None:
    model = bb.load_model("since_entry")
    person_time = person_time_for(model, cohort(), question(kind), cuts=CUTS)
    states = np.flatnonzero(person_time.table["role"].values == "exposed")
    found, last = step_scale(person_time, states)
    assert found.tolist() == begins
    events = np.ones((1, len(begins)))
    distances = clock(found, last, events)
    assert (distances > 0).all()
    assert distances.sum() < 1.0
    if end is None:
        assert last == 0.0
        edges = [*begins, 2 * begins[-1] - begins[-2]]
        middle = (np.array(edges[1:]) + np.array(edges[:-1])) / 2
        wanted = (np.diff(middle) / middle[-1] + 1.0 / len(begins)) / 2.0
        np.testing.assert_allclose(distances[0], wanted)
        return
    # The longest time that anybody is at risk by time since the end, or since entry.
    patients, stays = tables(40, 3)
    longest = 0.0
    for person in patients.to_dict("records"):
        own = stays[stays["id"] == person["id"]].sort_values("from")
        exposed = own[own["drug"].isin(["a", "b"])]
        if exposed.empty:
            continue
        following = [*exposed["from"].tolist()[1:], person["time"]]
        if end == "ended":
            gaps = np.array(following) - exposed["to"].to_numpy()
            longest = max(longest, float(gaps.max()))
        elif not (own["drug"] == "c").any():
            longest = max(longest, person["time"] - float(exposed["from"].min()))
    assert last == pytest.approx(longest)


def test_steps_that_nothing_has_ended_yet() -> None:
    """With no cut after the end there are two steps, in it and after it: of no known width."""
    assert clock(np.array([0.0, 0.0]), 0.0, np.array([[3.0, 1.0]])).tolist() == [[0.75]]
