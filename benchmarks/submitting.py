"""What `dqss-bench submit` does, from its parsed options to its exit code.

Everything heavy is imported where it is used, so that help and complaints come at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.commands import OK, SOME_FAILED, CommandError
from benchmarks.progress import one_line, say, warn

if TYPE_CHECKING:
    from benchmarks.consistency import Claim
    from benchmarks.submission_report import Rerun, Verdict


def pack(args: argparse.Namespace) -> int:
    """Pack the records of a results folder into one archive, and check it."""
    from benchmarks.results import load
    from benchmarks.storage import write_atomically
    from benchmarks.submission import SubmissionError, Submitter
    from benchmarks.submission import pack as packed
    from benchmarks.submission_check import check

    records, faults = load(args.results, None)
    if faults:
        for fault in faults:
            warn(fault)
        return SOME_FAILED
    try:
        content = packed(records, Submitter(args.name, args.contact))
    except SubmissionError as error:
        raise CommandError(str(error)) from error
    write_atomically(args.out, content)
    verdict = check(args.out, datetime.now(UTC))
    if verdict.faults:
        _tell(args.out, verdict)
        return SOME_FAILED
    say(f"{args.out}: {len(records)} records, {len(content)} bytes, SHA-256 {verdict.sha256}")
    say("docs/submissions.md says how to send it.")
    return OK


def schema(args: argparse.Namespace) -> int:
    """Print the JSON schema of manifest and record."""
    from benchmarks.submission import schema as text

    print(text(), end="")
    return OK


def check(args: argparse.Namespace) -> int:
    """Check a submission, and run some of its cells again where that is asked for."""
    from benchmarks.storage import write_atomically
    from benchmarks.submission import file_sha256
    from benchmarks.submission_check import check as checked

    if not args.file.exists():
        raise CommandError(f"no file '{args.file}'. Name the archive that `dqss-bench submit pack` made.")

    def run_again(claims: Sequence[Claim]) -> list[Rerun]:
        from benchmarks.submission_rerun import run_again, runner, sample

        seed = file_sha256(args.file) if args.seed is None else str(args.seed)
        return list(run_again(sample(claims, args.rerun, seed), runner()))

    verdict = checked(args.file, datetime.now(UTC), run_again if args.rerun else None)
    if args.report is not None:
        write_atomically(args.report, verdict.to_json())
    if args.format == "json":
        print(verdict.to_json(), end="")
    else:
        _tell(args.file, verdict)
    return SOME_FAILED if verdict.badge == "refused" else OK


def _tell(path: Path, verdict: Verdict) -> None:
    for fault in verdict.faults:
        say(f"{path}: {one_line(fault)}")
    for rerun in verdict.reruns:
        again = "" if rerun.again is None else f"; {rerun.again:g} here"
        say(f"  cell {rerun.key[:12]}: {rerun.score:g} submitted{again}. {one_line(rerun.fault or 'It agrees')}.")
    say(f"{path}: {verdict.badge}, {verdict.records} good records, {verdict.ok} of them with a score.")
