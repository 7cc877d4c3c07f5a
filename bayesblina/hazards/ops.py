"""PyTensor operations with hand-written kernels, which keep compiling short.

All are defined by their `perform` methods, in plain numpy; the numba kernels (`op_kernels`) are
tested against them and their gradients against finite differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op


class BatchedMatrixVector(Op):
    """Multiply each endpoint's matrix with its vector."""

    __props__ = ("transposed",)

    def __init__(self, *, transposed: bool = False) -> None:
        self.transposed = transposed

    def make_node(self, matrix: Any, vector: Any) -> Apply:
        """Take (endpoint, row, column) and (endpoint, column) to (endpoint, row)."""
        inputs = [pt.as_tensor_variable(matrix), pt.as_tensor_variable(vector)]
        return Apply(self, inputs, [pt.dmatrix()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate with numpy."""
        matrix, vector = inputs
        subscripts = "eji,ej->ei" if self.transposed else "eij,ej->ei"
        output_storage[0][0] = np.einsum(subscripts, matrix, vector)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:  # noqa: ARG002
        """Differentiate; the matrix is data."""
        turned = BatchedMatrixVector(transposed=not self.transposed)
        return [pt.zeros_like(inputs[0]), turned(inputs[0], cotangents[0])]


class PiecewiseExponential(Op):
    """Log-likelihood of a piecewise-exponential model, with its gradients.

    The log hazard of a cell is the sum of a part that the patterns of a class share, over interval
    and phase, and a part of the pattern, constant over time. Events matter through their sums over
    either, and no exponential is taken by cell.
    """

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take sums of events, person-time and the two parts of the log hazard.

        Inputs are the events by (endpoint, class, interval, phase) and by (endpoint, pattern), the
        person-time over (endpoint, interval, phase, pattern), the class of each pattern, and the
        parts by class, interval and phase and by pattern. Outputs are the log-likelihood and its
        gradients by the two parts.
        """
        return Apply(
            self,
            [pt.as_tensor_variable(value) for value in inputs],
            [pt.dscalar(), pt.dtensor4(), pt.dmatrix()],
        )

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate with numpy."""
        events, by_pattern, person_time, class_of, shared, pattern = inputs
        member = np.arange(shared.shape[1])[:, None] == class_of
        # (endpoint, interval, phase, pattern)
        expected = person_time * np.exp(
            np.moveaxis(shared[:, class_of.astype(np.int64)], 1, -1) + pattern[:, None, None, :]
        )
        log_density = (events * shared).sum() + (by_pattern * pattern).sum() - expected.sum()
        output_storage[0][0] = np.asarray(log_density)
        output_storage[1][0] = events - np.einsum("ejkp,cp->ecjk", expected, member)
        output_storage[2][0] = by_pattern - expected.sum((1, 2))

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Differentiate by the two parts; the rest is data."""
        return [*map(pt.zeros_like, inputs[:4]), *(cotangents[0] * slope for slope in outputs[1:])]


class CuredMixture(Op):
    """What cured patients add to the log-likelihood of a piecewise-exponential model.

    With probability ``p`` a patient never has the event, else the hazard is that of the model. The
    model's own log-likelihood takes everybody as not cured; a patient with the event adds
    ``log(1 - p)`` to it, one without adds ``log(p + (1 - p) exp(-H)) + H``, where ``H`` is the
    cumulative hazard over the patient's follow-up.
    """

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take follow-up by patient and the parts of the log hazard.

        Inputs are the events by (endpoint, pattern); the patterns of patients; the weights of
        survivors over (endpoint, patient); where each patient's entries begin, over (endpoint,
        patient + 1); the entries' cells and times; the class of each pattern; the parts of the log
        hazard by (endpoint, class, interval, phase) and by (endpoint, pattern); and the log odds of
        being cured by (endpoint, pattern). Outputs are the sum and its gradients by the last three.
        """
        return Apply(
            self,
            [pt.as_tensor_variable(value) for value in inputs],
            [pt.dscalar(), pt.dtensor4(), pt.dmatrix(), pt.dmatrix()],
        )

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate with numpy."""
        events, pattern_of, survived, first, cell, time, class_of, shared, pattern, odds = inputs
        who, begins = pattern_of.astype(np.int64), first.astype(np.int64)
        of = class_of.astype(np.int64)[who]
        cure = 1.0 / (1.0 + np.exp(-odds))
        total = -(events * np.logaddexp(0.0, odds)).sum()
        by_shared, by_pattern = np.zeros(shared.shape), np.zeros(pattern.shape)
        by_odds = -events * cure
        for e in range(survived.shape[0]):
            entries = slice(begins[e, 0], begins[e, -1])
            patient = np.repeat(np.arange(who.size), np.diff(begins[e]))
            cells = (of[patient], cell[entries].astype(np.int64))
            hazard = np.exp(shared[e]).reshape(shared.shape[1], -1)
            expected = time[entries] * hazard[cells] * np.exp(pattern[e, who[patient]])
            passed = np.bincount(patient, weights=expected, minlength=who.size)
            log_odds, weight = odds[e, who], survived[e]
            mixed = np.logaddexp(log_odds, -passed) - np.logaddexp(0.0, log_odds) + passed
            total += (weight * mixed).sum()
            slope = weight / (1.0 + np.exp(-log_odds - passed))
            np.add.at(by_shared[e].reshape(hazard.shape), cells, slope[patient] * expected)
            np.add.at(by_pattern[e], who, slope * passed)
            np.add.at(by_odds[e], who, slope - weight * cure[e, who])
        for storage, value in zip(
            output_storage, (np.asarray(total), by_shared, by_pattern, by_odds), strict=True
        ):
            storage[0] = value

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Differentiate by the last three inputs; the rest is data."""
        return [*map(pt.zeros_like, inputs[:7]), *(cotangents[0] * slope for slope in outputs[1:])]


class FoundAtVisits(Op):
    """Log-likelihood of events that were found at visits, with its gradients.

    An event lies in a gap between two visits, cut into parts within which hazards are constant. Of
    the hazard ``h`` of the event and that of starting another phase ``s``, both of a part of length
    ``d``, its probability is the sum over the parts of ``P h (1 - exp(-(h + s) d)) / (h + s)``,
    where ``P`` is the probability of having had neither before the part: after the event nobody
    starts. Where starts do not matter ``s`` is 0, and the sum is the fall of survival over the gap.
    """

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take gaps and the parts of the log hazards.

        Inputs are of each event the endpoint, its row in the log hazards of starting, the class and
        the weight; where its parts begin, over (event + 1,); of each part the cell, the length and
        the cell of starting (-1 for none); the part of the log hazard by (endpoint, class,
        interval, phase), that of the event's own covariates, over (event,); the log hazard of
        starting by (row, cell of starting), and that of the event's own covariates. Outputs are the
        log-likelihood and its gradients by the last four.
        """
        return Apply(
            self,
            [pt.as_tensor_variable(value) for value in inputs],
            [pt.dscalar(), pt.dtensor4(), pt.dvector(), pt.dmatrix(), pt.dvector()],
        )

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate with numpy."""
        endpoint, row, class_of, first, cell, start = (
            values.astype(np.int64) for values in (*inputs[:3], inputs[4], inputs[5], inputs[7])
        )
        weight, length = inputs[3], inputs[6]
        shared, own, starting, begun = inputs[8:]
        total = 0.0
        by_shared, by_own = np.zeros(shared.shape), np.zeros(own.shape)
        by_starting, by_begun = np.zeros(starting.shape), np.zeros(begun.shape)
        flat = by_shared.reshape(*shared.shape[:2], -1)
        for i in range(own.size):
            parts = slice(first[i], first[i + 1])
            at, time, place = cell[parts], length[parts], start[parts]
            e, c = endpoint[i], class_of[i]
            hazard = np.exp(shared[e, c].ravel()[at] + own[i])
            other = np.where(place < 0, 0.0, np.exp(starting[row[i], place] + begun[i]))
            rate = hazard + other
            passed = np.cumsum(rate * time) - rate * time
            left = np.exp(-rate * time)
            share = -np.expm1(-rate * time) / rate
            terms = np.exp(-passed) * hazard * share
            later = np.cumsum(terms[::-1])[::-1] - terms
            found = terms.sum()
            # How the part's own term moves with its whole rate, and the parts after it.
            moved = np.exp(-passed) * hazard * (time * left - share) / rate - time * later
            by_hazard = (terms + hazard * moved) * (weight[i] / found)
            by_other = other * moved * (weight[i] / found)
            total += weight[i] * np.log(found)
            np.add.at(flat[e, c], at, by_hazard)
            by_own[i] = by_hazard.sum()
            np.add.at(by_starting[row[i]], place[place >= 0], by_other[place >= 0])
            by_begun[i] = by_other.sum()
        for storage, value in zip(
            output_storage,
            (np.asarray(total), by_shared, by_own, by_starting, by_begun),
            strict=True,
        ):
            storage[0] = value

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Differentiate by the last four inputs; the rest is data."""
        return [*map(pt.zeros_like, inputs[:8]), *(cotangents[0] * slope for slope in outputs[1:])]
