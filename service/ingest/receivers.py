"""Every wire format that is taken: where it is sent, how it is told, and who decodes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.ingest import (
    arrow,
    collectd,
    gnmic,
    otlp_json,
    otlp_protobuf,
    remote_write,
    remote_write_v2,
    telegraf,
)
from service.ingest.decoded import Decoder

__all__ = ["ANY", "RECEIVERS", "Receiver", "receiver_of"]

ANY: Final = "*"
"""A content type that stands for all: some clients send none, or one that says nothing."""
_PLAIN = ("identity", "gzip", "zstd")


@dataclass(frozen=True, slots=True)
class Receiver:
    """One wire format.

    Attributes:
        name: as counters have it.
        path: where it is sent to; formats may share it.
        content_types: that tell it from others of the path: a media type, or `ANY`; the parameter
            `proto` is a part of it.
        encodings: content encodings that its clients use; "snappy" is `service.ingest.snappy`.
        decode: its decoder.
        status: of success.
    """

    name: str
    path: str
    content_types: tuple[str, ...]
    decode: Decoder
    encodings: tuple[str, ...] = _PLAIN
    status: int = 204


RECEIVERS: Final = {
    receiver.name: receiver
    for receiver in (
        Receiver("telegraf", "/ingest/telegraf", (ANY,), telegraf.decode),
        Receiver("collectd", "/ingest/collectd", (ANY,), collectd.decode),
        Receiver("gnmic", "/ingest/gnmic", (ANY,), gnmic.decode),
        Receiver("arrow", "/ingest/arrow", ("application/vnd.apache.arrow.stream",), arrow.decode),
        Receiver(
            "otlp", "/v1/metrics", ("application/x-protobuf",), otlp_protobuf.decode, status=200
        ),
        Receiver("otlp_json", "/v1/metrics", ("application/json",), otlp_json.decode, status=200),
        Receiver(
            "remote_write",
            "/api/v1/write",
            ("application/x-protobuf", "application/x-protobuf;proto=prometheus.writerequest"),
            remote_write.decode,
            ("snappy", "zstd"),
        ),
        Receiver(
            "remote_write_v2",
            "/api/v1/write",
            ("application/x-protobuf;proto=io.prometheus.write.v2.request",),
            remote_write_v2.decode,
            ("snappy", "zstd"),
        ),
    )
}
"""By name."""


def receiver_of(path: str, content_type: str) -> Receiver | None:
    """Return the receiver of a path that takes a `Content-Type`, None if there is none."""
    media, *parameters = (part.strip().lower() for part in content_type.split(";"))
    protos = [part.replace('"', "") for part in parameters if part.startswith("proto=")]
    told = ";".join([media, *protos])
    for receiver in RECEIVERS.values():
        if receiver.path == path and not {told, ANY}.isdisjoint(receiver.content_types):
            return receiver
    return None
