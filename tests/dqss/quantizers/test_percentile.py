import numpy as np
import pytest
import torch
from onnxruntime.quantization.calibrate import HistogramCollector

from dqss.quantizers.percentile import Percentile
from dqss.spec import QuantSpec

SPEC = QuantSpec(4, symmetric=False)
# TensorSummary's docstring: a bin is at most this part of the largest magnitude wide.
BIN = 4 / 4096


def samples(kind: str) -> torch.Tensor:
    generator = np.random.default_rng(0)
    drawn = {
        "normal": generator.normal(size=2999),
        "rectified": generator.normal(size=2999).clip(0),
        "long-tailed": generator.standard_cauchy(size=2999),
        "integers": generator.integers(-5, 6, size=2999),
    }
    return torch.tensor(drawn[kind], dtype=torch.float32)


def test_the_few_largest_magnitudes_are_clipped(summarise):
    # 999 of 1000 magnitudes are 1: they end within the 21st bin of 2048, on its upper edge.
    summary = summarise(torch.tensor([1.0] * 500 + [-1.0] * 499 + [100.0]))
    low, high = Percentile(99.9).range(summary, SPEC)
    assert (low.tolist(), high.tolist()) == ([-1], [21 / 2048 * 100])


@pytest.mark.parametrize("kind", ["normal", "rectified", "long-tailed", "integers"])
@pytest.mark.parametrize("percent", [50, 90, 99, 99.9, 100])
def test_the_threshold_is_the_quantile_of_magnitudes_to_the_width_of_a_bin(summarise, kind, percent):
    x = samples(kind)
    low, high = Percentile(percent).range(summarise(x[:10], x[10:]), SPEC)
    magnitudes = x.abs().numpy()
    quantile = np.quantile(magnitudes, percent / 100, method="inverted_cdf")
    reach = magnitudes.max()
    expected_low, expected_high = max(x.min().item(), -quantile), min(x.max().item(), quantile)
    assert abs(low.item() - expected_low) <= BIN * reach
    assert abs(high.item() - expected_high) <= BIN * reach


@pytest.mark.parametrize("kind", ["normal", "rectified"])
@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
def test_the_threshold_is_that_of_onnxruntimes_calibrator_to_the_width_of_a_bin(summarise, kind, percent):
    x = samples(kind)
    collector = HistogramCollector("percentile", True, 2048, num_quantized_bins=128, percentile=percent, scenario="")
    collector.collect({"x": [x.numpy()]})
    expected = collector.compute_collection_result()["x"][1].item()
    _, high = Percentile(percent).range(summarise(x), SPEC)
    assert high.item() == pytest.approx(min(expected, x.max().item()), abs=BIN * x.abs().max().item())


def test_all_of_the_values_are_the_extremes(summarise):
    x = samples("long-tailed")
    low, high = Percentile(100).range(summarise(x), SPEC)
    assert (low.item(), high.item()) == (x.min().item(), x.max().item())


def test_each_channel_has_its_own_threshold(summarise):
    x = torch.stack([samples("normal"), samples("long-tailed"), torch.zeros(2999)])
    spec = QuantSpec(4, symmetric=True, channel_axis=0)
    low, high = Percentile(99).range(summarise(x, axis=0), spec)
    for channel, row in enumerate(x):
        alone_low, alone_high = Percentile(99).range(summarise(row), spec)
        assert (low[channel], high[channel]) == (alone_low[0], alone_high[0])


def test_the_default_is_that_of_the_paper():
    assert Percentile().percent == 99.9


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan")])
def test_a_percentage_out_of_range_is_refused(percent):
    with pytest.raises(ValueError, match=f"percent: {percent} is not allowed. Give a number above 0, at most 100"):
        Percentile(percent)
