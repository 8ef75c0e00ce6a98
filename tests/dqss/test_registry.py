from datetime import timedelta

import pytest

from dqss.registry import Entry, Registry, UnknownNameError, did_you_mean

NUMBERS: Registry[int] = Registry(
    "number",
    "builtins:int",
    {"whole": Entry("builtins:int"), "truth": Entry("builtins:bool", version=3), "text": Entry("builtins:str")},
)


def test_a_registry_is_walked_in_the_order_of_its_table():
    assert list(NUMBERS) == ["whole", "truth", "text"]
    assert "truth" in NUMBERS
    assert "rational" not in NUMBERS


def test_an_entry_is_loaded_and_carries_its_version():
    assert NUMBERS.load("truth") is bool
    assert (NUMBERS.entry("whole").version, NUMBERS.entry("truth").version) == (1, 3)


def test_an_unknown_name_suggests_the_closest_one():
    with pytest.raises(UnknownNameError, match=r"no number 'hole'\. Did you mean 'whole'\?"):
        NUMBERS.load("hole")


def test_a_name_like_no_other_lists_all():
    with pytest.raises(UnknownNameError, match=r"no number 'xyz'\. Allowed: text, truth, whole\."):
        NUMBERS.entry("xyz")


def test_an_entry_of_another_kind_is_a_fault_of_the_table():
    with pytest.raises(TypeError, match="number 'text': builtins:str is not a builtins:int"):
        NUMBERS.load("text")


def test_nothing_is_imported_before_it_is_asked_for():
    table: Registry[object] = Registry("thing", "builtins:object", {"away": Entry("no_such_module:Thing")})
    assert list(table) == ["away"]
    with pytest.raises(ModuleNotFoundError):
        table.load("away")


def test_a_suggestion_needs_a_likeness():
    assert did_you_mean("resnet9", {"resnet8": 1, "vgg": 2}) == "Did you mean 'resnet8'?"
    assert did_you_mean("", ["b", "a"]) == "Allowed: a, b."


def test_an_entry_is_made_with_its_options_and_those_given_come_first():
    spans: Registry[timedelta] = Registry(
        "span", "datetime:timedelta", {"day": Entry("datetime:timedelta", options={"days": 1, "hours": 2})}
    )
    assert spans.create("day") == timedelta(days=1, hours=2)
    assert spans.create("day", {"hours": 5}) == timedelta(days=1, hours=5)
