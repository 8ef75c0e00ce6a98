import pytest

from benchmarks.methods import QAT_METHODS
from benchmarks.qat_methods import Dqss, Uniform
from dqss.ptq import RANGES
from dqss.quantizers import QUANTIZERS
from dqss.ranges import STARTS
from dqss.registry import UnknownNameError
from dqss.schedule import Rates, Schedule
from dqss.search import SEARCHES

# Options that a suite leaves out are in no cell's key: with another default, what was recorded would be taken for the
# result of what is run now. Raise the version in QAT_METHODS and change the line.
DEFAULTS = {
    ("uniform", 2): {"network": 0.01, "quantizers": 0.005, "rise": 0.2, "start": "best-uniform"},
    ("dqss", 2): {
        **{"network": 0.01, "quantizers": 0.005, "alpha": 0.1},
        **{"warm_up": 0.05, "search": 0.45, "relaxation": "softmax", "warm": 1.0, "cold": 0.03},
        **{"rise": 0.2, "then": "go-on", "start": "dqss"},
    },
}
# What finds the ranges to begin with is in no key either: raise both versions where one of these rises.
STARTED_BY = {"best-uniform": 2, "dqss": 6}
RANGED_BY = {
    **{"minmax": 1, "percentile": 1, "percentile-99.99": 1, "mse": 2},
    **{"lp": 1, "kl": 2, "kl-tight": 1, "aciq-laplace": 1},
}


@pytest.mark.parametrize("name", list(QAT_METHODS))
def test_defaults_are_those_of_the_version_in_the_keys_of_cells(name):
    assert vars(QAT_METHODS.create(name)) == DEFAULTS[name, QAT_METHODS.entry(name).version]


def test_the_versions_of_methods_stand_for_those_of_what_finds_their_ranges():
    assert {name: SEARCHES.entry(name).version for name in STARTS} == STARTED_BY
    assert {name: QUANTIZERS.entry(name).version for name in RANGES} == RANGED_BY


def test_a_start_that_cannot_be_is_named():
    for method in (Uniform, Dqss):
        with pytest.raises(UnknownNameError, match=r"start: 'mse' is not allowed\. Allowed: best-uniform, dqss"):
            method(start="mse")


def test_every_option_reaches_the_schedule_or_the_rates():
    phases = {"warm_up": 0.1, "search": 0.2, "relaxation": "gumbel", "warm": 4.0, "cold": 0.5, "rise": 0.3}
    phases["then"] = "restart"
    method = Dqss(network=1.0, quantizers=2.0, alpha=3.0, **phases)
    assert method.schedule(100) == Schedule(steps=100, **phases)
    assert method.rates() == Rates(network=1.0, quantizers=2.0, alpha=3.0)
    uniform = Uniform(network=1.0, quantizers=2.0, rise=0.3)
    assert uniform.schedule(100) == Schedule(steps=100, rise=0.3)
    assert (uniform.rates().network, uniform.rates().quantizers) == (1.0, 2.0)
