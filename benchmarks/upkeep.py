"""What the commands of `dqss-bench` on data sets, checkpoints, this machine and the MLflow store do.

Everything heavy is imported where it is used, so that help and complaints come at once.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from benchmarks.commands import OK, SOME_FAILED, CommandError, check_writable
from benchmarks.progress import one_line, say, warn


def data_list(args: argparse.Namespace) -> int:
    """List the data sets and where they are."""
    from benchmarks import console, datasets

    console.print_table(
        ["name", "what it is", "MB>", "licence", "where"],
        [
            [row.name, row.what, f"{row.size_bytes / 1e6:.1f}", row.licence, str(row.folder or f"missing: {row.get}")]
            for row in datasets.describe()
        ],
    )
    return OK


def data_fetch(args: argparse.Namespace) -> int:
    """Fetch a data set."""
    from benchmarks import console, datasets

    with console.reporting() as report:
        folder = datasets.fetch(args.name, args.dest, report)
    say(f"{args.name} is in {folder}")
    if advice := datasets.advice(args.name, folder):
        say(advice)
    return OK


def pretrain(args: argparse.Namespace) -> int:
    """Train a full-precision model."""
    from benchmarks.models import MODELS
    from benchmarks.tasks import TASKS

    MODELS.entry(args.model)
    TASKS.entry(args.task)
    check_writable(args.dest, "--dest")
    from benchmarks import console
    from benchmarks.pretrain import RECIPES
    from benchmarks.pretrain import pretrain as train

    if (args.model, args.task) not in RECIPES:
        pairs = ", ".join(f"{model} for {task}" for model, task in RECIPES)
        raise CommandError(f"no recipe to train {args.model} for {args.task}. Recipes: {pairs}.")
    recipe = RECIPES[args.model, args.task]
    if args.epochs is not None:
        recipe = replace(recipe, epochs=args.epochs)
    with console.reporting() as report:
        weights = train(args.model, TASKS.create(args.task), recipe, args.dest, report)
    facts = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    score = facts["score"]
    print(f"{weights}: {score['metric']} {score['test']:.2f} {score['unit']} on the test set")
    return OK


def doctor(args: argparse.Namespace) -> int:
    """Check this machine."""
    from benchmarks.doctor import examine

    checks = examine(args.out)
    width = max(len(check.name) for check in checks)
    for check in checks:
        say(f"{'ok ' if check.ok else 'BAD'}  {check.name:<{width}}  {one_line(check.found)}")
        if not check.ok:
            say(f"     {'':<{width}}  mend: {one_line(check.mend)}")
    return OK if all(check.ok for check in checks) else SOME_FAILED


def sync(args: argparse.Namespace) -> int:
    """Bring the MLflow store up to date with the records."""
    from benchmarks import console, tracking
    from benchmarks.results import load

    load(args.out, args.suite)
    with console.reporting() as report:
        outcome = tracking.sync(args.out, args.suite, report)
    say(f"logged {outcome.logged}, already there {outcome.already}, failed {outcome.failed}")
    if outcome.reason:
        warn(outcome.reason)
    say(f"{tracking.store_location(args.out)}\nopen with: {tracking.ui_command(args.out)}")
    return SOME_FAILED if outcome.failed or outcome.reason else OK
