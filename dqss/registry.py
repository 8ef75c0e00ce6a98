"""A visible table from a name to the class that carries it, imported only when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that no table entry carries; the message says which are allowed."""


def did_you_mean(name: str, allowed: Collection[str]) -> str:
    """Return a sentence that helps after a wrong name: the closest allowed one, else all of them.

    >>> did_you_mean("resnet9", ["resnet8", "vgg"])
    "Did you mean 'resnet8'?"
    >>> did_you_mean("bert", ["resnet8", "vgg"])
    'Allowed: resnet8, vgg.'
    """
    close = get_close_matches(name, allowed, n=1)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Allowed: {', '.join(sorted(allowed))}."


@dataclass(frozen=True)
class Entry:
    """One line of a table.

    Args:
        location: "module:Class".
        version: raised when the same input may give another result; part of every cell's key.
        options: what `create` gives the class, where they differ from its defaults.
    """

    location: str
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        kind: what an entry is, in one word, for messages ("model").
        base: "module:Class" of which every entry is a subclass.
        table: the entries; nothing is imported until one is asked for.
    """

    kind: str
    base: str
    table: Mapping[str, Entry]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __contains__(self, name: object) -> bool:
        return name in self.table

    def entry(self, name: str) -> Entry:
        """Return the line for `name`; raise UnknownNameError with a suggestion where there is none."""
        if name not in self.table:
            raise UnknownNameError(f"no {self.kind} '{name}'. {did_you_mean(name, self.table)}")
        return self.table[name]

    def load(self, name: str) -> type[T]:
        """Import and return the class that `name` stands for.

        Raises:
            UnknownNameError: no such name.
            TypeError: the entry is not a subclass of `base`, a fault of the table.
        """
        location = self.entry(name).location
        found, base = _resolve(location), _resolve(self.base)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise TypeError(f"{self.kind} '{name}': {location} is not a {self.base}")
        return found

    def create(self, name: str, options: Mapping[str, Any] | None = None) -> T:
        """Return what `name` stands for, made with the entry's options and these, which come first.

        Raises:
            UnknownNameError: no such name.
            ValueError: an option's value that the class refuses.
        """
        return self.load(name)(**{**self.entry(name).options, **(options or {})})


def _resolve(location: str) -> Any:
    module, _, attribute = location.partition(":")
    return getattr(importlib.import_module(module), attribute)
