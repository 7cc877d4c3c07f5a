"""TOML files: read, or refused in one clear sentence."""

from __future__ import annotations

import tomllib
from os import PathLike
from pathlib import Path
from typing import Any

from bayesblina.core.errors import SpecError, StorageError
from bayesblina.core.files import read_whole, readable, trouble_of


def no_boolean(value: object) -> object:
    """Refuse true and false where a number belongs: Python counts them as 1 and 0.

    >>> no_boolean(True)
    Traceback (most recent call last):
    ValueError: expected a number, got true
    """
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


def read_toml(path: str | PathLike[str], *, what: str) -> dict[str, Any]:
    """Read a TOML file.

    >>> read_toml("no_such_study.toml", what="study file")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: No study file 'no_such_study.toml'.
    """
    name = readable(Path(path).name)
    trouble = trouble_of(path)
    if trouble == "no such file":
        raise SpecError(f"No {what} '{readable(path)}'.")
    if trouble is not None:
        raise SpecError(f"'{readable(path)}' is {trouble}; expected a {what}.")
    try:
        return tomllib.loads(read_whole(path).decode("utf-8-sig"))
    except StorageError as error:
        raise SpecError(str(error)) from None
    except UnicodeDecodeError:
        raise SpecError(f"'{readable(path)}' is not UTF-8 text: save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{name} is not valid TOML: {error}.") from None
    except RecursionError:
        raise SpecError(f"{name} is nested too deep: no {what} says anything so.") from None
    except ValueError:
        raise SpecError(f"{name} holds a number of thousands of digits.") from None
