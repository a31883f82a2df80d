"""What is written to the topics of incidents."""

from __future__ import annotations

import json
from typing import Any

from service.incidents.incident import Change, Incident, Member
from service.stream.log import Topics
from service.stream.outlet import Outlet


class Written:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def write(self, _topic: str, _key: str, value: bytes, **_more: Any) -> None:
        self.values.append(value)


def test_of_an_incident_with_thousands_of_members_the_first_are_written() -> None:
    writer = Written()
    outlet = Outlet(writer, Topics(("points",), "out"), 1)  # type: ignore[arg-type]
    place = "in-a-building-with-a-long-name"
    for members in (10, 20_000):
        incident = Incident("i", "crash", "critical", 1.0, 1.0)
        incident.status, incident.told = "open", 1.0
        for number in range(members):
            incident.members[f"router-{number}-{place * 3}"] = Member(["crash"], 1.0, 1.0)
        outlet.write_changes([Change.of("opened", 1.0, incident)])

    small, large = (json.loads(value)["incident"] for value in writer.values)
    assert len(small["members"]) == 10
    assert "more_members" not in small
    assert max(map(len, writer.values)) < 1_000_000
    assert len(large["members"]) + large["more_members"] == 20_000
    assert large["members"][0]["key"].startswith("router-0-")
    assert large["keys"] == [member["key"] for member in large["members"]]
    assert len(large["members"]) > 100
