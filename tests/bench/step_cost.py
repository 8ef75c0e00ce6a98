"""Measure what a DQSS search step costs against a step with one fake quantizer per layer, and against the naive sum.

All three run the same network on the same batch, forward and backward, and are timed in turns; the figure is the median
of the ratios. Run it with `tox -e bench`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.models import MODELS
from dqss.calibrate import calibrate
from dqss.functional import fake_quantize
from dqss.graph import Layer, call, prepare, with_layers
from dqss.layers import CandidateLayer
from dqss.ptq import pose
from dqss.quantizers.base import Quantizer
from dqss.quantizers.kl import Kl
from dqss.quantizers.minmax import MinMax
from dqss.quantizers.mse import Mse
from dqss.quantizers.percentile import Percentile
from dqss.search.base import SearchProblem, no_report
from dqss.spec import PROTOCOLS, Bits

ALLOWED = 3.0
EIGHT: dict[str, Quantizer] = {
    "minmax": MinMax(),
    "mse": Mse(),
    "kl": Kl(),
    **{f"percentile-{percent}": Percentile(percent) for percent in (99.0, 99.5, 99.9, 99.95, 99.99)},
}


class SingleLayer(nn.Module):
    """One fake quantizer for the weight, one for the input: the step of ordinary quantization-aware training."""

    def __init__(self, layer: Layer, candidates: CandidateLayer, qparams: object) -> None:
        super().__init__()
        self.layer = layer
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.weight_grid = qparams
        self.activation_grid = candidates.activations[0]

    def forward(self, x: Tensor) -> Tensor:
        weight = fake_quantize(self.weight, self.weight_grid)
        return functional_call(self.layer, {"weight": weight}, (fake_quantize(x, self.activation_grid),))


class NaiveLayer(nn.Module):
    """The mixture as a sum over all pairs of candidates, each with a convolution of its own."""

    def __init__(self, layer: Layer, candidates: CandidateLayer) -> None:
        super().__init__()
        self.layer, self.candidates = layer, candidates
        self.p: Tensor
        self.q: Tensor

    def forward(self, x: Tensor) -> Tensor:
        bias = self.layer.bias
        inputs = [fake_quantize(x, grid) for grid in self.candidates.activations]
        total = sum(
            p * q * functional_call(self.layer, {"weight": weight, "bias": torch.zeros_like(bias)}, (quantized,))
            for p, weight in zip(self.p, self.candidates.weights, strict=True)
            for q, quantized in zip(self.q, inputs, strict=True)
        )
        return total + bias.view(-1, *[1] * (x.ndim - 2))


def seconds(step: Callable[[], None]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> int:
    """Print the ratios; exit code 1 where a step costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet8,resnet20,mobilenetv2-small")
    parser.add_argument("--bits", default="W4A4")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, {args.bits}, batch {args.batch}, 8 + 8 candidates")
    worst = 0.0
    for model in args.models.split(","):
        worst = max(worst, measure(model, args.bits, args.batch, args.rounds))
    print(f"worst ratio {worst:.2f}, allowed {ALLOWED}")
    return int(worst > ALLOWED)


def measure(model: str, bits: str, batch: int, rounds: int) -> float:
    """Time one model's steps in turns; return the median ratio of the DQSS step to the single step."""
    torch.manual_seed(0)
    network = MODELS.load(model)(in_channels=1, classes=10).eval()
    batches = [torch.randn(batch, 1, 28, 28)]
    prepared = prepare(network, PROTOCOLS["all-layers"], Bits.parse(bits))
    calibration = calibrate(prepared, batches, no_report)
    problem = pose(prepared, calibration, batches, EIGHT, EIGHT, "kl")
    steps = {"single": single_step(problem), "dqss": dqss_step(problem), "naive": naive_step(problem)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for name in ("single", "dqss"):
        seconds(steps[name])
    for turn in range(rounds):
        for name, step in steps.items():
            # The naive sum takes many times the others' time: one turn of it says enough.
            if name != "naive" or turn == 0:
                times[name].append(seconds(step))
    ratios = [d / s for d, s in zip(times["dqss"], times["single"], strict=True)]
    single, dqss = statistics.median(times["single"]), statistics.median(times["dqss"])
    ratio, naive = statistics.median(ratios), times["naive"][0]
    print(
        f"{model:18} single {1e3 * single:7.1f} ms   dqss {1e3 * dqss:7.1f} ms   "
        f"ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})   "
        f"naive sum {1e3 * naive:8.1f} ms = {naive / dqss:.0f} x dqss"
    )
    return ratio


def single_step(problem: SearchProblem) -> Callable[[], None]:
    """Return the step with one fake quantizer per layer and input."""
    prepared, calibration = problem.prepared, problem.calibration

    def make(name: str, layer: Layer) -> nn.Module:
        grid = MinMax().qparams(calibration.weights[name], prepared.specs[name].weight)
        return SingleLayer(layer, problem.layers[name], grid)

    model = with_layers(prepared, make)

    def step() -> None:
        model.zero_grad()
        problem.output_loss(call(model, problem.batches[0]), calibration.targets[0]).backward()

    return step


def mixing(problem: SearchProblem) -> list[tuple[Tensor, Tensor]]:
    """Return even mixing weights for each layer that take a gradient."""
    return [
        (torch.full((8,), 1 / 8, requires_grad=True), torch.full((8,), 1 / 8, requires_grad=True))
        for _ in problem.layers
    ]


def dqss_step(problem: SearchProblem) -> Callable[[], None]:
    """Return the search's step: the efficient convolution's two mixtures in every layer."""
    weights = mixing(problem)

    def step() -> None:
        for layer, (p, q) in zip(problem.layers.values(), weights, strict=True):
            p.grad = q.grad = None
            layer.mix(p, q)
        problem.batch_loss(0).backward()

    return step


def naive_step(problem: SearchProblem) -> Callable[[], None]:
    """Return the step with the sum over all pairs."""
    weights = dict(zip(problem.layers, mixing(problem), strict=True))

    def make(name: str, layer: Layer) -> nn.Module:
        naive = NaiveLayer(layer, problem.layers[name])
        naive.p, naive.q = weights[name]
        return naive

    model = with_layers(problem.prepared, make)

    def step() -> None:
        problem.output_loss(call(model, problem.batches[0]), problem.calibration.targets[0]).backward()

    return step


if __name__ == "__main__":
    sys.exit(main())
