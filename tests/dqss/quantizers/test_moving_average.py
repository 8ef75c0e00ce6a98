import pytest
import torch
from torch.ao.quantization.observer import MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver

from dqss.calibrate import AVERAGING
from dqss.quantizers.minmax import MinMax
from dqss.quantizers.moving_average import MovingAverage
from dqss.spec import QuantSpec

BATCHES = [torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(seed)) * (1 + seed) + 0.3 for seed in range(8)]
SPEC = QuantSpec(4, symmetric=False)


def test_a_new_batch_moves_the_range_by_a_hundredth(summarise):
    low, high = MovingAverage().range(summarise(torch.tensor([-1.0, 1.0]), torch.tensor([-3.0, 5.0])), SPEC)
    assert low.item() == pytest.approx(-1.02)
    assert high.item() == pytest.approx(1.04)


def test_of_one_batch_it_is_the_range_of_minmax(summarise):
    summary = summarise(BATCHES[0])
    assert MovingAverage().range(summary, SPEC) == MinMax().range(summary, SPEC)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_range_is_that_of_pytorchs_observer(summarise, axis):
    if axis is None:
        observer = MovingAverageMinMaxObserver(averaging_constant=AVERAGING)
    else:
        observer = MovingAveragePerChannelMinMaxObserver(averaging_constant=AVERAGING, ch_axis=axis)
    for batch in BATCHES:
        observer(batch)
    low, high = MovingAverage().range(summarise(*BATCHES, axis=axis), QuantSpec(4, symmetric=False, channel_axis=axis))
    assert torch.allclose(low, observer.min_val, rtol=1e-6)
    assert torch.allclose(high, observer.max_val, rtol=1e-6)


def test_an_empty_batch_does_not_count(summarise):
    summary = summarise(BATCHES[0], torch.zeros(0), BATCHES[1])
    assert MovingAverage().range(summary, SPEC) == MovingAverage().range(summarise(*BATCHES[:2]), SPEC)
