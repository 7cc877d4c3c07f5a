"""Names of files that commands refuse."""

from __future__ import annotations

from collections.abc import Sequence

from bayesblina.core.errors import SpecError
from bayesblina.output.figure_files import file_name


def require_file_names(endpoints: Sequence[str]) -> None:
    """Refuse endpoints whose files would have one name."""
    by_file: dict[str, str] = {}
    for name in endpoints:
        other = by_file.setdefault(file_name(name).lower(), name)
        if other != name:
            raise SpecError(
                f"The endpoints '{other}' and '{name}' would share a figure's file: rename one."
            )
