"""Models compared by how well they predict patients whom they have not seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.checks.prediction import Prediction, loo, standard_error
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError, require_kind
from bayesblina.inference.fitting import Fit

STACKING_STEPS = 20_000
STACKING_PRECISION = 1e-10


def compare(
    predictions: Mapping[str, Fit | Prediction], *, endpoint: str | None = None
) -> pd.DataFrame:
    """Compare models by the log predictive density of patients left out.

    Patients are aligned by their ids. The log-likelihood is that of patients, not of rows, so that
    models may have different cut points.

    Parameters
    ----------
    predictions
        By label: fits, for which Pareto-smoothed importance sampling leaves out one patient at a
        time (`loo`), or what `loo` and `k_fold` give.
    endpoint
        Compare by one endpoint; by default by all together. Only for fits.

    Returns
    -------
    pandas.DataFrame
        The best first: ``model``, ``rank``, ``elpd``, ``se``, ``elpd_difference`` (to the best) and
        ``se_difference``, paired over patients, ``p_loo``, ``weight`` (stacking),
        ``largest_pareto_k``, ``patients_above_limit``, ``reliable``, ``converged``. Differences
        of less than about 4, or less than twice their standard error, tell little.

    Raises
    ------
    SpecError
        If there are fewer than two, or what is compared differs: patients, their follow-up, time
        unit, endpoints, or who is left out at a time.
    EstimandError
        If a fit has no such endpoint.

    Notes
    -----
    Vehtari, Gelman and Gabry (2017), doi:10.1007/s11222-016-9696-4; stacking: Yao et al. (2018),
    doi:10.1214/17-BA1091.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fits = {
    ...     name: bb.fit(cohort, question, model=name, seed=1, progress=False)
    ...     for name in ("primary", "weibull")
    ... }
    >>> sorted(bb.compare(fits)["model"])
    ['primary', 'weibull']
    """
    require_kind(predictions, Mapping, "predictions")
    if len(predictions) < 2:
        raise SpecError("compare needs at least two models.")
    if endpoint is not None and not all(
        isinstance(prediction, Fit) for prediction in predictions.values()
    ):
        raise SpecError("endpoint is for fits; give it to loo or k_fold instead.")
    of_label = {
        str(label): loo(prediction, endpoint=endpoint)
        if isinstance(prediction, Fit)
        else prediction
        for label, prediction in predictions.items()
    }
    first_label, first = next(iter(of_label.items()))
    order = np.sort(first.elpd["patient"].values.astype(str))
    for label, one in of_label.items():
        _require_same(first_label, first, label, one, order)
    elpd = np.stack([one.elpd.sel(patient=order).values for one in of_label.values()], axis=1)
    total, weights = elpd.sum(axis=0), stacking_weights(elpd)
    differences = elpd - elpd[:, [int(total.argmax())]]
    rows = [
        {
            "model": label,
            "elpd": float(total[index]),
            "se": standard_error(elpd[:, index]),
            "elpd_difference": float(differences[:, index].sum()),
            "se_difference": standard_error(differences[:, index]),
            "p_loo": one.effective,
            "weight": float(weights[index]),
            "largest_pareto_k": float(one.pareto_k.max()),
            "patients_above_limit": one.above,
            "reliable": one.reliable,
            "converged": one.converged,
        }
        for index, (label, one) in enumerate(of_label.items())
    ]
    table = pd.DataFrame(rows).sort_values("elpd", ascending=False, ignore_index=True)
    table.insert(1, "rank", np.arange(1, len(table) + 1))
    table.attrs |= {
        "scheme": first.scheme,
        "endpoints": ", ".join(first.endpoints),
        "unit": first.unit,
        "patients": order.size,
        "synthetic": int(first.synthetic),
    }
    return table


def _require_same(
    first_label: str, first: Prediction, label: str, one: Prediction, order: NDArray[np.str_]
) -> None:
    both = f"'{first_label}' and '{label}'"
    for words, own, other in (
        ("time units", first.unit, one.unit),
        ("endpoints", first.endpoints, one.endpoints),
        ("ways of leaving patients out", first.scheme, one.scheme),
    ):
        if own != other:
            raise SpecError(f"{both} have different {words}: {own} and {other}.")
    patients = np.sort(one.elpd["patient"].values.astype(str))
    if not np.array_equal(patients, order):
        apart = np.setxor1d(patients, order).size
        raise SpecError(
            f"{both} predict different patients: {apart} are in one of them only. Fit both to the "
            "same cohort with the same question."
        )
    mine, others = (part.follow_up.reindex(order.tolist()) for part in (first, one))
    if not np.allclose(mine["weight"], others["weight"], rtol=1e-9):
        raise SpecError(
            f"{both} weigh patients differently: a difference between them would be one of "
            "weights. Fit both with the same ones."
        )
    differs = ~np.isclose(mine.to_numpy(float), others.to_numpy(float), rtol=1e-9, equal_nan=True)
    if differs.any():
        raise SpecError(
            f"{both} predict different follow-up of {int(differs.any(axis=1).sum())} patients: "
            "fit both with the same question (landmark, lag, transplant)."
        )


def stacking_weights(elpd: Floats) -> Floats:
    """Weights of the mixture of predictive distributions that predicts best.

    `elpd`, shape (patient, model): log predictive densities.
    Result, shape (model,): weights from 0 to 1 that add up to 1.

    The mean log score is concave in the weights; each step is that of expectation-maximisation,
    which never lowers it.
    """
    density = np.exp(elpd - elpd.max(axis=1, keepdims=True))
    weights = np.full(elpd.shape[1], 1.0 / elpd.shape[1])
    for _ in range(STACKING_STEPS):
        share = weights * density
        updated = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(updated - weights).max() < STACKING_PRECISION:
            break
        weights = updated
    return np.asarray(weights)
