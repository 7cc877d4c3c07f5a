"""How far an analysis is: the time of its stages, and whether Ctrl-C or its like told it to stop.

What tells it is noted whoever swallows it, and held back while results are put in place.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# What ends a process and can be caught; a terminal that is closed hangs up, where there is that.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@dataclass(frozen=True, slots=True)
class Interrupts:
    """Whether Ctrl-C was pressed, or the process told to end.

    Samplers take it for the wish to stop early, and hand back what they have: a result that looks
    whole. So it is noted when it comes, and asked for after every stage.
    """

    _seen: list[int] = field(default_factory=list)
    _held: list[bool] = field(default_factory=list)

    @property
    def code(self) -> int:
        """Exit code, as a shell gives it: 128 and the number of the signal."""
        return 128 + (self._seen[0] if self._seen else signal.SIGINT)

    def raise_if_any(self) -> None:
        """Raise if it was pressed."""
        if self._seen:
            raise KeyboardInterrupt

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note Ctrl-C, and that the process is told to end, from here on, besides raising it."""
        if threading.current_thread() is not threading.main_thread():
            # Python lets only the main thread handle signals; another one is never interrupted.
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            if self._held:
                return
            self._seen.append(number)
            # Once is enough: another one must not end what cleans up after the first.
            if len(self._seen) == 1:
                signal.default_int_handler(number, frame)

        def tell(lost: UnraisableHookArgs) -> None:
            # Python prints what is raised where nobody can catch it, as in a destructor or at the
            # end of an import. Of this one nothing is lost: it was noted.
            if not (self._seen and issubclass(lost.exc_type, KeyboardInterrupt)):
                told_before(lost)

        before = {number: signal.signal(number, note) for number in ENDING}
        told_before, sys.unraisablehook = sys.unraisablehook, tell
        try:
            yield
        finally:
            sys.unraisablehook = told_before
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Finish what is in here whatever is pressed: it takes no time, and half of it is bad."""
        self._held.append(True)
        try:
            self.raise_if_any()
            yield
        finally:
            self._held.clear()


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
