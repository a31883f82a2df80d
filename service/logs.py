"""Structured logs on stderr: ours, uvicorn's and every library's in one form."""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

import structlog
from starlette.types import Scope

from service.problems import printable
from service.settings import Settings

__all__ = ["configure", "log_request"]

log = logging.getLogger(__name__)

_LONGEST_PATH = 200


def configure(settings: Settings) -> None:
    """Send the logs of the whole process to stderr."""
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
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
        }
    )


def log_request(scope: Scope, status: int, seconds: float) -> None:
    """Write one line for a request, and nothing of its content."""
    line: dict[str, Any] = {
        "method": scope["method"],
        "path": printable(scope["path"], _LONGEST_PATH),
        "status": status,
        "duration_ms": round(1000 * seconds, 2),
    }
    if (records := scope.get("state", {}).get("records")) is not None:
        line["records"] = records
    log.info("request", extra=line)


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
    """Uvicorn adds its messages a second time, coloured."""
    event.pop("color_message", None)
    return event
