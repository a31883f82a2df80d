from __future__ import annotations

import importlib
import pkgutil

import pytest

import service

MODULES = [
    module.name
    for module in pkgutil.walk_packages(service.__path__, "service.")
    if not module.ispkg and ".migrations." not in module.name
]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert all(hasattr(module, offered) for offered in module.__all__)
