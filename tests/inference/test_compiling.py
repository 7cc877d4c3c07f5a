"""The compiled density is PyMC's; structures compile once."""

from dataclasses import replace

import numpy as np
import pytest

from bayesblina.hazards.build import BuiltModel
from bayesblina.inference.compiling import compiled_of
from bayesblina.inference.sampling import bind, evaluate
from tests.inference.small import STRUCTURES


def evaluated(model: BuiltModel, point: np.ndarray) -> np.ndarray:
    """Take a point to all reported variables, by the compiled code."""
    _, variables = evaluate(model, point[None])
    return np.concatenate(
        [variables[name].values.ravel() for name in sorted(variables.data_vars, key=str)]
    )


@pytest.mark.parametrize("path", ["kernel", "graph"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_compiled_density_and_gradient_are_pymcs(name: str, path: str) -> None:
    model = STRUCTURES[name]()
    assert model.make_kernel is not None
    if path == "graph":
        model = replace(model, make_kernel=None, structure=f"{model.structure}, from the graph")
    bound = bind(compiled_of(model), model)
    reference = model.model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    reference.set_extra_values({})
    coordinates = [model.model.rvs_to_values[variable] for variable in model.model.free_RVs]
    extras = [v for v in model.model.unobserved_value_vars if v not in coordinates]
    inner = model.model.compile_fn(
        extras, inputs=coordinates, mode="FAST_COMPILE", on_unused_input="ignore"
    )

    def reported(point: np.ndarray) -> np.ndarray:
        """Take a point to all reported variables, by PyMC."""
        parts, at = {}, 0
        for value in coordinates:
            shape = bound.shapes[value.name]
            size = int(np.prod(shape))
            parts[value.name] = point[at : at + size].reshape(shape)
            at += size
        found = inner(parts)
        names = [extra.name for extra in extras]
        got = {value.name: parts[value.name] for value in coordinates}
        got |= dict(zip(names, found, strict=True))
        free = sorted(name for name in got if not name.endswith("__"))
        return np.concatenate([np.ravel(got[name]) for name in free])

    generator = np.random.default_rng(5)
    for _ in range(20):
        point = np.concatenate(
            [
                np.broadcast_to(
                    model.start.get(variable.name, np.zeros(())),
                    bound.shapes[model.model.rvs_to_values[variable].name],
                ).ravel()
                for variable in model.model.free_RVs
            ]
        ) + generator.normal(0, 0.7, bound.n_dim)
        gradient, value = np.empty(bound.n_dim), np.empty(1)
        status = bound.compiled_logp_func.ctypes(
            bound.n_dim,
            *(
                array.ctypes.data_as(bound.compiled_logp_func.ctypes.argtypes[1])
                for array in (point, gradient, value)
            ),
            bound.user_data.ctypes.data,
        )
        assert status == 0
        expected, slope = reference(point)
        np.testing.assert_allclose(evaluated(model, point), reported(point), rtol=1e-12, atol=1e-12)
        assert value[0] == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9)
