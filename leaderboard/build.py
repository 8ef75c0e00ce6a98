"""Write the site: HTML files that carry their own style, open from disk and load nothing."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.results import METHOD
from benchmarks.storage import write_atomically
from leaderboard.accepted import load_board
from leaderboard.badges import WORDS
from leaderboard.boards import compare
from leaderboard.load import load
from leaderboard.standings import RESAMPLES
from leaderboard.statistics import LEVEL
from leaderboard.views import VIEWS, base, chart, wording

HERE = Path(__file__).parent
OFFICIAL, SUBMISSIONS = HERE / "results", HERE / "submissions"
# By this mark a later build knows the pages it may take away.
GENERATOR = "DQSS Bench leaderboard"


class BoardError(ValueError):
    """There is nothing to build a board from; the message says what to do."""


def build_site(results: Path, site: Path, submissions: Path | None = None) -> Path:
    """Write the leaderboard of a results folder, or the public one, and return its first page.

    The same records give the same bytes. Each file is replaced whole, the first page last.

    Args:
        results: the folder of a run; records lie in it as `<suite>/<key>.json`.
        site: the folder to write to; made where it is not, files of others in it are left alone.
        submissions: the folder of accepted submissions, for the public leaderboard: `results` are its official records
            then. None for somebody's own results, which have no badges.

    Raises:
        BoardError: there is no such folder, or no record in it can be read.
        OSError: the site cannot be written.
    """
    if not results.is_dir():
        raise BoardError(
            f"results: no folder '{results}'. Run a suite first: dqss-bench run quickstart --out {results}"
        )
    loaded = load(results) if submissions is None else load_board(results, submissions)
    if not loaded.records:
        faults = "".join(f"\n  {fault}" for fault in loaded.faults)
        raise BoardError(
            f"results: no readable record in '{results}'. Run a suite first: dqss-bench run quickstart --out {results}"
            + (f"\nFiles that do not count:{faults}" if faults else "")
        )
    content = base.Content(compare(loaded.records, loaded.origins), loaded)
    environment = make_environment()
    pages = [page for view in VIEWS for page in view(content)]
    for page in pages:
        values = {"page": page, **page.values}
        write_atomically(site / page.path, environment.get_template(page.template).render(values))
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
    ):
        environment.filters[name] = getattr(wording, name)
    for name in ("comparison_anchor", "board_anchor", "strategy_path", "pictures_path", "record_anchor"):
        environment.globals[name] = getattr(base, name)
    for name in ("bar_name", "bar_words"):
        environment.globals[name] = getattr(wording, name)
    environment.globals.update(_shared())
    return environment


def _shared() -> dict[str, Any]:
    style = (HERE / "static" / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # The style stands in the page and is allowed by its hash: browsers differ in what 'self' means for a file on disk.
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return {
        "style": Markup(style),
        "policy": policy,
        "generator": GENERATOR,
        "method": METHOD,
        "level": LEVEL,
        "resamples": RESAMPLES,
        "verdicts": wording.VERDICTS,
        "badge_words": WORDS,
        "chart_width": chart.WIDTH,
    }


def _remove_stale(site: Path, written: set[str]) -> None:
    """Take away the pages of boards of an earlier build, whose records are gone."""
    for path in sorted([*site.glob("strategies/*.html"), *site.glob("pictures/*.html")]):
        mark = f'<meta name="generator" content="{GENERATOR}">'
        if path.relative_to(site).as_posix() not in written and mark in path.read_text(errors="replace")[:4000]:
            path.unlink()
