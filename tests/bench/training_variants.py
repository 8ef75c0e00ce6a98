"""Compare variants of DQSS's training schedule at one budget: what under-fitting looks like, and what cures it.

Each variant is trained as a cell of a suite is, with the suite's options but for those that make the variant. No test
image is looked at. Run it with `python -m tests.bench.training_variants` in a source tree.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace

import torch

from benchmarks.cell_qat import trained
from benchmarks.methods import QAT_METHODS
from benchmarks.subject import Calibrated, loaded
from benchmarks.suite import Cell, cells_of, find_suite, load_suite
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from dqss.search.base import no_report

VARIANTS: dict[str, dict[str, float | str]] = {
    "as the suite has it": {},
    "no warm-up": {"warm_up": 0.0, "search": 0.5},
    "a long warm-up": {"warm_up": 0.3, "search": 0.45},
    "a short search": {"warm_up": 0.05, "search": 0.15},
    "no training on": {"warm_up": 0.05, "search": 0.95},
    "restart": {"then": "restart"},
    "no rise": {"rise": 0.0},
    "candidates still mixed at the end": {"cold": 1.0},
    "gumbel": {"relaxation": "gumbel"},
    "begun at the best uniform pair": {"start": "best-uniform"},
}
WINDOW = 10
"""How many steps' losses one figure is the mean of."""


def main() -> int:
    """Print a line per variant and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="classification_qat")
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--bits", default="W2A2")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    cells = [
        cell
        for cell in cells_of(load_suite(find_suite(args.suite)), seeds)
        if (cell.model, cell.bits, cell.method) == (args.model, args.bits, "dqss")
    ]
    task = TASKS.create(cells[0].task)
    calibrated = Calibrated.of(cells[0], task, loaded(cells[0], task, torch.device("cpu")), no_report)
    print(f"{args.model} {args.bits}; loss: mean of {WINDOW} steps before and after the strategy is derived, and last")
    for name in args.variants.split(","):
        scores = [measure(name, cell, calibrated) for cell in cells]
        print(f"{name}: {statistics.mean(scores):.2f} on search-validation", flush=True)
    return 0


def measure(name: str, cell: Cell, calibrated: Calibrated) -> float:
    """Train one variant; return its score on search-validation."""
    options = {**cell.options, **VARIANTS[name]}
    result = trained(replace(cell, options=options), calibrated, no_report)
    score = calibrated.task.evaluate(result.model, Split.VALIDATION, no_report).primary
    losses = result.report.curves["loss"]
    end = QAT_METHODS.create("dqss", options).schedule(len(losses)).end
    windows = [losses[end - WINDOW : end], losses[end : end + WINDOW] or losses[-1:], losses[-WINDOW:]]
    shown = ", ".join(f"{statistics.mean(window):.3f}" for window in windows)
    print(f"  seed {cell.seed}: loss {shown}; {score:.2f}", flush=True)
    return score


if __name__ == "__main__":
    sys.exit(main())
