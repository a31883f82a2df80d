// Export two metrics every second:
// npm install @opentelemetry/sdk-metrics @opentelemetry/exporter-metrics-otlp-http @opentelemetry/resources
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";

const exporter = new OTLPMetricExporter({ url: "http://127.0.0.1:8000/v1/metrics" });
const provider = new MeterProvider({
  resource: resourceFromAttributes({ "service.name": "poller", "host.name": "router1" }),
  readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 1000 })],
});
const meter = provider.getMeter("interfaces", "1.0");
const octets = meter.createCounter("interface.octets", { unit: "By" });
const load = meter.createGauge("system.load");
const latency = meter.createHistogram("poll.duration", { unit: "s" });

for (let second = 0; second < 60; second += 1) {
  for (const port of ["HundredGigE0/0/0/0", "HundredGigE0/0/0/1"]) {
    octets.add(1500 * (second + 1), { "interface.name": port, direction: "in" });
  }
  load.record(0.25 * second);
  latency.record(0.02);
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
await provider.shutdown();
