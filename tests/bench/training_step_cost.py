"""Measure what a step of quantization-aware training costs while all candidates are mixed, against one of uniform LSQ.

Both train the same network on the same batch: forward, backward and Adam, in turns, in processor time on one thread;
the figure is the median of the ratios. The sum of all activation candidates, which the mixture stands for, is timed
once. Run it with `python -m tests.bench.training_step_cost` in a source tree.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch.nn import functional as F

from benchmarks.models import MODELS
from dqss import layers
from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.inputs import call
from dqss.learned.mixture import sum_of
from dqss.qat import ALGORITHMS
from dqss.ranges import find_start
from dqss.search.base import no_report
from dqss.spec import PROTOCOLS, Bits
from dqss.supernet import activation_algorithms, supernet_of, weight_algorithms
from tests.bench.step_cost import in_turns, ratios, seconds

ALLOWED_TIME = 2.0
"""The most that the step with all candidates may cost, in uniform LSQ steps."""


def main() -> int:
    """Print the ratios; exit code 1 where a step costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet8,resnet20,mobilenetv2-small")
    parser.add_argument("--bits", default="W2A2")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--candidates", default=",".join(ALGORITHMS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.candidates.split(",")
    counts = f"{len(weight_algorithms(names))} + {len(activation_algorithms(names))} candidates"
    print(f"torch {torch.__version__}, 1 thread, {args.bits}, batch {args.batch}, {counts}")
    verdicts = [measure(model, args.bits, args.batch, args.rounds, names) for model in args.models.split(",")]
    return int(not all(verdicts))


def measure(model: str, bits: str, batch: int, rounds: int, names: list[str]) -> bool:
    """Time one model's steps in turns; return whether the mixed step costs what it may."""
    single, mixed = training_step(model, bits, batch, ["lsq"]), training_step(model, bits, batch, names)
    times = in_turns({"lsq": single, "dqss": mixed}, rounds)
    found = ratios(times["dqss"], times["lsq"])
    ratio = statistics.median(found)
    with patch.object(layers, "mixture", sum_of):
        whole = seconds(training_step(model, bits, batch, names))
    lsq, dqss = (1e3 * statistics.median(times[name]) for name in ("lsq", "dqss"))
    print(
        f"{model}: lsq {lsq:.1f} ms, dqss {dqss:.1f} ms, x {ratio:.2f} ({min(found):.2f} to {max(found):.2f}), "
        f"allowed {ALLOWED_TIME}; with the sum of the activation candidates {1e3 * whole:.0f} ms"
    )
    return ratio <= ALLOWED_TIME


def training_step(model: str, bits: str, batch: int, names: list[str]) -> Callable[[], None]:
    """Return a step that trains all of a network whose layers hold these candidates, mixed evenly."""
    torch.manual_seed(0)
    network = MODELS.load(model)(in_channels=1, classes=10).eval().to(memory_format=torch.channels_last)
    inputs = torch.randn(batch, 1, 28, 28).to(memory_format=torch.channels_last)
    targets = torch.randint(10, (batch,))
    prepared = prepare(network, PROTOCOLS["all-layers"], Bits.parse(bits))
    calibration = calibrate(prepared, [inputs], no_report)
    start = find_start(prepared, calibration, [inputs], "best-uniform", 0, None, no_report).strategy
    supernet = supernet_of(prepared, calibration, start, weight_algorithms(names), activation_algorithms(names))
    mixing = []
    for layer in supernet.layers.values():
        layer.train()
        mixing.append(
            [
                torch.full((len(kind),), 1 / len(kind), requires_grad=True)
                for kind in (layer.weight_quantizers, layer.activation_quantizers)
            ]
        )
        layer.mix(*mixing[-1])
    trained = [p for p in supernet.model.parameters() if p.is_floating_point()]
    optimizer = torch.optim.Adam([p.requires_grad_() for p in trained], lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(call(supernet.model, inputs), targets).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    sys.exit(main())
