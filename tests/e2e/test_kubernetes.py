"""The manifests of docker/kubernetes; there is no API server here that could take them."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]

from models import Bundle
from service.api import openinference, operations
from service.settings import Settings
from tests.e2e.test_monitoring import EXPORTED, MONITORING
from tests.support.running import classify, environment, eventually, output_of

pytestmark = pytest.mark.xdist_group("containers")
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "kubernetes"
OVERLAYS = sorted(folder.name for folder in (FOLDER / "overlays").iterdir())
OWN = ["sqlite", "postgresql"]
"""Overlays whose pods are ours, not KServe's."""
CUSTOM = {"InferenceService", "PrometheusRule", "ServiceMonitor", "ServingRuntime"}
"""Kinds of operators: there is no schema of them here."""
VERSIONS = ["1.31.0", "1.37.0"]
"""Of Kubernetes, the oldest that the manifests are for and the newest there is a schema of."""
OF_INGEST = {"POD_INDEX", "INGEST_PODS"}
"""Variables that only make a share."""
NAME = "app.kubernetes.io/name"

Manifest = dict[str, Any]


@cache
def rendered(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return [*yaml.safe_load_all(done.stdout)]


def overlay(name: str) -> list[Manifest]:
    return rendered(FOLDER / "overlays" / name)


def own(folder: Path, **kustomization: Any) -> list[Manifest]:
    """What an overlay of the reader's own, which stands on one of ours, makes."""
    for key in ("resources", "components"):
        paths = kustomization.get(key, [])
        kustomization[key] = [os.path.relpath(FOLDER / path, folder) for path in paths]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return rendered(folder)


def kinds(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str = "faultcube") -> Manifest:
    (found,) = (each for each in kinds(manifests, kind) if each["metadata"]["name"] == name)
    return found


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    return kinds(manifests, "Deployment", "StatefulSet")


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """The specification of every pod; of a ServingRuntime, what KServe makes one of."""
    specs = [manifest["spec"]["template"]["spec"] for manifest in workloads(manifests)]
    return specs + [runtime["spec"] for runtime in kinds(manifests, "ServingRuntime")]


def containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    for pod in pods(manifests):
        assert "initContainers" not in pod
        yield from pod["containers"]


def variables(manifests: list[Manifest]) -> dict[str, Any]:
    """Every environment variable that is set, with its value or where it is from."""
    found: dict[str, Any] = {}
    for container in containers(manifests):
        found |= {each["name"]: each.get("value", each) for each in container["env"]}
    for config in kinds(manifests, "ConfigMap"):
        found |= config["data"]
    return found


def bytes_of(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


def seconds_to_end(container: Manifest) -> float:
    """From the word to end to the last byte, at most; uvicorn and threads get two seconds more."""
    return float(container["lifecycle"]["preStop"]["sleep"]["seconds"]) + grace() + 2 + 2


def grace() -> float:
    default: float = Settings.model_fields["grace_seconds"].default
    return default


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlay_is_valid_to_the_letter_and_only_operators_kinds_have_no_schema(
    name: str, version: str
) -> None:
    without = set()
    for manifest in overlay(name):
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            without.add(manifest["kind"])
    assert without == {manifest["kind"] for manifest in overlay(name)} & CUSTOM


def test_the_validator_refuses_a_misspelt_key() -> None:
    service = named(overlay("sqlite"), "Service")
    wrong = service | {"spec": service["spec"] | {"selektor": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_container_is_hardened_and_bounded(name: str) -> None:
    found = [*containers(overlay(name))]
    assert found
    for container in found:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in security
        assert set(container["resources"]) == {"requests", "limits"}
        for bound in container["resources"].values():
            assert set(bound) == {"cpu", "memory"}
        for port in container["ports"]:
            assert "hostPort" not in port


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_runs_as_any_user_but_root_and_shares_nothing_of_its_node(name: str) -> None:
    for pod in pods(overlay(name)):
        for security in (pod.get("securityContext", {}), *_securities(pod)):
            assert "runAsUser" not in security
            assert "runAsGroup" not in security
        both = [pod.get("securityContext", {}) | each for each in _securities(pod)]
        assert all(each["runAsNonRoot"] is True for each in both)
        assert all(each["seccompProfile"] == {"type": "RuntimeDefault"} for each in both)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        sources = [set(volume) - {"name"} for volume in pod["volumes"]]
        assert all(source <= {"emptyDir", "persistentVolumeClaim", "image"} for source in sources)
        assert all(
            volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume
        )


def _securities(pod: Manifest) -> list[Manifest]:
    return [container["securityContext"] for container in pod["containers"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_nobody_has_a_token_of_the_api_server(name: str) -> None:
    manifests = overlay(name)
    for workload in workloads(manifests):
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        account = named(manifests, "ServiceAccount", pod["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
    for inference in kinds(manifests, "InferenceService"):
        assert inference["spec"]["predictor"]["automountServiceAccountToken"] is False
    assert not kinds(manifests, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_path_that_is_written_to_is_a_volume(name: str) -> None:
    manifests = overlay(name)
    claims = {each["metadata"]["name"] for each in kinds(manifests, "PersistentVolumeClaim")}
    templates = [
        claim["metadata"]["name"]
        for workload in workloads(manifests)
        for claim in workload["spec"].get("volumeClaimTemplates", [])
    ]
    for pod in pods(manifests):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert {"/tmp", "/state"} <= set(mounts)
            assert set(mounts.values()) <= {*volumes, *templates}
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in claims
    dockerfile = (ROOT / "docker" / "service.Dockerfile").read_text()
    assert "HOME=/tmp" in dockerfile
    assert "XDG_STATE_HOME=/state" in dockerfile


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_variable_is_a_setting_and_its_value_is_taken(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {f"FAULTCUBE_{field.upper()}": field for field in Settings.model_fields}
    found = variables(overlay(name))
    assert set(found) - OF_INGEST <= set(settings)
    for variable, value in found.items():
        if isinstance(value, str):
            monkeypatch.setenv(variable, re.sub(r"\$\((POD_INDEX|INGEST_PODS)\)", "1", value))
    read = Settings.read()
    assert read.bundle_bytes == 256 << 20


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_secret_is_here_and_only_the_database_is_compulsory(name: str) -> None:
    manifests = overlay(name)
    assert not kinds(manifests, "Secret")
    for variable, source in variables(manifests).items():
        if re.search("KEY|SECRET", variable):
            assert source["valueFrom"]["secretKeyRef"]["optional"] is True, variable
    if name == "postgresql":
        database = variables(manifests)["FAULTCUBE_DATABASE_URL"]["valueFrom"]["secretKeyRef"]
        assert database == {"name": "faultcube", "key": "database-url"}


def test_a_service_named_like_us_sets_none_of_our_settings() -> None:
    # Kubernetes would tell every pod FAULTCUBE_PORT=tcp://10.0.0.1:8000.
    assert "port" in Settings.model_fields
    for name in OWN:
        assert named(overlay(name), "Service")
        assert all(pod["enableServiceLinks"] is False for pod in pods(overlay(name)))
    assert variables(overlay("kserve"))["FAULTCUBE_PORT"] == "8080"


@pytest.mark.parametrize("name", OVERLAYS)
def test_probes_ask_routes_that_there_are_on_the_port_that_is_served(name: str) -> None:
    routers = operations.router, openinference.router
    routes = {getattr(route, "path", "") for router in routers for route in router.routes}
    for container in containers(overlay(name)):
        (port,) = container["ports"]
        probes = [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
        assert {probe["httpGet"]["path"] for probe in probes} <= routes
        assert all(probe["httpGet"]["port"] in port.values() for probe in probes)
        served = variables(overlay(name)).get("FAULTCUBE_PORT", "8000")
        assert port["containerPort"] == int(served)


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_restart_is_for_a_process_that_hangs_not_for_one_that_is_not_ready(name: str) -> None:
    for container in containers(overlay(name)):
        startup, liveness, readiness = (
            container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")
        )
        assert startup["httpGet"] == liveness["httpGet"] != readiness["httpGet"]
        # benchmarks/results/resilience.md: /livez took a quarter of a second at worst.
        assert liveness["timeoutSeconds"] >= 2
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 30
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 60


def test_a_pod_has_time_to_finish_what_it_began() -> None:
    for name in OWN:
        for pod in pods(overlay(name)):
            (container,) = pod["containers"]
            assert pod["terminationGracePeriodSeconds"] >= seconds_to_end(container) + 15
    assert seconds_to_end(next(containers(overlay("kserve")))) < 30, "what Kubernetes gives"


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_bundle_on_trial_fits_into_the_memory_beside_the_service(name: str) -> None:
    found = variables(overlay(name))
    held: int = Settings.model_fields["max_held_bytes"].default
    measured = 255 << 20  # benchmarks/results/serving.md, with batches of 10,000 records
    for container in containers(overlay(name)):
        limit = bytes_of(container["resources"]["limits"]["memory"])
        assert int(found["FAULTCUBE_BUNDLE_BYTES"]) + held + measured < limit


@pytest.mark.parametrize("name", OWN)
def test_whatever_selects_pods_selects_some(name: str) -> None:
    manifests = overlay(name)
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in workloads(manifests)]
    for workload in workloads(manifests):
        template = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"] == template
    selectors = [each["spec"]["selector"] for each in kinds(manifests, "Service")]
    selectors += [
        each["spec"]["selector"]["matchLabels"] for each in kinds(manifests, "PodDisruptionBudget")
    ]
    selectors.append(named(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector
    # One of each for every kind of pod.
    assert len(kinds(manifests, "Service")) == len(labels)
    assert len(kinds(manifests, "PodDisruptionBudget")) == len(labels)


@pytest.mark.parametrize("name", OWN)
def test_pods_of_one_kind_are_spread_over_zones_and_nodes(name: str) -> None:
    for pod in pods(overlay(name)):
        spread = pod["topologySpreadConstraints"]
        keys = {each["topologyKey"] for each in spread}
        assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        for each in spread:
            assert each["labelSelector"]["matchLabels"] == {NAME: "faultcube"}
            assert each["matchLabelKeys"] == ["app.kubernetes.io/component"]


@pytest.mark.parametrize(
    ("name", "ports"), [("sqlite", {53, 5353, 9093}), ("postgresql", {53, 5353, 9093, 5432})]
)
def test_pods_reach_names_alertmanager_and_their_database_alone(name: str, ports: set[int]) -> None:
    policy = named(overlay(name), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": "http"}]}]
    assert all(rule["to"] for rule in policy["egress"])
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == ports


def test_one_pod_has_the_volume_at_a_time() -> None:
    deployment = named(overlay("sqlite"), "Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert variables(overlay("sqlite"))["FAULTCUBE_DATABASE_URL"].startswith("sqlite:////state/")


def test_the_autoscaler_has_the_say_and_asks_for_a_metric_that_is_exported() -> None:
    manifests = overlay("postgresql")
    scaler = named(manifests, "HorizontalPodAutoscaler")["spec"]
    target = scaler["scaleTargetRef"]
    deployment = named(manifests, target["kind"], target["name"])
    assert "replicas" not in deployment["spec"], "every apply would undo what it scaled to"
    assert scaler["minReplicas"] >= 2
    (metric,) = (each["pods"]["metric"]["name"] for each in scaler["metrics"] if "pods" in each)
    assert metric in EXPORTED
    assert not metric.endswith("_total"), "a gauge: the adapter's own rules would rate a counter"


@pytest.mark.parametrize("more", [False, True], ids=["as it is", "as the README says"])
def test_every_ingest_pod_takes_the_share_of_its_number(tmp_path: Path, *, more: bool) -> None:
    changes = yaml.safe_load(block_with("INGEST_PODS")) if more else {}
    manifests = own(tmp_path, resources=["overlays/postgresql"], **changes)
    ingest = named(manifests, "StatefulSet", "faultcube-ingest")["spec"]
    assert (ingest["replicas"] > 1) is more
    # Shares are counted from 1.
    assert ingest["ordinals"] == {"start": 1}
    (container,) = ingest["template"]["spec"]["containers"]
    environment = {each["name"]: each for each in container["env"]}
    # The one refers to the other, which must come before it; those of the ConfigMap come first.
    names = [*environment]
    assert names.index("POD_INDEX") < names.index("FAULTCUBE_INGEST_SHARE")
    field = environment["POD_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.labels['apps.kubernetes.io/pod-index']"
    share = environment["FAULTCUBE_INGEST_SHARE"]["value"]
    assert share == "$(POD_INDEX)/$(INGEST_PODS)"
    (config,) = kinds(manifests, "ConfigMap")
    assert config["data"]["INGEST_PODS"] == str(ingest["replicas"])


def block_with(word: str) -> str:
    """The YAML block of the README that has a word."""
    blocks = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if word in block)
    return str(block)


def test_the_kinds_of_the_operator_can_be_left_out_as_the_readme_says(tmp_path: Path) -> None:
    changes = yaml.safe_load(block_with("$patch: delete"))
    left = own(tmp_path, resources=["overlays/postgresql"], **changes)
    all_of_them = overlay("postgresql")
    groups = [each["apiVersion"].partition("/")[0] for each in all_of_them]
    assert len(left) == len(all_of_them) - groups.count("monitoring.coreos.com") < len(all_of_them)
    assert not any(each["apiVersion"].startswith("monitoring.coreos.com/") for each in left)


def test_points_are_never_spread_over_the_ingest_pods() -> None:
    service = named(overlay("postgresql"), "Service", "faultcube-ingest")["spec"]
    assert service["clusterIP"] == "None"
    ingest = named(overlay("postgresql"), "StatefulSet", "faultcube-ingest")["spec"]
    assert ingest["serviceName"] == "faultcube-ingest"
    assert ingest["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_the_operators_rules_are_those_of_prometheus_in_its_words() -> None:
    program = runpy.run_path(str(FOLDER / "rules.py"))
    rules = yaml.safe_load((MONITORING / "rules.yml").read_text())
    made = program["as_prometheus_rule"](rules)
    assert made == yaml.safe_load((FOLDER / "components" / "monitoring" / "rules.yaml").read_text())
    assert made == named(overlay("postgresql"), "PrometheusRule")
    left = {rule.get("alert") for group in made["spec"]["groups"] for rule in group["rules"]}
    all_of_them = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    alerts = {rule.get("alert") for group in all_of_them for rule in group["rules"]}
    assert alerts - left == program["LEFT_OUT"]
    text = str(made)
    assert not re.search(r"docker|compose|mem_limit|BUNDLE_DIR|KEY_FILE|rules\.yml", text)
    for words in program["WORDS"]:
        assert re.search(words, str(all_of_them)), f"nothing says {words!r} any more"


def test_the_rules_know_the_job_and_the_memory_of_the_pods() -> None:
    manifests = overlay("postgresql")
    monitor = named(manifests, "ServiceMonitor")["spec"]
    services = kinds(manifests, "Service")
    selected = monitor["selector"]["matchLabels"]
    assert all(selected.items() <= each["metadata"]["labels"].items() for each in services)
    jobs = {each["metadata"]["labels"][monitor["jobLabel"]] for each in services}
    assert jobs == {"faultcube"}
    assert 'job="faultcube"' in str(named(manifests, "PrometheusRule"))
    (endpoint,) = monitor["endpoints"]
    assert endpoint["path"] == "/metrics"
    ports = [port["name"] for each in services for port in each["spec"]["ports"]]
    assert set(ports) == {endpoint["port"]}
    limits = {each["resources"]["limits"]["memory"] for each in containers(manifests)}
    (limit,) = limits
    assert f"vector({bytes_of(limit)})" in str(named(manifests, "PrometheusRule"))


def test_kserve_finds_the_runtime_and_the_bundle_where_it_puts_it() -> None:
    manifests = overlay("kserve")
    runtime, inference = named(manifests, "ServingRuntime"), kinds(manifests, "InferenceService")[0]
    model = inference["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    (supported,) = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"]["name"] == supported["name"]
    assert [model["protocolVersion"]] == runtime["spec"]["protocolVersions"] == ["v2"]
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert variables(manifests)["FAULTCUBE_BUNDLE"] == "/mnt/models"
    # The service answers under the bundle's name, clients ask under that of the InferenceService.
    assert inference["metadata"]["name"] == Bundle.read(ROOT / "models" / "iosxr").manifest.name
    annotations = runtime["spec"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == str(container["ports"][0]["containerPort"])
    assert annotations["prometheus.kserve.io/path"] == "/metrics"


def test_the_image_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    image = f"{compose['services']['service']['image']}:{project['version']}"
    for name in OVERLAYS:
        assert {container["image"] for container in containers(overlay(name))} == {image}


@pytest.mark.parametrize("name", OWN)
def test_openshift_is_told_no_group(tmp_path: Path, name: str) -> None:
    manifests = own(tmp_path, resources=[f"overlays/{name}"], components=["components/openshift"])
    expected = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert all(pod["securityContext"] == expected for pod in pods(manifests))


@pytest.mark.parametrize("name", OWN)
def test_a_bundle_can_be_an_image_of_its_own(tmp_path: Path, name: str) -> None:
    manifests = own(
        tmp_path, resources=[f"overlays/{name}"], components=["components/bundle-image"]
    )
    for manifest in workloads(manifests):
        kubernetes_validate.validate(manifest, "1.33.0", strict=True)
    for pod in pods(manifests):
        (volume,) = (volume for volume in pod["volumes"] if "image" in volume)
        (container,) = pod["containers"]
        (mount,) = (each for each in container["volumeMounts"] if each["name"] == volume["name"])
        assert mount["readOnly"] is True
        assert variables(manifests)["FAULTCUBE_BUNDLE"] == mount["mountPath"]


@pytest.mark.parametrize("name", OWN)
def test_bundles_can_come_from_an_object_store(tmp_path: Path, name: str) -> None:
    manifests = own(
        tmp_path, resources=[f"overlays/{name}"], components=["components/bundle-store"]
    )
    for manifest in [*workloads(manifests), named(manifests, "NetworkPolicy")]:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    settings = {f"FAULTCUBE_{field.upper()}" for field in Settings.model_fields}
    assert set(variables(manifests)) - OF_INGEST <= settings
    assert variables(manifests)["FAULTCUBE_BUNDLES_FROM"].startswith("s3://")
    (config,) = kinds(manifests, "ConfigMap")
    for container in containers(manifests):
        assert container["envFrom"] == [
            {"configMapRef": {"name": config["metadata"]["name"]}},
            {"secretRef": {"name": "faultcube-store", "optional": True}},
        ]
    egress = named(manifests, "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for rule in egress for port in rule["ports"]].count(443) == 1


@pytest.fixture
def docker() -> Callable[..., str]:
    """Run docker; skips where no engine runs."""

    def run(*arguments: str | Path) -> str:
        return output_of(["docker", *map(str, arguments)], cwd=ROOT, env=environment())

    found = shutil.which("docker")
    if not found or subprocess.run([found, "info"], capture_output=True, check=False).returncode:
        pytest.skip("no container engine is running")
    return run


def test_a_bundle_is_built_into_an_image(docker: Callable[..., str], tmp_path: Path) -> None:
    command = (
        "docker build --tag faultcube/bundle:iosxr --file docker/bundle.Dockerfile models/iosxr"
    )
    docker(*command.split()[1:])
    # It has no program; one is named for what is never started.
    container = docker("create", "faultcube/bundle:iosxr", "none").strip()
    try:
        docker("cp", f"{container}:/", tmp_path / "bundle")
    finally:
        docker("rm", container)
    shipped = Bundle.read(ROOT / "models" / "iosxr").manifest
    assert Bundle.read(tmp_path / "bundle").manifest == shipped


def test_the_image_runs_as_the_manifest_says_and_as_any_user(
    docker: Callable[..., str], tmp_path: Path, examples: bytes, labels: list[str]
) -> None:
    docker("compose", "build", "--quiet", "service")
    manifests = overlay("sqlite")
    ((container,),) = (pod["containers"] for pod in pods(manifests))
    options = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    options += ["--user=1000710000:0", "--publish=127.0.0.1::8000"]
    options.append(f"--memory={bytes_of(container['resources']['limits']['memory'])}")
    for name, value in variables(manifests).items():
        options += [f"--env={name}={value}"] if isinstance(value, str) else []
    for mount in container["volumeMounts"]:
        folder = tmp_path / mount["name"]
        folder.mkdir()
        folder.chmod(0o777)  # as the kubelet makes an emptyDir
        options.append(f"--volume={folder}:{mount['mountPath']}")
    started = docker("run", "--detach", *options, "faultcube/service").strip()
    try:
        url = f"http://{docker('port', started, '8000').strip()}"
        eventually(partial(is_ready, url, container["readinessProbe"]), seconds=60)
        assert classify(url, examples) == labels
        assert httpx2.post(f"{url}/ingest/telegraf", content=b"a,device=b c=1").status_code == 204
        docker("stop", "--time=45", started)
        assert docker("inspect", "--format={{.State.ExitCode}}", started).strip() == "0"
        assert (tmp_path / "state" / "faultcube" / "journal").is_dir()
    finally:
        docker("rm", "--force", started)


def is_ready(url: str, probe: Manifest) -> bool | None:
    with suppress(httpx2.TransportError):
        return httpx2.get(url + probe["httpGet"]["path"]).status_code == 200 or None
    return None


def test_the_readme_shows_an_overlay_that_renders(tmp_path: Path) -> None:
    kustomization = yaml.safe_load(block_with("alertmanager.monitoring"))
    (address,) = kustomization["resources"]
    kustomization["resources"] = [address.rpartition("/docker/kubernetes/")[2]]
    manifests = own(tmp_path, **kustomization)
    assert all(
        container["image"] == "registry.example.com/faultcube/service:0.1.0"
        for container in containers(manifests)
    )
    found = variables(manifests)
    assert found["FAULTCUBE_ALERTMANAGERS"].startswith("http://alertmanager.monitoring:9093")
    assert "FAULTCUBE_BUNDLE_BYTES" in found
    (config,) = kinds(manifests, "ConfigMap")
    for pod in pods(manifests):
        (source,) = pod["containers"][0]["envFrom"]
        assert source["configMapRef"]["name"] == config["metadata"]["name"]
