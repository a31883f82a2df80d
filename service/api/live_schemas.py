"""The JSON of `/live` as OpenAPI documents it: made of the structs that are sent."""

from __future__ import annotations

from types import GenericAlias
from typing import Annotated

import pydantic

from service.api.schemas import Driver
from service.live import responses
from service.web.response_model import Omittable, ResponseModel, model_of

__all__ = [
    "DeviceDetail",
    "Devices",
    "DriftHistory",
    "Health",
    "LiveRecordDetail",
    "LiveRecords",
    "SceneShown",
]


def _list_of(model: type[ResponseModel]) -> GenericAlias:
    return GenericAlias(list, (model,))


_Axes = model_of(responses.Axes)
_SceneClass = model_of(responses.SceneClass)
_SceneField = model_of(responses.SceneField)
SceneShown = model_of(
    responses.SceneShown, axes=_Axes, classes=_list_of(_SceneClass), fields=_list_of(_SceneField)
)
_LiveDevice = model_of(responses.LiveDevice)
Devices = model_of(responses.Devices, devices=_list_of(_LiveDevice))
_DeviceRecord = model_of(responses.DeviceRecord)
_DeviceDriver = model_of(responses.DeviceDriver)
DeviceDetail = model_of(
    responses.DeviceDetail, history=_list_of(_DeviceRecord), drivers=_list_of(_DeviceDriver)
)
_LiveRecord = model_of(responses.LiveRecord)
LiveRecords = model_of(responses.LiveRecords, records=_list_of(_LiveRecord))
_Explanation = Annotated[
    Omittable[list[Driver]],  # type: ignore[valid-type]
    pydantic.Field(
        description="The fields that drove the verdict; absent where the bundle cannot explain."
    ),
]
LiveRecordDetail = model_of(responses.LiveRecordDetail, explanation=_Explanation)
_DriftNow = model_of(responses.DriftNow)
DriftHistory = model_of(responses.DriftHistory, history=_list_of(_DriftNow))
_HealthNow = model_of(responses.HealthNow)
Health = model_of(responses.Health, history=_list_of(_HealthNow))
