import pytest

from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.ptq import pose
from dqss.quantizers import QUANTIZERS
from dqss.search.base import SearchProblem, no_report
from dqss.spec import PROTOCOLS, Bits


@pytest.fixture
def problem(tiny, batches) -> SearchProblem:
    """Three candidates for weights, two for activations, at 3 bits, where they differ."""
    prepared = prepare(tiny, PROTOCOLS["all-layers"], Bits(3, 3))
    calibration = calibrate(prepared, batches, no_report)
    weights = {name: QUANTIZERS.create(name) for name in ("percentile", "minmax", "mse")}
    activations = {name: QUANTIZERS.create(name) for name in ("mse", "minmax")}
    return pose(prepared, calibration, batches, weights, activations, None)
