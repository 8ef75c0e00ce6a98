"""What a message says of a value in a suite's file that cannot be.

Checks that pydantic does not know raise `fault`, which carries the key to blame below the value that was checked.
"""

from __future__ import annotations

import re
from decimal import Decimal

from pydantic_core import ErrorDetails, PydanticCustomError

from benchmarks.yaml_lines import clip
from dqss.registry import did_you_mean

LISTS = {
    "model": "models",
    "task": "tasks",
    "quantizer": "quantizers",
    "method": "searches",
    "learned quantizer": "learned-quantizers",
    "training method": "training-methods",
}
"""What a message calls a kind of name -> what `dqss-bench list` calls it."""
EXPECTED = {
    "int_type": "Give a whole number.",
    "float_type": "Give a number.",
    "finite_number": "Give a finite number.",
    "bool_type": "Give true or false.",
    "string_type": "Give a name, in quotes where YAML reads something else.",
}
POWER = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?[eE][-+]?[0-9]{1,2}")
"""A number that YAML 1.1 takes for a text where it lacks the point, or the sign of the exponent."""


def fault(what: str, *at: str | int) -> PydanticCustomError:
    """Return the error to raise in a validator: the message, and the location below the checked value."""
    return PydanticCustomError("fault", "{what}", {"what": what, "at": at})


def shown(value: object) -> str:
    """Return how a message calls a value that was found.

    >>> shown("resnet8"), shown(True), shown(3), shown([1]), shown(None)
    ("the text 'resnet8'", 'the truth value true', 'the number 3', 'a list', 'nothing')
    """
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the truth value {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text '{clip(value)}'"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return f"the {type(value).__name__} {clip(str(value))}"


def explain(error: ErrorDetails) -> str:
    """Return what was found and what is allowed, for one of pydantic's errors."""
    if error["type"] == "fault":
        return str(error["ctx"]["what"])
    if error["type"] == "float_type" and POWER.fullmatch(str(error["input"])):
        written = f"{Decimal(error['input']):f}"
        return f"found {shown(error['input'])}, since YAML reads no such power of ten. Write {written}."
    if error["type"] == "literal_error":
        return f"found {shown(error['input'])}. Give {error['ctx']['expected']}."
    return f"found {shown(error['input'])}. {EXPECTED.get(error['type'], error['msg'] + '.')}"


def no_such(kind: str, name: str, allowed: list[str]) -> str:
    """Return the message on a name that is not among those allowed, of a kind that `dqss-bench list` knows."""
    close = did_you_mean(clip(name), allowed)
    return f"no {kind} '{clip(name)}'. {close} See `dqss-bench list {LISTS[kind]}`."
