"""Write the site: HTML files that open from disk and load nothing but the files in `assets`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.results import METHOD
from benchmarks.storage import write_whole
from leaderboard.accepted import index_of_board
from leaderboard.badges import WORDS, Badge, Judge, counted_among
from leaderboard.boards import Comparison
from leaderboard.comparing import Worked, in_order, put_together, work_out
from leaderboard.load import (
    Entry,
    Fault,
    Index,
    Loaded,
    fewer_files_than,
    index_of,
    origins_of,
    protocols_of,
    read_whole,
)
from leaderboard.standings import RESAMPLES
from leaderboard.statistics import LEVEL
from leaderboard.thin import bare, thinned
from leaderboard.views import BOARD_VIEWS, COMPARISON_VIEWS, VIEWS, base, chart, overview, wording
from leaderboard.workers import Workers

HERE = Path(__file__).parent
OFFICIAL, SUBMISSIONS = HERE / "results", HERE / "submissions"
# By this mark a later build knows the pages it may take away.
GENERATOR = "DQSS Bench leaderboard"
# Where pages lie, beside the site's top.
FOLDERS = ("boards", "cells", "compare", "layers", "methods", "models", "pareto", "pictures")
ASSETS = {
    "style.css": "style.css",
    "site.js": "site.js",
    "compare.js": "compare.js",
    "datatables.min.js": "datatables/datatables.min.js",
    "LICENSE.datatables.txt": "datatables/LICENSE.txt",
}
"""What pages load, and the licence of what is not ours: name in the site's `assets` -> file of `static/`."""
# Scripts and styles are files of the site, none stands in a page. Browsers differ in what 'self' means for a file on
# disk; no page from a server may load one.
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: data:; "
    "base-uri 'none'; form-action 'none'"
)
# With fewer files than this, other processes would take longer to start than they spare.
FEW = 1000
# Records that are worth the way to another process and back.
WORTH = 50


class BoardError(ValueError):
    """There is nothing to build a board from; the message says what to do."""


@dataclass(frozen=True)
class Job:
    """Boards to work out in one go.

    Args:
        boards: the entries of each.
        methods: for each, all that its comparison has.
        counted: for each, the badges that take part in the ranks of its comparison.
        protocols: for each, what pages call that of its comparison.
    """

    results: Path
    site: Path
    boards: tuple[tuple[Entry, ...], ...]
    methods: tuple[tuple[str, ...], ...]
    counted: tuple[frozenset[Badge | None], ...]
    protocols: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """A board worked out, its own pages written.

    Args:
        worked: its records are light; None where no file of it is a record.
        paths: of its pages.
    """

    worked: Worked | None
    faults: tuple[Fault, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Finished:
    """A comparison whose pages are to be written."""

    site: Path
    comparison: Comparison


def build_site(results: Path, site: Path, processes: int | None = None, submissions: Path | None = None) -> Path:
    """Write the leaderboard of a results folder, or the public one, and return its first page.

    The same records give the same bytes. Each file is replaced whole, the first page last. Boards are worked out one at
    a time, so that the records of few are in memory.

    Args:
        results: the folder of a run; records lie in it as `<suite>/<key>.json`.
        site: the folder to write to; made where it is not, files of others in it are left alone.
        processes: how many work; None for as many as there are processors, or one for few records.
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
    if processes is None:
        processes = 1 if fewer_files_than(results, FEW) else os.cpu_count() or 1
    faults: list[Fault] = []
    written: set[str] = set()
    kept: list[Comparison] = []

    def finished() -> Iterator[Finished]:
        for comparison in _work_out(results, site, index, workers, faults, written):
            kept.append(bare(comparison))
            yield Finished(site, comparison)

    with Workers(processes) as workers:
        mapped = workers.map
        index = index_of(results, mapped) if submissions is None else index_of_board(results, submissions, mapped)
        faults += index.faults
        for paths in workers.map(_write_comparison, finished()):
            written.update(paths)
    words = tuple(fault.words for fault in sorted(faults))
    if not kept:
        raise BoardError(
            f"results: no readable record in '{results}'. Run a suite first: dqss-bench run quickstart --out {results}"
            + ("\nFiles that do not count:" + "".join(f"\n  {fault}" for fault in words) if words else "")
        )
    content = base.Content(in_order(kept), Loaded(words, index.superseded, index.submissions))
    for view in VIEWS:
        written.update(_write(site, view(content)))
    for name, source in ASSETS.items():
        write_whole(site / "assets" / name, (HERE / "static" / source).read_text(encoding="utf-8"))
    _remove_stale(site, written)
    return site / "index.html"


def _work_out(
    results: Path, site: Path, index: Index, workers: Workers, faults: list[Fault], written: set[str]
) -> Iterator[Comparison]:
    """Yield each comparison when all its boards are worked out; add to the faults of files and to the pages written."""
    groups = [tuple(group) for _, group in groupby(index.entries, key=lambda entry: entry.comparison)]
    methods = [tuple(sorted({entry.method for entry in group})) for group in groups]
    counted = [counted_among(entry.origin.badge if entry.origin else None for entry in group) for group in groups]
    names_of_protocols = protocols_of(group[0].comparison for group in groups)
    protocols = [names_of_protocols[group[0].comparison] for group in groups]
    done = chain.from_iterable(workers.map(_do, _jobs(results, site, groups, methods, counted, protocols)))
    for group, names, badges in zip(groups, methods, counted, strict=True):
        boards = {entry.board for entry in group}
        worked: list[Worked] = []
        for one in islice(done, len(boards)):
            faults.extend(one.faults)
            written.update(one.paths)
            worked += [one.worked] if one.worked is not None else []
        if worked:
            models, widths = {board.model for board in boards}, {board.bits for board in boards}
            yield put_together(worked, models, widths, names, badges)


def _jobs(
    results: Path,
    site: Path,
    groups: Sequence[tuple[Entry, ...]],
    methods: Sequence[tuple[str, ...]],
    counted: Sequence[frozenset[Badge | None]],
    protocols: Sequence[str],
) -> Iterator[Job]:
    """Yield all boards in their order, as many at once as are worth the way to another process."""
    boards: list[tuple[tuple[Entry, ...], tuple[str, ...], frozenset[Badge | None], str]] = []
    for group, names, badges, protocol in zip(groups, methods, counted, protocols, strict=True):
        for _, board in groupby(group, key=lambda entry: entry.board):
            boards.append((tuple(board), names, badges, protocol))
            if sum(len(entries) for entries, *_ in boards) >= WORTH:
                yield Job(results, site, *map(tuple, zip(*boards, strict=True)))
                boards = []
    if boards:
        yield Job(results, site, *map(tuple, zip(*boards, strict=True)))


def _do(job: Job) -> list[Done]:
    return [_do_board(job, *board) for board in zip(job.boards, job.methods, job.counted, job.protocols, strict=True)]


def _do_board(
    job: Job, entries: Sequence[Entry], methods: Sequence[str], counted: frozenset[Badge | None], protocol: str
) -> Done:
    """Read a board's records, work it out and write its own pages."""
    records, faults = read_whole(job.results, entries)
    if not records:
        return Done(None, tuple(faults), ())
    worked = work_out(records, methods, Judge(origins_of(entries), counted), protocol)
    pages = chain.from_iterable(view(worked.place, worked.board) for view in BOARD_VIEWS)
    paths = _write(job.site, pages)
    return Done(thinned(worked), tuple(faults), paths)


def _write_comparison(finished: Finished) -> tuple[str, ...]:
    """Write the pages of a comparison and return their paths."""
    pages = chain.from_iterable(view(finished.comparison) for view in COMPARISON_VIEWS)
    return _write(finished.site, pages)


def _write(site: Path, pages: Iterable[base.Page]) -> tuple[str, ...]:
    """Write pages, one in memory at a time, and return their paths."""
    paths = []
    for page in pages:
        text = _environment().get_template(page.template).render({"page": page, **page.values})
        write_whole(site / page.path, text)
        paths.append(page.path)
    return tuple(paths)


@cache
def _environment() -> Environment:
    return make_environment()


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
        "significant",
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
    for path in base.PATHS:
        environment.globals[path.__name__] = path
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
        "badge_words": WORDS,
        "chart_width": chart.WIDTH,
        "plot_box": chart.BOX,
        "verdict_of": overview.verdict_of,
        "uneven_seeds": overview.uneven_seeds,
    }


def _remove_stale(site: Path, written: set[str]) -> None:
    """Take away the pages of an earlier build whose records are gone; a folder of another site is left alone."""
    marks = (f'<meta name="generator" content="{GENERATOR}">', f'{{"generator": "{GENERATOR}"')
    pages = [site.glob("*.html"), *(site.glob(f"{folder}/*.html") for folder in FOLDERS)]
    for path in sorted(chain(*pages, site.glob("outcomes/*.json"))):
        if path.relative_to(site).as_posix() not in written and path.is_file():
            with path.open(errors="replace") as file:
                beginning = file.read(4000)
            if any(mark in beginning for mark in marks):
                path.unlink()
