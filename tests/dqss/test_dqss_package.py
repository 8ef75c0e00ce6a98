import subprocess
import sys

import pytest

import dqss


@pytest.mark.parametrize(
    "module", ["dqss", "dqss.spec", "dqss.strategy", "dqss.registry", "dqss.search", "dqss.quantizers"]
)
def test_the_tables_and_plain_values_import_no_torch(module):
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", dqss.__all__)
def test_every_public_name_is_there(name):
    assert getattr(dqss, name).__name__ == name
    assert name in dir(dqss)


def test_a_name_that_is_not_public_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="module 'dqss' has no attribute 'quantise'"):
        _ = dqss.quantise
