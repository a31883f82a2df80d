"""The Open Inference Protocol (V2, as of KServe, Triton and MLServer): tensors in, tensors out.

A request holds its records in one of two ways: as the tensor `records`, [n, fields], with the
fields in the schema's order, booleans as 0 and 1 and a category as its index (-1 when an open field
was not trained on it); or as one tensor for each field, by its name, [n] or [n, 1], BOOL for a
boolean and BYTES for a category. What is missing is null in JSON, and in binary data NaN, or an
empty string where that is no category; the tensor of a field that is not required may be absent.

The protocol:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and, for binary data,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models import UNKNOWN, Fault, Field, Model, Schema
from models.schema import LARGEST, UNSEEN, Matrix, describe
from service.piece import PIECE_RECORDS, Piece
from service.problems import Problem, Unfit, Unreadable

__all__ = [
    "OUTPUTS",
    "Request",
    "Wanted",
    "failure",
    "metadata",
    "read",
    "server_metadata",
    "write",
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

_RECORDS = "records"
_NUMBERS: Final = {
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}
_CHUNK = 1 << 16
"""Bytes of numbers in JSON that are parsed at a time: half a millisecond of work."""
_STRINGS = 8 * PIECE_RECORDS
"""Binary strings that are read at a time."""
_MOST_FAULTS = 10
_MOST_CUTS = 1000
"""Arrays of numbers that are cut out of a document."""
_LENGTH = struct.Struct("<I")
_DATA = re.compile(rb'"data"\s*:\s*\[')
_NESTED = re.compile(rb"\[\s*\[")
_COMMA = re.compile(rb"(,)")
_COMMA_OF_STRINGS = re.compile(rb'[^\\]"\s*(,)')
_COMMA_OF_ROWS = re.compile(rb"\]\s*(,)")
_WRONG = re.compile(r"Expected `(.*?)`, got `(.*?)`(?: - at `\$\.?(.*)`)?$")

Numbers = npt.NDArray[Any]
"""A column as numbers of any kind [n]: NaN where missing, infinite where it does not fit."""


class _InputParameters(msgspec.Struct):
    binary_data_size: int | None = None


class _Input(msgspec.Struct):
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


class _Document(msgspec.Struct):
    inputs: list[_Input]
    outputs: list[_Output] | None = None
    parameters: _Parameters | None = None
    id: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


class _Outline(msgspec.Struct):
    inputs: list[msgspec.Raw] = []
    outputs: list[msgspec.Raw] | None = None


_outline = msgspec.json.Decoder(_Outline)
_shape = msgspec.json.Decoder(list[int])
_document = msgspec.json.Decoder(_Document)
_encode = msgspec.json.Encoder().encode
_lists: dict[tuple[Any, bool], msgspec.json.Decoder[list[Any]]] = {
    (kind, nested): msgspec.json.Decoder(list[list[kind | None]] if nested else list[kind | None])  # type: ignore[valid-type]
    for kind in (float, int, bool, str)
    for nested in (False, True)
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that is asked for, and whether as binary data."""

    name: str
    binary: bool = False


_DEFAULTS = {
    binary: tuple(Wanted(name, binary) for name in ("label", "good", "distance", "confidence"))
    for binary in (False, True)
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is about to be read.

    Attributes:
        id: to be given back.
        records: how many there are.
        outputs: what is asked for, in order.
        pieces: the records, read as they are asked for; a piece may be empty.
    """

    id: str | None
    records: int
    outputs: tuple[Wanted, ...]
    pieces: Iterator[Piece]


def read(body: bytes | bytearray, header_length: int | None, schema: Schema, most: int) -> Request:
    """Read a request; asking for its pieces may raise what this raises.

    Args:
        body: JSON, which binary data may follow.
        header_length: bytes of the JSON, as `Inference-Header-Content-Length` says; None when it
            says nothing, and all is JSON.
        schema: what a record holds.
        most: how many records a request may hold.

    Raises:
        Unreadable: it is not JSON, or the binary data is not as long as it says.
        Unfit: it is, but not tensors of this schema.
    """
    end = len(body) if header_length is None else header_length
    if not 0 < end <= len(body):
        raise Unreadable("The body is shorter than its Inference-Header-Content-Length.")
    header = body if end == len(body) else body[:end]
    header, cuts = _cut(header) if end > _CHUNK else (header, {})
    document = _decode(header, len(schema))
    outputs = _outputs(document)
    tensors = []
    for each in document.inputs:
        tensor = _Tensor(each, cuts, body, end)
        end += tensor.size
        if end > len(body):
            raise Unreadable("The body is shorter than its tensors' binary_data_size.")
        tensors.append(tensor)
    if end < len(body):
        raise Unreadable("The body is longer than its tensors' binary_data_size.")
    if cuts:
        raise _unfit("data", "data in inputs", "data elsewhere")
    records, pieces = _plan(schema).read(tensors, most)
    return Request(document.id, records, outputs, pieces)


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
        if end - start > _CHUNK:
            mark = b'{"cut":%d}' % len(cuts)
            kept += [view[at:start], mark]
            cuts[mark] = view[start:end]
            at = end
        place = max(found.end(), end)
    return b"".join([*kept, view[at:]]), cuts


def _decode(header: bytes | bytearray, most: int) -> _Document:
    try:
        if len(header) > _CHUNK:
            outline = _outline.decode(header)
            if len(outline.inputs) > most or len(outline.outputs or ()) > len(OUTPUTS):
                raise _unfit("inputs", f"at most {most} inputs", "more of them, or of outputs")
        return _document.decode(header)
    except msgspec.ValidationError as error:
        found = _WRONG.match(str(error))
        expected, got, place = found.groups() if found else ("a request", "something else", "")
        wanted = f"{expected}, as the Open Inference Protocol has it"
        raise Unfit([(None, place or None, wanted, got)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable("The body is not JSON, or not as long as its header says.") from error
    except RecursionError as error:
        raise Unreadable("The body is JSON that is nested too deeply.") from error


def _outputs(document: _Document) -> tuple[Wanted, ...]:
    every = document.parameters is not None and document.parameters.binary_data_output
    if not document.outputs:
        return _DEFAULTS[every]
    wanted: dict[str, Wanted] = {}
    for each in document.outputs:
        asked = each.parameters or _OutputParameters()
        if each.name not in OUTPUTS or each.name in wanted:
            raise _unfit(each.name, f"outputs among {', '.join(OUTPUTS)}, once each", "another")
        if asked.classification:
            raise _unfit(each.name, "an output as it is", "a classification of it")
        binary = every if asked.binary_data is None else asked.binary_data
        wanted[each.name] = Wanted(each.name, binary)
    return tuple(wanted.values())


class _Tensor:
    """An input as it was sent.

    Args:
        sent: name, shape and data type, and the data where it is JSON.
        cuts: data that was cut out; what is this tensor's is taken from it.
        body: holds the data where it is binary.
        place: where in the body that is.

    Attributes:
        size: bytes of the body that it takes.
        is_json: whether its data is JSON.
    """

    def __init__(
        self, sent: _Input, cuts: dict[bytes, memoryview], body: bytes | bytearray, place: int
    ) -> None:
        self.name, self.datatype = sent.name, sent.datatype
        size = None if sent.parameters is None else sent.parameters.binary_data_size
        self._raw, self._body, self._place = memoryview(sent.data), body, place
        if cuts and len(self._raw) < 100:
            self._raw = cuts.pop(bytes(self._raw), self._raw)
        self.is_json = size is None
        self.size = size or 0
        if self.size < 0 or self.is_json != bool(self._raw):
            raise _unfit(self.name, "either data or a binary_data_size", "both, or neither")
        try:
            self.shape = _shape.decode(sent.shape) if len(memoryview(sent.shape)) < 100 else []
        except msgspec.DecodeError as error:
            raise _unfit(self.name, "a shape like [2, 3]", "something else") from error

    def numbers(self, count: int) -> Iterator[Numbers]:
        """The numbers, in parts; null is NaN."""
        dtype = _NUMBERS[self.datatype]
        if not self.is_json:
            self._expect(count * dtype.itemsize)
            yield np.frombuffer(self._body, dtype, count, self._place)
            return
        for values in self._values(float if dtype.kind == "f" else int):
            try:
                yield np.array(values, np.float64)
            except OverflowError as error:
                raise self.odd() from error

    def flags(self, count: int) -> Iterator[Numbers]:
        """The booleans, 0 or 1, in parts; null is NaN."""
        if self.is_json:
            yield from (np.array(values, np.float64) for values in self._values(bool))
            return
        self._expect(count)
        flags = np.frombuffer(self._body, np.uint8, count, self._place)
        yield np.where(flags > 1, np.inf, flags)

    def strings(self, encode: Callable[[list[Any]], Numbers]) -> Iterator[Numbers]:
        """What is made of the strings, in parts."""
        if self.is_json:
            yield from map(encode, self._values(str))
            return
        strings = _strings(bytes(memoryview(self._body)[self._place : self._place + self.size]))
        while part := list(islice(strings, _STRINGS)):
            yield encode(part)

    def _values(self, kind: Any) -> Iterator[list[Any]]:
        """The values of JSON, in parts.

        The text is cut at commas. Should one have been in a string, then the part before it is no
        JSON, and the rest is parsed as a whole.
        """
        nested = len(self.shape) == 2 and _NESTED.match(self._raw) is not None
        comma = _COMMA_OF_STRINGS if kind is str else _COMMA
        comma = _COMMA_OF_ROWS if nested else comma
        start, last = 1, len(self._raw) - 1
        while start <= last:
            found = None
            if last - start > _CHUNK:
                found = comma.search(self._raw, start + _CHUNK, last)
            end = found.start(1) if found else last
            values = self._list(_lists[kind, nested], start, end)
            if values is None and kind is str and end < last:
                end = last
                values = self._list(_lists[kind, nested], start, end)
            if values is None:
                raise self.odd()
            yield self._flat(values) if nested else values
            start = end + 1

    def _list(
        self, decoder: msgspec.json.Decoder[list[Any]], start: int, end: int
    ) -> list[Any] | None:
        """What is between two places of the text, or None when it is something else."""
        raw = self._raw
        whole = start == 1 and end == len(raw) - 1
        try:
            return decoder.decode(raw if whole else b"".join((b"[", raw[start:end], b"]")))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _flat(self, rows: list[list[Any]]) -> list[Any]:
        if any(len(row) != self.shape[1] for row in rows):
            raise self.odd()
        return [value for row in rows for value in row]

    def _expect(self, size: int) -> None:
        if self.size != size:
            wanted = f"a binary_data_size of {size}, as its shape and data type have it"
            raise _unfit(self.name, wanted, str(self.size))

    def name_of(self, number: float) -> str:
        """What one of its values is, where it does not fit."""
        if np.isnan(number) and self.is_json:
            return "null"
        if self.datatype in _NUMBERS:
            return describe(float(number))
        kind = ("an empty string", "a string") if self.datatype == "BYTES" else ("", "another byte")
        return kind[0] if np.isnan(number) else kind[1]

    def odd(self) -> Unfit:
        """Say that the data is not what shape and data type say."""
        return _unfit(self.name, f"data of its shape and of {self.datatype}", "other data")


@lru_cache(maxsize=16)
def _plan(schema: Schema) -> _Plan:
    return _Plan(schema)


class _Plan:
    """Turns tensors into records.

    Args:
        schema: what a record holds.
    """

    def __init__(self, schema: Schema) -> None:
        self._fields = schema.fields
        self._places = {name: at for at, name in enumerate(schema.names)}
        self._optional = np.array([not each.required for each in schema.fields])
        self._encoders = {
            each.name: _encoder(each) for each in schema.fields if each.kind == "category"
        }
        # In the tensor of all fields these are codes, and lie between two of them.
        coded = [
            (at, UNSEEN if each.open else 0, len(each.categories or "01") - 1)
            for at, each in enumerate(schema.fields)
            if each.kind in {"boolean", "category"}
        ]
        self._codes = {at: f"a code from {low:g} to {high}" for at, low, high in coded}
        self._coded = np.array([*self._codes], np.intp)
        low, high = np.full(len(schema), -LARGEST), np.full(len(schema), LARGEST)
        for at, least, most in coded:
            low[at], high[at] = least, most
        # Comparing is fastest among numbers of one kind.
        self._bounds = (low.astype(np.float32), high.astype(np.float32)), (low, high)

    def read(self, tensors: Sequence[_Tensor], most: int) -> tuple[int, Iterator[Piece]]:
        """How many records the tensors hold, and these.

        Raises:
            Unfit: they are not the tensors of the schema.
        """
        if len(tensors) == 1 and tensors[0].name == _RECORDS and _RECORDS not in self._places:
            (whole,) = tensors
            _check(whole, _NUMBERS, [[len(self._fields)]])
            records = _count(tensors, most)
            return records, self._from_whole(whole, records)
        columns = self._columns(tensors)
        records = _count(tensors, most)
        return records, self._from_columns(columns, records)

    def _from_whole(self, tensor: _Tensor, records: int) -> Iterator[Piece]:
        first = 0
        for block in _blocks(tensor, records, len(self._fields)):
            low, high = self._bounds[block.dtype.itemsize == 8]
            fits = (block >= low) & (block <= high)
            if len(self._coded):
                codes = block.take(self._coded, axis=1)
                fits[:, self._coded] &= codes == np.rint(codes)
            if np.count_nonzero(fits) < fits.size:
                self._refuse(block, ~fits, partial(self._fault_of_whole, tensor, block, first))
            yield Piece(block.astype(np.float32))
            first += len(block)

    def _from_columns(self, tensors: dict[int, _Tensor], records: int) -> Iterator[Piece]:
        columns: dict[int, Numbers] = {}
        for at, tensor in tensors.items():
            parts, left = [], records
            for part in self._parts(at, tensor, records):
                parts.append(part)
                left -= len(part)
                if left < 0:
                    break
                if records > PIECE_RECORDS:
                    yield Piece(np.empty((0, len(self._fields)), np.float32))
            if left:
                raise tensor.odd()
            columns[at] = np.concatenate(parts) if len(parts) != 1 else parts[0]
        for first in range(0, records, PIECE_RECORDS):
            last = min(first + PIECE_RECORDS, records)
            matrix = np.full((last - first, len(self._fields)), np.nan, np.float32)
            with np.errstate(over="ignore"):
                for at, column in columns.items():
                    matrix[:, at] = column[first:last]
            bad = ~(np.abs(matrix) < LARGEST)
            if bad.any():
                # A number that is a little beyond is rounded to the largest there is.
                for at, column in columns.items():
                    bad[:, at] = ~(np.abs(column[first:last].astype(np.float64)) <= LARGEST)
                self._refuse(matrix, bad, partial(self._fault_of_column, tensors, columns, first))
            yield Piece(matrix)

    def _parts(self, at: int, tensor: _Tensor, records: int) -> Iterator[Numbers]:
        match self._fields[at].kind:
            case "boolean":
                return tensor.flags(records)
            case "category":
                return tensor.strings(self._encoders[tensor.name])
        return tensor.numbers(records)

    def _refuse(
        self, block: Numbers, bad: npt.NDArray[np.bool_], fault: Callable[[int, int], Fault]
    ) -> None:
        """Refuse what does not fit, unless it may be missing and is."""
        bad &= ~(np.isnan(block) & self._optional)
        if places := np.argwhere(bad)[:_MOST_FAULTS].tolist():
            raise Unfit.of([fault(row, at) for row, at in places])

    def _fault_of_whole(
        self, tensor: _Tensor, block: Numbers, first: int, row: int, at: int
    ) -> Fault:
        expected = self._codes.get(at) or self._fields[at].expected
        return Fault(first + row, self._fields[at].name, expected, tensor.name_of(block[row, at]))

    def _fault_of_column(
        self,
        tensors: dict[int, _Tensor],
        columns: dict[int, Numbers],
        first: int,
        row: int,
        at: int,
    ) -> Fault:
        got = tensors[at].name_of(columns[at][first + row])
        return Fault(first + row, self._fields[at].name, self._fields[at].expected, got)

    def _columns(self, tensors: Sequence[_Tensor]) -> dict[int, _Tensor]:
        columns: dict[int, _Tensor] = {}
        for tensor in tensors:
            at = self._places.get(tensor.name)
            if at is None or at in columns:
                wanted = f"the tensor {_RECORDS} alone, or one for each field of the schema"
                raise _unfit(tensor.name, wanted, "another one")
            _check(tensor, _datatypes(self._fields[at]), [[], [1]])
            columns[at] = tensor
        for at, each in enumerate(self._fields):
            if each.required and at not in columns:
                raise _unfit(each.name, f"a tensor of {_first(each)}", "no such tensor")
        return columns


def _check(tensor: _Tensor, datatypes: Collection[str], shapes: list[list[int]]) -> None:
    """Refuse a tensor of another data type, or of a shape that does not go on like one of these."""
    if tensor.datatype not in datatypes:
        raise _unfit(tensor.name, f"the data type {' or '.join(datatypes)}", "another")
    if tensor.shape[1:] not in shapes or not tensor.shape:
        wanted = " or ".join(str(["n", *shape]).replace("'", "") for shape in shapes)
        raise _unfit(tensor.name, f"the shape {wanted}", "another")


def _count(tensors: Sequence[_Tensor], most: int) -> int:
    counts = {tensor.shape[0] for tensor in tensors}
    if len(counts) != 1:
        wanted = "tensors of one length for each field"
        raise _unfit("inputs", wanted, "tensors of several" if counts else "none")
    (count,) = counts
    if not 1 <= count <= most:
        raise _unfit("inputs", f"1 to {most} records", "none" if count < 1 else "more of them")
    return count


def _blocks(tensor: _Tensor, records: int, width: int) -> Iterator[Numbers]:
    """A tensor's rows, as many at a time as a piece may have: [n, width]."""
    rest, left = None, records * width
    for part in tensor.numbers(left):
        left -= len(part)
        if left < 0:
            break
        flat = part if rest is None else np.concatenate([rest, part])
        whole = len(flat) - len(flat) % width
        for start in range(0, whole, PIECE_RECORDS * width):
            end = min(start + PIECE_RECORDS * width, whole)
            yield flat[start:end].reshape(-1, width)
        rest = flat[whole:]
    if left:
        raise tensor.odd()


def _encoder(described: Field) -> Callable[[list[Any]], Numbers]:
    """What turns strings, which may be bytes, into a category's codes."""
    codes: dict[str | bytes | None, float] = {b"": np.nan, None: np.nan}
    for code, category in enumerate(described.categories):
        codes[category] = codes[category.encode()] = code
    unknown = UNSEEN if described.open else np.inf

    def encode(strings: list[Any]) -> Numbers:
        return np.array([codes.get(string, unknown) for string in strings], np.float32)

    return encode


def _strings(data: bytes) -> Iterator[bytes]:
    """Binary strings, each with its length in front of it."""
    start, unpack = _LENGTH.size, _LENGTH.unpack_from
    while start <= len(data):
        end = start + unpack(data, start - _LENGTH.size)[0]
        if end > len(data):
            break
        yield data[start:end]
        start = end + _LENGTH.size
    if start != len(data) + _LENGTH.size:
        raise Unreadable("A tensor's last string is longer than its binary_data_size.")


def _datatypes(described: Field) -> Collection[str]:
    return {"boolean": ("BOOL",), "category": ("BYTES",)}.get(described.kind, tuple(_NUMBERS))


def _unfit(name: str, expected: str, got: str) -> Unfit:
    return Unfit([(None, name, expected, got)])


def write(
    request: Request,
    bundle: tuple[str, str],
    *,
    nearest: npt.NDArray[np.intp],
    accepted: npt.NDArray[np.bool_],
    distance: Matrix,
    confidence: Matrix,
    names: Sequence[str],
    good: Sequence[bool],
    embedding: Matrix | None = None,
    distances: Matrix | None = None,
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Write the answer to a request.

    Args:
        request: says which outputs are wanted.
        bundle: name and version of the bundle.
        nearest: [n], index of the class that fits best.
        accepted: [n], whether it accepts the record.
        distance: float32 [n], to that class.
        confidence: float32 [n], that it is that class.
        names: [k], of the classes.
        good: [k], which of them are good traffic.
        embedding: float32 [n, N], if that is wanted.
        distances: float32 [n, k], to every class, if that is wanted.

    Returns:
        Headers, but for the content's length, and the body.
    """
    labels = (*names, UNKNOWN)
    arrays = {
        "distance": distance,
        "confidence": confidence,
        "embedding": embedding,
        "distances": distances,
    }
    outputs, blobs = [], []
    for wanted in request.outputs:
        array: Any = arrays.get(wanted.name)
        match wanted.name:
            case "label":
                array = np.where(accepted, nearest, len(names))
            case "nearest":
                array = nearest
            case "good":
                array = accepted & np.array(good)[nearest]
        output = {"name": wanted.name, "datatype": OUTPUTS[wanted.name], "shape": array.shape}
        words = labels if OUTPUTS[wanted.name] == "BYTES" else None
        if wanted.binary:
            blobs.append(_binary(array, words))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            values = array.ravel().tolist()
            output["data"] = values if words is None else [words[place] for place in values]
        outputs.append(output)
    answer = {"model_name": bundle[0], "model_version": bundle[1], "outputs": outputs}
    if request.id is not None:
        answer["id"] = request.id
    header = _encode(answer)
    if not blobs:
        return [(b"content-type", b"application/json")], header
    length = (b"inference-header-content-length", b"%d" % len(header))
    return [(b"content-type", b"application/octet-stream"), length], b"".join([header, *blobs])


def _binary(array: Numbers, words: tuple[str, ...] | None) -> bytes:
    if words is not None:
        packed = _packed(words)
        return b"".join([packed[place] for place in array.tolist()])
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


@lru_cache(maxsize=16)
def _packed(words: tuple[str, ...]) -> list[bytes]:
    return [_LENGTH.pack(len(word)) + word for word in (word.encode() for word in words)]


def metadata(model: Model) -> dict[str, Any]:
    """What `GET /v2/models/{name}` answers.

    It names one way to send records, the tensor of all fields, and in its parameters what the
    columns are.
    """
    manifest, names = model.manifest, model.schema.names
    inputs = [
        {
            "name": _RECORDS,
            "datatype": "FP32",
            "shape": [-1, len(names)],
            "parameters": {"columns": list(names)},
        }
    ]
    if _RECORDS in names:
        inputs = [
            {"name": each.name, "datatype": _first(each), "shape": [-1]}
            for each in model.schema.fields
        ]
    wide = {"embedding": [manifest.dimensions], "distances": [len(manifest.classes)]}
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, *wide.get(name, [])]}
        for name, datatype in OUTPUTS.items()
    ]
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": "faultcube_onnx",
        "inputs": inputs,
        "outputs": outputs,
    }


def _first(described: Field) -> str:
    """The data type that a field's tensor has as a rule."""
    return {"boolean": "BOOL", "category": "BYTES"}.get(described.kind, "FP32")


def server_metadata() -> dict[str, Any]:
    """What `GET /v2` answers."""
    return {
        "name": "faultcube",
        "version": version("faultcube"),
        "extensions": ["binary_tensor_data"],
    }


def failure(problem: Problem) -> bytes:
    """A problem in the protocol's words, to be sent with its status."""
    return _encode({"error": str(problem)})
