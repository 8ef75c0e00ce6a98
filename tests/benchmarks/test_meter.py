import numpy
import psutil
import pytest

from benchmarks.meter import Meter


def test_the_peak_is_seen_though_the_memory_is_given_back():
    before = psutil.Process().memory_info().rss / 1e6
    with Meter() as meter:
        # Ones, for zeros take no memory until they are written to; long enough for one sample.
        for _ in range(3):
            numpy.ones(25_000_000).sum()
    assert meter.peak_memory_mb > before + 150
    with Meter() as small:
        pass
    assert 0 < small.peak_memory_mb < meter.peak_memory_mb - 100


def test_an_empty_block_is_measured_too():
    with Meter() as meter:
        pass
    assert meter.seconds >= 0
    assert meter.peak_memory_mb > 0


def test_an_error_passes_through_and_the_sampling_ends():
    meter = Meter()
    with pytest.raises(ZeroDivisionError), meter:
        _ = 1 / 0
    assert not meter._sampler.is_alive()
    assert meter.seconds > 0
