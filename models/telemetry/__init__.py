"""Telemetry: metric points become the records of a model, the same offline and online."""
