"""Telemetry: metric points become the records of a model, the same offline and online."""

__all__: list[str] = []
