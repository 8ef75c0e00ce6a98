import pytest
import torch

from dqss.learned.ste_minmax import AveragedExtremes, SteMinMax
from dqss.spec import QuantSpec

SIGNED, UNSIGNED = QuantSpec(2, symmetric=True), QuantSpec(2, symmetric=False)


def test_weights_are_rounded_within_their_own_extremes(summarise):
    weight = torch.tensor([-3.0, -1.2, 0.4, 2.0])
    quantizer = SteMinMax().for_weight(weight, summarise(weight), SIGNED)
    # The larger end is 3: a step of 2 * 3 / 3 = 2, levels -4, -2, 0, 2; -3 lies in the middle and goes to even.
    assert quantizer(weight).tolist() == [-4, -2, 0, 2]
    # Half as large, half the step, in evaluation too.
    assert quantizer.eval()(weight / 2).tolist() == [-2, -1, 0, 1]
    assert quantizer.qparams().scale.tolist() == [1]


def test_every_weights_gradient_passes(summarise):
    # 3 lies in the half step above the highest level, which a plain fake quantization counts as clipped.
    weight = torch.tensor([-1.0, 0.2, 3.0], requires_grad=True)
    quantizer = SteMinMax().for_weight(weight, summarise(weight), SIGNED)
    quantizer(weight).backward(torch.tensor([1.0, 2.0, 3.0]))
    assert weight.grad.tolist() == [1, 2, 3]


def test_extremes_of_activations_are_averaged_in_training_alone():
    quantizer = AveragedExtremes(torch.tensor([-1.0]), torch.tensor([2.0]), 0.25, UNSIGNED)
    quantizer(torch.tensor([[-5.0, 6.0]]))
    # -1 + (-5 + 1) / 4 and 2 + (6 - 2) / 4.
    assert (quantizer.low.item(), quantizer.high.item()) == (-2, 3)
    quantizer.eval()(torch.tensor([[-50.0, 60.0]]))
    assert (quantizer.low.item(), quantizer.high.item()) == (-2, 3)


def test_averages_and_values_agree_with_torch(summarise):
    theirs = torch.ao.quantization.FakeQuantize(
        torch.ao.quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=3, dtype=torch.quint8
    )
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 5, generator=generator) for _ in range(6)]
    theirs(batches[0])
    ours = SteMinMax().for_activation(summarise(batches[0]), UNSIGNED)
    for batch in batches[1:]:
        x, y = batch.clone().requires_grad_(), batch.clone().requires_grad_()
        expected, result = theirs(x), ours(y)
        torch.testing.assert_close(result, expected)
        expected.square().sum().backward()
        result.square().sum().backward()
        torch.testing.assert_close(y.grad, x.grad)


def test_an_averaging_of_nothing_is_refused():
    with pytest.raises(ValueError, match="averaging: 0 is not allowed"):
        SteMinMax(averaging=0)
