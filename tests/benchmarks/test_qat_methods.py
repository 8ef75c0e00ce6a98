import pytest

from benchmarks.methods import QAT_METHODS
from benchmarks.qat_methods import Dqss, Uniform
from dqss.schedule import Rates, Schedule

# Options that a suite leaves out are in no cell's key: with another default, what was recorded would be taken for the
# result of what is run now. Raise the version in QAT_METHODS and add a line.
DEFAULTS = {
    ("uniform", 1): {"network": 0.001, "quantizers": 0.005, "rise": 0.2},
    ("dqss", 1): {
        **{"network": 0.001, "quantizers": 0.005, "alpha": 0.1},
        **{"warm_up": 0.05, "search": 0.45, "relaxation": "softmax", "warm": 1.0, "cold": 0.03},
        **{"rise": 0.2, "then": "go-on"},
    },
}


@pytest.mark.parametrize("name", list(QAT_METHODS))
def test_defaults_are_those_of_the_version_in_the_keys_of_cells(name):
    assert vars(QAT_METHODS.create(name)) == DEFAULTS[name, QAT_METHODS.entry(name).version]


def test_every_option_reaches_the_schedule_or_the_rates():
    phases = {"warm_up": 0.1, "search": 0.2, "relaxation": "gumbel", "warm": 4.0, "cold": 0.5, "rise": 0.3}
    phases["then"] = "restart"
    method = Dqss(network=1.0, quantizers=2.0, alpha=3.0, **phases)
    assert method.schedule(100) == Schedule(steps=100, **phases)
    assert method.rates() == Rates(network=1.0, quantizers=2.0, alpha=3.0)
    uniform = Uniform(network=1.0, quantizers=2.0, rise=0.3)
    assert uniform.schedule(100) == Schedule(steps=100, rise=0.3)
    assert (uniform.rates().network, uniform.rates().quantizers) == (1.0, 2.0)
