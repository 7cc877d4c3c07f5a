"""Names of what a study of sensitivity may vary."""

from __future__ import annotations

from bayesblina.hazards.definition import PRIORS

QUESTION_AXES = (
    "landmark",
    "lag",
    "transplant",
    "phase_end",
    "eligible_from",
    "reference",
    "endpoints",
    "exposed",
    "measure",
    "steps",
    "amount",
    "starts_until",
)
CUT_AXES = ("intervals", "cuts")
PRIOR_AXES = tuple(f"prior.{name}" for name in PRIORS)
COHORT_AXES = (
    "covariates",
    "only",
    "without",
    "phase_shift",
    "phase_jitter",
    "bridge",
    "grace",
    "visit_jitter",
)
AXES = (*QUESTION_AXES, *CUT_AXES, "model", *PRIOR_AXES, *COHORT_AXES)
# What stands in a study file, which has no empty value, for the lack of a landmark and the like.
NONE = "none"
# What stands on an axis for the base case's own value.
BASE = "base"
