"""Write the site: HTML files that open from disk and load nothing but the files in `assets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.results import METHOD
from benchmarks.storage import write_atomically
from leaderboard.boards import compare
from leaderboard.load import load
from leaderboard.standings import RESAMPLES
from leaderboard.statistics import LEVEL
from leaderboard.views import VIEWS, base, chart, overview, wording

HERE = Path(__file__).parent
# By this mark a later build knows the pages it may take away.
GENERATOR = "DQSS Bench leaderboard"
ASSETS = ("style.css", "site.js", "compare.js", "datatables/datatables.min.js", "datatables/LICENSE.txt")
"""Files of `static/` that pages load, and the licence of what is not ours."""
# Scripts and styles are files of the site, none stands in a page. Browsers differ in what 'self' means for a file on
# disk; no page from a server may load one.
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: data:; "
    "base-uri 'none'; form-action 'none'"
)


class BoardError(ValueError):
    """There is nothing to build a board from; the message says what to do."""


def build_site(results: Path, site: Path) -> Path:
    """Write the leaderboard of a results folder and return its first page.

    The same records give the same bytes. Each file is replaced whole, the first page last.

    Args:
        results: the folder of a run; records lie in it as `<suite>/<key>.json`.
        site: the folder to write to; made where it is not, files of others in it are left alone.

    Raises:
        BoardError: there is no such folder, or no record in it can be read.
        OSError: the site cannot be written.
    """
    if not results.is_dir():
        raise BoardError(
            f"results: no folder '{results}'. Run a suite first: dqss-bench run quickstart --out {results}"
        )
    loaded = load(results)
    if not loaded.records:
        faults = "".join(f"\n  {fault}" for fault in loaded.faults)
        raise BoardError(
            f"results: no readable record in '{results}'. Run a suite first: dqss-bench run quickstart --out {results}"
            + (f"\nFiles that do not count:{faults}" if faults else "")
        )
    content = base.Content(compare(loaded.records), loaded)
    environment = make_environment()
    pages = [page for view in VIEWS for page in view(content)]
    for page in pages:
        values = {"page": page, **page.values}
        write_atomically(site / page.path, environment.get_template(page.template).render(values))
    for name in ASSETS:
        write_atomically(
            site / "assets" / name.replace("datatables/LICENSE", "LICENSE.datatables").rpartition("/")[2],
            (HERE / "static" / name).read_text(encoding="utf-8"),
        )
    _remove_stale(site, {page.path for page in pages})
    return site / "index.html"


def make_environment() -> Environment:
    """Return the templates with everything escaped, and the words they share."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in (
        "kilobytes",
        "giga",
        "definition",
        "number",
        "signed",
        "interval",
        "p_value",
        "seconds",
        "listed",
        "counted",
        "command",
        "protocol_words",
        "budget_words",
        "score_words",
    ):
        environment.filters[name] = getattr(wording, name)
    for name in base.PATHS:
        environment.globals[name.__name__] = name
    for name in ("bar_name", "bar_words"):
        environment.globals[name] = getattr(wording, name)
    environment.globals.update(_shared())
    return environment


def _shared() -> dict[str, Any]:
    return {
        "policy": POLICY,
        "generator": GENERATOR,
        "method": METHOD,
        "level": LEVEL,
        "resamples": RESAMPLES,
        "verdicts": wording.VERDICTS,
        "chart_width": chart.WIDTH,
        "plot_box": chart.BOX,
        "verdict_of": overview.verdict_of,
        "uneven_seeds": overview.uneven_seeds,
    }


def _remove_stale(site: Path, written: set[str]) -> None:
    """Take away the pages of an earlier build whose records are gone."""
    for path in sorted([*site.glob("*.html"), *site.glob("*/*.html")]):
        mark = f'<meta name="generator" content="{GENERATOR}">'
        if path.relative_to(site).as_posix() not in written and mark in path.read_text(errors="replace")[:4000]:
            path.unlink()
