"""Baseline covariates of all patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Covariate:
    """One baseline covariate of all patients.

    Attributes
    ----------
    kind
        ``"categorical"`` or ``"continuous"``.
    values : ndarray, shape (patient,)
        Numbers, or for a categorical covariate the position of each patient's level.
    levels
        Levels of a categorical covariate, the reference first; empty for a continuous one.
    """

    kind: Literal["categorical", "continuous"]
    values: Floats
    levels: tuple[str, ...] = ()

    def shown(self, rows: Ints) -> Any:
        """Give some patients' values as the table had them."""
        values = self.values[rows]
        if self.kind == "continuous":
            return values
        dtype = pd.CategoricalDtype(list(self.levels))
        return pd.Categorical(np.asarray(self.levels)[values.astype(np.int64)], dtype=dtype)
