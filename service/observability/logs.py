"""Structured logs on stderr: ours, uvicorn's and every library's in one form."""

from __future__ import annotations

import logging
import logging.config
import os
import sys
from collections.abc import Callable
from typing import Any

import structlog
from starlette.types import Scope

from service.formats.errors import printable
from service.settings import Settings
from service.web.middleware import RequestInfo

__all__ = ["RequestLog", "configure"]

log = logging.getLogger(__name__)
audit = logging.getLogger("service.audit")

_LONGEST_PATH = 200
_FAILED = 400
_MOST_LINES = 50
"""Of failed requests, in a second."""


def configure(settings: Settings) -> None:
    """Send the logs of the whole process to stderr."""
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            *([_add_pid] if settings.workers > 1 else []),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_colours,
            *_renderers(_as_json(settings)),
        ],
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"structured": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": settings.log_level.upper()},
            "loggers": {"watchfiles": {"level": "WARNING"}},  # it logs every file
        }
    )


class RequestLog:
    """A watcher that logs a line for a request, without its content.

    A flood of failures must not become a flood of lines, so their number per second is limited.

    Args:
        which: `all`, `failed` or `none`; changes are always logged.
        clock: monotonic seconds.
    """

    def __init__(self, which: str, clock: Callable[[], float]) -> None:
        self.all, self.none, self.clock = which == "all", which == "none", clock
        self._second, self._lines = 0, 0

    def __call__(self, scope: Scope, status: int, seconds: float) -> None:
        """Log a request."""
        is_change, failed = RequestInfo.of(scope).is_change, status >= _FAILED
        named = is_change or (failed and not self.none)
        if self.all or (named and (not failed or self._may_write())):
            logger, event = (audit, "change") if is_change else (log, "request")
            logger.info(event, extra=_line(scope, status, seconds))

    def _may_write(self) -> bool:
        second = int(self.clock())
        if second != self._second:
            if self._lines > _MOST_LINES:
                log.warning("requests not logged", extra={"number": self._lines - _MOST_LINES})
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= _MOST_LINES


def _line(scope: Scope, status: int, seconds: float) -> dict[str, Any]:
    info = RequestInfo.of(scope)
    line: dict[str, Any] = {
        "method": scope["method"],
        "path": printable(scope["path"], _LONGEST_PATH),
        "status": status,
        "duration_ms": round(1000 * seconds, 2),
        "request_id": info.request_id,
    }
    if client := scope.get("client"):
        line["client"] = client[0]
    more = {"records": info.records, "key": info.key}
    line |= {name: value for name, value in more.items() if value is not None}
    return line


def _as_json(settings: Settings) -> bool:
    automatic = settings.log_format == "auto"
    return not sys.stderr.isatty() if automatic else settings.log_format == "json"


def _renderers(as_json: bool) -> list[structlog.typing.Processor]:
    if as_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # The default would print the local variables of a traceback, records among them.
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


def _drop_colours(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event.pop("color_message", None)  # uvicorn's second copy of its messages
    return event


def _add_pid(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event["pid"] = os.getpid()
    return event
