"""Of what the synthetic study is made: shares of covariates, states, and calibrated hazards."""

from __future__ import annotations

from itertools import product
from types import MappingProxyType

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats
from bayesblina.core.piecewise import LogLinearHazard

# Baseline covariates: levels with their shares, and marrow blasts in percent, a stretched beta.
AGE_GROUPS = {"18-34": 0.45, "35-54": 0.29, "55+": 0.26}
PRIOR_SALVAGE = {"no": 0.45, "yes": 0.55}
BLASTS_RANGE = (5.0, 100.0)
BLASTS_SHAPE = (2.0, 1.0)
BLASTS_CENTRE = 50.0
TERMS = ("age_group[35-54]", "age_group[55+]", "prior_salvage[yes]", "marrow_blasts")

# Months. Candidate remission is uniform in a range.
REMISSION_RANGE = (0.9, 2.3)

ENDPOINTS = ("os", "rfs")
TREATED = ("in_remission", "after_relapse")
PHASES = ("consolidation", "maintenance")
STATES = ("no_remission", *TREATED)
# The month of relapse at which the baseline hazard after relapse is that of `Truth.baseline`.
USUAL_RELAPSE = 6.0
# Months from the first dose at which the trial of `Truth.log_hazard_ratio` randomises.
RANDOMISED = 8.0


# Calibrated: `docs/validation/synthetic_study.md` shows what these defaults give.
MAINTENANCE = MappingProxyType(
    {"in_remission": float(np.log(0.70)), "after_relapse": float(np.log(0.60))}
)
BASELINE = MappingProxyType(
    {
        "no_remission": LogLinearHazard(
            knots=(0.0, 2.0, 8.0, 14.0), hazards=(0.062, 0.125, 0.120, 0.075)
        ),
        "in_remission": LogLinearHazard(
            knots=(1.0, 3.0, 6.0, 12.0, 24.0), hazards=(0.032, 0.048, 0.073, 0.097, 0.025)
        ),
        "after_relapse": LogLinearHazard(knots=(0.0,), hazards=(0.105,)),
    }
)
COVARIATE_LOG_HAZARD_RATIOS = MappingProxyType(
    {
        state: MappingProxyType(dict(zip(TERMS, np.log(ratios).tolist(), strict=True)))
        for state, ratios in {
            "no_remission": (1.15, 1.50, 1.20, 1.004),
            "in_remission": (1.10, 1.30, 1.35, 1.005),
            "after_relapse": (1.10, 1.40, 1.30, 1.003),
        }.items()
    }
)
REMISSION_LOG_ODDS = MappingProxyType(
    dict(zip(("intercept", *TERMS), (0.50, 0.0, 0.10, -0.40, -0.010), strict=True))
)
DEATH_LOG_ODDS = MappingProxyType(
    dict(zip(("intercept", *TERMS, "transplant"), (-2.35, 0.2, 0.6, 0.1, 0.0, 1.9), strict=True))
)
TRANSPLANT = MappingProxyType(
    {"in_remission": float(np.log(0.85)), "after_relapse": float(np.log(0.60))}
)
# The trial's maintenance was for those in continued remission.
RETREATED = MappingProxyType({"consolidation": 0.05, "maintenance": 0.0})
TRANSPLANT_HAZARD = MappingProxyType({"in_remission": 0.030, "after_relapse": 0.060})

# Attributes of `Truth` that are mappings, with the names that each takes, and that are numbers.
KEYS = {
    "maintenance_log_hazard_ratio": TREATED,
    "death_in_remission_log_odds": ("intercept", *TERMS, "transplant"),
    "transplant_log_hazard_ratio": TREATED,
    "transplant_hazard": TREATED,
    "retreated_share": PHASES,
    "remission_log_odds": ("intercept", *TERMS),
}
PLAIN = (
    "late_relapse_log_hazard_ratio",
    "second_remission_hazard",
    "second_remission_log_hazard_ratio",
)


def design(table: pd.DataFrame) -> Floats:
    """Lay out the covariate terms of each patient, as `Truth` names them: (patient, term)."""
    age = table["age_group"].to_numpy()
    return np.column_stack(
        [
            age == "35-54",
            age == "55+",
            table["prior_salvage"].to_numpy() == "yes",
            table["marrow_blasts"].to_numpy(float) - BLASTS_CENTRE,
        ]
    ).astype(float)


def patterns() -> tuple[pd.DataFrame, Floats]:
    """Patterns of covariates, marrow blasts by quantiles, and what share of patients has each."""
    # Quantiles of the beta distribution with shape (2, 1): the square root.
    blasts = BLASTS_RANGE[0] + (BLASTS_RANGE[1] - BLASTS_RANGE[0]) * np.sqrt(
        (np.arange(8) + 0.5) / 8
    )
    rows = list(product(AGE_GROUPS, PRIOR_SALVAGE, blasts))
    table = pd.DataFrame(rows, columns=["age_group", "prior_salvage", "marrow_blasts"])
    return table, np.array([AGE_GROUPS[age] * PRIOR_SALVAGE[salvage] for age, salvage, _ in rows])
