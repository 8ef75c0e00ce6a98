import math

import pytest
import torch

from dqss.learned.dorefa import DoReFa, Squashed
from dqss.spec import QuantSpec

SIGNED, UNSIGNED = QuantSpec(2, symmetric=True), QuantSpec(2, symmetric=False)


def test_weights_are_squashed_by_equation_9_and_rounded_in_thirds():
    quantizer = Squashed(torch.ones(1), SIGNED)
    weight = torch.tensor([-1.0, -0.2, 0.3, 0.9])
    squashed = [math.tanh(w) / math.tanh(1) for w in weight.tolist()]
    assert quantizer.squashed(weight).tolist() == pytest.approx(squashed)
    # -1, -0.26, 0.38, 0.94 in steps of 2 / 3: -1.5 (to even), -0.39, 0.57, 1.41.
    assert quantizer(weight).tolist() == pytest.approx([-4 / 3, 0, 2 / 3, 2 / 3])


def test_levels_lie_half_a_step_below_the_papers():
    weight = torch.linspace(-1, 1, 1001)
    quantizer = Squashed(torch.ones(1), SIGNED)
    paper = 2 * torch.round(3 * (quantizer.squashed(weight) / 2 + 0.5)) / 3 - 1
    assert paper.unique().tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert quantizer(weight).unique().tolist() == pytest.approx([-4 / 3, -2 / 3, 0, 2 / 3])


def test_gradients_are_the_derivatives_of_squashing_and_pass_through_rounding():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, generator=generator, dtype=torch.float64).requires_grad_()
    quantizer = Squashed(torch.ones(1, dtype=torch.float64), SIGNED)
    assert torch.autograd.gradcheck(quantizer.squashed, (weight,))
    incoming = torch.randn(12, generator=generator, dtype=torch.float64)
    (result,) = torch.autograd.grad(quantizer(weight), weight, incoming)
    (expected,) = torch.autograd.grad(quantizer.squashed(weight), weight, incoming)
    torch.testing.assert_close(result, expected)


def test_the_gain_gets_the_rounded_value_scaled_as_in_lsq():
    quantizer = Squashed(torch.ones(1), SIGNED)
    weight = torch.tensor([-1.0, -0.2, 0.3, 0.9])
    quantizer(weight).backward(torch.tensor([1.0, 2.0, 4.0, 8.0]))
    # Four weights, quant_max 1.
    assert quantizer.gain.grad.item() == pytest.approx((-4 / 3 + 4 * 2 / 3 + 8 * 2 / 3) / 2)


def test_the_first_gain_is_that_of_least_squared_error(summarise):
    weight = 0.05 * torch.randn(200, generator=torch.Generator().manual_seed(0))
    quantizer = DoReFa().for_weight(weight, summarise(weight), SIGNED)

    def error(factor):
        return ((quantizer(weight) * factor - weight) ** 2).sum().item()

    assert error(1) == min(error(factor) for factor in (0.9, 0.99, 1, 1.01, 1.1))


def test_large_weights_are_not_flattened(summarise):
    weight = torch.tensor([-20.0, -5.0, 5.0, 20.0])
    quantizer = DoReFa().for_weight(weight, summarise(weight), SIGNED)
    assert quantizer.squashed(weight).tolist() == pytest.approx(
        [-1, -math.tanh(0.25) / math.tanh(1), math.tanh(0.25) / math.tanh(1), 1]
    )


def test_activations_are_clipped_and_rounded_without_anything_learned(summarise):
    x = torch.tensor([1.0, 2.0, 3.0] * 300 + [4.0])
    quantizer = DoReFa().for_activation(summarise(x), UNSIGNED)
    assert not any(parameter.requires_grad for parameter in quantizer.parameters())
    y = torch.tensor([-1.0, 0.6, 2.4, 9.0], requires_grad=True)
    result = quantizer(y)
    # Section 2.4 on [0, 3].
    assert result.tolist() == [0, 1, 2, 3]
    result.sum().backward()
    assert y.grad.tolist() == [0, 1, 1, 0]
