// One device: what it is now, its last hour as a band of verdicts over the distance, and what drove its faults.

import { get } from "../api.js";
import { timeChart } from "../charts.js";
import { h, redraw, replace, said, table } from "../dom.js";
import { count, duration, figure, percent, when, withUnit } from "../format.js";
import { live, on } from "../live.js";
import { address } from "../router.js";
import { isTrouble, kindOf, lengthOf, meaning, sinceOf, state } from "../states.js";

const HOUR = 3600;
const AGAIN = 3000; // ms between two looks while records come
const BAND = 14; // px
const GAP = 120; // seconds without a record that are shown as a gap

/** Show a device in a place, until it is closed. */
export function showDevice(place, key) {
  let closed = false;
  let timer = null;
  let again = false;
  let history = [];
  const head = h("div", {});
  const drivers = h("div", {});
  const latest = h("div", {});
  const chart = timeChart({
    title: "Verdicts, and distance to the nearest class", series: [{ title: "", color: "--accent" }], height: 190, top: BAND + 12, span: HOUR,
    paint: (u, paints) => paintBand(u, history, paints),
  });
  const legend = h("p", { class: "legend" });
  const body = h("div", {}, chart.element, legend, drivers, latest);
  replace(place, h("a", { class: "back", href: address("network") }, "Close"), h("h1", {}, said(key)), head, body);

  async function look() {
    try {
      const found = await get(`live/devices/${encodeURIComponent(key)}`);
      if (!closed) draw(found);
    } catch (failure) {
      if (closed) return;
      body.hidden = true;
      replace(head, h("p", { class: "dim" }, failure.status === 404 ? "No record of this device has come in." : failure.message));
    }
  }

  function draw(device) {
    body.hidden = false;
    history = device.history;
    drawHead(head, device);
    chart.set(seriesOf(history));
    drawLegend(legend, history);
    drawDrivers(drivers, device);
    drawLatest(latest, history);
  }

  // A busy device changes often; looking at it every few seconds is enough for an eye.
  function changed(devices) {
    if (devices && !devices.some((device) => device.key === key)) return;
    if (timer) return void (again = true);
    look();
    timer = setTimeout(() => {
      timer = null;
      if (again) {
        again = false;
        changed();
      }
    }, AGAIN);
  }

  const ends = [on("devices", changed), on("loaded", () => changed())];
  changed();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      for (const end of ends) end();
      chart.close();
    },
  };
}

function drawHead(place, device) {
  const { key, label, time, distance, confidence, incident } = device;
  const kind = kindOf(device);
  redraw(place, h("dl", { class: "facts" },
    h("dt", {}, "State"), h("dd", {}, state(kind), label !== meaning(kind).title.toLowerCase() && [" · ", said(label)]),
    h("dt", {}, "Since"), h("dd", {}, when(sinceOf(device)), ` (for ${duration(lengthOf(device))})`),
    h("dt", {}, "Last record"), h("dd", {}, when(time)),
    h("dt", {}, "Distance"), h("dd", {}, figure(distance), confidence !== null && `, confidence ${percent(confidence)}`),
    incident && [h("dt", {}, "Incident"), h("dd", {}, h("a", { href: address("incidents", incident) }, said(live.incidents.get(incident)?.label ?? incident)))]),
  h("p", { class: "row" }, h("a", { href: address("cube", null, { key }) }, "Its trail in the cube")));
}

function seriesOf(history) {
  const times = [];
  const distances = [];
  for (const { time, distance } of history) {
    const last = times.at(-1);
    if (last !== undefined && time - last > GAP) {
      times.push(last + 1);
      distances.push(null);
    }
    if (last !== undefined && time <= last) continue;
    times.push(time);
    distances.push(distance);
  }
  return [times, distances];
}

/** The kind of a verdict; its severity is that of the class. */
function kindOfVerdict({ label, state: now }) {
  return kindOf({ state: now, severity: live.scene?.classes.find(({ name }) => name === label)?.severity });
}

function paintBand(u, history, paints) {
  const { ctx } = u;
  const scale = devicePixelRatio || 1;
  const top = u.bbox.top - (BAND + 6) * scale;
  ctx.save();
  ctx.fillStyle = paints["--raise"];
  ctx.fillRect(u.bbox.left, top, u.bbox.width, BAND * scale);
  history.forEach((record, at) => {
    const kind = kindOfVerdict(record);
    const x = u.valToPos(record.time, "x", true);
    if (x < u.bbox.left - 1) return;
    const next = history[at + 1];
    const until = next && next.time - record.time < GAP ? u.valToPos(next.time, "x", true) : x + 3 * scale;
    ctx.fillStyle = paints[meaning(kind).color];
    // Good traffic is low, all else is high: the band can be read without colours.
    const height = (isTrouble(kind) ? (kind === "unknown" ? 0.7 : 1) : 0.35) * BAND * scale;
    // Whole pixels, or a seam shows between two.
    ctx.fillRect(Math.floor(x), top + BAND * scale - height, Math.max(scale, Math.ceil(until) - Math.floor(x)), height);
  });
  ctx.restore();
}

function drawLegend(place, history) {
  const kinds = new Map();
  for (const record of history) {
    const kind = kindOfVerdict(record);
    const title = record.state === "good" || record.state === "fault" ? record.label : meaning(kind).title.toLowerCase();
    kinds.set(title, [kind, (kinds.get(title)?.[1] ?? 0) + 1]);
  }
  replace(place, [...kinds].map(([title, [kind, number]]) =>
    h("span", {}, h("i", { css: { background: `var(${meaning(kind).color})` } }), said(title), ` ${count(number)}`)));
}

function drawDrivers(place, { drivers, explained }) {
  const units = new Map(live.scene?.fields.map(({ name, unit }) => [name, unit]));
  replace(place, h("h2", { class: "section" }, "What drove its faults"), drivers.length
    ? [h("p", { class: "dim" }, `In ${count(explained)} bad records of the last hour, the latest value.`), table("Fields that drove the faults of the last hour", [["Field"], ["Records", true], ["Value", true], ["Typical", true]],
      drivers.map(({ field, count: number, value, typical }) => [said(field), count(number), withUnit(value, units.get(field)), withUnit(typical, units.get(field))]))]
    : h("p", { class: "dim" }, "No faults in the last hour."));
}

function drawLatest(place, history) {
  redraw(place, h("h2", { class: "section" }, "Latest verdicts"),
    table("Latest verdicts", [["Time"], ["Label"], ["Distance", true], ["Confidence", true]], history.slice(-8).reverse().map((record) => [
      h("a", { href: address("cube", null, { n: record.n }) }, when(record.time)), state(kindOfVerdict(record), record.label), figure(record.distance), percent(record.confidence)])));
}
