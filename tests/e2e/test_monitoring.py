from __future__ import annotations

import configparser
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml  # type: ignore[import-untyped]

from models import UNKNOWN
from tests.e2e.test_compose import Project, have_image
from tests.support.running import classify, environment, eventually, output_of

pytestmark = pytest.mark.xdist_group("containers")
ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "docker" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "faultcube.json"

HISTOGRAMS = {"faultcube_request_seconds", "faultcube_distance", "faultcube_inference_seconds"}
EXPORTED = {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "count", "sum")} | {
    "faultcube_requests_total",
    "faultcube_records_total",
    "faultcube_verdicts_total",
    "faultcube_rejected_requests_total",
    "faultcube_queue_requests",
    "faultcube_held_bytes",
    "faultcube_bundle_info",
    "faultcube_bundle_swaps_total",
    "faultcube_bundle_refused_total",
    "faultcube_bundle_source_up",
    "faultcube_ready",
    "faultcube_drift",
    "faultcube_drift_records",
    "faultcube_classes_revision",
    "faultcube_enrolled_classes",
    "faultcube_store_up",
    "faultcube_store_writable",
    "faultcube_shadow_records_total",
    "faultcube_shadow_agreed_total",
    "faultcube_shadow_skipped_total",
    "faultcube_points_total",
    "faultcube_samples_rejected_total",
    "faultcube_assembled_total",
    "faultcube_points_queued",
    "faultcube_incidents_opened_total",
    "faultcube_incidents_closed_total",
    "faultcube_incidents_open",
    "faultcube_alerts_sent_total",
    "faultcube_alerts_failed_total",
    "faultcube_alerts_queued",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_start_time_seconds",
}
OF_PROMETHEUS = {"up", "ALERTS"}
_CLAUSE = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_METRIC = re.compile(r"(?<![\w:.$])[A-Za-z_:][\w:]*(?![\w:]|\s*\()")

Promtool = Callable[..., str]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for group in read(MONITORING / "rules.yml")["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def board() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def charts() -> list[dict[str, Any]]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def shown() -> list[str]:
    """Every expression of the dashboard, as Prometheus gets it."""
    asked = [target["expr"] for panel in charts() for target in panel["targets"]]
    asked += [annotation["expr"] for annotation in board()["annotations"]["list"]]
    return [expression.replace("$__rate_interval", "1m") for expression in asked]


def metrics_of(expression: str) -> set[str]:
    """The metrics that an expression of PromQL names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = _CLAUSE.sub(" ", re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare))
    return set(_METRIC.findall(bare)) - {"and", "or", "unless", "offset", "bool"}


def firing(check: dict[str, Any]) -> list[dict[str, str]]:
    """The labels of each alert that must fire at one moment of one unit test."""
    found = [dict(re.findall(r'(\w+)="([^"]*)"', s["labels"])) for s in check["exp_samples"]]
    return [labels for labels in found if labels.get("alertstate") == "firing"]


def looks() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """For each look at the alerts: in which unit test, and what must fire."""
    for test in read(MONITORING / "rules.test.yml")["tests"]:
        for check in test["promql_expr_test"]:
            if check["expr"] == 'ALERTS{alertstate="firing"}':
                yield test["name"], firing(check)


@pytest.fixture
def promtool() -> Promtool:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")

    def run(*arguments: str | Path) -> str:
        return output_of(["promtool", *map(str, arguments)], cwd=MONITORING, env=environment())

    return run


def test_promtool_accepts_the_configuration_and_the_rules(promtool: Promtool) -> None:
    assert "prometheus.yml is valid" in promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yml")


def test_each_alert_fires_when_it_should_and_is_silent_when_not(promtool: Promtool) -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules.test.yml")


def test_every_alert_is_tested_firing_and_silent() -> None:
    seen: dict[str, set[str]] = {}
    silent: dict[str, set[str]] = {}
    for test, found in looks():
        names = {labels["alertname"] for labels in found}
        for name in names:
            seen.setdefault(name, set()).add(test)
        for name in set(alerts()) - names:
            silent.setdefault(name, set()).add(test)
    assert set(seen) == set(alerts())
    assert [name for name in seen if not seen[name] & silent[name]] == []


def test_every_alert_says_how_bad_it_is_what_happened_and_what_to_do() -> None:
    for name, alert in alerts().items():
        assert re.fullmatch(r"Faultcube[A-Z]\w+", name)
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert set(alert["annotations"]) == {"summary", "description"}
        assert alert["annotations"]["summary"].endswith(".")
        assert len(alert["annotations"]["description"]) > 80


def test_what_an_alert_says_names_only_labels_that_it_has() -> None:
    labels = {found["alertname"]: set(found) for _, alerts in looks() for found in alerts}
    for name, alert in alerts().items():
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
        assert named <= labels[name], name


def test_every_expression_of_the_dashboard_is_promql(promtool: Promtool, tmp_path: Path) -> None:
    wrapped = [{"record": f"shown:{n}", "expr": asked} for n, asked in enumerate(shown())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": wrapped}]}))
    assert f"{len(wrapped)} rules found" in promtool("check", "rules", file)


def test_the_metrics_of_an_expression_are_found() -> None:
    asked = 'sum by (job) (rate(a_total{b="c"}[5m])) / on (d) group_left () (job:e:rate5m > 0.5)'
    assert metrics_of(asked) == {"a_total", "job:e:rate5m"}
    assert metrics_of("f unless g offset 10m or sum by (h) (i) > 1e-9") == {"f", "g", "i"}


def test_rules_and_dashboard_name_only_metrics_that_there_are() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for expression in [*shown(), *(rule["expr"] for rule in rules())]:
        assert metrics_of(expression) <= EXPORTED | OF_PROMETHEUS | recorded, expression


def test_every_metric_that_the_service_exports_is_used() -> None:
    used = set().union(*map(metrics_of, [*shown(), *(rule["expr"] for rule in rules())]))
    rest = {f"{name}_{part}" for name in HISTOGRAMS for part in ("count", "sum")}
    assert EXPORTED - used == rest


def test_the_panels_of_the_dashboard_are_explained_and_do_not_overlap() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in charts():
        assert panel["title"]
        assert panel["description"].endswith(".")
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source["uid"] == "${datasource}" for source in sources)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


def test_grafana_finds_its_dashboard_and_its_prometheus() -> None:
    services = read(ROOT / "docker-compose.yml")["services"]
    (folder,) = services["grafana"]["volumes"]
    assert (ROOT / folder["source"]).resolve() == MONITORING / "grafana"

    def inside(path: str) -> Path:
        return MONITORING / "grafana" / Path(path).relative_to(folder["target"])

    provisioning = MONITORING / "grafana" / "provisioning"
    (provider,) = read(provisioning / "dashboards" / "faultcube.yml")["providers"]
    assert inside(provider["options"]["path"]) == DASHBOARD.parent
    (source,) = read(provisioning / "datasources" / "prometheus.yml")["datasources"]
    assert source["isDefault"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    settings = configparser.ConfigParser()
    settings.read(MONITORING / "grafana" / "grafana.ini")
    assert inside(settings["dashboards"]["default_home_dashboard_path"]) == DASHBOARD


def test_grafana_has_no_user_until_a_password_is_given() -> None:
    settings = configparser.ConfigParser()
    settings.read(MONITORING / "grafana" / "grafana.ini")
    assert settings["auth.anonymous"]["org_role"] == "Viewer"
    assert "admin_password" not in settings["security"]
    for section, key in (
        ("security", "disable_initial_admin_creation"),
        ("auth", "disable_login_form"),
    ):
        assert settings[section][key] == "true"
    assert read(ROOT / "docker-compose.yml")["services"]["grafana"]["environment"] == {
        "GF_SECURITY_ADMIN_PASSWORD": "${FAULTCUBE_GRAFANA_PASSWORD:-}",
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "${FAULTCUBE_GRAFANA_PASSWORD:+false}",
        "GF_AUTH_DISABLE_LOGIN_FORM": "${FAULTCUBE_GRAFANA_PASSWORD:+false}",
    }


def test_every_container_is_hardened_and_listens_on_loopback_alone() -> None:
    for name, service in read(ROOT / "docker-compose.yml")["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert all(port.startswith("127.0.0.1:${") for port in service.get("ports", [])), name


def test_the_alert_knows_the_memory_limit_of_the_container() -> None:
    (limit,) = (r["expr"] for r in rules() if r.get("record") == "faultcube:memory_limit_bytes")
    assert read(ROOT / "docker-compose.yml")["services"]["service"]["mem_limit"] == "1g"
    assert limit == f"vector({1 << 30})"


def test_the_labels_that_are_no_faults_are_those_of_the_model_that_ships(bundle: Path) -> None:
    (kept,) = (
        r["expr"] for r in rules() if r.get("record") == "job_label:faultcube_faults:share10m"
    )
    manifest = json.loads((bundle / "manifest.json").read_text())
    good = [known["name"] for known in manifest["classes"] if known["good"]]
    assert f'label!~"{"|".join([UNKNOWN, *good])}"' in kept


@dataclass
class Prometheus:
    """The Prometheus of a compose project."""

    url: str

    @classmethod
    def of(cls, project: Project) -> Prometheus:
        return cls("http://" + project.do("docker compose port prometheus 9090").strip())

    def get(self, path: str, **parameters: str) -> Any:
        answer = httpx2.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def value(self, expression: str) -> float | None:
        """What an expression is now; None when there is nothing yet."""
        found = self.get("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def read(self) -> list[str] | None:
        """Of every service that was read: what went wrong, or nothing."""
        targets = self.get("targets")["activeTargets"]
        if any(target["health"] == "unknown" for target in targets):
            return None
        return [target["lastError"] for target in targets] or None

    def judged(self) -> list[dict[str, Any]] | None:
        """All rules, once each was evaluated."""
        groups = self.get("rules")["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return None if any(rule["health"] == "unknown" for rule in found) else found


@pytest.fixture
def project(root: Path, free_port: int) -> Iterator[Project]:
    """A compose project; skips where it cannot be had."""
    have_image(root, "prometheus")
    env = environment(
        COMPOSE_PROJECT_NAME=f"faultcube-test-{secrets.token_hex(4)}",
        COMPOSE_PROFILES="monitoring",
        FAULTCUBE_PORT=str(free_port),
        FAULTCUBE_PROMETHEUS_PORT="0",
        FAULTCUBE_METRICS_TIME="7d",
    )
    project = Project(root, env)
    try:
        yield project
    finally:
        project.do("docker compose down -v --remove-orphans")


def test_prometheus_comes_up_reads_the_service_and_has_the_rules(
    project: Project, examples: bytes, labels: list[str]
) -> None:
    project.env["FAULTCUBE_DATABASE_URL"] = "sqlite:////state/classes.sqlite"
    project.env["FAULTCUBE_SHADOW"] = "/bundle"
    project.do("docker compose up -d --build --wait service prometheus")
    prometheus = Prometheus.of(project)
    assert eventually(prometheus.read, seconds=60) == [""]

    shadow = f"{project.url}/models/shadow"
    eventually(lambda: httpx2.get(shadow).json().get("bundle"), seconds=30)
    assert classify(project.url, examples) == labels
    assert httpx2.get(f"{project.url}/nowhere").status_code == 404
    counted = f'sum(faultcube_verdicts_total{{job="faultcube"}}) == {len(labels)}'
    eventually(lambda: prometheus.value(counted), seconds=60)
    compared = f"sum(faultcube_shadow_agreed_total) == {len(labels)}"
    eventually(lambda: prometheus.value(compared), seconds=60)
    assert prometheus.value("faultcube_ready") == 1
    missing = EXPORTED - set(prometheus.get("label/__name__/values"))
    alerts = {"faultcube_alerts_sent_total", "faultcube_alerts_failed_total"}  # nobody is told
    followed = {"faultcube_bundle_source_up"}  # no object store is
    assert missing <= {"faultcube_drift", *alerts, *followed}, "it alone waits for more records"

    loaded = eventually(prometheus.judged, seconds=60)
    assert {rule["name"] for rule in loaded} == {r.get("alert") or r["record"] for r in rules()}
    assert {rule["health"] for rule in loaded} == {"ok"}
    assert prometheus.value('count(ALERTS{alertstate="firing"})') is None
    for expression in shown():
        prometheus.value(expression)


def test_prometheus_is_hardened_and_keeps_only_so_much(project: Project) -> None:
    project.do("docker compose up -d --no-deps --wait prometheus")
    container = project.do("docker compose ps -q prometheus").strip()
    told = json.loads(project.do("docker inspect", container))[0]
    assert told["State"]["Health"]["Status"] == "healthy"
    assert told["HostConfig"]["Memory"] == 512 << 20
    (port,) = told["NetworkSettings"]["Ports"]["9090/tcp"]
    assert port["HostIp"] == "127.0.0.1"
    flags = Prometheus.of(project).get("status/flags")
    assert flags["storage.tsdb.retention.time"] == "1w"
    assert flags["storage.tsdb.retention.size"] in {"2GB", "2GiB"}
    assert flags["web.enable-lifecycle"] == flags["web.enable-admin-api"] == "false"
    probe = (
        "id -u; sed -n 's/^\\(CapEff\\|CapBnd\\|NoNewPrivs\\):\\s*//p' /proc/1/status;"
        "for place in / /etc/prometheus /prometheus; do test -w $place; echo $?; done"
    )
    assert project.do("docker compose exec -T prometheus sh -c", probe).split() == [
        *("65534", "0" * 16, "0" * 16, "1"),
        *("1", "1", "0"),
    ]


def test_prometheus_shows_its_key_to_a_service_that_asks_for_one(
    project: Project, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text(secrets.token_urlsafe())
    project.env |= {
        "FAULTCUBE_READ_KEYS": hashlib.sha256(key.read_bytes()).hexdigest(),
        "FAULTCUBE_METRICS_KEY_FILE": str(key),
    }
    project.do("docker compose up -d --build --wait service prometheus")
    assert httpx2.get(f"{project.url}/metrics").status_code == 401
    assert eventually(Prometheus.of(project).read, seconds=60) == [""]
