"""What tests of scenarios share."""

from __future__ import annotations

from typing import Any

import bayesblina as bb

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
SHORT: dict[str, Any] = {"draws": 50, "tune": 60, "chains": 2}
GRID: dict[str, Any] = {
    "lag": [0.5, 1.0, 1.5],
    "transplant": ["ignore"],
    "prior.phases": [(0.5, 2.0), (0.1, 10.0)],
}
