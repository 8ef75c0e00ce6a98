"""Fisher score: in each layer the candidates whose quantization errors weigh least by the Fisher information.

Zandonati et al., "FIT: A Metric for Model Sensitivity" (ICLR 2023): an error d of weights or activations costs about
1/2 sum_i F_i d_i^2 of loss. Here d_i is a candidate's own error at each element, not its mean power.

The gradient of the output loss is zero at full precision, so F is taken under the model's own predictions:
F = E[g^2], g = v'J, where J is the output's Jacobian and E[vv'] the output loss's Hessian. For class scores
v = onehot(y) - softmax(output) with y drawn from the model, so that g is the gradient of log p(y); else v ~ N(0, 1),
that of a Gaussian log-likelihood. As E[v] = 0 and draws are independent, the square of a batch's summed gradient has
the expectation of the sum of its images' squares, so one backward pass per batch serves the weights too (Liu et al.,
"Sophia" (arXiv 2305.14342), section 2.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from dqss.functional import fake_quantize
from dqss.graph import Prepared
from dqss.inputs import Batch, call, layer_input
from dqss.matching import kl
from dqss.search.base import Found, Report, Search, SearchProblem
from dqss.search.greedy_sqnr import least


@dataclass(frozen=True)
class Fisher(Search):
    """One forward and one backward pass of the full-precision model over the calibration set; then the final loss."""

    def search(self, problem: SearchProblem, report: Report) -> Found:
        weights, activations = fisher_scores(problem, report)
        picks = tuple((least(weights[name]), least(activations[name])) for name in problem.layers)
        return Found(problem.strategy(picks), problem.loss(picks))


def fisher_scores(problem: SearchProblem, report: Report) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return layer name -> the sum of F_i d_i^2 for each weight candidate (M,) and each activation candidate (N,)."""
    generator = Generator().manual_seed(problem.seed)
    draw = drawn_class if problem.output_loss is kl else drawn_noise
    exact = {name: layer.weight for name, layer in problem.prepared.layers.items()}
    information = {name: torch.zeros_like(weight) for name, weight in exact.items()}
    activations = {name: torch.zeros(len(layer.activations)).double() for name, layer in problem.layers.items()}
    for done, batch in enumerate(problem.batches, start=1):
        with torch.enable_grad():
            output, weights, inputs = run(problem.prepared, batch)
            wanted = [*weights.values(), *(x for _, x in inputs)]
            v = draw(output.detach(), generator)
            gradients = torch.autograd.grad(output, wanted, v, materialize_grads=True)
        problem.cost.forward_passes += 3 * len(output)
        for name, gradient in zip(weights, gradients, strict=False):
            information[name] += gradient.square()
        for (name, x), gradient in zip(inputs, gradients[len(weights) :], strict=True):
            candidates = [fake_quantize(x.detach(), grid) for grid in problem.layers[name].activations]
            activations[name] += scores(gradient.square(), x.detach(), candidates)
        report("search", done, len(problem.batches))
    of_weights = {
        name: scores(information[name], exact[name], list(layer.weights)) for name, layer in problem.layers.items()
    }
    return of_weights, activations


def scores(information: Tensor, exact: Tensor, candidates: list[Tensor]) -> Tensor:
    """Return (K,), sum_i information_i * error_i^2 of each candidate, on the CPU."""
    return torch.stack([(information * (x - exact).square()).double().sum().cpu() for x in candidates])


def run(prepared: Prepared, batch: Batch) -> tuple[Tensor, dict[str, Tensor], list[tuple[str, Tensor]]]:
    """Run the full-precision model; return its output, and layers' weights and inputs, to which gradients go.

    The inputs are (layer name, tensor), one for each time that a layer is used.
    """
    inputs: list[tuple[str, Tensor]] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
            given = layer_input(args, kwargs)
            x = given if given.requires_grad else given.detach().requires_grad_()
            inputs.append((name, x))
            return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "input": x})

        return hook

    hooks = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in prepared.layers.items()]
    # Leaves of their own: the model's parameters take no gradient, and stay so.
    weights = {name: layer.weight.detach().clone().requires_grad_() for name, layer in prepared.layers.items()}
    try:
        given = {f"model.{name}.weight": weight for name, weight in weights.items()}
        output = functional_call(_Caller(prepared.model), given, (batch,))
    finally:
        for hook in hooks:
            hook.remove()
    return output, weights, inputs


class _Caller(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return call(self.model, batch)


def drawn_class(output: Tensor, generator: Generator) -> Tensor:
    """Return onehot(y) - softmax(output) with y drawn from the model."""
    # Drawn on the CPU, where randomness is the same for every device.
    chances = output.softmax(1)
    drawn = torch.multinomial(chances.double().cpu(), 1, generator=generator).squeeze(1)
    return F.one_hot(drawn.to(output.device), output.shape[1]) - chances


def drawn_noise(output: Tensor, generator: Generator) -> Tensor:
    """Return a draw from N(0, 1) for each element of the output."""
    return torch.randn(output.shape, generator=generator).to(output)
