"""Measure what calibrating for all quantizers costs against calibrating for the costliest single one.

Single: one pass over the calibration set and one quantizer's ranges for all weights and inputs, from summaries that
nobody has read yet. All: one pass and every quantizer's ranges, which share what they can. Processor time of one
thread, medians of rounds taken in turns. Run it with

    python tests/bench/calibration_cost.py --bits W4A4 --protocol all-layers
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

import torch

from benchmarks.checkpoints import find_checkpoint, load_model
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from dqss.calibrate import Calibration, calibrate
from dqss.graph import Prepared, prepare
from dqss.quantizers import QUANTIZERS
from dqss.quantizers.base import Quantizer
from dqss.search.base import no_report
from dqss.spec import PROTOCOLS, Bits

ALLOWED = 1.5
BATCH = 64
TASK = "fashion-mnist"


def seconds(prepared: Prepared, calibration: Calibration, quantizers: Iterable[Quantizer]) -> float:
    """Return the processor time of working out the quantizers' grids of every weight and input."""
    fresh = replace(
        calibration, weights=copy.deepcopy(calibration.weights), activations=copy.deepcopy(calibration.activations)
    )
    started = time.process_time()
    for name, specs in prepared.specs.items():
        for quantizer in quantizers:
            quantizer.qparams(fresh.weights[name], specs.weight)
            quantizer.qparams(fresh.activations[name], specs.activation)
    return time.process_time() - started


def main() -> int:
    """Print the costs; exit code 1 where all cost more than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--bits", default="W4A4")
    parser.add_argument("--protocol", choices=["all-layers", "per-channel"], default="all-layers")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS.create(TASK)
    batches = task.inputs(Split.CALIBRATION).split(BATCH)
    network = load_model(args.model, task, find_checkpoint(args.model, TASK))
    prepared = prepare(network, PROTOCOLS[args.protocol], Bits.parse(args.bits))
    quantizers = {name: QUANTIZERS.create(name) for name in QUANTIZERS}
    forward: list[float] = []
    collect: list[float] = []
    together: list[float] = []
    alone: dict[str, list[float]] = {name: [] for name in quantizers}
    for _ in range(args.rounds):
        started = time.process_time()
        with torch.no_grad():
            for batch in batches:
                prepared.model(batch)
        forward.append(time.process_time() - started)
        started = time.process_time()
        calibration = calibrate(prepared, batches, no_report)
        collect.append(time.process_time() - started)
        for name, quantizer in quantizers.items():
            alone[name].append(seconds(prepared, calibration, [quantizer]))
        together.append(seconds(prepared, calibration, quantizers.values()))
    once, every = statistics.median(collect), statistics.median(together)
    costs = {name: statistics.median(found) for name, found in alone.items()}
    images, layers = sum(map(len, batches)), len(prepared.layers)
    print(f"{args.model} {args.bits} {args.protocol}: {images} images, {layers} layers")
    print(f"forward {statistics.median(forward):.2f} s, with collecting {once:.2f} s")
    for name, cost in costs.items():
        print(f"{name:18} {cost * 1e3:8.1f} ms, {cost * 1e3 / layers:6.2f} ms per layer (its weight and its input)")
    print(f"{'all':18} {every * 1e3:8.1f} ms")
    ratio = (once + every) / (once + max(costs.values()))
    print(f"all / costliest single: {ratio:.2f} (allowed: {ALLOWED})")
    return int(ratio > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
