import pytest
import torch

from dqss.functional import fake_quantize
from dqss.learned.lsq_plus import LearnedStepAndOffset, LsqPlus
from dqss.spec import QuantSpec

SIGNED, UNSIGNED = QuantSpec(2, symmetric=True), QuantSpec(2, symmetric=False)


def test_values_and_gradients_are_those_of_the_paper():
    # Steps of 2 from -2 on: levels -2, 0, 2, 4. One feature and quant_max 3: a gradient scale of 1 / sqrt(3).
    quantizer = LearnedStepAndOffset(torch.tensor([2.0]), torch.tensor([-2.0]), UNSIGNED)
    for value, rounded, to_step, to_offset, to_x in [
        (-5.0, -2, 0, 1, 0),
        (-1.4, -2, 0 - 0.3, 0, 1),
        (0.6, 0, 1 - 1.3, 0, 1),
        (2.8, 2, 2 - 2.4, 0, 1),
        (9.0, 4, 3, 1, 0),
    ]:
        x = torch.tensor([[value]], requires_grad=True)
        quantizer.zero_grad()
        result = quantizer(x)
        assert result.item() == rounded
        result.backward()
        assert quantizer.step.grad.item() == pytest.approx(to_step / 3**0.5, abs=1e-6)
        assert quantizer.offset.grad.item() == pytest.approx(to_offset / 3**0.5, abs=1e-6)
        assert x.grad.item() == to_x


def test_gradients_agree_with_torch_where_offset_and_zero_point_are_one():
    # torch learns a zero point z, the paper an offset -z * step: d offset = -step * d z.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 300, generator=generator)
    # torch lets a gradient pass to half a step beyond the ends, the paper does not.
    x = x[((x + 0.4) / 0.4 < -0.5) | ((x + 0.4) / 0.4 > 3.5) | ((x >= -0.4) & (x <= 0.8))].view(1, -1)
    scale, zero_point = torch.tensor([0.4], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    theirs, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    factor = 1 / (x.shape[1] * 3) ** 0.5
    expected = torch._fake_quantize_learnable_per_tensor_affine(theirs, scale, zero_point, 0, 3, factor)
    quantizer = LearnedStepAndOffset(torch.tensor([0.4]), torch.tensor([-0.4]), UNSIGNED)
    result = quantizer(ours)
    incoming = torch.randn(x.shape, generator=generator)
    expected.backward(incoming)
    result.backward(incoming)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(-0.4 * quantizer.offset.grad, zero_point.grad)
    # What the zero point, held, would make of a wider step is the offset's part in the paper.
    beyond = ((x < -0.4) | (x > 0.8)) * incoming
    torch.testing.assert_close(quantizer.step.grad - beyond.sum() * factor, scale.grad)


def test_an_offset_between_two_levels_is_rounded_so_that_zero_stays():
    quantizer = LearnedStepAndOffset(torch.tensor([1.0]), torch.tensor([-1.4]), UNSIGNED)
    assert quantizer.qparams().zero_point.tolist() == [1]
    assert quantizer(torch.tensor([[-9.0, 0.0, 9.0]])).tolist() == [[-1, 0, 2]]
    quantizer(torch.tensor([[9.0]])).backward()
    assert quantizer.offset.grad.item() == pytest.approx(3**-0.5)


def test_an_offset_above_zero_takes_the_lowest_grid_that_holds_it():
    quantizer = LearnedStepAndOffset(torch.tensor([1.0]), torch.tensor([2.0]), UNSIGNED)
    assert quantizer.qparams().zero_point.tolist() == [0]


def test_weights_begin_three_standard_deviations_wide(summarise):
    weight = torch.tensor([1.0, 3.0] * 500)
    quantizer = LsqPlus().for_weight(weight, summarise(weight), SIGNED)
    # A mean of 2 and a deviation of 1: |2 + 3| / 2^(2 - 1).
    assert quantizer.step.item() == pytest.approx(2.5, rel=2e-3)


def test_activations_begin_on_the_grid_of_mse(summarise):
    x = torch.randn(500, generator=torch.Generator().manual_seed(0)) + 0.5
    algorithm = LsqPlus()
    summary = summarise(x)
    begun = algorithm.for_activation(summary, UNSIGNED)
    torch.testing.assert_close(begun(x[None])[0], fake_quantize(x, algorithm.ranges.qparams(summary, UNSIGNED)))
