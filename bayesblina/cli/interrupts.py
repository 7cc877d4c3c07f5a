"""Ctrl-C: noted whoever swallows it, and held back while results are put in their place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass(frozen=True, slots=True)
class Interrupts:
    """Whether Ctrl-C was pressed.

    Samplers take it for the wish to stop early, and hand back what they have: a result that looks
    whole. So it is noted when it comes, and asked for after every stage.
    """

    _seen: list[bool] = field(default_factory=list)
    _held: list[bool] = field(default_factory=list)

    def raise_if_any(self) -> None:
        """Raise if it was pressed.

        Raises
        ------
        KeyboardInterrupt
            If it was.
        """
        if self._seen:
            raise KeyboardInterrupt

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note Ctrl-C from here on, besides raising it."""
        if threading.current_thread() is not threading.main_thread():
            # Python lets only the main thread handle signals; another one is never interrupted.
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            if self._held:
                return
            self._seen.append(True)
            signal.default_int_handler(number, frame)

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Finish what is in here whatever is pressed: it takes no time, and half of it is bad.

        Raises
        ------
        KeyboardInterrupt
            If Ctrl-C was pressed before.
        """
        self._held.append(True)
        try:
            self.raise_if_any()
            yield
        finally:
            self._held.clear()
