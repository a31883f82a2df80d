"""Profiles of sites, as the service sends them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic

from models import Schema
from models.profile import Comparison, ProfileTrial, compare
from service.classes.entities import StoredProfile
from service.web.response_model import Omittable, ResponseModel, Share

__all__ = ["ListedProfile", "ProfileDetail", "ProfileList", "Tried"]


class ListedProfile(ResponseModel):
    """A site."""

    site: str
    state: Literal["active", "learning", "refused"]
    """Only an active one changes records."""
    revision: int
    """Of the change that made it so; the header `Faultcube-Profile` names it."""
    records: Omittable[int] = None
    """How many it was learned from; of an active one."""
    learn: Omittable[int] = None
    """How many it is being learned from; each process counts its own."""
    reason: Omittable[str] = None
    """Why the records were refused."""
    adapted: int
    """How many fields of the bundle it changes."""

    @classmethod
    def of(cls, stored: StoredProfile, schema: Schema, **more: Any) -> Self:
        """Describe a site.

        Args:
            stored: what the database keeps of it.
            schema: of the bundle that is served.
            more: other fields.
        """
        profile = stored.profile
        return cls(
            site=stored.site,
            state="active" if profile else "refused" if stored.refused else "learning",
            revision=stored.revision,
            records=profile.records if profile else None,
            learn=stored.learn or None,
            reason=stored.refused or None,
            adapted=sum(map(profile.adapts, schema.fields)) if profile else 0,
            **more,
        )


class ProfileList(ResponseModel):
    """The sites at one revision."""

    revision: int
    """Of classes and profiles; they have one history."""
    profiles: list[ListedProfile]


class AdaptedField(ResponseModel):
    """A field that a profile changes."""

    field: str
    typical: float
    """Value at the site."""
    training: float
    """Typical value in training."""
    spread: float
    """At the site."""
    ratio: float
    """What differences from the typical value are multiplied with; 0 if they are ignored."""

    @classmethod
    def of(cls, row: Comparison) -> Self:
        """Describe a field."""
        return cls.model_validate(row, from_attributes=True)


class ProfileDetail(ListedProfile):
    """A site with all that is known of it."""

    fields: list[AdaptedField]
    """What is changed, in the order of the bundle's schema."""
    unchanged: list[str]
    """Numbers of the bundle that are left as they are: relative, or without a level here."""
    unused: list[str]
    """Levels that no field of the bundle has use for, by the field's name."""
    collected: Omittable[int] = None
    """Records that this process has so far, while it is being learned."""
    moved: list[str]
    """Fields whose latest records in this process are elsewhere than the profile: learn it anew."""

    @classmethod
    def of(cls, stored: StoredProfile, schema: Schema, **more: Any) -> Self:
        """Describe a site, field by field."""
        profile = stored.profile
        rows = compare(profile, schema) if profile else []
        changed = {row.field for row in rows}
        numbers = [field.name for field in schema.fields if not field.is_coded]
        return super().of(
            stored,
            schema,
            fields=[AdaptedField.of(row) for row in rows],
            unchanged=[name for name in numbers if name not in changed],
            unused=sorted(profile.levels.keys() - changed) if profile else [],
            **more,
        )


class Tried(ResponseModel):
    """What the model says of the records that a profile was learned from."""

    records: int
    before: Annotated[dict[str, int], pydantic.Field(description="By label, as they are.")]
    after: Annotated[dict[str, int], pydantic.Field(description="By label, adapted.")]
    odd: Share
    """Share that is called other than good, adapted."""

    @classmethod
    def of(cls, trial: ProfileTrial) -> Self:
        """Describe a trial."""
        return cls.model_validate(trial, from_attributes=True)
