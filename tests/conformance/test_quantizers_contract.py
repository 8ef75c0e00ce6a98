"""What every quantizer keeps to, whatever its algorithm."""

import copy
import dataclasses
import re
import sys

import pytest
import torch
from torch import Tensor

from dqss.calibrate import BINS, TensorSummary
from dqss.functional import fake_quantize
from dqss.quantizers import QUANTIZERS
from dqss.spec import QuantSpec


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Two channels each.
TENSORS = {
    "normal": random(2, 300),
    "rectified": random(2, 300).clamp(min=0),
    "negative": -random(2, 300).abs(),
    "shifted": random(2, 300) + 100,
    "zeros": torch.zeros(2, 5),
    "one channel of zeros": random(2, 50) * torch.tensor([[1.0], [0.0]]),
    "constant": torch.full((2, 5), 3.0),
    "negative constant": torch.full((2, 5), -3.0),
    "single": torch.tensor([[0.3], [-0.7]]),
    "two values": torch.tensor([[-1.0, 2.0], [0.0, 5.0]]),
    "an outlier": torch.cat([random(2, 300), torch.tensor([[1e4], [-1e4]])], dim=1),
    "integers": random(2, 300).mul(3).round(),
    "huge": 1e30 * random(2, 50),
    "tiny": 1e-30 * random(2, 50),
    "subnormal": torch.tensor([[1e-45, -1e-42], [0.0, 1e-40]]),
    "channels far apart": random(2, 50) * torch.tensor([[1e-6], [1e6]]),
}
# Each number of bits, symmetry and granularity with each other one.
SPECS = [QuantSpec(2, True, None), QuantSpec(2, False, 0), QuantSpec(8, True, 0), QuantSpec(8, False, None)]

# What a summary keeps for the next who asks; it may change when it is read.
KEPT = ("grids", "shrunken", "divergences", "_sums", "_totals")

every_quantizer = pytest.mark.parametrize(
    "quantizer", [pytest.param(QUANTIZERS.create(name), id=name) for name in QUANTIZERS]
)
every_tensor = pytest.mark.parametrize("kind", TENSORS)


def summary_of(*batches: Tensor, axis: int | None = None) -> TensorSummary:
    summary = TensorSummary(axis)
    for batch in batches:
        summary.update(batch)
    return summary


@every_quantizer
@every_tensor
def test_the_grid_is_sound_whatever_the_tensor(quantizer, kind):
    x = TENSORS[kind]
    for spec in SPECS:
        summary = summary_of(x, axis=spec.channel_axis)
        channels = 1 if spec.channel_axis is None else 2
        low, high = quantizer.range(summary, spec)
        # Never beyond what was seen, zero included, which every grid holds.
        assert low.shape == high.shape == (channels,)
        assert (low >= summary.low.clamp(max=0)).all()
        assert (high <= summary.high.clamp(min=0)).all()
        qparams = quantizer.qparams(summary, spec)
        assert qparams.scale.shape == qparams.zero_point.shape == (channels,)
        assert (qparams.scale.dtype, qparams.zero_point.dtype) == (torch.float32, torch.int32)
        assert ((qparams.scale > 0) & qparams.scale.isfinite() & (1 / qparams.scale).isfinite()).all()
        assert ((qparams.zero_point >= spec.quant_min) & (qparams.zero_point <= spec.quant_max)).all()
        assert fake_quantize(x, qparams).isfinite().all()
        assert qparams.spec == spec


@every_quantizer
@pytest.mark.parametrize("kind", ["zeros", "constant", "negative constant", "single"])
def test_a_lone_value_is_kept_to_the_width_of_a_bin(quantizer, kind):
    x = TENSORS[kind]
    summary = summary_of(x, axis=0)
    kept = fake_quantize(x, quantizer.qparams(summary, QuantSpec(4, symmetric=False, channel_axis=0)))
    assert ((kept - x).abs() <= 2 / BINS * summary.limit[:, None]).all()


@every_quantizer
@every_tensor
def test_the_same_summary_gives_the_same_grid_and_stays_as_it_was(quantizer, kind):
    spec = QuantSpec(4, symmetric=False, channel_axis=0)
    summary = summary_of(TENSORS[kind], axis=0)
    before = {name: value for name, value in copy.deepcopy(vars(summary)).items() if name not in KEPT}
    # A summary keeps the grid worked out for it, so the second comes from another summary of the same values.
    first, second = quantizer.qparams(summary, spec), quantizer.qparams(summary_of(TENSORS[kind], axis=0), spec)
    assert quantizer.qparams(summary, spec) is first
    assert first.scale.equal(second.scale)
    assert first.zero_point.equal(second.zero_point)
    for name, value in before.items():
        now = getattr(summary, name)
        assert now.equal(value) if isinstance(value, Tensor) else now == value


@every_tensor
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_summary_that_others_have_read_gives_the_grids_of_fresh_ones(kind, spec):
    quantizers = [QUANTIZERS.create(name) for name in QUANTIZERS]
    read = summary_of(TENSORS[kind], axis=spec.channel_axis)
    for quantizer in quantizers[::-1]:
        for bits in (3, spec.bits):
            quantizer.range(read, dataclasses.replace(spec, bits=bits))
    for quantizer in quantizers:
        fresh = summary_of(TENSORS[kind], axis=spec.channel_axis)
        for shared, alone in zip(quantizer.range(read, spec), quantizer.range(fresh, spec), strict=True):
            assert shared.equal(alone), quantizer


@every_quantizer
@pytest.mark.parametrize("kind", ["normal", "single", "one channel of zeros", "channels far apart"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_channel_gets_the_grid_that_it_would_get_alone(quantizer, kind, symmetric):
    x = TENSORS[kind]
    both = quantizer.qparams(summary_of(x, axis=0), QuantSpec(4, symmetric, channel_axis=0))
    for channel in range(2):
        alone = quantizer.qparams(summary_of(x[channel]), QuantSpec(4, symmetric))
        assert both.scale[channel] == alone.scale[0]
        assert both.zero_point[channel] == alone.zero_point[0]


@every_quantizer
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("factor", [2.0**20, 2.0**-20])
def test_the_grid_scales_with_the_tensor(quantizer, symmetric, factor):
    # By a power of two, so that nothing is rounded.
    x, spec = TENSORS["normal"], QuantSpec(4, symmetric)
    plain, scaled = quantizer.qparams(summary_of(x), spec), quantizer.qparams(summary_of(x * factor), spec)
    assert scaled.scale.equal(plain.scale * factor)
    assert scaled.zero_point.equal(plain.zero_point)


@every_quantizer
@pytest.mark.parametrize("kind", ["normal", "rectified", "shifted", "an outlier"])
def test_the_order_of_values_does_not_matter(quantizer, kind):
    x = TENSORS[kind].flatten()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    spec = QuantSpec(4, symmetric=False)
    assert quantizer.qparams(summary_of(x), spec).scale.equal(quantizer.qparams(summary_of(x[order]), spec).scale)


@every_quantizer
@pytest.mark.parametrize("kind", ["normal", "rectified", "negative"])
def test_more_bits_never_make_a_well_behaved_tensor_worse(quantizer, kind):
    x = TENSORS[kind]
    summary = summary_of(x)
    errors = [
        (fake_quantize(x, quantizer.qparams(summary, QuantSpec(bits, symmetric=False))) - x).square().sum().item()
        for bits in (2, 4, 6)
    ]
    assert errors == sorted(errors, reverse=True)


@every_quantizer
def test_options_are_the_fields_of_a_frozen_dataclass(quantizer):
    assert dataclasses.is_dataclass(quantizer)
    assert type(quantizer).__dataclass_params__.frozen
    # Every option has a default.
    assert isinstance(type(quantizer)(), type(quantizer))


def test_each_name_stands_for_another_algorithm():
    made = [QUANTIZERS.create(name) for name in QUANTIZERS]
    assert len(set(made)) == len(made)


@every_quantizer
def test_a_summary_without_values_is_refused(quantizer):
    with pytest.raises(ValueError, match="it has seen no value"):
        quantizer.qparams(summary_of(torch.zeros(2, 0), axis=0), QuantSpec(4, symmetric=True, channel_axis=0))


@every_quantizer
def test_the_module_cites_its_source(quantizer):
    source = sys.modules[type(quantizer).__module__].__doc__
    assert re.search(r"\((?:[A-Za-z/]+ (?:19|20)\d\d|arXiv \d{4}\.\d{5})\)", source)
