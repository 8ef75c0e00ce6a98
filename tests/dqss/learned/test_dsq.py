import math

import pytest
import torch

from dqss.learned.dsq import Dsq, SoftlyRounded
from dqss.learned.span import AffineSpan, SymmetricSpan
from dqss.spec import QuantSpec

SIGNED, UNSIGNED = QuantSpec(2, symmetric=True), QuantSpec(2, symmetric=False)


def quantizer_of(low: float, high: float, alpha: float = 0.2, count: int = 1) -> SoftlyRounded:
    """One value and quant_max 3: gradients to the parameters are scaled by 1 / sqrt(3)."""
    return SoftlyRounded(AffineSpan(torch.tensor([low]), torch.tensor([high]), UNSIGNED), alpha, count, UNSIGNED)


def test_values_are_rounded_hard():
    quantizer = quantizer_of(-2.0, 4.0)
    assert quantizer(torch.tensor([-9.0, -1.2, -0.8, 1.1, 9.0])).tolist() == [-2, -2, 0, 2, 4]


def test_soft_values_are_those_of_section_3_2():
    quantizer = quantizer_of(-2.0, 4.0)
    x = [-1.7, -0.5, 1.3, 3.9]
    # delta = 2, so k = log(2 / 0.2 - 1) / 2; the middles of the intervals are -1, 1 and 3.
    k = math.log(9) / 2
    expected = [
        low + 2 * (math.tanh(k * (value - low - 1)) / 0.8 + 1) / 2 for value, low in zip(x, [-2, -2, 0, 2], strict=True)
    ]
    assert quantizer.surrogate(torch.tensor(x), 1).tolist() == pytest.approx(expected, rel=1e-5)
    # The pieces join at the levels.
    assert quantizer.surrogate(torch.tensor([-2.0, 0.0, 1.99999, 2.0]), 1).tolist() == pytest.approx(
        [-2, 0, 2, 2], abs=1e-3
    )


def test_the_gradient_to_x_is_that_of_the_tanh():
    quantizer = quantizer_of(-2.0, 4.0)
    x = torch.tensor([-9.0, -0.7, 9.0], requires_grad=True)
    quantizer(x).sum().backward()
    k = math.log(9) / 2
    assert x.grad.tolist() == pytest.approx([0, k / 0.8 / math.cosh(0.3 * k) ** 2, 0], rel=1e-5)


def test_gradients_are_the_numerical_derivatives_of_the_soft_function():
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(30, generator=generator, dtype=torch.float64)
    quantizer = quantizer_of(-2.0, 4.0).double()
    incoming = torch.randn(30, generator=generator, dtype=torch.float64)
    (quantizer(x) * incoming).sum().backward()
    found = [quantizer.span.low.grad, quantizer.span.high.grad, quantizer.alpha.grad]
    shifts = 1e-6 * torch.eye(3, dtype=torch.float64)
    for gradient, shift in zip(found, shifts, strict=True):
        above, below = (
            (
                softly(x, -2 + sign * shift[0].item(), 4 + sign * shift[1].item(), 0.2 + sign * shift[2].item())
                * incoming
            )
            .sum()
            .item()
            for sign in (1, -1)
        )
        assert gradient.item() == pytest.approx((above - below) / 2e-6 / 3**0.5, rel=1e-4)


def softly(x: torch.Tensor, low: float, high: float, alpha: float) -> torch.Tensor:
    """Section 3.2 written out, interval by interval."""
    delta = (high - low) / 3
    k = math.log(2 / alpha - 1) / delta
    result = torch.where(x < low, torch.full_like(x, low), torch.full_like(x, high))
    for i in range(3):
        middle = low + (i + 0.5) * delta
        within = (x >= low + i * delta) & (x < low + (i + 1) * delta)
        phi = torch.tanh(k * (x - middle)) / math.tanh(0.5 * k * delta)
        result = torch.where(within, low + delta * (i + (phi + 1) / 2), result)
    return result


def test_a_smaller_alpha_is_nearer_to_hard_rounding():
    x = torch.linspace(-2, 4, 600)
    gaps = []
    for alpha in (0.5, 0.2, 0.05):
        quantizer = quantizer_of(-2.0, 4.0, alpha)
        gaps.append((quantizer.surrogate(x, 1) - quantizer(x)).abs().mean().item())
    assert gaps == sorted(gaps, reverse=True)


def test_alpha_is_kept_where_the_curve_is_one_and_finds_back():
    quantizer = quantizer_of(-2.0, 4.0)
    with torch.no_grad():
        quantizer.alpha.fill_(7.0)
    x = torch.tensor([-0.7])
    assert quantizer.surrogate(x, 1).tolist() == quantizer_of(-2.0, 4.0, 0.5).surrogate(x, 1).tolist()
    quantizer(x).sum().backward()
    assert quantizer.alpha.grad.item() != 0


def test_a_symmetric_grid_ties_both_ends_to_one_step():
    quantizer = SoftlyRounded(SymmetricSpan(torch.tensor([0.5]), SIGNED), 0.2, 1, SIGNED)
    assert quantizer(torch.tensor([-9.0, -0.3, 0.1, 9.0])).tolist() == [-1, -0.5, 0, 0.5]
    quantizer(torch.tensor([9.0])).sum().backward()
    # Clipped at quant_max = 1 steps, with a gradient scale of 1.
    assert quantizer.span.step.grad.item() == pytest.approx(1)


def test_an_alpha_beyond_the_curves_is_refused():
    with pytest.raises(ValueError, match=r"alpha: 0\.6 is not allowed\. Give 0\.01 to 0\.5"):
        Dsq(alpha=0.6)
