"""What suites may name, each with a line on what it is, read off the sources so that nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.documentation import docstrings

if TYPE_CHECKING:
    from dqss.registry import Entry, Registry

KINDS = ("quantizers", "learned-quantizers", "searches", "training-methods", "models", "tasks", "suites")


def described(kind: str) -> list[tuple[str, str]]:
    """Return name and description of all that suites may name of one kind of KINDS."""
    if kind == "suites":
        from benchmarks.suite import shipped_suites

        return [(name, _suite_description(path)) for name, path in shipped_suites().items()]
    from benchmarks.methods import METHODS, QAT_METHODS
    from benchmarks.models import MODELS
    from benchmarks.tasks import TASKS
    from dqss.candidates import BIAS
    from dqss.learned import LEARNED
    from dqss.quantizers import QUANTIZERS
    from dqss.reconstruction import RECONSTRUCTIONS

    registries: dict[str, Registry[Any]] = {
        "learned-quantizers": LEARNED,
        "searches": METHODS,
        "training-methods": QAT_METHODS,
        "models": MODELS,
        "tasks": TASKS,
    }
    if kind == "quantizers":
        alone = [(name, f"For weights alone. {text}") for name, text in _entries(RECONSTRUCTIONS)]
        bias = f"For weights alone: any of these, as mse{BIAS}. {_description('dqss.bias_correction', None)}"
        return [*_entries(QUANTIZERS), *alone, (f"<name>{BIAS}", bias)]
    return _entries(registries[kind])


def _entries(registry: Registry[Any]) -> list[tuple[str, str]]:
    locations = [registry.entry(name).location.partition(":") for name in registry]
    modules = [module for module, _, _ in locations]
    return [
        (name, _description(module, attribute if modules.count(module) > 1 else None) + _with(registry.entry(name)))
        for name, (module, _, attribute) in zip(registry, locations, strict=True)
    ]


def _with(entry: Entry) -> str:
    options = ", ".join(f"{option} = {value}" for option, value in entry.options.items())
    return f" Here {options}." if options else ""


def _suite_description(path: Path) -> str:
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return _first_paragraph("\n".join(comment))


def _description(module: str, attribute: str | None) -> str:
    """Return what a module's docstring says, and a class's where several entries share the module.

    It is read from the source: to import a module for its docstring would import torch with it.
    """
    return " ".join(_first_paragraph(text) for text in docstrings(module, attribute))


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
