import pytest
import torch
from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver

from dqss.functional import SMALLEST_SCALE
from dqss.quantizers.minmax import MinMax
from dqss.spec import QuantSpec

BATCHES = [torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(seed)) * (1 + seed) + 0.3 for seed in range(3)]


def test_the_range_is_from_the_least_to_the_greatest_value_of_all_batches(summarise):
    summary = summarise(torch.tensor([-1.0, 0.5]), torch.tensor([2.0, 0.0]), torch.tensor([0.0]))
    low, high = MinMax().range(summary, QuantSpec(4, symmetric=False))
    assert (low.tolist(), high.tolist()) == ([-1], [2])


def test_the_affine_grid_by_hand(summarise):
    qparams = MinMax().qparams(summarise(torch.tensor([-1.0, 0.0, 2.0])), QuantSpec(2, symmetric=False))
    assert (qparams.scale.tolist(), qparams.zero_point.tolist()) == ([1], [1])


def test_the_symmetric_grid_by_hand(summarise):
    qparams = MinMax().qparams(summarise(torch.tensor([-3.0, 0.0, 2.0])), QuantSpec(2, symmetric=True))
    assert (qparams.scale.tolist(), qparams.zero_point.tolist()) == ([2], [0])


def test_each_channel_has_its_own_range(summarise):
    x = torch.tensor([[1.0, -3.0], [2.0, 0.0], [0.5, 6.0]])
    qparams = MinMax().qparams(summarise(x, axis=1), QuantSpec(2, symmetric=False, channel_axis=1))
    assert torch.allclose(qparams.scale, torch.tensor([2 / 3, 3.0]))
    assert qparams.zero_point.tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max")
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_grid_is_that_of_pytorchs_observer(summarise, bits, symmetric, axis):
    spec = QuantSpec(bits, symmetric, axis)
    observer_class, granularity = (MinMaxObserver, "tensor") if axis is None else (PerChannelMinMaxObserver, "channel")
    observer = observer_class(
        dtype=torch.qint8 if symmetric else torch.quint8,
        qscheme=getattr(torch, f"per_{granularity}_{'symmetric' if symmetric else 'affine'}"),
        quant_min=spec.quant_min,
        quant_max=spec.quant_max,
        eps=SMALLEST_SCALE,
        **({} if axis is None else {"ch_axis": axis}),
    )
    for batch in BATCHES:
        observer(batch)
    scale, zero_point = observer.calculate_qparams()
    ours = MinMax().qparams(summarise(*BATCHES, axis=axis), spec)
    # PyTorch subtracts in float32, this project in float64: the last bit may differ.
    assert torch.allclose(ours.scale, scale, rtol=2.0**-22, atol=0)
    assert ours.zero_point.tolist() == zero_point.tolist()
