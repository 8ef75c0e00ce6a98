import re

import pytest

from benchmarks.datasets import MissingDataError
from benchmarks.methods import METHODS, QAT_METHODS
from benchmarks.models import MODELS
from benchmarks.packaged import check_training_data
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from dqss.learned import LEARNED
from dqss.quantizers import QUANTIZERS
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.registry import Registry, UnknownNameError, _resolve
from dqss.search import DETERMINISTIC

REGISTRIES: list[Registry] = [QUANTIZERS, RECONSTRUCTIONS, LEARNED, METHODS, QAT_METHODS, MODELS, TASKS]
ENTRIES = [pytest.param(registry, name, id=f"{registry.kind}-{name}") for registry in REGISTRIES for name in registry]


@pytest.mark.parametrize(("registry", "name"), ENTRIES)
def test_every_entry_loads_and_is_of_the_tables_kind(registry, name):
    assert issubclass(registry.load(name), _resolve(registry.base))


@pytest.mark.parametrize(("registry", "name"), ENTRIES)
def test_every_entry_has_a_name_that_is_easy_to_type_and_a_version(registry, name):
    assert name == name.lower()
    assert name.replace("-", "").replace(".", "").isalnum()
    assert registry.entry(name).version >= 1


@pytest.mark.parametrize(("registry", "name"), ENTRIES)
def test_every_entry_documents_itself(registry, name):
    found = registry.load(name)
    assert found.__doc__.strip()
    assert found.__module__.split(".")[0] in {"dqss", "benchmarks"}


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_a_slip_of_the_keys_is_answered_with_the_name_that_was_meant(registry):
    for name in registry:
        with pytest.raises(UnknownNameError, match=rf"no {registry.kind} '{name}x'\. Did you mean '"):
            registry.load(f"{name}x")


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_a_name_like_none_is_answered_with_all(registry):
    with pytest.raises(UnknownNameError) as caught:
        registry.load("#")
    assert all(name in str(caught.value) for name in registry)


def test_searches_that_need_no_seed_are_searches():
    assert set(METHODS) >= DETERMINISTIC


@pytest.mark.parametrize("name", list(TASKS))
def test_a_task_has_data_to_fine_tune_on_where_its_suites_are_told_so(name):
    try:
        check_training_data(name)
    except MissingDataError as error:
        with pytest.raises(MissingDataError, match=re.escape(str(error))):
            TASKS.create(name).check(Split.FINE_TUNING)
    else:
        task = TASKS.create(name)
        task.check(Split.FINE_TUNING)
        assert task.ids(Split.FINE_TUNING)
