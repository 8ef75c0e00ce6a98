import math

import numpy as np
import pytest
import torch
from onnxruntime.quantization.calibrate import HistogramCollector

from dqss.quantizers import QUANTIZERS
from dqss.quantizers.kl import Kl, divergence_table, divergences
from dqss.spec import QuantSpec

BINS = 2048


def naive_divergence(histogram: list[int], stop: int, levels: int) -> float:
    """KL(P || Q) as the GTC 2017 slides tell it, bin by bin."""
    reference = list(histogram[:stop])
    reference[-1] += sum(histogram[stop:])
    mass, filled = [0] * levels, [0] * levels
    for i in range(stop):
        mass[i * levels // stop] += histogram[i]
        filled[i * levels // stop] += reference[i] > 0
    quantized = [0.0] * stop
    for i in range(stop):
        if reference[i] > 0:
            quantized[i] = mass[i * levels // stop] / filled[i * levels // stop]
    if any(a > 0 and b == 0 for a, b in zip(reference, quantized, strict=True)):
        return math.inf
    p, q = np.array(reference) / sum(reference), np.array(quantized) / sum(quantized)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def divergence(histogram: torch.Tensor, stop: int, levels: int) -> float:
    return divergences(histogram, torch.tensor([stop]), levels).item()


def magnitudes(seed: int, tail: float) -> np.ndarray:
    """Bin numbers of 0 to 2047, most of them small; the last bin is filled so that the limit is known."""
    drawn = np.random.default_rng(seed).standard_t(tail, size=1500)
    bins = (np.abs(drawn) * 150).astype(int).clip(0, BINS - 2)
    return np.append(bins, BINS - 1)


def tensor_of(bins: np.ndarray, signed: bool) -> torch.Tensor:
    """Values at the centres of their bins; the largest is 1, which is the upper end of the last one."""
    x = (bins + 0.5) / BINS
    x[bins == BINS - 1] = 1
    if signed:
        x[::2] *= -1
    return torch.tensor(x, dtype=torch.float32)


def brute_force(bins: np.ndarray, levels: int) -> float:
    """As NVIDIA's pytorch-quantization toolkit: every bin from number 128 on, the last of the least divergences."""
    histogram = np.bincount(bins, minlength=BINS)
    histogram[0] = histogram[1]
    stops = [stop for stop in range(max(128, levels), BINS + 1) if histogram[stop - 1] > 0 or stop == BINS]
    found = [naive_divergence(histogram.tolist(), stop, levels) for stop in stops]
    return stops[len(found) - 1 - int(np.argmin(found[::-1]))] / BINS


def test_divergence_by_hand_on_the_example_of_the_slides():
    # Two levels: 1 + 0 + 2 + 3 = 6 over 3 filled bins, 5 + 3 + 1 + 7 = 16 over 4; so 22 Q is 2 0 2 2 4 4 4 4.
    histogram = torch.tensor([1, 0, 2, 3, 5, 3, 1, 7], dtype=torch.float64)
    expected = sum(p * math.log(p / q) for p, q in [(1, 2), (2, 2), (3, 2), (5, 4), (3, 4), (1, 4), (7, 4)]) / 22
    assert divergence(histogram, stop=8, levels=2) == pytest.approx(expected, rel=1e-12)


def test_divergence_is_nil_where_the_levels_lose_nothing():
    histogram = torch.tensor([3, 3, 0, 5, 5, 0, 0, 0], dtype=torch.float64)
    assert divergence(histogram, stop=8, levels=4) == pytest.approx(math.log(1), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [2, 4, 7])
def test_divergences_are_those_of_a_plain_loop(seed, levels):
    histogram = np.random.default_rng(seed).integers(0, 30, size=40)
    histogram[::3] = 0
    stops = [stop for stop in range(levels, 41) if histogram[stop - 1] > 0]
    found = divergences(torch.tensor(histogram, dtype=torch.float64), torch.tensor(stops), levels)
    assert found.tolist() == pytest.approx([naive_divergence(histogram.tolist(), s, levels) for s in stops], rel=1e-9)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_affine_threshold_of_positive_values_is_that_of_brute_force(summarise, bits):
    bins = magnitudes(seed=bits, tail=2)
    low, high = Kl().range(summarise(tensor_of(bins, signed=False)), QuantSpec(bits, symmetric=False))
    assert high.item() == pytest.approx(brute_force(bins, 2**bits))
    assert low.item() == pytest.approx(bins.min() / BINS, abs=1 / BINS)


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_values_of_both_signs_share_the_levels(summarise, bits, symmetric):
    bins = magnitudes(seed=10 + bits, tail=3)
    x = tensor_of(bins, signed=True)
    low, high = Kl().range(summarise(x), QuantSpec(bits, symmetric))
    threshold = brute_force(bins, 2 ** (bits - 1))
    assert low.item() == pytest.approx(max(x.min().item(), -threshold))
    assert high.item() == pytest.approx(min(x.max().item(), threshold))


def test_negative_values_alone_mirror_positive_ones(summarise):
    x = tensor_of(magnitudes(seed=3, tail=2), signed=False)
    spec = QuantSpec(4, symmetric=False)
    low, high = Kl().range(summarise(x), spec)
    mirrored_low, mirrored_high = Kl().range(summarise(-x), spec)
    # A value on the edge of two bins goes up in both.
    assert mirrored_low.item() == pytest.approx(-high.item(), abs=2 / BINS)
    assert mirrored_high.item() == -low.item()


def test_an_outlier_does_not_decide_the_range(summarise):
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).abs()
    _, high = Kl().range(summarise(x, torch.tensor([20.0])), QuantSpec(4, symmetric=False))
    assert 1 < high.item() < 5


def test_the_zeros_of_a_relu_do_not_decide_the_range(summarise):
    x = tensor_of(magnitudes(seed=0, tail=4), signed=False)
    with_zeros = torch.cat([x, torch.zeros(100_000)])
    spec = QuantSpec(4, symmetric=False)
    assert Kl().range(summarise(with_zeros), spec)[1].equal(Kl().range(summarise(x), spec)[1])


def test_a_frequent_largest_value_on_the_edge_of_a_bin_counts(summarise):
    # The limit is 2 after the second batch, so that 1.5 is the lower edge of a bin.
    first, second = torch.randn(2000, generator=torch.Generator().manual_seed(0)).clamp(-1, 1), torch.full((9000,), 1.5)
    summary = summarise(torch.tensor([1.0]), first.abs(), second)
    assert summary.limit.tolist() == [2]
    _, high = Kl().range(summary, QuantSpec(4, symmetric=False))
    assert high.tolist() == [1.5]


def test_each_channel_has_its_own_threshold(summarise):
    rows = [tensor_of(magnitudes(seed, tail=2), signed=True) * 10.0**seed for seed in range(3)]
    x = torch.stack([*rows, torch.zeros(len(rows[0]))])
    spec = QuantSpec(4, symmetric=True, channel_axis=0)
    low, high = Kl().range(summarise(x, axis=0), spec)
    for channel, row in enumerate(x):
        alone_low, alone_high = Kl().range(summarise(row), spec)
        assert (low[channel], high[channel]) == (alone_low[0], alone_high[0])


@pytest.mark.parametrize("seed", range(2))
def test_the_threshold_agrees_with_onnxruntime_on_a_long_tailed_tensor(summarise, seed):
    # Its calibrator counts both signs apart, rounds quantized counts to whole numbers and smooths both distributions;
    # the divergence is nearly flat about its least value, so thresholds may differ where divergences hardly do.
    x = np.random.default_rng(seed).standard_t(3, size=40_000).astype(np.float32)
    collector = HistogramCollector("entropy", True, num_bins=513, num_quantized_bins=256, percentile=0, scenario="")
    collector.collect({"x": [x]})
    expected = collector.compute_collection_result()["x"][1].item()
    summary = summarise(torch.from_numpy(x))
    found = max(end.abs().item() for end in Kl().range(summary, QuantSpec(8, symmetric=True)))
    assert found == pytest.approx(expected, rel=0.3)
    histogram = summary.magnitudes[0].double()
    histogram[0] = histogram[1]
    filled = histogram.nonzero().flatten()
    edges = torch.tensor([found, expected, np.abs(x).max()]) / summary.limit * BINS
    kept = filled[(filled - edges[:, None]).abs().argmin(1)] + 1
    ours, theirs, whole = divergences(histogram, kept, 128).tolist()
    assert ours <= theirs < whole


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_spike_at_the_background_of_an_image_is_not_clipped_away(summarise, bits):
    # Half of the pixels have one value, -0.81; few levels over few bins near zero lose nothing, and clip all of it.
    pixels = torch.randint(0, 255, (5000,), generator=torch.Generator().manual_seed(0)) / 90 - 0.81
    low, high = Kl().range(summarise(torch.cat([pixels, torch.full((5000,), -0.81)])), QuantSpec(bits, False))
    assert low.item() == pytest.approx(-0.81)
    assert high.item() > 0.81


def test_the_tight_search_may_clip_to_less_than_a_sixteenth_and_keeps_a_bin_for_each_level(summarise):
    # A narrow bulk and one outlier a hundred times as far.
    bulk = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.1
    summary = summarise(torch.cat([bulk, torch.tensor([40.0])]))
    spec = QuantSpec(4, symmetric=True)
    wide, tight = (QUANTIZERS.create(name).range(summary, spec)[1].item() for name in ("kl", "kl-tight"))
    assert wide >= 40 / 16
    assert 8 * summary.limit.item() / 2048 <= tight < 40 / 16
    # The bulk is kept.
    assert tight > 0.2


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_table_holds_the_plain_loops_divergence_of_every_threshold_on_a_filled_bin(summarise, symmetric):
    bins = np.array([0, 0, 1, 1, 1, 2, 5, 6, 6, 40, 41, 300, BINS - 1])
    found = divergence_table(summarise(tensor_of(bins, signed=False)), QuantSpec(3, symmetric))[0]
    levels = 4 if symmetric else 8
    histogram = np.bincount(bins, minlength=BINS)
    histogram[0] = histogram[1]
    filled = [stop for stop in range(levels, BINS + 1) if histogram[stop - 1] > 0]
    assert (found.isfinite().nonzero().flatten() + 1).tolist() == filled
    expected = [naive_divergence(histogram.tolist(), stop, levels) for stop in filled]
    assert found[found.isfinite()].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_of_zeros_alone_the_table_allows_the_first_bin(summarise):
    found = divergence_table(summarise(torch.zeros(5)), QuantSpec(4, symmetric=True))[0]
    assert found[0] == 0
    assert found[1:].isinf().all()


def test_a_narrowest_range_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"narrowest: 2\.0 is not allowed\. Give a number from 0 to 1\."):
        Kl(narrowest=2.0)
