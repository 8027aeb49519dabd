"""Results as one page of HTML that needs nothing else: no network, no script, no second file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alm.errors import DependencyError
from alm_bench.reports.comparing import changes, table
from alm_bench.reports.plots import PLOTS
from alm_bench.reports.tables import tables
from alm_bench.results.files import read_result
from alm_bench.results.records import STAGES, BenchError, Result

TEMPLATE = "page.html"


def read_results(paths: list[Path]) -> dict[str, Result]:
    """The results in files and folders, by a short name. BenchError when there is none, or one cannot be read."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(path.glob("*.json"))
        else:
            files.append(path)
    if not files:
        raise BenchError(f"{' and '.join(map(str, paths))} holds no .json files; 'alm-bench run -o' writes one")
    return {file.stem if _single(file, files) else str(file): read_result(file) for file in files}


def render(results: Mapping[str, Result]) -> str:
    """The page."""
    try:
        from jinja2 import Environment, PackageLoader
    except ImportError:
        raise DependencyError("a report needs Jinja2; install it with: pip install 'alm-edge[bench]'") from None
    # Names of packages and of processors come from elsewhere, so nothing reaches the page as markup.
    environment = Environment(loader=PackageLoader("alm_bench.reports", "."), autoescape=True, trim_blocks=True)
    plots = {title: draw(dict(results)) for title, draw in PLOTS.items()}
    compared = []
    if len(results) > 1:
        try:
            compared = [table(results, changes(results))]
        except BenchError:
            # Nothing in common is a fact about these results, which the page shows one by one.
            compared = []
    return environment.get_template(TEMPLATE).render(
        results={name: list(tables(result)) for name, result in results.items()},
        busy={name: result.noise.busy for name, result in results.items()},
        plots={title: drawing for title, drawing in plots.items() if drawing},
        compared=compared,
        stages=STAGES,
    )


def _single(file: Path, files: list[Path]) -> bool:
    return sum(other.stem == file.stem for other in files) == 1
