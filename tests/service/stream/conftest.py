"""Recorded points of three routers as messages, and what they are worked on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stream.points import EXCERPT, Sent, messages
from models import Model
from service.classes.entities import Snapshot
from service.settings import Settings
from service.stream.partition import Output, Partition
from service.stream.rules import Rules
from tests.support.consuming import Stream, broker_running, take

ROOT = Path(__file__).parents[3]
DEVICES = ("leaf1", "leaf6", "spine1")


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings()


@pytest.fixture(scope="session")
def rules(settings: Settings) -> Rules:
    return Rules.of(settings, Model.load(ROOT / "models/iosxr"), Snapshot(0, {}))


@pytest.fixture(scope="session")
def sent() -> list[Sent]:
    return [each for each in messages(ROOT / EXCERPT) if each.device in DEVICES]


@pytest.fixture(scope="session")
def outputs(rules: Rules, sent: list[Sent]) -> list[Output]:
    """What a partition makes of all messages, one after the other."""
    partition = Partition("points/0", rules)
    return [take(partition, each, at) for at, each in enumerate(sent)]


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a broker, which all tests share."""
    with broker_running(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.address


@pytest.fixture
def stream(brokers: str, settings: Settings, rules: Rules, tmp_path: Path) -> Stream:
    return Stream(brokers, settings, rules, tmp_path)
