"""Measure what a DQSS search step costs against a step with one fake quantizer per layer, and against the naive sum.

All run the same network on the same batch, forward and backward, and are timed in turns, in processor time on one
thread; the figure is the median of the ratios. Their peak memory is compared too, and the mixture alone with 16
candidates against itself with 2. Run it with `tox -e bench`.
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
from torch.profiler import ProfilerActivity, profile

from benchmarks.models import MODELS
from dqss.calibrate import calibrate
from dqss.functional import fake_quantize, qparams_from_range
from dqss.graph import Layer, prepare, with_layers
from dqss.inputs import call
from dqss.layers import CandidateLayer
from dqss.mixture import ActivationMixture
from dqss.ptq import pose
from dqss.quantizers.base import Quantizer
from dqss.quantizers.kl import Kl
from dqss.quantizers.minmax import MinMax
from dqss.quantizers.mse import Mse
from dqss.quantizers.percentile import Percentile
from dqss.search.base import SearchProblem, no_report
from dqss.spec import PROTOCOLS, Bits, QuantSpec

# The most that a DQSS step may cost, in steps with one fake quantizer per layer: of time, of peak memory.
ALLOWED_TIME = 1.5
ALLOWED_MEMORY = 1.3
# The least that the naive sum costs, in DQSS steps.
NAIVE_AT_LEAST = 10.0
# The most that the mixture of 16 candidates may cost, in mixtures of 2.
ALLOWED_GROWTH = 1.2
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
    """Return the processor time of one call."""
    started = time.process_time()
    step()
    return time.process_time() - started


def in_turns(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each step in each round, after two rounds that nobody times."""
    for _ in range(2):
        for step in steps.values():
            step()
    turns = [{name: seconds(step) for name, step in steps.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in steps}


def ratios(times: list[float], to: list[float]) -> list[float]:
    """Return the ratio of each round."""
    return [one / other for one, other in zip(times, to, strict=True)]


def peak_bytes(step: Callable[[], None]) -> int:
    """Return the most tensor memory alive at once during the step, above what was alive before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    # Allocations and frees in the order in which they happened.
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        alive += change.nbytes()
        peak = max(peak, alive)
    return peak


def main() -> int:
    """Print the ratios; exit code 1 where a step costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet8,resnet20,mobilenetv2-small")
    parser.add_argument("--bits", default="W4A4")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread, {args.bits}, batch {args.batch}, 8 + 8 candidates")
    verdicts = [growth(Bits.parse(args.bits).activation, args.batch, args.rounds)]
    verdicts += [measure(model, args.bits, args.batch, args.rounds) for model in args.models.split(",")]
    return int(not all(verdicts))


def growth(bits: int, batch: int, rounds: int) -> bool:
    """Time the mixture of 2, 8 and 16 candidates on one input; return whether 16 cost little more than 2."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 16, 28, 28, generator=generator).relu_().requires_grad_()
    upstream = torch.randn(x.shape, generator=generator)
    spec = QuantSpec(bits, symmetric=False)
    ends = 2.5 + 2 * torch.rand(16, 1, generator=generator)
    grids = [qparams_from_range(torch.zeros(1), end, spec) for end in ends]

    def mixture_of(count: int) -> Callable[[], None]:
        mixture, mixing = ActivationMixture(grids[:count]), torch.full((count,), 1 / count, requires_grad=True)

        def step() -> None:
            torch.autograd.grad(mixture(x, mixing), (x, mixing), upstream)

        return step

    def fake_quantizer() -> None:
        torch.autograd.grad(fake_quantize(x, grids[0]), x, upstream)

    steps = {"one fake quantizer": fake_quantizer, **{f"mixture of {count}": mixture_of(count) for count in (2, 8, 16)}}
    times = in_turns(steps, rounds)
    for name, taken in times.items():
        print(f"{name:18} {1e9 * statistics.median(taken) / x.numel():5.2f} ns per element, forward and backward")
    grown = statistics.median(ratios(times["mixture of 16"], times["mixture of 2"]))
    print(f"16 candidates cost {grown:.2f} x 2 candidates, allowed {ALLOWED_GROWTH}")
    return grown <= ALLOWED_GROWTH


def measure(model: str, bits: str, batch: int, rounds: int) -> bool:
    """Time one model's steps in turns and weigh their memory; return whether the DQSS step costs what it may."""
    torch.manual_seed(0)
    network = MODELS.load(model)(in_channels=1, classes=10).eval()
    batches = [torch.randn(batch, 1, 28, 28)]
    prepared = prepare(network, PROTOCOLS["all-layers"], Bits.parse(bits))
    calibration = calibrate(prepared, batches, no_report)
    problem = pose(prepared, calibration, batches, EIGHT, EIGHT, "kl")
    steps = {"single": single_step(problem), "dqss": dqss_step(problem, 1.0), "blended": dqss_step(problem, 0.5)}
    times = in_turns(steps, rounds)
    # The naive sum takes many times the others' time: one turn of it says enough.
    naive = seconds(naive_step(problem)) / statistics.median(times["dqss"])
    peaks = {name: peak_bytes(step) for name, step in steps.items()}
    allowed = naive >= NAIVE_AT_LEAST
    print(f"{model}: naive sum {naive:.0f} x dqss, at least {NAIVE_AT_LEAST:.0f}")
    for name in steps:
        to_single = ratios(times[name], times["single"])
        ratio, memory = statistics.median(to_single), peaks[name] / peaks["single"]
        print(
            f"  {name:8} {1e3 * statistics.median(times[name]):6.1f} ms {peaks[name] / 1e6:6.1f} MB   "
            f"time x {ratio:.2f} ({min(to_single):.2f} to {max(to_single):.2f}), allowed {ALLOWED_TIME}   "
            f"memory x {memory:.2f}, allowed {ALLOWED_MEMORY}"
        )
        allowed = allowed and ratio <= ALLOWED_TIME and memory <= ALLOWED_MEMORY
    return allowed


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


def dqss_step(problem: SearchProblem, blend: float) -> Callable[[], None]:
    """Return the search's step: the efficient convolution's two mixtures in every layer, or their blend."""
    weights = mixing(problem)

    def step() -> None:
        for layer, (p, q) in zip(problem.layers.values(), weights, strict=True):
            p.grad = q.grad = None
            layer.mix(p, q, blend)
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
