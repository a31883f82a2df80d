"""JSON lists of which one item that does not fit must not cost the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from service.formats.errors import MalformedInputError
from service.formats.json_diagnosis import DECODE_ERRORS
from service.ingest.decoded import Batch

__all__ = ["Items", "Value", "check_size", "value_of"]

Value = float | int | bool | str | None
"""Of a measurement."""
_value = msgspec.json.Decoder(Value)

_MAX_COMMAS = 1 << 20
"""What stands between them takes two bytes to send, and up to a hundred times as many here."""

_T = TypeVar("_T")
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])


def check_size(body: bytes) -> None:
    """Refuse a body that would take much more memory than its bytes.

    Raises:
        MalformedInputError: it would.
    """
    if body.count(b",") > _MAX_COMMAS:
        raise MalformedInputError("The body has more than a million values; send smaller ones.")


def value_of(text: msgspec.Raw) -> Value:
    """Return a value, None for one of another form, such as a list."""
    try:
        value: Value = _value.decode(text)
    except DECODE_ERRORS:
        return None
    return value


class Items(Generic[_T]):
    """Decodes lists of items, or an item alone.

    Args:
        item: type of an item.
        what: plural, for messages.
        decode_one: of an item alone, if more fit than the type says; it raises `DECODE_ERRORS`.
    """

    def __init__(
        self, item: type[_T], what: str, decode_one: Callable[[msgspec.Raw], _T] | None = None
    ) -> None:
        self._list: Any = msgspec.json.Decoder(list[item])  # type: ignore[valid-type]
        self._decode_one = decode_one or msgspec.json.Decoder(item).decode
        self._what = what

    def decode(self, body: bytes, batch: Batch) -> list[_T]:
        """Return the items that fit; the others are counted.

        Raises:
            MalformedInputError: the body is no JSON list and no item, or far too many.
        """
        check_size(body)
        try:
            items: list[_T] = self._list.decode(body)
        except DECODE_ERRORS:
            return self._one_by_one(body, batch)
        return items

    def _one_by_one(self, body: bytes, batch: Batch) -> list[_T]:
        items = []
        for text in self._texts(body):
            try:
                items.append(self._decode_one(text))
            except DECODE_ERRORS:
                batch.reject(f"{self._what} of another form")
        return items

    def _texts(self, body: bytes) -> list[msgspec.Raw]:
        try:
            return _raw_list.decode(body)
        except msgspec.ValidationError:
            return [msgspec.Raw(body)]
        except DECODE_ERRORS as error:
            raise MalformedInputError(f"The body is no JSON list of {self._what}.") from error
