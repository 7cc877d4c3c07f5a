"""Risk sets against those of Simon and Makuch."""

from __future__ import annotations

import numpy as np

import bayesblina as bb
from bayesblina.checks.agreement import risk_sets
from bayesblina.inference.fitting import Fit


def test_risk_sets_are_simon_makuchs(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    observed = bb.simon_makuch(cohort, synthetic_fit.question, landmark=8.0)
    role = synthetic_fit.person_time.table["role"].values
    for endpoint in ("os", "rfs"):
        for group, name in (("maintenance", "exposed"), ("no maintenance", "reference")):
            risk = risk_sets(
                synthetic_fit,
                endpoint,
                np.array([0]),
                keep=(role == name)[None, :],
                begin=8.0,
                at=np.array([]),
            )
            assert risk is not None
            knots, at_risk = risk.knots, risk.at_risk
            one = observed[(observed["endpoint"] == endpoint) & (observed["group"] == group)]
            one = one[one["events"] > 0]
            # The piece that ends with the event.
            place = np.searchsorted(knots, one["time"].to_numpy(), side="left") - 1
            np.testing.assert_array_equal(at_risk[place], one["at_risk"])
