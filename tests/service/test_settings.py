from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, as_markdown


def test_every_setting_is_read_from_its_environment_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(f"read {'d' * 64}\n")
    values = {
        "bundle": Path("/srv/b"),
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
        "drift_window": 5000,
        "shadow": tmp_path / "shadow",
        "otlp_endpoint": "http://localhost:4318",
        "trace_share": 0.5,
        "max_held_bytes": 1 << 24,
        "queue": 7,
        "database_url": "postgresql://db/faultcube",
        "mapping": Path(__file__).parents[2] / "training/data/cisco-iosxr/mapping.toml",
        "journal": tmp_path / "journal",
        "max_classes": 9,
        "incident_open": 3,
        "incident_window": 5,
        "incident_close": 6,
        "incident_least_seconds": 7.5,
        "incident_flap_seconds": 8.5,
        "incident_root_seconds": 9.5,
        "incident_stale_seconds": 10.5,
        "incident_settle_seconds": 11.5,
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


def test_a_mapping_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text('name = "x"')
    with pytest.raises(SettingsError, match=r"FAULTCUBE_MAPPING: .*key"):
        Settings.read(mapping=tmp_path / "mapping.toml")
