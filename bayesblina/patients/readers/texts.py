"""Columns of tables as texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Ints


def as_text(series: pd.Series) -> NDArray[np.str_]:
    """Write values as text without blanks around them; missing cells are empty.

    Whole numbers have no decimal point.
    """
    if pd.api.types.is_float_dtype(series):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        is_whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)
        text = np.where(is_whole, np.where(is_whole, values, 0).astype(np.int64).astype(str), "")
        return np.where(np.isnan(values) | is_whole, text, values.astype(str)).astype(str)
    codes, different = coded_text(series)
    return different[codes]


def coded_text(series: pd.Series) -> tuple[Ints, NDArray[np.str_]]:
    """Write values as text, as `as_text`, each of those that rows repeat once.

    Result: which text each row has, and the texts; some may be equal.
    """
    if pd.api.types.infer_dtype(series, skipna=True) in ("string", "integer"):
        codes, different = pd.factorize(series)
        return codes, np.append(_written(pd.Series(different)), "")
    is_number = pd.api.types.is_float_dtype(series)
    return np.arange(len(series)), as_text(series) if is_number else _written(series)


def _written(series: pd.Series) -> NDArray[np.str_]:
    """Write any values as text without blanks around them; missing cells are empty."""
    missing = series.isna().to_numpy()
    return np.where(missing, "", series.astype(str).str.strip().to_numpy(dtype=str)).astype(str)


def examples_of(text: Any) -> tuple[str, ...]:
    """Take up to three of the texts, shortened."""
    return tuple(str(value)[:20] for value in text.unique()[:3])
