"""What algorithms of training say of themselves, read off their sources: to import them would import torch."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dqss.learned import LEARNED


@dataclass(frozen=True)
class Algorithm:
    """One of LEARNED.

    Args:
        weights: the algorithm that quantizes weights where this one is named.
        activations: the one that quantizes activations.
        uniform: as of dqss.learned.base.Learned.
    """

    weights: str
    activations: str
    uniform: bool


@cache
def algorithm_of(name: str) -> Algorithm:
    """Return what the class of that name in LEARNED says.

    >>> algorithm_of("pact")
    Algorithm(weights='dorefa', activations='pact', uniform=True)

    Raises:
        UnknownNameError: no such name.
    """
    module, _, attribute = LEARNED.entry(name).location.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute)
    said = {
        target.id: node.value.value
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    return Algorithm(
        weights=str(said.get("weight_from") or name),
        activations=str(said.get("activation_from") or name),
        uniform=bool(said.get("uniform", True)),
    )
