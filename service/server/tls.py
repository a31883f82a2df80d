"""HTTPS: the certificate and the key that an operator sets."""

from __future__ import annotations

import ssl
from pathlib import Path

from service.settings import Settings, SettingsError

__all__ = ["context"]

_CERT, _KEY = "FAULTCUBE_TLS_CERT", "FAULTCUBE_TLS_KEY"


def context(settings: Settings) -> ssl.SSLContext | None:
    """What connections are encrypted with, or None when they are not.

    Raises:
        SettingsError: certificate and key cannot be used, or only one of them is set.
    """
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        missing = _CERT if cert is None else _KEY
        raise SettingsError(f"{missing}: is not set, and {_CERT} and {_KEY} go together")
    _try(_CERT, cert)
    _try(_KEY, key)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The password keeps OpenSSL from asking for one at the terminal.
        made.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        raise SettingsError(_why(error, cert, key)) from error
    return made


def _try(variable: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{variable}: {path} cannot be read: {error.strerror}") from error


def _why(error: ssl.SSLError, cert: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{_KEY}: {key} is not the key of the certificate {cert}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except ssl.SSLError:
        return f"{_CERT}: {cert} holds no certificate in PEM"
    return f"{_KEY}: {key} holds no private key in PEM, or one that is encrypted"
