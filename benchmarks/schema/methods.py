"""An entry under `methods`: a name, alone or with options. Imports no torch until options are checked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmarks.schema.faults import explain, fault, no_such, shown
from benchmarks.yaml_lines import clip
from dqss.registry import Registry, did_you_mean

UNIFORM = "uniform-"


def search_of(method: str) -> str:
    """Return the name of a method in its mode's table.

    >>> search_of("uniform-mse"), search_of("dqss")
    ('uniform', 'dqss')
    """
    return "uniform" if method.startswith(UNIFORM) else method


@dataclass(frozen=True)
class Method:
    """An entry under `methods`.

    Args:
        name: of a method of the mode's table, or `uniform-<algorithm>`.
        options: those given, by field of the method's class.
        by_bits: bits -> options that hold there, beside the others or in their place.
    """

    name: str
    options: dict[str, Any]
    by_bits: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def search(self) -> str:
        """The name in the mode's table."""
        return search_of(self.name)

    def options_at(self, bits: str) -> dict[str, Any]:
        """Return the options that hold at these bits.

        >>> Method("dqss", {"alpha": 0.1, "cold": 0.5}, {"W2A2": {"alpha": 0.3}}).options_at("W2A2")
        {'alpha': 0.3, 'cold': 0.5}
        """
        return {**self.options, **self.by_bits.get(bits, {})}


def method_of(value: Any, table: Registry[Any], kind: str, allowed: Collection[str], example: str) -> Method:
    """Return what an entry stands for.

    Args:
        value: as it was read.
        table: the mode's methods.
        kind: what messages call them.
        allowed: all names that may stand here.
        example: an entry with options, for messages.
    """
    if isinstance(value, str):
        name, given = value, None
    elif isinstance(value, dict) and len(value) == 1:
        name, given = next(iter(value.items()))
        if not isinstance(given, dict):
            raise fault(f"found {shown(given)}. Give a mapping of options, or the name without a colon.", name)
    else:
        keys = f" of {len(value)} keys" if isinstance(value, dict) else ""
        raise fault(f"found {shown(value)}{keys}. Give a name, or one name with options: {example}.")
    if name not in allowed:
        raise fault(no_such(kind, name, [*allowed]))
    return Method(name, checked_options(name, given, table) if given else {})


def checked_options(
    method: str, given: dict[str, Any], table: Registry[Any], below: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the options, checked against the fields of the method's class, and as its types say (1 as 1.0).

    Args:
        below: the keys under which they stand in the method's mapping, for messages.
    """
    search = search_of(method)
    found = table.load(search)
    hints = get_type_hints(found)
    types = {field_.name: hints[field_.name] for field_ in fields(found)}
    options = {}
    for name, value in given.items():
        if name not in types:
            allowed = did_you_mean(clip(name), types) if types else "It has none."
            raise fault(f"no such option of '{search}'. {allowed}", method, *below, name)
        try:
            adapter = TypeAdapter(types[name], config=ConfigDict(strict=True, allow_inf_nan=False))
            options[name] = adapter.validate_python(value)
        except ValidationError as error:
            raise fault(explain(error.errors()[0]), method, *below, name) from error
    try:
        table.create(search, options)
    except ValueError as error:
        option, _, rest = str(error).partition(": ")
        blamed = fault(rest, method, *below, option) if option in given else fault(str(error), method, *below)
        raise blamed from error
    return options
