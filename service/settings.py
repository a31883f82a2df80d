"""Settings of the service, each an environment variable `FAULTCUBE_<NAME>`."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

import models
from service.web.auth import Keys, KeysError

__all__ = ["Settings", "SettingsError", "as_markdown"]

_PREFIX = "FAULTCUBE_"


def _check_exporter(endpoint: str) -> str:
    with suppress(ModuleNotFoundError):
        if not endpoint or find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter"):
            return endpoint
    message = "tracing needs more libraries: pip install 'faultcube[tracing]'"
    raise PydanticCustomError("extra", message)


class SettingsError(ValueError):
    """A setting that cannot be used; the message is one line and names its variable."""


class Settings(BaseSettings):
    """How the service runs; an environment variable overrides a default."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, use_attribute_docstrings=True, frozen=True, validate_default=True
    )

    bundle: Annotated[
        Path, Field(json_schema_extra={"shown": "`models/iosxr` (the one that ships)"})
    ] = Path(models.__file__).parent / "iosxr"
    """Folder of the bundle to serve, or of bundles: then it is watched, and the newest is served
    unless its file `current` names another."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for every interface of the machine."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes any free one and prints it."""

    max_records: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most records in one request."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    """Most bytes in one request's body, once it is inflated (32 MiB unless set)."""

    body_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Longest time in seconds that a client may take to send its body."""

    header_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Longest time in seconds from a connection, or from a request's first byte, to the end of the
    request's headers."""

    idle_seconds: Annotated[float, Field(gt=0, le=3600)] = 75.0
    """Longest time in seconds that a connection is kept between two requests."""

    grace_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Longest time in seconds that requests under way get when the service is told to end."""

    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that serve, on one port; one that dies is replaced."""

    tls_cert: Annotated[Path | None, Field(json_schema_extra={"shown": ""})] = None
    """File with the certificate, and those that it stands on, in PEM; together with the key it
    makes the service speak HTTPS only."""

    tls_key: Annotated[Path | None, Field(json_schema_extra={"shown": ""})] = None
    """File with the certificate's private key in PEM, not encrypted."""

    max_held_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    """Most bytes of all bodies that are held at a time (256 MiB unless set); then 503."""

    queue: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Most requests that wait at a time; the next one is answered 503."""

    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of one inference; 1 leaves the other cores to other requests."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged: `debug`, `info`, `warning` or `error`."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """`json`, `console`, or `auto`: console on a terminal and JSON elsewhere."""

    log_requests: Literal["all", "failed", "none"] = "failed"
    """Which requests are logged, in one line each that holds nothing of its records: `all`,
    `failed` (status 400 and above) or `none`. What changes something is always logged."""

    drift_window: Annotated[int, Field(ge=1000, le=1_000_000)] = 10_000
    """Sampled records that are compared with the bundle's reference to measure drift, the last ones
    of each worker."""

    shadow: Annotated[
        Path | None,
        BeforeValidator(lambda value: None if value == "" else value),
        Field(json_schema_extra={"shown": ""}),
    ] = None
    """Folder of a second bundle that classifies the same records silently; `GET /models/shadow`
    tells where the two agree. Unset, there is none."""

    otlp_endpoint: Annotated[
        str, Field(pattern=r"^(https?://[^\s/]\S*)?$"), AfterValidator(_check_exporter)
    ] = ""
    """Address of a collector of OpenTelemetry traces that speaks OTLP over HTTP, such as
    `http://localhost:4318`; unset, nothing is traced. Needs the extra `tracing`."""

    trace_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of requests that are traced; one that belongs to a trace (`traceparent`) is traced when
    its sender traces it."""

    database_url: Annotated[
        str, Field(repr=False, json_schema_extra={"shown": "SQLite, in the user's state folder"})
    ] = ""
    """Where enrolled classes and feedback are kept: `sqlite:////a/file` or
    `postgresql://user:password@host/name` (needs the extra `postgres`), which several replicas
    share. Unset, it is `$XDG_STATE_HOME/faultcube/classes.sqlite` (`~/.local/state/...`), opened
    when there is an admin key, or it is there."""

    max_classes: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Most classes that can be enrolled."""

    read_keys: Annotated[str, Field(repr=False)] = ""
    """SHA-256 of the keys that may read, with commas between them; unset, everyone may."""

    admin_keys: Annotated[str, Field(repr=False)] = ""
    """SHA-256 of the keys that may change things; unset, nobody may."""

    keys_file: Annotated[Path | None, Field(json_schema_extra={"shown": ""})] = None
    """File with more keys, a line each: `read` or `admin`, and a SHA-256."""

    def database(self) -> str | None:
        """Return the URL of the database; None when there is none and nobody may create one."""
        if self.database_url:
            return self.database_url
        home = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
        file = home / "faultcube" / "classes.sqlite"
        return f"sqlite:///{file}" if self.keys().admin or os.access(file, os.F_OK) else None

    def keys(self) -> Keys:
        """Return the keys of the settings and of the file.

        Raises:
            SettingsError: they cannot be used.
        """
        try:
            return Keys.of(read=self.read_keys, admin=self.admin_keys, file=self.keys_file)
        except KeysError as error:
            raise SettingsError(str(error)) from error

    @classmethod
    def read(cls, **options: Any) -> Settings:
        """Read the environment; options that are not None override it.

        Raises:
            SettingsError: a value is out of bounds or of the wrong type.
        """
        try:
            chosen = cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            variable = _PREFIX + "_".join(map(str, first["loc"])).upper()
            raise SettingsError(f"{variable}: {first['msg']}") from error
        chosen.keys()
        return chosen


def as_markdown() -> str:
    """Return the settings as a Markdown table, the same on every machine."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        extra, default = field.json_schema_extra, field.default
        shown = (
            extra["shown"] if isinstance(extra, dict) else f"`{default}`" if default != "" else ""
        )
        meaning = " ".join((field.description or "").split())
        lines.append(f"| `{_PREFIX}{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(lines)
