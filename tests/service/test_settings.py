from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings, SettingsError, as_markdown, misspelt


def test_every_setting_is_read_from_its_environment_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"read {'d' * 64}\n")
    (tmp_path / "signers").write_text(f"{'A' * 43}=\n")
    values = {
        "bundle": Path("/srv/b"),
        "bundles_from": "s3://key:secret@bucket/models?region=x",
        "bundles_poll_seconds": 0.5,
        "trusted_keys": str(tmp_path / "signers"),
        "host": "0.0.0.0",
        "port": 9000,
        "max_records": 5,
        "max_body_bytes": 4096,
        "body_seconds": 2.5,
        "threads": 4,
        "log_level": "debug",
        "log_format": "console",
        "log_requests": "all",
        "header_seconds": 3.5,
        "idle_seconds": 4.5,
        "grace_seconds": 5.5,
        "workers": 3,
        "tls_cert": tmp_path / "cert.pem",
        "tls_key": tmp_path / "key.pem",
        "bundle_seconds": 12.5,
        "bundle_bytes": 1 << 28,
        "drift_window": 5000,
        "shadow": tmp_path / "shadow",
        "otlp_endpoint": "http://localhost:4318",
        "trace_share": 0.5,
        "trusted_proxies": "10.0.0.5, 192.168.0.0/16,fe80::1",
        "max_held_bytes": 1 << 24,
        "queue": 7,
        "database_url": "postgresql://db/faultcube",
        "mapping": Path(__file__).parents[2] / "training/data/cisco-iosxr/mapping.toml",
        "journal": tmp_path / "journal",
        "ingest_share": "2/3",
        "max_classes": 9,
        "incident_open": 3,
        "incident_window": 5,
        "incident_close": 6,
        "incident_least_seconds": 7.5,
        "incident_flap_seconds": 8.5,
        "incident_root_seconds": 9.5,
        "incident_stale_seconds": 10.5,
        "incident_settle_seconds": 11.5,
        "incident_days": 12.5,
        "alertmanagers": "http://one:9093, https://two/prefix",
        "webhook": "https://me:word@there/hook?x=1",
        "webhook_secret": "hush",
        "page": "off",
        "live_viewers": 8,
        "live_devices": 9,
        "read_keys": "a" * 64,
        "admin_keys": f"{'b' * 64},{'c' * 64}",
        "keys_file": tmp_path / "keys",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"FAULTCUBE_{name.upper()}", str(value))
    assert Settings.read().model_dump() == values


def test_an_option_overrides_the_environment_and_none_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAULTCUBE_PORT", "9000")
    assert Settings.read(port=1).port == 1
    assert Settings.read(port=None).port == 9000


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FAULTCUBE_PORT", "65536"),
        ("FAULTCUBE_PORT", "http"),
        ("FAULTCUBE_HOST", ""),
        ("FAULTCUBE_MAX_RECORDS", "0"),
        ("FAULTCUBE_MAX_BODY_BYTES", "1"),
        ("FAULTCUBE_BODY_SECONDS", "0"),
        ("FAULTCUBE_BODY_SECONDS", "nan"),
        ("FAULTCUBE_THREADS", "-1"),
        ("FAULTCUBE_LOG_LEVEL", "loud"),
        ("FAULTCUBE_LOG_FORMAT", "xml"),
        ("FAULTCUBE_LOG_REQUESTS", "perhaps"),
        ("FAULTCUBE_INCIDENT_CLOSE", "0"),
        ("FAULTCUBE_INCIDENT_OPEN", "4"),
        ("FAULTCUBE_ALERTMANAGERS", "localhost:9093"),
        ("FAULTCUBE_ALERTMANAGERS", "http://one:9093; http://two:9093"),
        ("FAULTCUBE_WEBHOOK", "hook"),
        ("FAULTCUBE_BUNDLES_FROM", "bucket/models"),
        ("FAULTCUBE_BUNDLES_POLL_SECONDS", "0"),
        ("FAULTCUBE_TRUSTED_KEYS", "AAAA"),
        ("FAULTCUBE_TRUSTED_KEYS", f"{'A' * 43}=,"),
        ("FAULTCUBE_TRUSTED_PROXIES", "*"),
        ("FAULTCUBE_TRUSTED_PROXIES", "proxy.example.org"),
        ("FAULTCUBE_TRUSTED_PROXIES", "10.0.0.1/8"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        Settings.read()
    assert str(refused.value).startswith(variable)
    assert "\n" not in str(refused.value)


def test_the_table_has_a_line_with_a_meaning_for_each_setting_and_no_path_of_this_machine() -> None:
    table = as_markdown()
    lines = table.splitlines()[2:]
    assert len(lines) == len(Settings.model_fields)
    assert all(len(line.split("|")[3]) > 20 for line in lines)
    assert "| `FAULTCUBE_BUNDLE` | `models/iosxr` (the one that ships) |" in table
    assert "| `FAULTCUBE_LOG_REQUESTS` | `failed` |" in table
    assert str(Path(__file__).parents[2]) not in table


def test_a_shadow_that_is_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULTCUBE_SHADOW", "")
    assert Settings.read().shadow is None


def test_without_trusted_keys_anybody_may_have_made_a_bundle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = f"{'A' * 43}="
    monkeypatch.setenv("FAULTCUBE_TRUSTED_KEYS", "")
    assert Settings.read().trust() is None
    assert str(Settings.read(trusted_keys=key).trust()) == key


def test_copies_of_bundles_have_a_folder_of_their_own_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Settings.read().shelf() == Settings().bundle
    monkeypatch.setenv("FAULTCUBE_BUNDLES_FROM", "s3://bucket/models")
    assert Settings.read().shelf() == tmp_path / "faultcube/bundles"
    assert Settings.read(bundle=tmp_path / "own").shelf() == tmp_path / "own"


@pytest.mark.parametrize("test", ["one", "next"])
def test_no_service_finds_what_another_test_left(test: str) -> None:
    assert Settings.read().database() is None, test
    url = Settings.read(admin_keys="a" * 64).database() or ""
    sqlite = Path(url.removeprefix("sqlite:///"))
    sqlite.parent.mkdir(parents=True)
    sqlite.touch()
    assert Settings.read().database() == url


def test_a_mapping_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text('name = "x"')
    with pytest.raises(SettingsError, match=r"FAULTCUBE_MAPPING: .*key"):
        Settings.read(mapping=tmp_path / "mapping.toml")


def test_a_variable_that_is_no_setting_is_told_with_the_nearest_one() -> None:
    lines = misspelt(["FAULTCUBE_ADMIN_KEY", "faultcube_prot", "FAULTCUBE_XYZZY", "HOME"])
    assert lines == [
        "FAULTCUBE_ADMIN_KEY is no setting and is ignored; did you mean FAULTCUBE_ADMIN_KEYS?",
        "FAULTCUBE_XYZZY is no setting and is ignored; see `faultcube settings`",
        "faultcube_prot is no setting and is ignored; did you mean FAULTCUBE_PORT?",
    ]


def test_settings_and_variables_of_other_commands_are_not_misspelt() -> None:
    names = [f"FAULTCUBE_{name.upper()}" for name in Settings.model_fields]
    assert not misspelt([*names, "faultcube_port", "FAULTCUBE_KEY", "FAULTCUBES"])


def test_networks_of_proxies_are_also_named_as_an_ipv6_socket_sees_them() -> None:
    assert Settings(trusted_proxies=" ").proxies() == []
    assert Settings(trusted_proxies="10.0.0.0/8, ::1").proxies() == [
        "10.0.0.0/8",
        "::1/128",
        "::ffff:10.0.0.0/104",
    ]


@pytest.fixture
def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as a user whom the system does not know, as containers may."""

    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME")


@pytest.mark.usefixtures("_homeless")
def test_a_user_without_a_home_needs_none_where_nothing_is_stored() -> None:
    assert Settings.read().database() is None


@pytest.mark.usefixtures("_homeless")
@pytest.mark.parametrize(
    ("chosen", "missing"),
    [
        ({"admin_keys": "a" * 64}, "DATABASE_URL"),
        ({"admin_keys": "a" * 64, "database_url": "sqlite:////a/file"}, "JOURNAL"),
        ({"database_url": "sqlite:////a/file"}, "JOURNAL"),
        ({"bundles_from": "s3://bucket/models"}, "BUNDLE"),
    ],
)
def test_a_user_without_a_home_is_told_what_to_set(chosen: dict[str, Any], missing: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read(**chosen)
    assert str(caught.value) == (
        f"FAULTCUBE_{missing}: is not set, and this user has no home folder: set it, or "
        "XDG_STATE_HOME"
    )
    named = {"database_url": "sqlite:////b", "journal": Path("/c"), "bundle": Path("/d")}
    Settings.read(**(chosen | named))
