import pytest
import torch

from dqss.learned.ewgs import Ewgs, ScaledByElement
from dqss.learned.lsq import LearnedStep
from dqss.learned.span import AffineSpan, SymmetricSpan
from dqss.spec import QuantSpec

SIGNED, UNSIGNED = QuantSpec(2, symmetric=True), QuantSpec(2, symmetric=False)


def quantizer_of(delta: float) -> ScaledByElement:
    return ScaledByElement(AffineSpan(torch.tensor([-2.0]), torch.tensor([4.0]), UNSIGNED), delta, 1, UNSIGNED)


def test_values_are_clipped_and_rounded():
    assert quantizer_of(0.5)(torch.tensor([-9.0, -1.2, -0.8, 1.1, 9.0])).tolist() == [-2, -2, 0, 2, 4]


@pytest.mark.parametrize("incoming", [1.0, -1.0, 0.25])
def test_the_gradient_to_x_is_that_of_the_paper(incoming):
    x = torch.tensor([-9.0, -1.2, -0.8, 9.0], requires_grad=True)
    quantizer_of(0.5)(x).backward(torch.full((4,), incoming))
    # x_n: 0.8 / 6 and 1.2 / 6; x_q: 0 and 1 / 3.
    sign = 1 if incoming > 0 else -1
    scalings = [1 + 0.5 * sign * (0.8 / 6), 1 + 0.5 * sign * (1.2 / 6 - 1 / 3)]
    assert x.grad.tolist() == pytest.approx([0, incoming * scalings[0], incoming * scalings[1], 0])


def test_a_larger_gradient_step_moves_a_value_less_where_it_has_to_go_far():
    # Rounded up to 0 and pushed up by a negative gradient, a value gets more of it; pushed down, less.
    x = torch.tensor([-0.8], requires_grad=True)
    (up,) = torch.autograd.grad(quantizer_of(0.5)(x), x, torch.tensor([-1.0]))
    (down,) = torch.autograd.grad(quantizer_of(0.5)(x), x, torch.tensor([1.0]))
    assert abs(up) > 1 > abs(down)


def test_without_scaling_it_is_lsq():
    x = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    lsq = LearnedStep(torch.tensor([0.5]), 0, 100, SIGNED)
    ewgs = ScaledByElement(SymmetricSpan(torch.tensor([0.5]), SIGNED), 0.0, 100, SIGNED)
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    lsq(first).square().sum().backward()
    ewgs(second).square().sum().backward()
    torch.testing.assert_close(ewgs(x), lsq(x))
    torch.testing.assert_close(second.grad, first.grad)
    torch.testing.assert_close(ewgs.span.step.grad, lsq.step.grad)


def test_ends_gather_the_gradients_of_what_they_clip():
    quantizer = quantizer_of(0.5)
    quantizer(torch.tensor([-9.0, 9.0])).backward(torch.tensor([2.0, 5.0]))
    # One value and quant_max 3: a gradient scale of 1 / sqrt(3).
    assert quantizer.span.low.grad.item() == pytest.approx(2 / 3**0.5)
    assert quantizer.span.high.grad.item() == pytest.approx(5 / 3**0.5)


def test_a_negative_scaling_is_refused():
    with pytest.raises(ValueError, match=r"delta: -1 is not allowed\. Give 0 or more"):
        Ewgs(delta=-1)
