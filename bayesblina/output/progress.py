"""How far an analysis is: the time of its stages, and whether it is to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bayesblina.core.interrupts import Interrupts


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an analysis tells while it runs; this one takes times and says nothing.

    `interrupts`: whether Ctrl-C was pressed.
    `seconds`: duration of each stage, in order.
    """

    interrupts: Interrupts = field(default_factory=Interrupts)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, *, bar: bool = False) -> Iterator[None]:  # noqa: ARG002 (see below)
        """Take the time of a stage.

        `bar`: whether it may show a bar of its own, which whoever speaks makes room for.
        """
        begun = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
        self.interrupts.raise_if_any()
