"""Frozen values that hold read-only mappings: how they go to other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any


def remade(value: Any) -> tuple[Any, ...]:
    """Reduce a dataclass to what makes it again: a read-only mapping cannot be pickled.

    For ``__reduce__``; the class makes its mappings read-only itself.
    """
    parts = ((part.name, getattr(value, part.name)) for part in fields(value))
    plain = {name: dict(v) if isinstance(v, Mapping) else v for name, v in parts}
    return partial(value.__class__, **plain), ()
