// The service itself: how much comes in, what was dropped and why, what waits, and how long answers take.

import { get } from "../api.js";
import { timeChart } from "../charts.js";
import { h, put, replace, said, table } from "../dom.js";
import { count, figure, plural, when } from "../format.js";
import { live, on } from "../live.js";

const EVERY = 3000; // ms
const MOST = 5;
const CHARTS = [
  ["Metric points", "points/s", [["points_per_second", "", "--accent"]]],
  ["Records judged", "records/s", [["records_per_second", "", "--accent"]]],
  ["Requests", "requests/s", [["requests_per_second", "", "--accent"]]],
  ["Time to answer", "ms", [["p50_ms", "median", "--accent"], ["p99_ms", "99th percentile", "--major"]]],
  ["Waiting", "", [["queue_points", "points", "--accent"], ["queue_requests", "requests", "--major"]]],
];

const WHAT = {
  points: "taken", records: "records made of them", unmapped: "no field is made of them", refused: "refused: too many series",
  misdated: "of a time far from now", late: "came after their record was closed", repeated: "came twice", crowded: "too many in one record", ended: "ended a series",
  missing: "fields without a value", resets: "counters that began anew", wraps: "counters that wrapped", insufficient: "records with too few fields", anew: "series that began anew",
  refused_keys: "devices beyond the limit", refused_series: "series beyond the limit",
};
const LOSSES = ["unmapped", "refused", "misdated", "late", "crowded", "insufficient", "refused_keys", "refused_series"];

export function open(place) {
  const figures = h("dl", { class: "figures" });
  const charts = CHARTS.map(([title, unit, series]) => timeChart({ title, unit, series: series.map(([, name, color]) => ({ title: name, color })), height: 120 }));
  const sources = h("section", { class: "panel" });
  const dropped = h("section", { class: "panel" });
  const others = h("p", { class: "dim note", hidden: true }, "Several processes serve: these are the numbers of the one that answered.");
  put(place, h("div", { class: "page" }, h("h1", { class: "hidden-text" }, "Health"), figures, others,
    h("div", { class: "columns" }, sources, dropped, charts.map(({ element }) => h("section", { class: "panel" }, element)))));
  let closed = false;

  function draw() {
    const { health, healthHistory: history } = live;
    if (!health) return;
    others.hidden = health.alone !== false;
    const store = { ok: "reachable", memory: "none, in memory", away: "away" }[health.store] ?? health.store;
    replace(figures, [
      ["Model", health.ready ? "served" : "none", !health.ready], ["Database", store, health.store === "away"],
      ["Points", [figure(health.points_per_second), h("small", {}, " /s")]], ["Records", [figure(health.records_per_second), h("small", {}, " /s")]],
      ["Answers, median", health.p50_ms === null ? "–" : [figure(health.p50_ms), h("small", {}, " ms")]],
      ["99th percentile", health.p99_ms === null ? "–" : [figure(health.p99_ms), h("small", {}, " ms")]],
      ["Waiting", [count(health.queue_points), h("small", {}, ` points, ${plural(health.queue_requests, "request")}`)]], ["Viewers", count(health.viewers)],
    ].map(([title, value, bad]) => h("div", {}, h("dt", {}, title), h("dd", { class: bad && "error" }, value))));
    const times = history.map(({ time }) => time);
    CHARTS.forEach(([, , series], at) => charts[at].set([times, ...series.map(([name]) => history.map((entry) => entry[name] ?? null))]));
  }

  async function look() {
    try {
      const status = await get("ingest/status");
      if (closed) return;
      drawSources(sources, status);
      drawDropped(dropped, status);
    } catch (failure) {
      if (!closed) replace(sources, h("h2", {}, "Ingestion"), h("p", { class: "dim" }, failure.message));
    }
  }

  const end = on("health", draw);
  const timer = setInterval(look, EVERY);
  draw();
  look();
  return {
    close() {
      closed = true;
      clearInterval(timer);
      end();
      for (const chart of charts) chart.close();
    },
  };
}

function drawSources(place, { receivers, keys, mapping, refused, latest, findings }) {
  const rows = Object.entries(receivers).map(([name, { bodies, points, rejected, refused: bad }]) => [
    said(name), count(bodies), count(points), reasons(rejected), reasons(bad)]);
  replace(place, h("h2", {}, "Ingestion by source"),
    refused ? h("p", { class: "error" }, said(refused)) : h("p", { class: "dim" }, mapping ? ["Mapping ", said(mapping), `, ${plural(keys, "device")}`, latest?.[0] && [", the latest record of ", when(Math.max(...latest.map(({ time }) => time)))], "."] : "The model has no mapping, so no points are taken."),
    rows.length ? table("Ingestion by source", [["Source"], ["Bodies", true], ["Points", true], ["Rejected samples"], ["Refused bodies"]], rows) : h("p", { class: "dim" }, "Nothing has come in yet."),
    findings?.length > 0 && h("ul", { class: "note" }, findings.slice(0, MOST).map((finding) => h("li", {}, said(finding))), findings.length > MOST && h("li", { class: "dim" }, `and ${count(findings.length - MOST)} more`)));
}

const reasons = (found) => Object.entries(found).map(([why, number], at) => [at ? ", " : "", said(why), ` ${count(number)}`]).concat(Object.keys(found).length ? [] : ["none"]);

function drawDropped(place, { points, strays }) {
  const known = Object.entries(points).filter(([, number]) => number > 0);
  replace(place, h("h2", {}, "What became of the points"),
    known.length ? table("What became of the points", [["What"], ["Number", true]], known.map(([what, number]) => [
      [LOSSES.includes(what) ? h("span", { class: "tag", "data-kind": "bad" }, "dropped") : "", LOSSES.includes(what) ? " " : "", WHAT[what] ?? what], count(number)])) : h("p", { class: "dim" }, "No points yet."),
    Object.keys(strays ?? {}).length > 0 && [h("h3", { class: "section" }, "Devices with points late or of a time far from now"), table("Devices with points late or of a time far from now", [["Device"], ["Points", true]],
      Object.entries(strays).sort(([, one], [, other]) => other - one).slice(0, 10).map(([name, number]) => [said(name), count(number)]))]);
}
