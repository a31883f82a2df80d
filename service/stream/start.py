"""Everything that a consumer needs is opened, and then it runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing, suppress

from models import Model
from models.telemetry.mapping import MappingError
from service.classes.database import Store
from service.classes.entities import StoreError
from service.ingest.receivers import RECEIVERS
from service.observability import logs
from service.settings import Settings, SettingsError
from service.stream.consumer import StreamConsumer
from service.stream.log import Log, StoppedError, StreamError
from service.stream.metrics import exposed
from service.stream.records import RECORDS
from service.stream.rules import Rules
from service.stream.work import Options

__all__ = ["run"]


def run(
    settings: Settings,
    model: Model,
    properties: Mapping[str, str],
    options: Options,
    delay: float | None,
    stop: threading.Event,
) -> None:
    """Consume until it is told to stop.

    Args:
        settings: of the database, the mapping, incidents, and who is told of them.
        model: of the bundle.
        properties: of librdkafka.
        options: of the consumer.
        delay: seconds, see `Rules`; None for what fits the mapping.
        stop: set when the process is to end.

    Raises:
        StreamError: something that is needed is not there.
    """
    if "bootstrap.servers" not in properties:
        raise StreamError("where is the log? give --brokers HOST:PORT")
    if options.receiver not in (formats := [*RECEIVERS, RECORDS]):
        raise StreamError(f"--format is one of {', '.join(formats)}")
    try:
        url = settings.database()
        if url is None:
            raise StreamError(
                "there is no database, which keeps state and incidents: set FAULTCUBE_DATABASE_URL"
            )
        with closing(Store(url)) as store:
            store.prepare()
            rules = Rules.of(settings, model, store.read(), delay)
            logs.configure(settings)
            log = Log(properties, options.group, stop)
            consumer = StreamConsumer(log, store, rules, settings, options, stop)
            with exposed(consumer, options.metrics), suppress(StoppedError):
                consumer.run()
    except StoreError as error:
        raise StreamError(f"FAULTCUBE_DATABASE_URL: {error}") from error
    except (MappingError, SettingsError) as error:
        raise StreamError(str(error)) from error
