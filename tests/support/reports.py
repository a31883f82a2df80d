"""What schemathesis has to know, and a document cannot say.

Which answers are reports; and what bodies of metric points look like: their formats are documented
elsewhere, so real ones take the place of those that are made up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import schemathesis

_ARROW = "application/vnd.apache.arrow.stream"
_PROTOBUF = "application/x-protobuf"
_BODIES = Path(__file__).parents[1] / "service/ingest/bodies"


def _stream() -> bytes:
    rows = pa.table({"metric": ["load"], "value": [1.5], "time": [1_795_000_000], "host": ["a"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _file(name: str) -> Any:
    content = (_BODIES / name).read_bytes()
    return json.loads(content) if name.endswith(".json") else content


_METRIC = {"name": "load", "fields": {"value": 1.5}, "tags": {"host": "a"}, "timestamp": 1795000000}
_REAL: dict[tuple[str, str], tuple[str, Any]] = {
    ("/ingest/telegraf", "application/json"): ("identity", {"metrics": [_METRIC]}),
    ("/ingest/telegraf", "text/plain"): ("identity", "load,host=a value=1.5 1795000000"),
    ("/ingest/collectd", "application/json"): ("identity", _file("collectd-rates.json")),
    ("/ingest/collectd", "text/plain"): ("identity", "[]"),
    ("/ingest/gnmic", "application/json"): ("identity", []),
    ("/ingest/gnmic", "text/plain"): ("identity", "[]"),
    ("/ingest/arrow", _ARROW): ("identity", _stream()),
    ("/v1/metrics", _PROTOBUF): ("identity", _file("opentelemetry-python.bin")),
    ("/v1/metrics", "application/json"): ("identity", _file("opentelemetry-js.json")),
    ("/api/v1/write", _PROTOBUF): ("snappy", _file("prometheus.snappy")),
}
"""Encoding and body by path and content type."""
_PATHS = {path for path, _ in _REAL}


@schemathesis.serializer(_ARROW, _PROTOBUF)
def serialized(context: Any, value: Any) -> Any:
    """Send real points: a case that held bytes itself would not count as documented."""
    return _REAL.get((context.case.path, str(context.case.media_type)), ("", value))[1]


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], **_: Any) -> None:
    """Send real points in place of a body that fits the document."""
    encoding, body = _REAL.get((case.path, str(case.media_type)), ("", None))
    documented = {"snappy", "zstd"} if encoding == "snappy" else {None, "identity", "gzip", "zstd"}
    if encoding and _is_positive(case) and case.headers.get("Content-Encoding") in documented:
        case.body = "bytes" if isinstance(body, bytes) else body
        case.headers["Content-Encoding"] = encoding


@schemathesis.hook
def filter_case(_context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Pass over reports of records that do not fit, over dry runs, and over odd metric points."""
    if case.path in _PATHS:
        return _is_positive(case)  # much that the document does not know is taken, and counted
    if case.media_type == _ARROW:
        return False  # records in columns, of which the document says nothing
    if case.query.get("dry_run") in (True, "true") and case.method.upper() == "POST":
        return False  # its check is sure that what is answered with 2xx is there afterwards
    enrols = "/classes" in case.path and isinstance(case.body, dict) and case.body.get("records")
    if enrols and case.query.get("force") not in (True, "true"):
        return False  # records that do not belong together are a 422
    return _is_positive(case) or case.query.get("on_invalid") != "report"


def _is_positive(case: schemathesis.Case[Any]) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive
