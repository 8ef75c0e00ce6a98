import pytest

from benchmarks.documentation import docstrings, documented
from benchmarks.methods import METHODS, QAT_METHODS
from dqss.quantizers import QUANTIZERS


def test_a_quantizer_is_told_with_its_paper_and_without_its_arguments():
    first, *rest = documented("quantizers", "mse")
    assert first == "MSE range: clip where the mean squared quantization error is least."
    assert any("ICCVW 2019" in paragraph for paragraph in rest)
    assert not any(paragraph.startswith("Args:") for paragraph in rest)


def test_what_shares_a_module_is_told_after_what_all_of_it_share_and_a_training_method_alone():
    module, *rest = documented("quantizers", "kl")
    assert module.startswith("KL range: clip where")
    assert any(text.startswith("Search over all thresholds") for text in rest)
    assert documented("training-methods", "uniform")[0].startswith("One algorithm for the weights")
    assert documented("training-methods", "dqss")[0].startswith("DQSS: alpha")


def test_marks_of_code_are_left_out():
    assert not any("`" in text for name in QUANTIZERS for text in documented("quantizers", name))


def test_an_unknown_name_is_told_by_nothing():
    assert documented("searches", "no-such") == ()


@pytest.mark.parametrize(
    ("kind", "registry"), [("searches", METHODS), ("training-methods", QAT_METHODS), ("quantizers", QUANTIZERS)]
)
def test_every_entry_says_what_it_is(kind, registry):
    assert all(documented(kind, name) for name in registry)


def test_a_module_without_a_file_says_nothing():
    assert docstrings("no_such_module_anywhere", None) == []
