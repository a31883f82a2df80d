"""What is written: verdicts, batches of judged records, and changes of incidents."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from service.incidents.incident import Change
from service.incidents.responses import IncidentDetail
from service.incidents.storage import Stored
from service.stream.judged import Batch
from service.stream.log import Topics, Writer
from service.stream.partition import Output

__all__ = ["SEQUENCE", "Outlet"]

SEQUENCE = "faultcube-sequence"
"""Header of a change of an incident: its number."""
_MOST_BYTES = 900_000
"""Of a change: brokers take messages of 1 MB."""


class Outlet:
    """Writes to the topics.

    Args:
        writer: of messages.
        topics: their names.
        partitions: of the topic of verdicts.
    """

    def __init__(self, writer: Writer, topics: Topics, partitions: int) -> None:
        self._writer, self._topics, self._partitions = writer, topics, partitions

    def write(self, source: str, output: Output) -> None:
        """Write what was made of a message: those of one key stay in one partition."""
        number = int(source.rpartition("/")[2]) % self._partitions
        for verdict in output.verdicts:
            value = msgspec.json.encode(verdict)
            self._writer.write(self._topics.verdicts, verdict.id, value, number)
        for batch in output.batches:
            self.tell(batch)

    def tell(self, batch: Batch) -> None:
        """Write a batch of judged records."""
        self._writer.write(self._topics.judged, batch.source, batch.to_bytes())

    def write_changes(self, changes: Sequence[Change]) -> None:
        """Write incidents as they are after each change."""
        for change in changes:
            incident = change.incident
            shown = IncidentDetail.of(Stored(incident)).model_dump(exclude={"history"})
            value = msgspec.json.encode({"event": change.kind, "incident": shown})
            while len(value) > _MOST_BYTES and len(shown["members"]) > 1:
                shown["members"] = shown["members"][: len(shown["members"]) // 2]
                shown["keys"] = shown["keys"][: len(shown["members"])]
                shown["more_members"] = len(incident.members) - len(shown["members"])
                value = msgspec.json.encode({"event": change.kind, "incident": shown})
            headers = [(SEQUENCE, b"%d" % incident.sequence)]
            self._writer.write(self._topics.incidents, incident.id, value, headers=headers)
