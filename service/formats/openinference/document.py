"""The document of an inference request: JSON that says which tensors come, and which shall go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from models import Fault, RecordError
from service.formats.errors import MalformedInputError

__all__ = [
    "CHUNK",
    "OUTPUTS",
    "Document",
    "Input",
    "Wanted",
    "decode",
    "outputs_of",
    "skip",
    "unfit",
]

OUTPUTS: Final = {
    "label": "BYTES",
    "good": "BOOL",
    "distance": "FP32",
    "confidence": "FP32",
    "nearest": "BYTES",
    "embedding": "FP32",
    "distances": "FP32",
}
"""The tensors that can be asked for, and their data types."""
CHUNK = 1 << 16
"""Bytes of numbers in JSON that are parsed at a time: half a millisecond of work."""
_MOST_CUTS = 1000
"""Arrays of numbers that are cut out of a document."""
_DATA = re.compile(rb'"data"\s*:\s*\[')
_WRONG = re.compile(r"Expected `(.*?)`, got `(.*?)`(?: - at `\$\.?(.*)`)?$")


class _InputParameters(msgspec.Struct):
    binary_data_size: int | None = None


class Input(msgspec.Struct):
    """A tensor as it is declared; its data, too, unless that is binary."""

    name: str
    shape: msgspec.Raw
    datatype: str
    parameters: _InputParameters | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class _OutputParameters(msgspec.Struct):
    binary_data: bool | None = None
    classification: int = 0


class _Output(msgspec.Struct):
    name: str
    parameters: _OutputParameters | None = None


class _Parameters(msgspec.Struct):
    binary_data_output: bool = False


class Document(msgspec.Struct):
    """What a request says."""

    inputs: list[Input]
    outputs: list[_Output] | None = None
    parameters: _Parameters | None = None
    id: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


class _Outline(msgspec.Struct):
    inputs: list[msgspec.Raw] = []
    outputs: list[msgspec.Raw] | None = None


_outline = msgspec.json.Decoder(_Outline)
_document = msgspec.json.Decoder(Document)
_skipped = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that is asked for, and whether as binary data."""

    name: str
    binary: bool = False


_DEFAULTS = {
    binary: tuple(Wanted(name, binary) for name in ("label", "good", "distance", "confidence"))
    for binary in (False, True)
}


def decode(header: bytes | bytearray, most: int) -> tuple[Document, dict[bytes, memoryview]]:
    """Decode a document.

    Args:
        header: JSON.
        most: how many inputs it may have.

    Returns:
        The document, and the long data that was cut out of it, by what stands in its place.

    Raises:
        MalformedInputError: it is not JSON.
        RecordError: it is, but not a request.
    """
    header, cuts = _cut(header) if len(header) > CHUNK else (header, {})
    try:
        if len(header) > CHUNK:
            outline = _outline.decode(header)
            if len(outline.inputs) > most or len(outline.outputs or ()) > len(OUTPUTS):
                raise unfit("inputs", f"at most {most} inputs", "more of them, or of outputs")
        return _document.decode(header), cuts
    except msgspec.ValidationError as error:
        found = _WRONG.match(str(error))
        expected, got, place = found.groups() if found else ("a request", "something else", "")
        wanted = f"{expected}, as the Open Inference Protocol has it"
        raise RecordError([Fault(None, place or None, wanted, got)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedInputError(
            "The body is not JSON, or not as long as its header says."
        ) from error
    except RecursionError as error:
        raise MalformedInputError("The body is JSON that is nested too deeply.") from error


def _cut(document: bytes | bytearray) -> tuple[bytes, dict[bytes, memoryview]]:
    """Take long arrays of numbers out of a document, so that it is parsed in no time.

    Returns:
        The document with something else in their places, and by that the arrays.
    """
    kept: list[bytes | memoryview] = []
    cuts: dict[bytes, memoryview] = {}
    view, at = memoryview(document), 0
    place = 0
    for _ in range(_MOST_CUTS):
        found = _DATA.search(document, place)
        if found is None:
            break
        start = found.end() - 1
        # Before the next string, or before the end of the tensor, there are only numbers.
        stop = document.find(b'"', start) % (len(document) + 1)
        stop = document.find(b"}", start, stop) % (stop + 1)
        end = document.rfind(b"]", start, stop) + 1
        if end - start > CHUNK:
            mark = b'{"cut":%d}' % len(cuts)
            kept += [view[at:start], mark]
            cuts[mark] = view[start:end]
            at = end
        place = max(found.end(), end)
    return b"".join([*kept, view[at:]]), cuts


def skip(data: Iterable[memoryview]) -> None:
    """Pass over data that no input took, as over everything that the protocol does not know.

    Raises:
        MalformedInputError: it is not JSON.
    """
    for each in data:
        try:
            _skipped.decode(each)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedInputError("The body is not JSON.") from error


def outputs_of(document: Document) -> tuple[Wanted, ...]:
    """The outputs that a document asks for, in order.

    Raises:
        RecordError: it asks for others, or for more of them.
    """
    every = document.parameters is not None and document.parameters.binary_data_output
    if not document.outputs:
        return _DEFAULTS[every]
    wanted: dict[str, Wanted] = {}
    for each in document.outputs:
        asked = each.parameters or _OutputParameters()
        if each.name not in OUTPUTS or each.name in wanted:
            raise unfit(each.name, f"outputs among {', '.join(OUTPUTS)}, once each", "another")
        if asked.classification:
            raise unfit(each.name, "an output as it is", "a classification of it")
        binary = every if asked.binary_data is None else asked.binary_data
        wanted[each.name] = Wanted(each.name, binary)
    return tuple(wanted.values())


def unfit(name: str, expected: str, got: str) -> RecordError:
    """Say that what has this name is not what is expected."""
    return RecordError([Fault(None, name, expected, got)])
