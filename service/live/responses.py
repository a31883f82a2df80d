"""What the live page is told, as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from pydantic import Field

from models.schema import Value
from service.scoring.explain import Driver
from service.web.response_model import Omittable, Share

__all__ = [
    "Axes",
    "DeviceDetail",
    "DeviceDriver",
    "DeviceRecord",
    "Devices",
    "DriftHistory",
    "DriftNow",
    "Health",
    "HealthNow",
    "Label",
    "LiveDevice",
    "LiveRecord",
    "LiveRecordDetail",
    "LiveRecords",
    "Position",
    "SceneClass",
    "SceneField",
    "SceneShown",
    "State",
]

State = Literal["good", "fault", "unknown", "learning", "insufficient", "silent"]
Position = list[float]
Label = Annotated[str, Field(description="The verdict: a class, or `unknown`.")]
Time = Annotated[float, Field(description="Of the record, seconds since 1970.")]
Distance = Annotated[Share, Field(description="To the nearest class.")]
Confidence = Annotated[Share, Field(description="Calibrated probability of the nearest class.")]
Point = Annotated[
    Position, Field(min_length=3, max_length=3, description="On the axes of the scene.")
]
Number = Annotated[int, Field(description="Of the record, in this process.")]
Severity = Annotated[str | None, Field(description="Of the class; null where it is good traffic.")]
Rate = Annotated[float, Field(ge=0, description="In a second.")]
Milliseconds = Annotated[
    float | None, Field(description="Of requests with records; null where there was none.")
]


class Axes(msgspec.Struct, kw_only=True):
    """What the three axes are."""

    kind: Annotated[
        Literal["learned", "projection"],
        Field(description="Learned dimensions, or leading directions of the classes' centroids."),
    ]
    share: Annotated[Share, Field(description="Of the centroids' spread that they show.")]


class SceneClass(msgspec.Struct, kw_only=True):
    """A class as it is drawn."""

    name: str
    good: Annotated[bool, Field(description="Whether it is good traffic.")]
    enrolled: Annotated[bool, Field(description="Whether it was taught at run time.")]
    severity: Severity
    position: Annotated[Point, Field(description="Of its centroid; their mean is the origin.")]
    radius: Annotated[float, Field(description="Of the records it accepts, in the same unit.")]


class SceneField(msgspec.Struct, kw_only=True):
    """A field of the records."""

    name: str
    unit: Annotated[str | None, Field(description="Null where it has none.")]
    kind: Literal["number", "boolean", "category"]


class SceneShown(msgspec.Struct, kw_only=True):
    """The model that is served, as it is drawn."""

    bundle: Annotated[dict[str, str], Field(description="Its name and version.")]
    revision: Annotated[int, Field(description="Of the enrolled classes.")]
    dimensions: Annotated[int, Field(description="Of the embedding.")]
    axes: Axes
    classes: list[SceneClass]
    fields: list[SceneField]


class LiveDevice(msgspec.Struct, kw_only=True):
    """The latest of a device."""

    key: Annotated[str, Field(description="A device, or a device and its interface.")]
    label: Label
    good: Annotated[bool, Field(description="Whether it is good traffic.")]
    severity: Severity
    state: Annotated[
        State,
        Field(
            description="Of its latest record: `learning` its baseline, `insufficient` where too "
            "few values came, `silent` where none came for a while."
        ),
    ]
    since: Annotated[float, Field(description="Time of the first record with this verdict.")]
    time: Time
    distance: Distance
    confidence: Confidence
    incident: Annotated[str | None, Field(description="Id of the open one it takes part in.")]


class Devices(msgspec.Struct, kw_only=True):
    """The devices that ingestion knows."""

    time: Annotated[float, Field(description="Now, seconds since 1970.")]
    kept_seconds: Annotated[int, Field(description="Of the history of a device, at most.")]
    devices: list[LiveDevice]
    total: Annotated[int, Field(description="How many there are, those not kept included.")]


class DeviceRecord(msgspec.Struct, kw_only=True):
    """A record of a device's last hour."""

    n: Number
    time: Time
    label: Label
    good: bool
    state: State
    distance: Distance
    confidence: Confidence


class DeviceDriver(msgspec.Struct, kw_only=True):
    """A field that drove the faults of a device."""

    field: str
    count: Annotated[int, Field(description="Of the explained records that it drove.")]
    value: Annotated[Value, Field(description="In the latest of them.")]
    typical: Annotated[Value, Field(description="In good traffic.")]


class DeviceDetail(LiveDevice, kw_only=True):
    """A device and its last hour."""

    history: Annotated[list[DeviceRecord], Field(description="Its records, oldest first.")]
    explained: Annotated[int, Field(description="Bad records that `drivers` are of.")]
    drivers: Annotated[list[DeviceDriver], Field(description="Most often first.")]


class LiveRecord(msgspec.Struct, kw_only=True, gc=False):
    """A record as it is drawn."""

    n: Number
    key: Annotated[str | None, Field(description="Of its device; null where none was named.")]
    time: Time
    label: Label
    good: bool
    distance: Distance
    confidence: Confidence
    position: Point


class LiveRecords(msgspec.Struct, kw_only=True):
    """The latest records that are kept."""

    records: Annotated[list[LiveRecord], Field(description="Oldest first.")]


class LiveRecordDetail(LiveRecord, kw_only=True, omit_defaults=True):
    """A record and why it got its verdict."""

    record: Annotated[dict[str, Value], Field(description="Its fields.")]
    distances: Annotated[dict[str, Share], Field(description="To every class, now.")]
    nearest: Annotated[str, Field(description="The class that is nearest now.")]
    class_position: Annotated[Point, Field(description="Of the centroid of that class.")]
    explanation: Annotated[
        Omittable[list[Driver]],
        Field(description="As `/classify?explain=true` gives it; absent where it cannot."),
    ] = None


class HealthNow(msgspec.Struct, kw_only=True):
    """How the service fares."""

    time: Annotated[float, Field(description="Seconds since 1970.")]
    records_per_second: Rate
    points_per_second: Rate
    requests_per_second: Rate
    queue_requests: Annotated[int, Field(description="Requests that wait.")]
    queue_points: Annotated[int, Field(description="Metric points that wait.")]
    p50_ms: Milliseconds
    p99_ms: Milliseconds
    viewers: Annotated[int, Field(description="Event streams that are open.")]
    store: Annotated[
        Literal["memory", "ok", "away"],
        Field(description="Where incidents and classes are kept, and whether it can be reached."),
    ]
    ready: Annotated[bool, Field(description="Whether a bundle is served.")]
    alone: Annotated[
        bool, Field(description="Whether this process is all of the service: these are its own.")
    ]


class Health(HealthNow, kw_only=True):
    """How the service fares, and fared."""

    history: Annotated[
        list[HealthNow], Field(description="Of the last 15 minutes, each 5 s, oldest first.")
    ]


class DriftNow(msgspec.Struct, kw_only=True):
    """How far recent traffic is from the records that the model was calibrated on."""

    time: Annotated[float, Field(description="Seconds since 1970.")]
    records: Annotated[int, Field(description="That were sampled to measure it.")]
    mean: Annotated[
        float | None,
        Field(description="Population stability index, mean of all dimensions; null while few."),
    ]
    largest: Annotated[float | None, Field(description="That of the dimension with most.")]


class DriftHistory(DriftNow, kw_only=True):
    """Drift now and before, since the bundle is served."""

    history: Annotated[
        list[DriftNow], Field(description="Of the last 24 hours, each minute, oldest first.")
    ]
