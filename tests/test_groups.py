"""Groups of tests name files that are there."""

from tests.conftest import GROUP_OF
from tests.paths import ROOT


def test_files_of_groups_are_there() -> None:
    assert {name for name in GROUP_OF if not (ROOT / "tests" / f"{name}.py").is_file()} == set()
