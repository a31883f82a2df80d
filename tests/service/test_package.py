from __future__ import annotations

import importlib
import pkgutil

import pytest

import service

MODULES = [module.name for module in pkgutil.iter_modules(service.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(f"service.{name}")
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert all(hasattr(module, offered) for offered in module.__all__)
