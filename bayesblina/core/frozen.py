"""Frozen values that hold read-only mappings: how they go to other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def remade(value: Any) -> tuple[Any, ...]:
    """Reduce a dataclass to what makes it again: a read-only mapping cannot be pickled.

    For ``__reduce__``; the class makes its mappings read-only itself.
    """
    held = {item.name: getattr(value, item.name) for item in fields(value)}
    plain = {name: dict(v) if isinstance(v, Mapping) else v for name, v in held.items()}
    return _made, (type(value), plain)


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    return kind(**values)
