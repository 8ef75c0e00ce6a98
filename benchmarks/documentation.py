"""What the sources say of quantizers and methods, read off them so that nothing heavy is imported."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.methods import METHODS, QAT_METHODS
from dqss.learned import LEARNED
from dqss.quantizers import QUANTIZERS
from dqss.reconstruction import RECONSTRUCTIONS

if TYPE_CHECKING:
    from dqss.registry import Registry


def documented(kind: str, name: str) -> tuple[str, ...]:
    """Return the paragraphs that the sources say of one name; empty where the table of that kind has no such name.

    Args:
        kind: `quantizers`, `reconstructions`, `learned-quantizers`, `searches` or `training-methods`.
        name: for example `mse`.
    """
    registries: dict[str, Registry[Any]] = {
        "quantizers": QUANTIZERS,
        "reconstructions": RECONSTRUCTIONS,
        "learned-quantizers": LEARNED,
        "searches": METHODS,
        "training-methods": QAT_METHODS,
    }
    registry = registries[kind]
    if name not in registry:
        return ()
    module, _, attribute = registry.entry(name).location.partition(":")
    modules = [registry.entry(other).location.partition(":")[0] for other in registry]
    texts = docstrings(module, attribute if modules.count(module) > 1 else None)
    # The training methods' module speaks of what they have in common, not of an algorithm.
    texts = texts[1:] if kind == "training-methods" else texts
    parts = [" ".join(part.replace("`", "").split()) for text in texts for part in text.split("\n\n")]
    return tuple(part for part in parts if part and not part.startswith(("Args:", "Raises:", "Returns:")))


def docstrings(module: str, attribute: str | None) -> list[str]:
    """Return a module's docstring, and that of a class in it where one is named.

    They are read from the source: to import a module for its docstring would import torch with it.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return []
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute]
    return [ast.get_docstring(tree) or "", *(ast.get_docstring(node) or "" for node in classes)]
