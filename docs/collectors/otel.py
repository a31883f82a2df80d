"""Export metrics: pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http."""

from __future__ import annotations

import time

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

exporter = OTLPMetricExporter("http://127.0.0.1:8000/v1/metrics")
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1000)
resource = Resource({"service.name": "poller", "host.name": "router1"})
provider = MeterProvider([reader], resource)
meter = provider.get_meter("interfaces", "1.0")
octets = meter.create_counter("interface.octets", unit="By")
load = meter.create_gauge("system.load")
latency = meter.create_histogram("poll.duration", unit="s")
for second in range(60):
    for port in ("HundredGigE0/0/0/0", "HundredGigE0/0/0/1"):
        octets.add(1500 * (second + 1), {"interface.name": port, "direction": "in"})
    load.set(0.25 * second)
    latency.record(0.02)
    time.sleep(1)
provider.shutdown()
