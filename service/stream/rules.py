"""What every partition is worked on with: the model, the mapping, and the rules of incidents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from models import Model
from models.telemetry.mapping import Mapping
from service.classes.enrolment import Enrolment
from service.classes.entities import Snapshot
from service.incidents.correlation import Patience
from service.incidents.hysteresis import Hysteresis
from service.incidents.roles import Roles
from service.runtime.incidents import hysteresis_of, patience_of, roles_of
from service.runtime.judging import Columns, mapping_of
from service.scoring.served_model import ServedModel
from service.settings import Settings

__all__ = ["Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """One set for all partitions of a process, from its start to its end.

    Attributes:
        enrolment: the classes that decide.
        served: the model that they make.
        mapping: says what records points make.
        columns: where its fields are in a record.
        roles: of the classes, in incidents.
        hysteresis: of the states of keys.
        patience: of incidents.
        delay: seconds by which a record may be older than the newest point of its partition when
            it is complete.
    """

    enrolment: Enrolment
    served: ServedModel
    mapping: Mapping
    columns: Columns
    roles: Roles
    hysteresis: Hysteresis
    patience: Patience
    delay: float

    @classmethod
    def of(
        cls, settings: Settings, base: Model, classes: Snapshot, delay: float | None = None
    ) -> Self:
        """Put a bundle, enrolled classes and settings together.

        Raises:
            MappingError: there is no mapping, or it does not fit the bundle.
            SettingsError: that of the settings cannot be read.
        """
        mapping = mapping_of(base, settings.rules())
        enrolment = Enrolment.of(base, classes)
        return cls(
            enrolment,
            ServedModel(enrolment.model, settings.max_records, revision=classes.revision),
            mapping,
            Columns.between(mapping, base.schema),
            roles_of(enrolment),
            hysteresis_of(settings),
            patience_of(settings),
            2 * mapping.interval + mapping.lateness if delay is None else delay,
        )
