"""What is measured: servers, and the formats that each takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from benchmarks.harness import wires
from benchmarks.harness.wires import Wire

OURS, ECHO, ONNXRUNTIME = "faultcube", "echo", "onnxruntime"

_V1, _V2 = "/v1/models/iosxr:predict", "/v2/models/iosxr/infer"
_READY = "/v2/models/iosxr/ready"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server program.

    Attributes:
        name: ours, or that of its module in `peers`.
        ready: path that answers 200 once it serves.
        isolated: whether it has an environment of its own, made from its requirements file.
    """

    name: str
    ready: str
    isolated: bool = True


@dataclass(frozen=True, slots=True)
class Contestant:
    """A row of the tables: a server with one wire format, and which of ours takes the same body.

    In its path, `{size}` and `{label}` are those of our answer.
    """

    name: str
    server: str
    path: str
    wire: Wire
    same: str = OURS


SERVERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "/readyz", isolated=False),
        Peer("fastapi", "/livez"),
        Peer("bentoml", "/livez"),
        Peer("litserve", "/health"),
        Peer("mlserver", _READY),
        Peer("kserve", _READY),
        Peer("ray", "/classify"),
        Peer("pytriton", _READY),
        Peer(ECHO, "/", isolated=False),
    )
}

CONTESTANTS = (
    Contestant(OURS, OURS, "/classify", wires.ROWS),
    Contestant("faultcube Arrow", OURS, "/classify", wires.ARROW, same="faultcube Arrow"),
    Contestant("faultcube V2", OURS, _V2, wires.TENSOR, same="faultcube V2"),
    Contestant("faultcube V2 binary", OURS, _V2, wires.TENSOR_BINARY, same="faultcube V2 binary"),
    Contestant("fastapi", "fastapi", "/classify", wires.ROWS),
    Contestant("bentoml", "bentoml", "/classify", wires.ROWS),
    Contestant("litserve", "litserve", "/classify", wires.ROWS),
    Contestant("mlserver V2", "mlserver", _V2, wires.TENSOR, same="faultcube V2"),
    Contestant("mlserver V2 named", "mlserver", _V2, wires.COLUMNS),
    Contestant("kserve V1", "kserve", _V1, wires.INSTANCES),
    Contestant("kserve V2", "kserve", _V2, wires.TENSOR, same="faultcube V2"),
    Contestant("kserve V2 binary", "kserve", _V2, wires.TENSOR_BINARY, same="faultcube V2 binary"),
    Contestant("ray", "ray", "/classify", wires.ROWS),
    Contestant(
        "pytriton V2 binary", "pytriton", _V2, wires.TENSOR_BINARY, same="faultcube V2 binary"
    ),
    Contestant(ECHO, ECHO, "/{size}/{label}", wires.ROWS),
)


def choose(peers: Collection[str]) -> list[Contestant]:
    """Return ours, and those whose server is among `peers`; all of them when that is empty.

    Raises:
        ValueError: there is no such server.
    """
    if unknown := set(peers) - {*SERVERS, ONNXRUNTIME}:
        raise ValueError(f"no peer is called {min(unknown)!r}; {', '.join(SERVERS)}, {ONNXRUNTIME}")
    return [entry for entry in CONTESTANTS if not peers or entry.server in {OURS, *peers}]
