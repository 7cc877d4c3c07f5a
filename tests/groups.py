"""Which tests run in one process: files that share fits or compiled models."""

from xdist.scheduler import LoadScopeScheduling

# What runs in one process: files that share fits, or a run of the demo, and files that compile the
# same models, which another process would compile at the same time. The longest groups come first,
# so that no process waits for another at the end; then all other files, each a group of its own.
GROUPS = {
    "models": {
        *("hazards/test_models", "hazards/test_sources", "hazards/test_varying"),
        *("hazards/test_likelihood", "hazards/test_illness_death", "hazards/test_cure"),
        *("hazards/test_external", "studies/test_reference", "inference/test_compiling"),
        *("checks/test_comparison", "checks/test_prediction", "checks/test_folds"),
    },
    "results": {
        *("output/test_analysis", "output/test_hiding", "output/test_report"),
        *("output/test_report_browser", "output/test_report_figures", "output/test_results"),
        *("cli/test_cli", "cli/test_interrupts", "core/test_masking"),
    },
    "examples": {"test_examples"},
    "what if": {"studies/test_what_if"},
    "sampling": {"inference/test_sampling"},
    "priors": {"checks/priors/test_scaling", "checks/priors/test_scepticism"},
    "weights": {"studies/test_weights", "studies/test_weighted_effect"},
    "processes": {"inference/test_compile_cache"},
    "safety": {"estimands/test_safety"},
    "masked": {"output/test_masked_folder"},
    "marks": {"output/test_marks"},
    "corruption": {"core/test_corruption"},
}
_GROUP_OF = {f"tests/{stem}.py": name for name, stems in GROUPS.items() for stem in stems}


def group_of(nodeid: str) -> str:
    """Name the group of a test: that of its file, or the file itself."""
    path = nodeid.partition("::")[0]
    return _GROUP_OF.get(path, path)


def rank_of(nodeid: str) -> int:
    """Where in the order a test's group comes; all files without a group come last."""
    names = list(GROUPS)
    group = group_of(nodeid)
    return names.index(group) if group in GROUPS else len(names)


class Grouped(LoadScopeScheduling):  # type: ignore[misc]
    """Hands whole groups to processes.

    pytest-xdist 3.8's own groups are written into ids of tests, which pytest 9.2 does
    not let it do: each test went where there was room, and every process made every fit.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
