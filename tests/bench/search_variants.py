"""Compare variants of a search on data that decides nothing else: calibration loss, and score on search-validation.

Defaults of searches are chosen with it, never on the test split. A variant is a search with options:

    python tests/bench/search_variants.py --models resnet8 --bits W4A4 dqss dqss:relaxation=softmax,cold=0.02
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import yaml

from benchmarks.checkpoints import find_checkpoint, load_model
from benchmarks.methods import METHODS
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from dqss.calibrate import calibrate
from dqss.candidates import activation_candidate, weight_candidate
from dqss.graph import prepare
from dqss.ptq import pose, quantize
from dqss.search.base import no_report
from dqss.spec import PROTOCOLS, Bits
from dqss.weights import reconstruct


def variant(text: str) -> tuple[str, dict[str, Any]]:
    """Read `dqss:relaxation=softmax,cold=0.02` as a search's name and its options."""
    name, _, options = text.partition(":")
    pairs = (part.split("=", 1) for part in options.split(",") if part)
    return name, {key: yaml.safe_load(value) for key, value in pairs}


def main() -> int:
    """Print a line per model, bit-width and variant: means over seeds, with the losses of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="fashion-mnist")
    parser.add_argument("--models", default="resnet8,resnet20,mobilenetv2-small")
    parser.add_argument("--bits", default="W4A4")
    parser.add_argument("--protocol", default="all-layers", choices=PROTOCOLS)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--weights", default="minmax,percentile,mse,kl")
    parser.add_argument("--activations", default="minmax,percentile,mse,kl")
    parser.add_argument("variants", nargs="+", metavar="SEARCH[:OPTION=VALUE,...]")
    args = parser.parse_args()
    task = TASKS.create(args.task)
    batches = task.inputs(Split.CALIBRATION).split(task.batch_size)
    weights = {name: weight_candidate(name) for name in args.weights.split(",")}
    activations = {name: activation_candidate(name) for name in args.activations.split(",")}
    for model in args.models.split(","):
        network = load_model(model, task, find_checkpoint(model, args.task))
        full = task.evaluate(network, Split.VALIDATION, no_report).primary
        prepared = prepare(network, PROTOCOLS[args.protocol], Bits.parse("W8A8"))
        calibration = calibrate(prepared, batches, no_report)
        for bits in args.bits.split(","):
            at_bits = prepared.at(Bits.parse(bits))
            started = time.perf_counter()
            reconstruct(weights.values(), at_bits, calibration, no_report)
            if calibration.reconstructed:
                print(f"{model:18} {bits} reconstructions made in {time.perf_counter() - started:.1f} s")
            problem = pose(at_bits, calibration, batches, weights, activations, task.output_loss)
            for text in args.variants:
                name, options = variant(text)
                losses, scores, seconds, passes = [], [], [], []
                for seed in map(int, args.seeds.split(",")):
                    posed = problem.fresh(seed)
                    started = time.perf_counter()
                    found = METHODS.create(name, options).search(posed, no_report)
                    seconds.append(time.perf_counter() - started)
                    passes.append(posed.cost.forward_passes)
                    losses.append(found.calibration_loss)
                    quantized = quantize(posed.prepared, calibration, found.strategy)
                    scores.append(task.evaluate(quantized, Split.VALIDATION, no_report).primary)
                print(
                    f"{model:18} {bits} {text:44} validation {statistics.mean(scores):6.2f} of {full:.2f}   "
                    f"loss {statistics.mean(losses):.4f} ({', '.join(f'{loss:.4f}' for loss in losses)})   "
                    f"{statistics.mean(passes):7.0f} images {statistics.mean(seconds):6.1f} s",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
