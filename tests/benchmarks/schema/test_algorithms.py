import pytest

from benchmarks.schema.algorithms import Algorithm, algorithm_of
from dqss.learned import LEARNED


@pytest.mark.parametrize("name", list(LEARNED))
def test_what_is_read_off_the_source_is_what_the_class_says(name):
    made = LEARNED.load(name)
    assert algorithm_of(name) == Algorithm(made.weight_from or name, made.activation_from or name, made.uniform)


@pytest.mark.parametrize("name", list(LEARNED))
def test_who_stands_in_for_a_form_that_is_lacking_has_it(name):
    found = algorithm_of(name)
    assert algorithm_of(found.weights).weights == found.weights
    assert algorithm_of(found.activations).activations == found.activations
