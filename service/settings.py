"""Settings of the service, each an environment variable `FAULTCUBE_<NAME>`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

import models
from models.telemetry.mapping import Mapping, MappingError
from models.telemetry.share import Share
from service.web.auth import Keys, KeysError

if TYPE_CHECKING:
    from models.signature import TrustedKeys

__all__ = ["Settings", "SettingsError", "as_markdown", "misspelt"]

_PREFIX = "FAULTCUBE_"
_OF_COMMANDS = frozenset({"KEY"})
"""What other commands read."""


def _check_exporter(endpoint: str) -> str:
    with suppress(ModuleNotFoundError):
        if not endpoint or find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter"):
            return endpoint
    message = "tracing needs more libraries: pip install -c constraints.txt '.[tracing]'"
    raise PydanticCustomError("extra", message)


def _check_share(text: str) -> str:
    try:
        Share.parse(text)
    except ValueError as error:
        raise PydanticCustomError("share", "{why}", {"why": str(error)}) from error
    return text


def _check_networks(named: str) -> str:
    try:
        _networks(named)
    except ValueError as error:
        message = "addresses and networks, separated by commas, such as 10.0.0.5, 192.168.0.0/16"
        raise PydanticCustomError("networks", message) from error
    return named


def _networks(named: str) -> list[IPv4Network | IPv6Network]:
    return [ip_network(name.strip()) for name in named.split(",")] if named.strip() else []


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
    """Folder of the bundle to serve, or a folder of bundles, which is watched: the newest is served
    unless its file `current` names another."""

    bundles_from: Annotated[str, Field(repr=False, pattern=r"^(\w+://\S+)?$")] = ""
    """Address of a folder of bundles in an object store, such as `s3://bucket/models`, which is
    [followed](operating.md#bundles-from-an-object-store): its bundles are copied into the folder
    `FAULTCUBE_BUNDLE`, by default one in the user's state folder. Unset, there is none."""

    bundles_poll_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 1.0
    """Time in seconds between two looks at `FAULTCUBE_BUNDLES_FROM`."""

    trusted_keys: str = ""
    """Public keys that [sign bundles](operating.md#signed-bundles), or files of one key a line,
    separated by commas. A bundle that none of them has signed is refused. Unset, every bundle is
    taken."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for every interface of the machine."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes any free one and prints it."""

    max_records: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Maximum number of records in one request."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    """Maximum size of a request body in bytes, once inflated (32 MiB unless set)."""

    body_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Time limit in seconds for a client to send its body."""

    header_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Time limit in seconds from a connection, or from a request's first byte, to the end of the
    request's headers."""

    idle_seconds: Annotated[float, Field(gt=0, le=3600)] = 75.0
    """Time in seconds that a connection is kept open between two requests."""

    grace_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Time limit in seconds for requests in progress to finish at shutdown."""

    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Number of processes that serve on one port; one that dies is replaced."""

    tls_cert: Annotated[Path | None, Field(json_schema_extra={"shown": ""})] = None
    """PEM file with the certificate and its chain; together with the key it makes the service speak
    HTTPS only."""

    tls_key: Annotated[Path | None, Field(json_schema_extra={"shown": ""})] = None
    """PEM file with the certificate's private key, not encrypted."""

    trusted_proxies: Annotated[str, AfterValidator(_check_networks)] = ""
    """Addresses and networks of reverse proxies, separated by commas: of their requests,
    `X-Forwarded-For` names the client and `X-Forwarded-Proto` the scheme, as the log has them.
    Unset, both headers are ignored."""

    max_held_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    """Maximum bytes of all bodies in memory (256 MiB unless set); beyond it, requests get 503."""

    queue: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Number of requests that may wait, small and large ones each. More large ones get 503; so do
    more small ones that arrive together, once it has taken a quarter of a second to read them."""

    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of one inference; 1 leaves the other cores to other requests."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged: `debug`, `info`, `warning` or `error`."""

    log_format: Literal["auto", "json", "console"] = "auto"
    """`json`, `console`, or `auto`: console on a terminal and JSON elsewhere."""

    log_requests: Literal["all", "failed", "none"] = "failed"
    """Which requests are logged, each in one line without its records: `all`, `failed` (status 400
    and above) or `none`. Changes are always logged."""

    bundle_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Time limit in seconds to load a bundle, which is tried in a process of its own first."""

    bundle_bytes: Annotated[int, Field(ge=1 << 26)] = 1 << 30
    """Memory in bytes that the process which tries a bundle may take for it (1 GiB unless set)."""

    drift_window: Annotated[int, Field(ge=1000, le=1_000_000)] = 10_000
    """Number of recent sampled records of each worker that are compared with the bundle's reference
    to measure drift."""

    shadow: Annotated[
        Path | None,
        BeforeValidator(lambda value: None if value == "" else value),
        Field(json_schema_extra={"shown": ""}),
    ] = None
    """Folder of a second bundle that silently classifies the same records; `GET /models/shadow`
    reports where the two agree. Unset, there is none."""

    otlp_endpoint: Annotated[
        str, Field(pattern=r"^(https?://[^\s/]\S*)?$"), AfterValidator(_check_exporter)
    ] = ""
    """Address of a collector that takes OpenTelemetry traces by OTLP over HTTP, such as
    `http://localhost:4318`; unset, nothing is traced. Needs the extra `tracing`."""

    trace_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of requests that are traced; a request that belongs to a trace (`traceparent`) is
    traced when its sender traces it."""

    database_url: Annotated[
        str, Field(repr=False, json_schema_extra={"shown": "SQLite, in the user's state folder"})
    ] = ""
    """Where enrolled classes and feedback are stored: `sqlite:////a/file` or
    `postgresql://user:password@host/name` (needs the extra `postgres`), which several replicas
    share. Unset, it is `$XDG_STATE_HOME/faultcube/classes.sqlite` (`~/.local/state/...`), opened
    when there is an admin key or the file exists."""

    mapping: Annotated[
        Path | None,
        BeforeValidator(lambda value: None if value == "" else value),
        Field(json_schema_extra={"shown": "that of the bundle"}),
    ] = None
    """TOML file that says how metric points become records ([Telemetry](telemetry.md))."""

    journal: Annotated[
        Path | None,
        BeforeValidator(lambda value: None if value == "" else value),
        Field(json_schema_extra={"shown": "in the user's state folder"}),
    ] = None
    """Folder that keeps the bodies of metric points since the last checkpoint of their state, which
    is in the database: after a kill they are taken again. Without a database nothing is kept."""

    ingest_share: Annotated[str, AfterValidator(_check_share)] = "1/1"
    """Which share of all keys (devices) this service takes, where several get the same points:
    `2/4` is the second of four. Points of other keys are counted and left out."""

    max_classes: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Maximum number of enrolled classes."""

    incident_open: Annotated[int, Field(ge=1, le=100)] = 2
    """Bad records of one label, among the last `FAULTCUBE_INCIDENT_WINDOW` of a key, that begin its
    trouble."""

    incident_window: Annotated[int, Field(ge=1, le=100)] = 3
    """Number of a key's last records that are looked at."""

    incident_close: Annotated[int, Field(ge=1, le=1000)] = 4
    """Good records in a row that end a key's trouble."""

    incident_least_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Shortest time from the first bad record to the one that begins a key's trouble."""

    incident_flap_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    """A key in trouble again within this time of its end is flapping, and needs more good records
    to end it."""

    incident_root_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """Time that an incident without a root waits for one before it is told."""

    incident_stale_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Time without a change after which an open incident is marked stale."""

    incident_settle_seconds: Annotated[float, Field(gt=0)] = 180.0
    """Unbroken trouble of a class that cannot last (`lasting = false`), after which the level of
    its key is learned again."""

    incident_days: Annotated[float, Field(gt=0, le=36_500)] = 90.0
    """How long a closed incident is kept after the last change or comment."""

    alertmanagers: Annotated[
        str, Field(repr=False, pattern=r"^(https?://[^\s/,]+[^\s,]*(\s*,\s*|$))*$")
    ] = ""
    """Addresses of the Alertmanagers of one cluster that are told of incidents, separated by
    commas: `http://localhost:9093`. Unset, none is."""

    webhook: Annotated[str, Field(repr=False, pattern=r"^(https?://[^\s/]\S*)?$")] = ""
    """Address that gets every change of an incident as JSON. Unset, nothing is sent."""

    webhook_secret: Annotated[str, Field(repr=False)] = ""
    """Secret of the signature `X-Faultcube-Signature` of what the webhook gets."""

    page: Literal["on", "off"] = "on"
    """`on` serves the [live page](page.md) at `/`; `off`: nothing is kept for it."""

    live_viewers: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Maximum number of live pages that are open at the same time, of each worker."""

    live_devices: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    """Maximum number of devices whose last hour is kept for the live page: 14 kB each."""

    read_keys: Annotated[str, Field(repr=False)] = ""
    """SHA-256 of each key that may read, separated by commas; unset, everyone may."""

    admin_keys: Annotated[str, Field(repr=False)] = ""
    """SHA-256 of each key that may change things, separated by commas; unset, nobody may."""

    keys_file: Annotated[Path | None, Field(json_schema_extra={"shown": ""})] = None
    """File with more keys, one per line: `read` or `admin`, and a SHA-256."""

    @model_validator(mode="after")
    def _window_holds_what_opens(self) -> Settings:
        if self.incident_open > self.incident_window:
            message = "FAULTCUBE_INCIDENT_OPEN is more than FAULTCUBE_INCIDENT_WINDOW"
            raise PydanticCustomError("window", message)
        return self

    def shelf(self) -> Path:
        """Return the folder of the bundle or of bundles; by default that of copies, if there are.

        Raises:
            SettingsError: nothing says where copies go.
        """
        if not self.bundles_from or "bundle" in self.model_fields_set:
            return self.bundle
        if (folder := _state_folder()) is None:
            raise _homeless("BUNDLE")
        return folder / "bundles"

    def database(self) -> str | None:
        """Return the URL of the database; None when there is none and nobody may create one.

        Raises:
            SettingsError: there has to be one, and nothing says where.
        """
        if self.database_url:
            return self.database_url
        may_create = bool(self.keys().admin)
        if (folder := _state_folder()) is None:
            if may_create:
                raise _homeless("DATABASE_URL")
            return None
        file = folder / "classes.sqlite"
        return f"sqlite:///{file}" if may_create or os.access(file, os.F_OK) else None

    def journal_folder(self) -> Path:
        """Return the folder of the bodies that were taken since the last checkpoint.

        Raises:
            SettingsError: nothing says where it is.
        """
        if self.journal is not None:
            return self.journal
        if (folder := _state_folder()) is None:
            raise _homeless("JOURNAL")
        return folder / "journal"

    def proxies(self) -> list[str]:
        """Return the networks of trusted proxies, also as IPv6 sockets see those of IPv4."""
        networks = _networks(self.trusted_proxies)
        mapped = [
            f"::ffff:{network.network_address}/{96 + network.prefixlen}"
            for network in networks
            if isinstance(network, IPv4Network)
        ]
        return [*map(str, networks), *mapped]

    def rules(self) -> Mapping | None:
        """Return the mapping of the operator, None for that of the bundle.

        Raises:
            SettingsError: it cannot be used.
        """
        if self.mapping is None:
            return None
        try:
            return Mapping.read(self.mapping)
        except MappingError as error:
            raise SettingsError(f"{_PREFIX}MAPPING: {error}") from error

    def keys(self) -> Keys:
        """Return the keys of the settings and of the file.

        Raises:
            SettingsError: they cannot be used.
        """
        try:
            return Keys.of(read=self.read_keys, admin=self.admin_keys, file=self.keys_file)
        except KeysError as error:
            raise SettingsError(str(error)) from error

    def trust(self) -> TrustedKeys | None:
        """Return the keys that must have signed a bundle; None if anybody may have made it.

        Raises:
            SettingsError: they cannot be used.
        """
        if not self.trusted_keys:
            return None
        from models.signature import KeyFileError, TrustedKeys  # noqa: PLC0415 - slow to load

        try:
            return TrustedKeys.parse(self.trusted_keys)
        except KeyFileError as error:
            raise SettingsError(f"{_PREFIX}TRUSTED_KEYS: {error}") from error

    @classmethod
    def read(cls, **options: Any) -> Settings:
        """Read the environment; options that are not None override it.

        Raises:
            SettingsError: a value is out of bounds or of the wrong type, or one is missing.
        """
        try:
            chosen = cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            variable = _PREFIX + "_".join(map(str, first["loc"])).upper()
            where = f"{variable}: " if first["loc"] else ""
            raise SettingsError(f"{where}{first['msg']}") from error
        chosen.keys()
        chosen.rules()
        chosen.trust()
        chosen.shelf()
        if chosen.database() is not None:
            chosen.journal_folder()
        return chosen


def _state_folder() -> Path | None:
    """Return the user's folder for state; None for a user who has no home."""
    try:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    except RuntimeError:
        return None
    return home / "faultcube"


def misspelt(variables: Iterable[str]) -> list[str]:
    """Return a line for each variable that looks like a setting and is none.

    Args:
        variables: names of environment variables; like settings, in upper or lower case.
    """
    known = {name.upper() for name in Settings.model_fields} | _OF_COMMANDS
    lines = []
    for variable in sorted(variables):
        name = variable.upper().removeprefix(_PREFIX)
        if variable.upper().startswith(_PREFIX) and name not in known:
            nearest = get_close_matches(name, known, n=1)
            hint = f"did you mean {_PREFIX}{nearest[0]}?" if nearest else "see `faultcube settings`"
            lines.append(f"{variable} is no setting and is ignored; {hint}")
    return lines


def _homeless(setting: str) -> SettingsError:
    return SettingsError(
        f"{_PREFIX}{setting}: is not set, and this user has no home folder: set it, or "
        "XDG_STATE_HOME"
    )


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
