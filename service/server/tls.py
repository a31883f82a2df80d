"""HTTPS: the certificate and the key that an operator sets."""

from __future__ import annotations

import ssl
from pathlib import Path

from service.settings import Settings, SettingsError

__all__ = ["context"]

_CERT, _KEY = "FAULTCUBE_TLS_CERT", "FAULTCUBE_TLS_KEY"


def context(settings: Settings) -> ssl.SSLContext | None:
    """Return the context that connections are encrypted with, or None without a certificate.

    Raises:
        SettingsError: the certificate or the key cannot be used, or only one of them is set.
    """
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        missing = _CERT if cert is None else _KEY
        raise SettingsError(f"{missing}: is not set, and {_CERT} and {_KEY} go together")
    for variable, path in ((_CERT, cert), (_KEY, key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise SettingsError(f"{variable}: {path} cannot be read: {error.strerror}") from error
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The password keeps OpenSSL from asking for one at the terminal.
        tls.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        raise SettingsError(_reason(error, cert, key)) from error
    return tls


def _reason(error: ssl.SSLError, cert: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{_KEY}: {key} is not the key of the certificate {cert}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except ssl.SSLError:
        return f"{_CERT}: {cert} holds no certificate in PEM"
    return f"{_KEY}: {key} holds no private key in PEM, or one that is encrypted"
