"""Streams: points from topics of a Kafka-compatible log become verdicts and incidents on topics.

Imports `service.runtime`, `service.incidents`, `service.ingest`, `service.classes`,
`service.scoring`, `service.formats`, `service.observability` and `service.settings`.
"""
