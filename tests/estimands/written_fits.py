"""A fit whose draws are written down: for arithmetic, not for statistics."""

from typing import Any

import pandas as pd
import xarray as xr

import bayesblina as bb
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.inference.convergence import Convergence, sampler_settings
from bayesblina.inference.fitting import Fit, Provenance
from bayesblina.person_time.cells import PersonTime


def written_fit(
    person_time: PersonTime,
    question: bb.Question,
    model: ModelDefinition,
    posterior: xr.Dataset,
    *,
    converged: bool = True,
    **parts: Any,
) -> Fit:
    """Make a fit of a posterior; it holds what else is given."""
    return Fit(
        draws=xr.DataTree.from_dict({"/posterior": posterior}),
        question=question,
        definition=model,
        person_time=person_time,
        convergence=Convergence(
            table=pd.DataFrame(), criteria=pd.DataFrame({"passed": [converged]})
        ),
        provenance=Provenance(
            seed=7,
            settings=sampler_settings(1000, 1000, 4, 1, 7),
            data_hash="",
            versions={},
            seconds={},
            engine="compiled",
        ),
        **parts,
    )
