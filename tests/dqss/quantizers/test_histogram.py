import numpy as np
import pytest
import torch
from torch.ao.quantization.observer import HistogramObserver

from dqss.quantizers.histogram import Histogram, moves
from dqss.quantizers.minmax import MinMax
from dqss.spec import QuantSpec

COUNT = 50_000


def naive_moves(shares: list[float]) -> list[tuple[int, int]]:
    """The path of HistogramObserver's search to its end, step by step; whole numbers of steps, not a running sum."""
    start, end = 0, len(shares) - 1
    left = right = 0
    path = []
    while left + right < 100_000:
        lower, upper = start, end
        while lower < end and shares[lower] < (left + 1) / 100_000:
            lower += 1
        while upper > start and shares[upper] > 1 - (right + 1) / 100_000:
            upper -= 1
        before = (start, end)
        if lower - start > end - upper:
            start, left = lower, left + 1
        else:
            end, right = upper, right + 1
        if (start, end) != before:
            path.append((start, end))
    return path


def observer_of(x: torch.Tensor, bits: int) -> HistogramObserver:
    """PyTorch's observer over the bins of a TensorSummary, for so many levels; its own are 256 whatever the range."""
    bins = 2048 if x.min() >= 0 else 4096
    observer = HistogramObserver(bins=bins, qscheme=torch.per_tensor_affine, quant_min=0, quant_max=2**bits - 1)
    observer.dst_nbins = 2**bits
    observer(x)
    return observer


def samples(kind: str) -> torch.Tensor:
    """Both ends of the summary's histogram are filled: 0, or minus the largest value, and the largest."""
    generator = np.random.default_rng(0)
    drawn = {
        "rectified": generator.normal(size=COUNT).clip(0),
        "long-tailed": np.abs(generator.standard_t(3, size=COUNT)),
        "normal": generator.normal(size=COUNT),
        "laplace": generator.laplace(size=COUNT),
    }
    x = torch.tensor(drawn[kind], dtype=torch.float32)
    x[0] = 0 if x.min() >= 0 else -x.abs().max()
    x[1] = x.abs().max()
    return x


@pytest.mark.parametrize("seed", range(4))
def test_the_path_is_that_of_the_plain_loop(seed):
    counts = np.random.default_rng(seed).integers(0, 40, size=60) ** 3
    counts[[0, -1]] = 1
    counts[20:30] = 0
    shares = (counts.cumsum() / counts.sum()).tolist()
    assert list(moves(shares, 0, 59)) == naive_moves(shares)


@pytest.mark.parametrize(
    ("shares", "path"),
    [
        # The next 1 / 100,000 of values takes up four bins at the lower end, two at the upper, which follows.
        ([1e-6, 1e-6, 1e-6, 1e-6, 0.5, 0.999999, 1.0], [(4, 6), (4, 4)]),
        # At equal numbers the upper end goes first.
        ([1e-6, 1e-6, 0.5, 0.999999, 1.0], [(0, 2), (2, 2)]),
    ],
)
def test_the_path_by_hand(shares, path):
    assert list(moves(shares, 0, len(shares) - 1)) == path


def test_an_outlier_is_shed(summarise):
    x = torch.cat([torch.linspace(0, 1, 200_000), torch.tensor([16.0])])
    low, high = Histogram().range(summarise(x), QuantSpec(4, symmetric=False))
    assert low.item() == 0
    assert 0.9 < high.item() < 1.02


def test_nothing_is_shed_where_that_harms(summarise):
    # The observer takes its first cut unseen, here to the lower value alone.
    summary, spec = summarise(torch.tensor([-1.0, 2.0])), QuantSpec(4, symmetric=False)
    assert Histogram().range(summary, spec) == MinMax().range(summary, spec)


@pytest.mark.parametrize("kind", ["rectified", "long-tailed"])
@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_the_range_of_a_rectified_tensor_is_that_of_pytorchs_observer(summarise, kind, bits):
    x = samples(kind)
    expected = observer_of(x, bits)._non_linear_param_search()
    low, high = Histogram().range(summarise(x), QuantSpec(bits, symmetric=False))
    # The observer sums in single precision, by which the end of its search may differ by a little.
    assert low.item() == expected[0].item() == 0
    assert high.item() == pytest.approx(expected[1].item(), rel=0.01)


@pytest.mark.parametrize("kind", ["rectified", "long-tailed", "normal", "laplace"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_error_is_not_above_that_of_pytorchs_observer(summarise, kind, bits):
    x = samples(kind)
    observer = observer_of(x, bits)
    width = (observer.max_val - observer.min_val) / observer.bins

    def error(low: torch.Tensor, high: torch.Tensor) -> float:
        """As the observer itself works it out."""
        first, last = (round(((end - observer.min_val) / width).item()) for end in (low, high))
        return observer._compute_quantization_error(first, last - 1)

    found = Histogram().range(summarise(x), QuantSpec(bits, symmetric=False))
    assert error(*found) <= error(*observer._non_linear_param_search()) * 1.001


def test_each_channel_has_its_own_range(summarise):
    x = torch.stack([samples(kind)[:3000] for kind in ("rectified", "long-tailed", "normal")])
    x = torch.cat([x, torch.zeros(1, 3000), torch.full((1, 3000), 4.0)])
    low, high = Histogram().range(summarise(x, axis=0), QuantSpec(4, symmetric=False, channel_axis=0))
    for channel, row in enumerate(x):
        alone = Histogram().range(summarise(row), QuantSpec(4, symmetric=False))
        assert (low[channel], high[channel]) == (alone[0][0], alone[1][0])
