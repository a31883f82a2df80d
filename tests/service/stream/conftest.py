"""Recorded points of three routers as messages, and what they are worked on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.stream.points import EXCERPT, Sent, messages
from models import Model
from models.telemetry.mapping import Mapping
from service.classes.entities import Snapshot
from service.ingest.receivers import RECEIVERS
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
def slow(rules: Rules) -> Rules:
    """Rules by which a record waits for a minute, if no point comes after it."""
    return with_mapping(rules, rules.mapping.model_copy(update={"wait": 60.0}))


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a broker, which all tests share."""
    with broker_running(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.address


@pytest.fixture
def stream(brokers: str, settings: Settings, rules: Rules, tmp_path: Path) -> Stream:
    return Stream(brokers, settings, rules, tmp_path)


def waiting(slow: Rules, sent: list[Sent]) -> tuple[Partition, float]:
    """A partition in which nine records wait, and when the first three are due.

    The three of each device are due a second later than those of the one before.
    """
    partition, last = Partition("points/0", slow), sent[299].time
    for at, message in enumerate(sent[:297]):
        take(partition, message, at)
    for at, message in enumerate(sent[297:300]):
        partition.take(RECEIVERS["telegraf"], message.value, 297 + at, last + at)
    return partition, last + slow.mapping.wait


def with_mapping(rules: Rules, mapping: Mapping) -> Rules:
    """The same rules with another mapping."""
    return replace(rules, mapping=mapping)
