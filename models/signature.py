"""Signatures of bundles: who vouches for one, whoever may write to the place where it lies.

    manifest.sig    one line in Base64: a public key and, after a space, its Ed25519 signature
                    (RFC 8032) of the bytes of manifest.json

The manifest holds the hash of every other file, so its signature is one of all that a bundle says
and does. It says nothing of whether the bundle is the newest.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from models.bundle import MANIFEST, SIGNATURE, Bundle, read_manifest
from models.files import read_file

__all__ = ["KeyFileError", "TrustedKeys", "new_key", "sign"]

_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_MOST_FILE_BYTES = 1 << 16


class KeyFileError(ValueError):
    """A key cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """Public keys, any of which may have signed a bundle.

    Attributes:
        keys: in Base64.
    """

    keys: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> TrustedKeys:
        """Parse keys, or paths of files of one key a line, separated by commas.

        Raises:
            KeyFileError: there is no key, or a file cannot be read.
        """
        keys = tuple(key for word in text.split(",") for key in _keys(word.strip()))
        return cls(tuple(dict.fromkeys(keys)))

    def __str__(self) -> str:
        return ",".join(self.keys)

    def fault(self, manifest: bytes, signature: bytes | None) -> str | None:
        """Return why a manifest must not be trusted; None where it may.

        Args:
            manifest: its bytes.
            signature: the content of the file beside it; None without one.
        """
        if signature is None:
            return f"it is not signed: there is no {SIGNATURE}"
        words = signature.decode("ascii", "replace").split()
        if len(words) != 2:
            return f"{SIGNATURE} holds no signature"
        key, signed = words[0], _decoded(words[1], _SIGNATURE_BYTES)
        if key not in self.keys:
            return f"it is signed with the key {key[:64]!r}, which is not trusted"
        try:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key))
            public.verify(signed or b"", manifest)
        except InvalidSignature:
            return f"{MANIFEST} or {SIGNATURE} was altered: the signature does not fit"
        return None


def sign(folder: Path, key_file: Path) -> str:
    """Verify a bundle and write its signature beside its manifest; an earlier one is replaced.

    Args:
        folder: of the bundle.
        key_file: a private key as `new_key` writes it.

    Returns:
        The public key.

    Raises:
        BundleError: the bundle is none, or was altered.
        KeyFileError: the key cannot be used.
        OSError: the signature cannot be written.
    """
    private = _private(key_file)
    text = read_manifest(folder)

    def read(name: str, most: int) -> bytes:
        return text if name == MANIFEST else read_file(folder / name, most)

    Bundle.of(read, folder)  # of the very bytes that are signed
    key = _public(private)
    line = f"{key} {base64.b64encode(private.sign(text)).decode()}\n"
    draft = folder / f".{SIGNATURE}-{os.getpid()}"
    try:
        draft.write_text(line, encoding="ascii")
        draft.replace(folder / SIGNATURE)
    finally:
        draft.unlink(missing_ok=True)
    return key


def new_key(path: Path) -> str:
    """Write a new private key (PEM, PKCS #8) that its owner alone may read.

    Returns:
        The public key.

    Raises:
        OSError: the file exists, or cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    return _public(private)


def _public(private: Ed25519PrivateKey) -> str:
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(read_file(path, _MOST_FILE_BYTES), password=None)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read ({error.strerror})") from error
    except TypeError as error:
        raise KeyFileError(f"{path} has a password: give a key without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} is no private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is no Ed25519 key: make one with faultcube sign --new-key")
    return key


def _keys(word: str) -> list[str]:
    """Return the key that a word is, or those of the file that it names."""
    if _decoded(word, _KEY_BYTES):
        return [word]
    shown = word[:80]
    try:
        lines = read_file(Path(word), _MOST_FILE_BYTES).decode("ascii").split("\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise KeyFileError(
            f"{shown!r} is neither a public key nor a file of them ({why})"
        ) from error
    keys = [bare for line in lines if (bare := line.partition("#")[0].strip())]
    for key in keys:
        if not _decoded(key, _KEY_BYTES):
            raise KeyFileError(f"the file {shown!r} holds a line that is no public key")
    if not keys:
        raise KeyFileError(f"the file {shown!r} holds no public key")
    return keys


def _decoded(text: str, size: int) -> bytes | None:
    """Return the bytes of a Base64 text; None if it is none, or not of this size."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # Written in one way only: another text of the same key would not be found among the trusted.
    if len(content) != size or base64.b64encode(content).decode() != text:
        return None
    return content
