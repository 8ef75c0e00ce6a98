"""The command line, `dqss-bench`: its commands and options, and how it ends.

What the commands do is in commands.py, publishing.py, submitting.py and upkeep.py. Exit codes: 0 all good, 1 some cells
or checks failed, 2 bad usage, suite or folder, 130 on Ctrl-C, 141 when a reader of the output went away.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from benchmarks import commands, publishing, submitting, upkeep
from benchmarks.executor import DEFAULT_JOBS, EXECUTORS, option
from benchmarks.listing import KINDS
from benchmarks.parallel import PARALLEL
from benchmarks.shard import Shard
from dqss.registry import did_you_mean

PROGRAM = "dqss-bench"
BROKEN_PIPE = 141
T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, with the nearest allowed name."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.below: dict[str, Parser] = {}

    def error(self, message: str) -> NoReturn:
        message = message if message.endswith((".", "?")) else f"{message}."
        self.exit(2, f"{self.prog}: {message} See `{self.prog} --help`.\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; unlike the base class leave nothing over.

        Each level of subcommands passes here, so each answers with its own names and its own help.
        """
        given = sys.argv[1:] if args is None else list(args)
        if self.below:
            for word in given:
                if not word.startswith("-"):
                    if word not in self.below:
                        self.error(f"no command '{word}'. {did_you_mean(word, self.below)}")
                    break
                self._check_option(word)
        parsed, rest = super().parse_known_args(given, namespace)
        for word in rest:
            self._check_option(word)
            self.error(f"'{word}' is one argument too many.")
        return parsed, rest

    def _check_option(self, word: str) -> None:
        name = word.partition("=")[0]
        # argparse has no public list of its options.
        if word.startswith("-") and name not in self._option_string_actions:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            self.error(f"no option '{name}'. {did_you_mean(name, options)}")


def positive(text: str) -> int:
    """Read a whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1.")
    return int(text)


def count(text: str) -> int:
    """Read a whole number from 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0.")
    return int(text)


def port(text: str) -> int:
    """Read a port."""
    if (number := count(text)) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port. Write a number from 0 to 65535.")
    return number


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """Return a reader of one of these words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise argparse.ArgumentTypeError(f"'{text}' is not allowed. {did_you_mean(text, allowed)}")
        return text

    return read


def read_by(reader: Callable[[str], T]) -> Callable[[str], T]:
    """Return a reader whose complaint argparse shows."""

    def read(text: str) -> T:
        try:
            return reader(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _add(
    into: argparse._SubParsersAction[Parser], parent: Parser, name: str, help: str, example: str, run: commands.Command
) -> Parser:
    prog = f"{parent.prog} {name}"
    description = f"{help[0].upper()}{help[1:]}."
    made = into.add_parser(name, help=help, prog=prog, description=description, epilog=f"example:\n  {example}")
    made.set_defaults(command=run, parser=made)
    parent.below[name] = made
    return made


def _add_format(parser: Parser, allowed: Sequence[str], default: str = "table") -> None:
    parser.add_argument(
        "--format",
        type=one_of(allowed),
        default=default,
        metavar=f"{{{','.join(allowed)}}}",
        help=f"how to print (default: {default})",
    )


def _add_out(parser: Parser, help: str = "output folder of the runs (default: results)") -> None:
    parser.add_argument("-o", "--out", type=Path, default=Path("results"), metavar="DIR", help=help)


def _add_cells(parser: Parser) -> None:
    parser.add_argument("suite", metavar="SUITE", help="a YAML file, or the name of a shipped suite")
    _add_out(parser, "output folder (default: results)")
    parser.add_argument(
        "--only",
        action="append",
        metavar="KEY=VALUE,...",
        help="only cells that match, as in model=resnet8,bits=W4A4,method=dqss; a repeated key gives alternatives",
    )
    parser.add_argument("--seeds", metavar="N,...", help="seeds in place of the suite's, as in 0,1,2")
    parser.set_defaults(shard=None)


def _add_shard(parser: Parser) -> None:
    parser.add_argument(
        "--shard",
        type=read_by(Shard.parse),
        metavar="I/N",
        help="only this part of the chosen cells, the first 1/N; for machines that share no folder, see `merge`",
    )


def _add_jobs(parser: Parser) -> None:
    jobs = parser.add_argument_group("jobs of a cluster, on an output folder that all its machines share")
    jobs.add_argument(
        "--executor",
        type=one_of(EXECUTORS),
        metavar=f"{{{','.join(EXECUTORS)}}}",
        help="submit the run as jobs that share its cells, to Slurm or as processes of this machine",
    )
    jobs.add_argument(
        "--array", type=positive, metavar="N", help=f"as so many jobs, but no more than cells (default: {DEFAULT_JOBS})"
    )
    jobs.add_argument(
        "--minutes", type=positive, metavar="N", help="time limit of a job (default: by what cells like these took)"
    )
    jobs.add_argument(
        "--sbatch",
        type=read_by(option),
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of sbatch, as in partition=gpu or gpus-per-node=1; repeat for more",
    )


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        PROGRAM,
        "Compare per-layer quantization strategies with uniform ones, at equal bit-width and equal budget.",
        f"example:\n  {PROGRAM} run quickstart\n\nEach command has its own --help.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.set_defaults(command=commands.incomplete, parser=parser)
    top = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)

    run = _add(
        top,
        parser,
        "run",
        "run the cells of a suite that are not done yet",
        f"{PROGRAM} run classification --only model=resnet8,bits=W4A4 --seeds 0,1,2",
        commands.run,
    )
    _add_cells(run)
    _add_shard(run)
    run.add_argument("--max-cells", type=positive, metavar="N", help="stop after N cells; the next run goes on")
    run.add_argument("--fail-fast", action="store_true", help="stop at the first cell that fails")
    run.add_argument(
        "--parallel",
        type=one_of(PARALLEL),
        default="cells",
        metavar=f"{{{','.join(PARALLEL)}}}",
        help="of several processes: each takes the next cell, or all train one together on its data (default: cells)",
    )
    run.add_argument(
        "--processes",
        type=positive,
        metavar="N",
        help="start N processes on this machine, each with its own GPU or its share of the cores",
    )
    run.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        help="end a cell that takes longer, loading included; it has failed",
    )
    run.add_argument(
        "--retries",
        type=count,
        metavar="N",
        help="try a cell that failed N times more (default: by the kind of failure, 0 to 3)",
    )

    _add_jobs(run)

    plan = _add(
        top,
        parser,
        "plan",
        "show a suite's cells, what is done and what it would take; run nothing",
        f"{PROGRAM} plan classification --seeds 0,1,2",
        commands.plan,
    )
    _add_cells(plan)
    _add_shard(plan)
    plan.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="tell also how long N processes would take, by what cells like these took so far",
    )

    status = _add(
        top,
        parser,
        "status",
        "show which cells of a suite are done, running (where and since when), failed (why) and left",
        f"{PROGRAM} status classification --watch",
        commands.status,
    )
    _add_cells(status)
    status.add_argument("--watch", action="store_true", help="look again every 2 s until no cell is running or left")
    _add_format(status, ("table", "json"))

    tune = _add(
        top,
        parser,
        "tune",
        "tune the learning rates of a suite's training methods on search-validation images",
        f"{PROGRAM} tune classification_qat --only model=resnet8,bits=W2A2 --trials 12",
        commands.tune,
    )
    _add_cells(tune)
    tune.add_argument(
        "--trials",
        type=positive,
        default=12,
        metavar="N",
        help="trials of each method, earlier ones included (default: 12)",
    )

    validate = _add(
        top,
        parser,
        "validate",
        "check a suite: every name, every file it needs and that file's hash",
        f"{PROGRAM} validate suites/classification.yaml",
        commands.validate,
    )
    validate.add_argument("suite", metavar="SUITE", help="a YAML file, or the name of a shipped suite")

    listing = _add(
        top, parser, "list", "list the names that suites may use", f"{PROGRAM} list quantizers", commands.list_names
    )
    listing.add_argument("kind", type=one_of(KINDS), metavar=f"{{{','.join(KINDS)}}}", help="what to list")
    _add_format(listing, ("table", "json"))

    results = _add(
        top,
        parser,
        "results",
        "print the records of earlier runs",
        f"{PROGRAM} results --suite classification --format json",
        commands.results,
    )
    _add_out(results)
    results.add_argument("--suite", metavar="NAME", help="only the records of this suite")
    _add_format(results, ("table", "csv", "json"))

    merge = _add(
        top,
        parser,
        "merge",
        "bring the records of several output folders together in one",
        f"{PROGRAM} merge results-1 results-2 --out results",
        commands.merge,
    )
    merge.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="output folder of a run; stays as it is")
    _add_out(merge, "output folder to bring them to (default: results)")

    regret = _add(
        top,
        parser,
        "regret",
        "score searches by their distance from the optimum of a space whose every strategy's loss is known",
        f"{PROGRAM} regret --search dqss --search coordinate-descent --seeds 0,1,2,3,4",
        commands.regret,
    )
    regret.add_argument("--search", action="append", default=[], metavar="NAME", help="repeat for more (default: all)")
    regret.add_argument("--seeds", default="0,1,2", metavar="N,...", help="of searches that draw (default: 0,1,2)")
    regret.add_argument(
        "--table", type=Path, metavar="FILE", help="the JSON of a table of `python -m benchmarks.loss_table`"
    )
    _add_format(regret, ("table", "json"))

    _add_leaderboard(top, parser)
    _add_submit(top, parser)
    _add_data(top, parser)

    pretrain = _add(
        top,
        parser,
        "pretrain",
        "train a full-precision model by the recipe of the shipped checkpoint",
        f"{PROGRAM} pretrain resnet8 --task fashion-mnist",
        upkeep.pretrain,
    )
    pretrain.add_argument("model", metavar="MODEL", help="see `dqss-bench list models`")
    pretrain.add_argument("--task", required=True, metavar="TASK", help="see `dqss-bench list tasks`")
    pretrain.add_argument(
        "--dest",
        type=Path,
        default=Path("checkpoints"),
        metavar="DIR",
        help="folder of the checkpoint (default: checkpoints)",
    )
    pretrain.add_argument("--epochs", type=positive, metavar="N", help="epochs in place of the recipe's")

    doctor = _add(
        top,
        parser,
        "doctor",
        "check this machine: each thing ok, or how to mend it",
        "dqss-bench doctor",
        upkeep.doctor,
    )
    _add_out(doctor, "output folder that runs shall write to (default: results)")

    sync = _add(
        top,
        parser,
        "sync",
        "bring the MLflow store up to date with the records",
        f"{PROGRAM} sync --suite classification",
        upkeep.sync,
    )
    _add_out(sync)
    sync.add_argument("--suite", metavar="NAME", help="only the records of this suite")
    return parser


def _add_leaderboard(top: argparse._SubParsersAction[Parser], parser: Parser) -> None:
    example = f"{PROGRAM} leaderboard build --results results --site site"
    board = _add(top, parser, "leaderboard", "make the leaderboard website", example, commands.incomplete)
    below = board.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)
    build = _add(below, board, "build", "make the static site from records", example, publishing.build)
    _add_results(build)
    build.add_argument(
        "--site", type=Path, metavar="DIR", help="folder of the site (default: site, with --results below that folder)"
    )
    example = f"{PROGRAM} leaderboard serve --results results"
    serve = _add(below, board, "serve", "make the site and serve it until Ctrl-C", example, publishing.serve)
    _add_results(serve)
    serve.add_argument(
        "--site", type=Path, metavar="DIR", help="folder of the site (default: one that goes at the end)"
    )
    serve.add_argument("--port", type=port, default=8000, metavar="N", help="0 for any that is free (default: 8000)")
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="who can reach it (default: 127.0.0.1, this machine)"
    )
    diff = _add(
        below,
        board,
        "diff",
        "show which cells and which rows of the board differ",
        f"{PROGRAM} leaderboard diff leaderboard/results mine.zip --format markdown",
        publishing.diff,
    )
    diff.add_argument("before", type=Path, metavar="A", help="a results folder")
    diff.add_argument("after", type=Path, metavar="B", help="another one, or a submission that would be added to A")
    _add_format(diff, ("text", "json", "markdown"), "text")


def _add_results(parser: Parser) -> None:
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder of the records of your runs (default: the official results, and accepted submissions)",
    )


def _add_submit(top: argparse._SubParsersAction[Parser], parser: Parser) -> None:
    example = f"{PROGRAM} submit pack results -o mine.zip --name 'Jane Doe'"
    submit = _add(top, parser, "submit", "pack or check records for the leaderboard", example, commands.incomplete)
    below = submit.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)
    pack = _add(below, submit, "pack", "pack the records of a results folder", example, submitting.pack)
    pack.add_argument("results", type=Path, metavar="DIR", help="folder of the records")
    pack.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.zip", help="the archive to write")
    pack.add_argument("--name", required=True, help="who submits, as the board shows it")
    pack.add_argument("--contact", metavar="ADDRESS", help="a mail address, or one that begins with https://")
    example = f"{PROGRAM} submit schema > submission.schema.json"
    _add(below, submit, "schema", "print the JSON schema of manifest and record", example, submitting.schema)
    example = f"{PROGRAM} submit check mine.zip --rerun 3"
    check = _add(below, submit, "check", "check a submission, as a stranger's data", example, submitting.check)
    check.add_argument("file", type=Path, metavar="FILE.zip", help="the archive")
    check.add_argument("--rerun", type=positive, metavar="N", help="run N of its cells again and compare the scores")
    check.add_argument(
        "--report", type=Path, metavar="FILE", help="write what was found to a file, which gives the badge"
    )
    check.add_argument(
        "--seed", type=count, metavar="N", help="which N cells that are (default: by the archive's SHA-256)"
    )
    _add_format(check, ("text", "json"), "text")


def _add_data(top: argparse._SubParsersAction[Parser], parser: Parser) -> None:
    example = f"{PROGRAM} data fetch fashion-mnist"
    data = _add(top, parser, "data", "list or fetch data sets", example, commands.incomplete)
    below = data.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)
    _add(below, data, "list", "list the data sets and where they are", f"{PROGRAM} data list", upkeep.data_list)
    fetch = _add(
        below,
        data,
        "fetch",
        "get a data set from this machine or the net, checked by its hash",
        example,
        upkeep.data_fetch,
    )
    fetch.add_argument("name", metavar="NAME", help="see `dqss-bench data list`")
    fetch.add_argument(
        "--dest", type=Path, metavar="DIR", help="folder to put it in (default: where tasks look for it)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name outside the terminal's encoding must not end a run.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted.", file=sys.stderr)
        return commands.INTERRUPTED
    except Exception as error:
        if not isinstance(error, commands.user_errors()):
            raise
        print(f"{PROGRAM}: {commands.message_of(error)}", file=sys.stderr)
        return commands.BAD_USAGE
    return code


def _dispatch(given: list[str]) -> int:
    try:
        args = build_parser().parse_args(given)
    except SystemExit as end:
        # argparse ends so after help and after a complaint.
        return int(end.code or 0)
    if args.version:
        return commands.version(args)
    args.words, args.command_line = given, shlex.join([PROGRAM, *given])
    command: commands.Command = args.command
    return command(args)
