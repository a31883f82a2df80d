"""Replay of recorded metric points, over HTTP, as a collector would send them."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from models.telemetry.mapping import Mapping

__all__ = ["Body", "News", "Recording", "ReplayError", "Sender", "play"]

_MAX_POINTS: Final = 5000
"""Of a body, about as many as collectors send at once."""
_PATH: Final = "/ingest/telegraf"
_TIMEOUT: Final = 30.0
_MAX_RETRIES: Final = 60
_NEWS_SECONDS: Final = 1.0


class ReplayError(Exception):
    """Points cannot be read or sent; one line that says why."""


@dataclass(frozen=True, slots=True)
class Body:
    """Points of a short time, as Telegraf sends them.

    Attributes:
        time: of its first point, seconds since the Unix epoch, as recorded.
        points: how many.
        data: JSON.
    """

    time: float
    points: int
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    name: str
    tags: dict[str, str]
    values: list[float | None]


class Recording:
    """A table of points, in the order of time.

    It is wide, a row for a time and key and a column a series, or long, with columns `time`,
    `metric` and `value`, all others being tags.

    Args:
        path: Parquet or CSV.
        mapping: says which columns are series, and the interval.

    Raises:
        ReplayError: it cannot be read, is empty, or lacks a time.
    """

    def __init__(self, path: Path, mapping: Mapping) -> None:
        table = _read(path)
        missing = [name for name in ("time", *mapping.key) if name not in table.column_names]
        if missing:
            raise ReplayError(f"{path} has no column {missing[0]!r}: time, and the mapping's key")
        try:
            seconds = _seconds(table["time"])
        except pa.ArrowException as error:
            raise ReplayError(f"{path}: its times are neither numbers nor timestamps") from error
        if not len(seconds):
            raise ReplayError(f"{path} has no rows")
        if lacking := int(np.count_nonzero(~np.isfinite(seconds))):
            raise ReplayError(f"{path}: {lacking} rows have no time")
        order = np.argsort(seconds, kind="stable")
        self._table, self.mapping = table.take(pa.array(order)), mapping
        self.times: NDArray[np.float64] = seconds[order]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        """From the first point to the last."""
        return float(self.times[-1] - self.times[0]) if len(self) else 0.0

    def bodies(self, shift: float = 0.0) -> Iterator[Body]:
        """Yield bodies, each of the points of one interval or a part of them.

        Args:
            shift: seconds to add to every time.
        """
        steps = np.floor(self.times / self.mapping.interval)
        bounds = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(self)]
        tags, columns = self._columns()
        for start, end in pairwise(bounds):
            metrics: list[dict[str, object]] = []
            for row in range(start, end):  # a row stays whole, as a collector's poll does
                metrics += self._metrics(row, tags, columns, shift)
                if len(metrics) >= _MAX_POINTS or row == end - 1:
                    data = msgspec.json.encode({"metrics": metrics})
                    yield Body(float(self.times[start]), len(metrics), data)
                    metrics = []

    def _columns(self) -> tuple[dict[str, list[object]], list[_Column]]:
        """Return the values of the tags, and the columns that are series."""
        table, names = self._table, self._table.column_names
        if {"metric", "value"} <= set(names):
            others = [name for name in names if name not in {"time", "metric", "value"}]
            values = _numbers(table["value"]) or []
            tags = {name: table[name].to_pylist() for name in (*others, "metric")}
            return tags, [_Column("", {}, values)]
        columns, tags = [], {name: table[name].to_pylist() for name in self.mapping.key}
        known = {rule.metric for rule in self.mapping.fields}
        for name in names:
            metric, more = self.mapping.wide.series_of(name)
            if name in {"time", *tags} or not _is_known(metric, known):
                continue
            if (numbers := _numbers(table[name])) is not None:
                columns.append(_Column(metric, more, numbers))
        return tags, columns

    def _metrics(
        self,
        row: int,
        tags: dict[str, list[object]],
        columns: Sequence[_Column],
        shift: float,
    ) -> Iterator[dict[str, object]]:
        own = {name: str(of[row]) for name, of in tags.items() if of[row] is not None}
        metric = own.pop("metric", "")
        at = round((self.times[row] + shift) * 1000)
        for column in columns:
            value = column.values[row]
            if value is not None:
                yield {
                    "name": column.name or metric,
                    "tags": own | column.tags,
                    "fields": {"value": value},
                    "timestamp": at,
                }


def _is_known(metric: str, patterns: set[str]) -> bool:
    return metric in patterns or any("*" in name or "?" in name for name in patterns)


def _read(path: Path) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        return pyarrow.csv.read_csv(path)
    except FileNotFoundError as error:
        raise ReplayError(f"there is no table {path}") from error
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ReplayError(f"{path} cannot be read as Parquet or CSV: {reason}") from error


def _seconds(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return times as seconds since the Unix epoch, NaN where there is none."""
    if pa.types.is_timestamp(column.type):
        nanoseconds = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
        return _seconds(nanoseconds) / 1e9
    seconds: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
    return seconds


def _numbers(column: pa.ChunkedArray) -> list[float | None] | None:
    """Return the numbers of a column, None for one that holds other things."""
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.if_else(pc.equal(column, ""), None, column)
        numbers: list[float | None] = column.cast(pa.float64()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return numbers


class Sender:
    """Sends bodies one after the other on one connection.

    Args:
        url: of the service.
        key: that may read; empty if none is needed.
        sleep: waits, in seconds.
    """

    def __init__(
        self, url: str, key: str = "", sleep: Callable[[float], None] = time.sleep
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ReplayError(f"{url!r} is no address of a service, as http://127.0.0.1:8000 is")
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=_TIMEOUT)
        self._base, self._is_used = parts.path.rstrip("/"), False
        self._url, self._sleep = url, sleep
        self._headers = {"X-API-Key": key} if key else {}

    def wait(self, seconds: float) -> None:
        """Wait until the service is ready.

        Raises:
            ReplayError: it is not, within this time.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                if self.get("/readyz") is not None:
                    return
                why = ReplayError(f"{self._url} is not ready: see its log")
            except ReplayError as error:
                why = error
            if time.monotonic() >= end:
                raise why
            self._sleep(_NEWS_SECONDS / 4)

    def send(self, body: Body) -> None:
        """Send a body; again while the service is overloaded or not ready.

        Raises:
            ReplayError: it was refused, or nobody answers.
        """
        headers = self._headers | {"Content-Type": "application/json"}
        for _ in range(_MAX_RETRIES):
            status, data, retry = self._request("POST", _PATH, body.data, headers)
            if status < 300:
                return
            if status != http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise ReplayError(f"{self._url} refuses the points ({status}): {_detail(data)}")
            self._sleep(retry)
        raise ReplayError(f"{self._url} is overloaded: {_detail(data)}")

    def get(self, path: str) -> object:
        """Return what the service answers with, as JSON; None if it refuses."""
        status, data, _ = self._request("GET", path, None, self._headers)
        return msgspec.json.decode(data) if status == http.HTTPStatus.OK else None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _request(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, float]:
        try:
            try:
                response, content = self._answer(method, path, data, headers)
            except (ConnectionError, http.client.BadStatusLine):
                # The service closes a connection that is idle, as in a long silence.
                if not self._is_used:
                    raise
                self._connection.close()
                response, content = self._answer(method, path, data, headers)
            self._is_used = True
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._is_used = False
            raise ReplayError(
                f"nobody answers at {self._url} ({error}): start the service with `faultcube serve`"
            ) from error
        return response.status, content, float(response.headers.get("Retry-After", 1))

    def _answer(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, self._base + path, data, headers)
        response = self._connection.getresponse()
        return response, response.read()


def _detail(data: bytes) -> str:
    try:
        return str(msgspec.json.decode(data)["detail"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return data[:200].decode("latin-1")


@dataclass(frozen=True, slots=True)
class News:
    """What is told while points are replayed.

    Attributes:
        sent: points so far.
        incidents: that have changed since the last news, as `GET /incidents` shows them.
    """

    sent: int
    incidents: list[dict[str, Any]]


def play(recording: Recording, sender: Sender, speed: float, shift: float = 0.0) -> Iterator[News]:
    """Send a recording at a speed, and yield news about once a second.

    Args:
        recording: of points.
        sender: to the service.
        speed: recorded seconds in a second; infinite to send as fast as the service takes them.
        shift: seconds to add to every time.

    Raises:
        ReplayError: the service refuses the points, or is gone.
    """
    watch, sent = _Watch(sender), 0
    first, begin = float(recording.times[0]), time.monotonic()
    told = begin
    for body in recording.bodies(shift):
        due = begin + (body.time - first) / speed
        while (left := due - time.monotonic()) > 0:
            time.sleep(min(left, _NEWS_SECONDS))
        sender.send(body)
        sent += body.points
        if time.monotonic() - told >= _NEWS_SECONDS:
            told = time.monotonic()
            yield News(sent, watch.changed())
    time.sleep(recording.mapping.wait + 2 * _NEWS_SECONDS)  # until the last records are judged
    yield News(sent, watch.changed())


class _Watch:
    """Remembers which state of each incident was told."""

    def __init__(self, sender: Sender) -> None:
        self._sender, self._told = sender, dict[str, int]()

    def changed(self) -> list[dict[str, Any]]:
        """Return incidents with a new state, the oldest first."""
        found = self._sender.get("/incidents?most=100")
        incidents = found["incidents"] if isinstance(found, dict) else []
        new = [i for i in incidents if self._told.get(i["id"]) != i["sequence"]]
        self._told |= {i["id"]: i["sequence"] for i in new}
        return sorted(new, key=lambda incident: str(incident["first"]))
