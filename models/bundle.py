"""The bundle: a trained model as a folder that never changes once it is written.

    encoder.onnx    raw float32 [n, fields], NaN = missing -> embedding float32 [n, N]
    manifest.json   what the model is, and the SHA-256 of every other file
    examples.json   a ready request body: one real record of each class, in the manifest's order
    reference.npz   calibration records and their classes; not in every bundle
    card.md         the model card, with its figures beside it
    manifest.sig    who vouches for the manifest, and so for all of this; see `models.signature`

Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

import pydantic

from models import names
from models.files import read_file
from models.schema import Field

__all__ = [
    "FORMAT",
    "MANIFEST",
    "MOST_BYTES",
    "MOST_FIELDS",
    "MOST_MANIFEST_BYTES",
    "MOST_SIGNATURE_BYTES",
    "SIGNATURE",
    "Bundle",
    "BundleError",
    "Calibration",
    "Class",
    "Manifest",
    "Name",
    "ReadFile",
    "Trust",
    "read_manifest",
]

FORMAT: Final = 1

MOST_BYTES = 256 << 20
"""Of a bundle's files together, its manifest aside."""
MOST_MANIFEST_BYTES = 8 << 20
"""Of a manifest; one of 2,000 classes in 140 dimensions has 7 MB."""
MOST_SIGNATURE_BYTES = 1024
MOST_FIELDS = 4096

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,99})?")

_REQUIRED_FILES = ("encoder.onnx", "examples.json")

ReadFile = Callable[[str, int], bytes]
"""Returns a bundle's file by its name, of at most so many bytes, or raises `OSError`."""

Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
_Unit = Annotated[float, pydantic.Field(ge=0, le=1)]


class BundleError(Exception):
    """A bundle is rejected; the message names it and says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"bundle {path} is refused: {reason}")
        self.path, self.reason = path, reason


class Trust(Protocol):
    """Decides whom to trust; `models.signature.TrustedKeys` does."""

    def fault(self, manifest: bytes, signature: bytes | None) -> str | None:
        """Return why a manifest must not be trusted, None where it may."""
        ...


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Class(_Frozen):
    """One cluster of the embedding.

    Attributes:
        name: the verdict's label.
        good: True for good traffic.
        severity: perceived severity (ITU-T X.733) of a record of this class.
        centroid: mean embedding of the class's training records, N numbers in 0..1.
        radius: largest distance (0..1) at which the class accepts a record.
        records: how many training records the centroid is the mean of.
        share: prior share of records that are of this class, as the rule counts it; None if all
            classes count alike, as in older bundles.
        enrolled: True for a class of too few records to be fitted: its centroid is the mean of
            these records, and it is judged as a class that was enrolled from them at run time.
        echo_of: the class that this one is the echo of, elsewhere than where the fault is; None if
            it is a fault of its own. A class that names itself is both: a cut link looks the same
            at its two ends.
        lasting: whether the fault can stand for long; where it cannot, a level that stays has
            become the normal one.
    """

    name: names.Name
    good: bool
    severity: Literal["none", "indeterminate", "warning", "minor", "major", "critical"]
    centroid: Annotated[tuple[_Unit, ...], pydantic.FailFast()]
    radius: _Unit
    records: Annotated[int, pydantic.Field(ge=1)]
    # Left out where it says nothing: the versions of older bundles are hashes of what they hold.
    share: Annotated[float, pydantic.Field(gt=0, le=1)] | None = pydantic.Field(
        default=None, exclude_if=lambda share: share is None
    )
    enrolled: bool = pydantic.Field(default=False, exclude_if=lambda enrolled: not enrolled)
    echo_of: str | None = pydantic.Field(default=None, exclude_if=lambda name: name is None)
    lasting: bool = pydantic.Field(default=True, exclude_if=lambda lasting: lasting)

    @property
    def support(self) -> float:
        """The number of records behind the centroid; infinite where it counts as exact."""
        return self.records if self.enrolled else math.inf


class Calibration(_Frozen):
    """How radii and confidence were set: on records that the encoder which embedded them never saw.

    Attributes:
        unknown_rate: share of records of known classes that may be called unknown.
        temperature: of the softmax over negative distances that gives the confidence.
        records: held-out records used, by class.
        scatter: mean distance of training records from the centroid of their class, 0..1: what a
            class enrolled from few records is judged by.
    """

    unknown_rate: Annotated[float, pydantic.Field(gt=0, lt=1)]
    temperature: Annotated[float, pydantic.Field(ge=1e-6, le=1e6)]
    records: dict[str, int]
    scatter: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0


class Manifest(_Frozen):
    """What a model is, in one JSON document.

    Attributes:
        format: version of this document's form; another one is refused.
        name: the model's name.
        version: first 16 hex digits of the SHA-256 over all that the bundle holds, `created` aside.
        created: when it was written.
        about: what the data is, where it comes from and what it may be used for.
        dimensions: N, the width of the embedding.
        adapted: True if it was trained on adapted records: every site needs a profile.
        fields: the record schema, in the order of the encoder's input columns; at most
            `MOST_FIELDS`.
        classes: exactly one of them good.
        calibration: of radii and confidence.
        training: the recipe it was fitted with, and the versions of the libraries.
        metrics: what was measured on the test split.
        files: SHA-256 of every other file of the bundle.
    """

    format: Literal[1] = FORMAT
    name: Name
    version: str
    created: datetime
    about: str = ""
    dimensions: Annotated[int, pydantic.Field(ge=1)]
    adapted: bool = pydantic.Field(default=False, exclude_if=lambda adapted: not adapted)
    fields: Annotated[
        tuple[Field, ...], pydantic.Field(min_length=1, max_length=MOST_FIELDS), pydantic.FailFast()
    ]
    classes: Annotated[tuple[Class, ...], pydantic.Field(min_length=2), pydantic.FailFast()]
    calibration: Calibration
    training: dict[str, Any]
    metrics: dict[str, Any]
    files: dict[str, str]

    @pydantic.model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        if len({field.name for field in self.fields}) != len(self.fields):
            raise ValueError("two fields share a name")
        called: dict[str, str] = {}
        for name in (class_.name for class_ in self.classes):
            other = names.clash(name, ()) or called.get(names.folded(name))
            if other is not None:
                raise ValueError(f"class {name!r} cannot be told from {other!r}")
            called[names.folded(name)] = name
        if sum(class_.good for class_ in self.classes) != 1:
            raise ValueError("exactly one class must be good")
        if any(len(class_.centroid) != self.dimensions for class_ in self.classes):
            raise ValueError("a centroid's length is not the number of dimensions")
        folders = {name.partition("/")[0] for name in self.files if "/" in name}
        for name in self.files:
            if not _FILE_NAME.fullmatch(name) or name == MANIFEST or name in folders:
                raise ValueError(f"file name not allowed: {name!r}")
        for name in _REQUIRED_FILES:
            if name not in self.files:
                raise ValueError(f"it lists no {name}")
        return self

    @pydantic.model_validator(mode="after")
    def _echoes_have_a_cause(self) -> Manifest:
        faults = {class_.name for class_ in self.classes if not class_.good}
        for class_ in self.classes:
            if class_.echo_of is not None and not {class_.name, class_.echo_of} <= faults:
                raise ValueError(
                    f"{class_.name!r} cannot be the echo of {class_.echo_of!r}: both must be fault "
                    "classes"
                )
        return self

    @classmethod
    def parse(cls, text: bytes, folder: Path) -> Manifest:
        """Parse the manifest of the bundle in a folder.

        Raises:
            BundleError: it is no valid manifest, or of another format.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(folder, f"{MANIFEST} is not JSON (cut off?)") from error
        form = document.get("format") if isinstance(document, dict) else None
        if form != FORMAT:
            raise BundleError(folder, f"its format is {form!r}; this version reads format {FORMAT}")
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            (first, *_) = error.errors(
                include_url=False, include_context=False, include_input=False
            )
            path = ".".join(map(str, first["loc"])) or "document"
            raise BundleError(folder, f"{MANIFEST}: {path}: {first['msg']}") from error

    def content_hash(self) -> str:
        """Return the version that this content must have."""
        content = self.model_dump(mode="json", exclude={"version", "created"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest and the verified bytes of the files it lists."""

    manifest: Manifest
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, path: str | Path, *, trusted: Trust | None = None) -> Bundle:
        """Read a bundle and verify all of its files.

        Args:
            path: its folder.
            trusted: who must have signed it; anybody may have made it unless given.

        Raises:
            BundleError: a file is missing, unreadable, truncated or altered, the files have more
                than `MOST_BYTES`, the format is not supported, or nobody trusted has signed it.
        """
        folder = Path(path)
        return cls.of(lambda name, most: read_file(folder / name, most), folder, trusted=trusted)

    @classmethod
    def of(cls, read: ReadFile, folder: Path, *, trusted: Trust | None = None) -> Bundle:
        """Read a bundle from anywhere and verify it, as `read` does.

        Each file is read once, and what is returned is made of the bytes that were verified.

        Args:
            read: reads a file.
            folder: what to call the bundle in errors.
            trusted: as for `read`.

        Raises:
            BundleError: as for `read`.
        """
        text = _manifest(read, folder)
        if trusted is not None and (fault := trusted.fault(text, _signature(read, folder))):
            raise BundleError(folder, fault)
        manifest = Manifest.parse(text, folder)
        files: dict[str, bytes] = {}
        left = MOST_BYTES
        for name, digest in manifest.files.items():
            files[name] = _file(read, folder, name, digest, left)
            left -= len(files[name])
        if manifest.version != manifest.content_hash():
            raise BundleError(folder, f"{MANIFEST} was altered: its content is not its version's")
        return cls(manifest, files)

    @classmethod
    def make(cls, files: Mapping[str, bytes], **content: Any) -> Bundle:
        """Make a bundle of files and the manifest's content; compute its hashes and version.

        Raises:
            pydantic.ValidationError: the content is not valid for a manifest.
        """
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
        manifest = Manifest(version="", files=digests, **content)
        return cls(manifest.model_copy(update={"version": manifest.content_hash()}), files)

    def write(self, path: str | Path) -> None:
        """Write the bundle to a new folder, completely or not at all.

        Raises:
            FileExistsError: the path exists; a bundle is never overwritten.
            BundleError: it is larger than a bundle that is read may be.
        """
        target = Path(path)
        text = (self.manifest.model_dump_json(indent=1) + "\n").encode()
        if len(text) > MOST_MANIFEST_BYTES or sum(map(len, self.files.values())) > MOST_BYTES:
            sizes = f"{MOST_MANIFEST_BYTES} bytes of manifest and {MOST_BYTES} of files"
            raise BundleError(target, f"it has more than {sizes}")
        if target.exists() or target.is_symlink():
            raise FileExistsError(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            for name, data in self.files.items():
                (draft / name).parent.mkdir(exist_ok=True)
                (draft / name).write_bytes(data)
            (draft / MANIFEST).write_bytes(text)
            draft.chmod(0o755)
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft)
            raise


def read_manifest(folder: Path) -> bytes:
    """Read a bundle's manifest.

    Raises:
        BundleError: it cannot be read, or has more than `MOST_MANIFEST_BYTES`.
    """
    return _manifest(lambda name, most: read_file(folder / name, most), folder)


def _manifest(read: ReadFile, folder: Path) -> bytes:
    try:
        return read(MANIFEST, MOST_MANIFEST_BYTES)
    except OSError as error:
        reason = f"{MANIFEST} cannot be read ({error.strerror}); is this a bundle's folder?"
        raise BundleError(folder, reason) from error


def _signature(read: ReadFile, folder: Path) -> bytes | None:
    """Return the signature, None without one."""
    try:
        return read(SIGNATURE, MOST_SIGNATURE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(folder, f"{SIGNATURE} cannot be read ({error.strerror})") from error


def _file(read: ReadFile, folder: Path, name: str, digest: str, most: int) -> bytes:
    try:
        data = read(name, most)
    except OSError as error:
        raise BundleError(folder, f"{name} cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise BundleError(
            folder, f"{name} was altered or cut off: its SHA-256 is not the manifest's"
        )
    return data
