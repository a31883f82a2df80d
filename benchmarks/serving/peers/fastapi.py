"""Plain FastAPI: a pydantic model of a record made from the schema, and a `def` route."""

from __future__ import annotations

import sys
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, create_model

from benchmarks.serving.peers.predictor import Predictor

predictor = Predictor()
app = FastAPI()


def _type(field: dict[str, Any]) -> Any:
    kind: Any = float
    if field["kind"] == "boolean":
        kind = bool
    elif field["kind"] == "category":
        kind = str if field["open"] else Literal[tuple(field["categories"])]
    return kind if field["required"] else kind | None


def _record() -> type[BaseModel]:
    fields: dict[str, Any] = {
        f"field_{i}": (_type(field), Field(... if field["required"] else None, alias=field["name"]))
        for i, field in enumerate(predictor.fields)
    }
    config = ConfigDict(extra="forbid")
    record: type[BaseModel] = create_model("Record", __config__=config, **fields)
    return record


Record = _record()


class Body(BaseModel):
    """A request."""

    records: list[Record]  # type: ignore[valid-type]


@app.post("/classify")
def classify(body: Body) -> list[dict[str, Any]]:
    """Give each record its verdict."""
    records: list[BaseModel] = body.records
    dumped = [record.model_dump(by_alias=True) for record in records]
    return predictor.verdicts(predictor.matrix(dumped))


@app.get("/livez")
def livez() -> None:
    """Say that it lives."""


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
