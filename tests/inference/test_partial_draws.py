"""Draws where patients are many and event times are grouped."""

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.hazards.effects import make_design
from bayesblina.inference import partial_draws
from bayesblina.inference.companion import partial_posterior
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.risk_sets import find_risk_sets, same_states
from tests.inference.companions import PRIMARY, moments, read


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
        monkeypatch.setattr("bayesblina.inference.companion.find_risk_sets", coarsely)
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
