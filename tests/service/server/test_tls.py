from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from service.server import tls
from service.settings import Settings, SettingsError
from tests.support.certificates import self_signed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two certificates and their keys, and what is neither."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder, "server")
    self_signed(folder, "other")
    (folder / "text").write_text("neither")
    command = "openssl ec -aes256 -passout pass:secret -in server.key -out locked.key"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


def test_without_a_certificate_nothing_is_encrypted() -> None:
    assert tls.context(Settings()) is None


def test_a_certificate_and_its_key_are_served_with(folder: Path) -> None:
    settings = Settings(tls_cert=folder / "server.pem", tls_key=folder / "server.key")
    context = tls.context(settings)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("server.pem", None, "FAULTCUBE_TLS_KEY: is not set, and FAULTCUBE_TLS_CERT and "),
        (None, "server.key", "FAULTCUBE_TLS_CERT: is not set, and FAULTCUBE_TLS_CERT and "),
        ("none", "server.key", "FAULTCUBE_TLS_CERT: none cannot be read: No such file"),
        ("server.pem", ".", "FAULTCUBE_TLS_KEY: . cannot be read: Is a directory"),
        ("text", "server.key", "FAULTCUBE_TLS_CERT: text holds no certificate"),
        ("server.pem", "text", "FAULTCUBE_TLS_KEY: text holds no private key"),
        ("server.pem", "locked.key", "FAULTCUBE_TLS_KEY: locked.key holds no private key"),
        ("server.pem", "other.key", "FAULTCUBE_TLS_KEY: other.key is not the key of the cert"),
    ],
)
def test_what_cannot_be_served_with_is_told_in_one_line_that_names_the_variable(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    cert: str | None,
    key: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(SettingsError) as refused:
        tls.context(
            Settings(tls_cert=Path(cert) if cert else None, tls_key=Path(key) if key else None)
        )
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
