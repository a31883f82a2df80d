// Nothing has come in yet: what to paste into which collector.

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { count } from "../format.js";

const EVERY = 2000; // ms

const base = () => new URL(".", location.href.split("#")[0]).href.replace(/\/$/, "");

const COLLECTORS = [
  ["Telegraf", (url) => `[[outputs.http]]\n  url = "${url}/ingest/telegraf"\n  data_format = "json"\n  use_batch_format = true`],
  ["Prometheus", (url) => `remote_write:\n  - url: ${url}/api/v1/write`],
  ["vmagent", (url) => `vmagent -promscrape.config=vmagent.yml \\\n  -remoteWrite.url=${url}/api/v1/write`],
  ["OpenTelemetry", (url) => `exporters:\n  otlphttp:\n    metrics_endpoint: ${url}/v1/metrics`],
  ["collectd", (url) => `<Plugin write_http>\n  <Node "faultcube">\n    URL "${url}/ingest/collectd"\n    Format "JSON"\n    StoreRates false\n  </Node>\n</Plugin>`],
  ["gNMIc", (url) => `outputs:\n  faultcube:\n    type: prometheus_write\n    url: ${url}/api/v1/write`],
];

/** How to connect what one has; `what` says what is missing. */
export function nothingYet(what) {
  const url = base();
  const title = h("h1", {}, what);
  const coming = h("p", { role: "status" });
  const element = h("div", { class: "page" },
    h("div", { class: "empty" }, title, coming, h("p", {}, "As soon as a collector sends metric points here, its devices appear by themselves. Paste one of these, or see recorded traffic of 11 routers:")),
    snippet("Recorded traffic", "make demo"),
    h("div", { class: "collectors" }, COLLECTORS.map(([name, text]) => snippet(name, text(url)))));
  watch(element, title, coming);
  return element;
}

// Points may come for minutes before the first verdict: then that is said, and not that nothing comes.
async function watch(element, title, coming) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    if (!element.isConnected) return;
    if (element.hidden) continue;
    const status = await get("ingest/status").catch(() => null);
    const sources = Object.entries(status?.receivers ?? {}).filter(([, { bodies }]) => bodies);
    if (!sources.length) continue;
    title.textContent = "Points come in, and nothing is judged yet";
    replace(coming, sources.map(([name, { points }]) => `${count(points)} points from ${name}. `),
      "A device's first records make its baseline; then it appears. What is dropped, and why, is in ", h("a", { href: "#/health" }, "Health"), ".");
  }
}

function snippet(name, text) {
  const button = h("button", { type: "button", class: "quiet", on: { click: () => copy(text, button) } }, "Copy");
  return h("section", { class: "snippet", "aria-label": name }, h("header", {}, h("h2", {}, name), button), h("pre", { tabindex: "0" }, text));
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select and copy"; // not over plain http
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}
