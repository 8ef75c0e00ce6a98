"""What `dqss-bench leaderboard` does, from its parsed options to its exit code."""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.commands import BAD_USAGE, OK, SOME_FAILED, CommandError, open_command
from benchmarks.progress import say, warn

OWN = "Of your own runs: --results DIR, as in `--results results`."
OFFICIAL = f"This is the board of the official results and accepted submissions. {OWN}"


def build(args: argparse.Namespace) -> int:
    """Make the static site from records: the official ones and accepted submissions, or somebody's own."""
    site = args.site or (Path("site") if args.results is None else args.results / "site")
    page = _built(args.results, site)
    print(page)
    print(f"open with: {open_command(page)}")
    if args.results is None:
        say(OFFICIAL)
    return OK


def serve(args: argparse.Namespace) -> int:
    """Make the site, and serve it until Ctrl-C."""
    serving: Any = importlib.import_module("leaderboard.serving")
    with ExitStack() as stack:
        site = args.site or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dqss-site-")))
        try:
            server = stack.enter_context(serving.Server(args.host, args.port, site))
        except OSError as error:
            raise CommandError(
                f"--host {args.host} --port {args.port}: {error.strerror}. "
                "Name another port, or 0 for any that is free; --host 127.0.0.1 is this machine alone."
            ) from error
        # Bound first: a port that is taken is told before the work, not after it.
        _built(args.results, site)
        if args.results is None:
            say(OFFICIAL)
        say(f"{server.address}  (Ctrl-C ends it)")
        server.serve_forever()
    return OK


def _built(results: Path | None, site: Path) -> Path:
    """Make a site, and return its first page."""
    # By name, because no module here may depend on the leaderboard.
    made: Any = importlib.import_module("leaderboard.build")
    try:
        if results is not None:
            page: Path = made.build_site(results, site)
            return page
        if not made.OFFICIAL.is_dir():
            raise CommandError(f"there are no official results in '{made.OFFICIAL}'. {OWN}")
        page = made.build_site(made.OFFICIAL, site, submissions=made.SUBMISSIONS)
    except made.BoardError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        folders = [made.OFFICIAL, made.SUBMISSIONS] if results is None else [results]
        if (unread := _result(error.filename, folders, site)) is not None:
            raise CommandError(f"cannot read '{unread}' among the results: {error.strerror}.") from error
        raise CommandError(
            f"cannot write the site to '{site}': {error.strerror}. Name another folder with --site."
        ) from error
    return page


def _result(file: object, folders: Sequence[Path], site: Path) -> Path | None:
    """Return the file that an error names if it is one of the results; the site may lie in their folder."""
    path = Path(file) if isinstance(file, str) else None
    for folder in folders:
        if path is not None and path.is_relative_to(folder):
            return None if site.is_relative_to(folder) and path.is_relative_to(site) else path
    return None


def diff(args: argparse.Namespace) -> int:
    """Show what changes on the board from one set of records to another."""
    difference: Any = importlib.import_module("leaderboard.difference")
    try:
        before, after = difference.load_both(args.before, args.after)
    except difference.DifferenceError as error:
        warn(str(error))
        return SOME_FAILED if error.refused else BAD_USAGE
    found = difference.compare_boards(before, after)
    if args.format == "json":
        print(json.dumps(difference.to_plain(found), indent=1, allow_nan=False))
    else:
        print(difference.to_markdown(found) if args.format == "markdown" else difference.to_text(found), end="")
    return OK
