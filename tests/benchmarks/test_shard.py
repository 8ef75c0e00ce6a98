from collections import Counter
from itertools import chain, product
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.shard import Shard

LISTS = st.lists(
    st.builds(
        lambda model, mode, method, bits, seed: SimpleNamespace(
            model=model, mode=mode, method=method, bits=bits, seed=seed, protocol="all-layers"
        ),
        st.sampled_from(["resnet8", "resnet20"]),
        st.sampled_from(["ptq", "qat"]),
        st.sampled_from(["uniform-mse", "random", "dqss"]),
        st.sampled_from(["W4A4", "W3A3"]),
        st.integers(0, 3),
    ),
    max_size=40,
)


def parts_of(cells, count):
    return [Shard(index, count).of(cells) for index in range(1, count + 1)]


@given(LISTS, st.integers(1, 12))
def test_the_parts_are_a_partition_of_equal_sizes_but_for_one_cell_in_the_order_of_the_suite(cells, count):
    parts = parts_of(cells, count)
    places = {id(cell): place for place, cell in enumerate(cells)}
    numbers = [[places[id(cell)] for cell in part] for part in parts]
    assert sorted(chain.from_iterable(numbers)) == list(range(len(cells)))
    assert all(part == sorted(part) for part in numbers)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(LISTS, st.integers(1, 12))
def test_of_each_model_mode_and_method_the_parts_have_as_many_but_for_one(cells, count):
    counts = [Counter((cell.model, cell.mode, cell.method) for cell in part) for part in parts_of(cells, count)]
    for kind in set().union(*counts):
        there = [counted[kind] for counted in counts]
        assert max(there) - min(there) <= 1


def test_as_many_parts_as_methods_do_not_leave_all_searches_to_one_part():
    cells = [
        SimpleNamespace(model=model, mode="ptq", method=method, bits=bits, seed=0, protocol="all-layers")
        for model, bits, method in product(["a", "b"], ["W8A8", "W4A4", "W3A3"], ["uniform-mse", "random", "dqss"])
    ]
    searches = [sum(cell.method == "dqss" for cell in part) for part in parts_of(cells, 3)]
    assert searches == [2, 2, 2]
    # The suite's own order would.
    assert [sum(cell.method == "dqss" for cell in cells[start::3]) for start in range(3)] == [0, 0, 6]


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", " 1/2", "1/2\n", "01/2", "1/\u0662"]
)
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a part of the cells\. Write i/n with i from 1 to n"):
        Shard.parse(text)
