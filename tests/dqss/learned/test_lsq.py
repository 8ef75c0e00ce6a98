import pytest
import torch

from dqss.learned.lsq import LearnedStep, Lsq
from dqss.spec import QuantSpec

SIGNED, UNSIGNED = QuantSpec(3, symmetric=True), QuantSpec(3, symmetric=False)


def test_values_are_clipped_rounded_and_scaled():
    quantizer = LearnedStep(torch.tensor([0.5]), 0, 1, SIGNED)
    # In steps of 0.5: -5 is clipped to -4, 0.6 is rounded to 1, 1.4 to 1, 9 is clipped to 3.
    assert quantizer(torch.tensor([-2.5, 0.3, 0.7, 4.5])).tolist() == [-2, 0.5, 0.5, 1.5]


def test_gradients_to_step_and_data_are_those_of_the_paper():
    # One value, Q_P = 3: the gradient's scale is 1 / sqrt(3).
    quantizer = LearnedStep(torch.tensor([0.5]), 0, 1, SIGNED)
    for value, to_step, to_x in [(-2.5, -4, 0), (0.3, 1 - 0.6, 1), (0.7, 1 - 1.4, 1), (-0.4, -1 + 0.8, 1), (4.5, 3, 0)]:
        x = torch.tensor([value], requires_grad=True)
        quantizer.zero_grad()
        quantizer(x).sum().backward()
        assert quantizer.step.grad.item() == pytest.approx(to_step / 3**0.5, abs=1e-6)
        assert x.grad.item() == to_x


@pytest.mark.parametrize(("spec", "zero_point"), [(SIGNED, 0), (UNSIGNED, 0), (UNSIGNED, 4)])
def test_values_and_gradients_agree_with_torch(spec, zero_point):
    torch.manual_seed(0)
    x = torch.randn(4, 50)
    quantizer = LearnedStep(torch.tensor([0.37]), zero_point, None, spec)
    # torch lets a gradient pass to half a step beyond the ends, the paper does not.
    low, high = ((end - zero_point) * 0.37 for end in (spec.quant_min, spec.quant_max))
    x = x[(x - x.clamp(low, high)).abs() * 2 >= (x != x.clamp(low, high)) * 0.37].view(1, -1).requires_grad_()
    theirs = x.detach().clone().requires_grad_()
    scale = torch.tensor([0.37], requires_grad=True)
    factor = 1 / (x.shape[1] * (spec.quant_max - zero_point)) ** 0.5
    expected = torch._fake_quantize_learnable_per_tensor_affine(
        theirs, scale, torch.tensor([float(zero_point)]), spec.quant_min, spec.quant_max, factor
    )
    weights = torch.randn(x.shape)
    (expected * weights).sum().backward()
    result = quantizer(x)
    (result * weights).sum().backward()
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(x.grad, theirs.grad)
    torch.testing.assert_close(quantizer.step.grad, scale.grad)


def test_activations_count_one_sample_and_weights_all_values(summarise):
    x = torch.tensor([[4.5, 4.5], [4.5, 4.5]])
    for spec, quantizer, count in [
        (UNSIGNED, Lsq().for_activation(summarise(x), UNSIGNED), 2),
        (SIGNED, Lsq().for_weight(x, summarise(x), SIGNED), 4),
    ]:
        quantizer.step.data.fill_(0.1)
        quantizer(x).sum().backward()
        # All four are clipped, and each gives Q_P.
        assert quantizer.step.grad.item() == pytest.approx(4 * spec.quant_max / (count * spec.quant_max) ** 0.5)


def test_signed_activations_have_a_signed_grid_and_others_all_levels_above_zero(summarise):
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    signed = Lsq().for_activation(summarise(x), UNSIGNED).qparams()
    assert signed.zero_point.tolist() == [4]
    assert Lsq().for_activation(summarise(x.relu()), UNSIGNED).qparams().zero_point.tolist() == [0]


def test_a_step_that_turns_negative_counts_by_its_magnitude():
    quantizer = LearnedStep(torch.tensor([-0.5]), 0, 1, SIGNED)
    assert quantizer(torch.tensor([0.7])).tolist() == [0.5]
    assert quantizer.qparams().scale.tolist() == [0.5]
    quantizer(torch.tensor([4.5])).sum().backward()
    assert quantizer.step.grad.item() == pytest.approx(-(3**0.5))


def test_channels_have_steps_of_their_own(summarise):
    spec = QuantSpec(3, symmetric=True, channel_axis=0)
    weight = torch.tensor([[1.0, -2.0], [10.0, -20.0]])
    quantizer = Lsq().for_weight(weight, summarise(weight, axis=0), spec)
    first, second = quantizer.step.tolist()
    assert second == pytest.approx(10 * first)
    values = quantizer(weight)
    torch.testing.assert_close(values[1], 10 * values[0])
