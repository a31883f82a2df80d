"""Print docker/monitoring/rules.yml as a PrometheusRule, in the words of Kubernetes.

python docker/kubernetes/rules.py >docker/kubernetes/components/monitoring/rules.yaml
"""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "monitoring" / "rules.yml"
# Replicas follow the load here: fewer of them are no fault.
LEFT_OUT = {"FaultcubeFewerReplicas"}
PODS = "`kubectl get pods -l app.kubernetes.io/name=faultcube`"
LOGS = "`kubectl logs -l app.kubernetes.io/name=faultcube --prefix`"
# In this order: what is longer comes first.
WORDS = {
    r"the name `service`": "the ServiceMonitor `faultcube`",
    r"and start it with `docker compose up -d --wait service`": "and at their events",
    r"`docker compose ps --all service`": PODS,
    r"`docker compose logs --tail 100 service`": LOGS,
    r"`docker compose logs service`": LOGS,
    r"`docker compose up -d --scale service=3`, with a range of ports in FAULTCUBE_PORT": (
        "`maxReplicas` of the HorizontalPodAutoscaler"
    ),
    r"Look at `docker compose ps --all postgres` and its log\.": (
        "Look at the database, and whether the NetworkPolicy leads to it."
    ),
    r"`docker inspect`": "`kubectl describe pod`",
    r"FAULTCUBE_METRICS_KEY_FILE": "`authorization` of the ServiceMonitor",
    r"Put the last good bundle back into FAULTCUBE_BUNDLE_DIR\.": "Put the last good bundle back.",
    r"`mem_limit` in docker-compose\.yml": "`limits.memory`",
    r"in rules\.yml": "of the PrometheusRule",
    r"`mem_limit`": "`limits.memory`",
}


def in_words_of_kubernetes(text: str) -> str:
    """Return what an alert says, with the commands of Kubernetes."""
    for words, ours in WORDS.items():
        text = re.sub(words, ours, text)
    return text


def as_prometheus_rule(rules: Any) -> dict[str, Any]:
    """Return the manifest of the same rules."""
    for group in rules["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") not in LEFT_OUT]
        for rule in group["rules"]:
            for name, text in rule.get("annotations", {}).items():
                rule["annotations"][name] = in_words_of_kubernetes(text)
    metadata = {"name": "faultcube", "labels": {"app.kubernetes.io/name": "faultcube"}}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": rules,
    }


if __name__ == "__main__":
    sys.stdout.write("# Made by docker/kubernetes/rules.py; edit docker/monitoring/rules.yml.\n")
    made = as_prometheus_rule(yaml.safe_load(RULES.read_text()))
    yaml.safe_dump(made, sys.stdout, sort_keys=False, width=100)
