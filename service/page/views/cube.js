// The cube: where records lie among the classes, live or at a moment of the last minutes.

import { extentOf, makeCloud, paint, paletteOf } from "../cube/cloud.js";
import { makeCamera } from "../cube/camera.js";
import { axesOf, BOX, FLOOR, makeLabels } from "../cube/frame.js";
import { makeRenderer } from "../cube/renderer.js";
import { makeTimeline } from "../cube/timeline.js";
import { h, put, redraw, replace, said, table } from "../dom.js";
import { count, figure, percent, when } from "../format.js";
import { fillRecords, live, newest, on } from "../live.js";
import { address } from "../router.js";
import { onTheme } from "../theme.js";
import { nothingYet } from "./empty.js";
import { showRecord } from "./record.js";

const TRAIL = 120; // records
const ROWS = 100;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export function open(place, route) {
  const canvas = h("canvas", { tabindex: "0", role: "img", "aria-label": "The cube. Arrow keys turn it, plus and minus zoom, zero resets." });
  const layer = h("div", { class: "cube-labels", "aria-hidden": "true" });
  const tip = h("div", { class: "tip", hidden: true });
  const legend = h("fieldset", { class: "cube-legend" }, h("legend", { class: "hidden-text" }, "Classes that are shown"));
  const axes = h("p", { class: "cube-axes" });
  const toggle = h("button", { type: "button", "aria-pressed": "false" }, "Table");
  const trailing = h("p", { class: "cube-trail", hidden: true });
  const tables = h("div", { class: "cube-table", hidden: true });
  const side = h("aside", { class: "side", "aria-label": "Record", hidden: true });
  const timeline = makeTimeline(() => [live.records[0]?.time ?? 0, newest()], changed);
  const stage = h("div", { class: "cube-stage" }, canvas, layer, tip, h("div", { class: "cube-corner" }, legend, trailing), h("div", { class: "row cube-right" }, toggle), axes, tables);
  const split = h("div", { class: "split" }, h("section", { class: "cube", "aria-label": "Cube" }, h("h1", { class: "hidden-text" }, "Cube"), stage, timeline.element), side);
  const empty = nothingYet("No record has come in yet");
  put(place, split, empty);

  const cloud = makeCloud();
  const labels = makeLabels(layer);
  const renderer = makeRenderer(canvas);
  const camera = makeCamera(canvas, changed, pick);
  const state = { extent: 1, palette: () => "--unknown", spheres: [], hidden: new Set(), key: null, chosen: null, arrived: 0, stale: true, frames: 0 };
  let waiting = false;
  let closed = false;
  let asked = route.query; // the latest, also when the records come late

  function changed() {
    if (waiting || closed) return;
    waiting = true;
    requestAnimationFrame(frame);
  }

  function refill() {
    state.stale = true;
    changed();
  }

  function rescene() {
    if (!live.scene) return;
    const { classes } = live.scene;
    state.palette = paletteOf(classes);
    state.extent = extentOf(classes, live.records);
    state.spheres = classes.map(({ name, position, radius }) =>
      ({ name, center: position.map((part) => part / state.extent), radius: radius / state.extent, variable: state.palette(name) }));
    const { names, text } = axesOf(live.scene);
    axes.textContent = text;
    labels.set(names, state.spheres);
    drawLegend();
    refill();
  }

  function now() {
    const moment = timeline.moment();
    // Between two deliveries the newest points grow older with the clock on the wall.
    return timeline.paused() || still.matches ? moment : moment + Math.min(1.5, (performance.now() - state.arrived) / 1000);
  }

  function frame() {
    waiting = false;
    if (closed || !renderer || split.hidden || !live.scene || stage.classList.contains("as-table")) return;
    if (state.stale) {
      renderer.points(...cloud.fill(live.records, state));
      state.stale = false;
    }
    const { view, lens } = camera.matrices();
    const light = document.documentElement.dataset.theme === "light";
    // Glass is drawn from the back to the front.
    const deep = ({ center: [x, y, z] }) => view[2] * x + view[6] * y + view[10] * z;
    renderer.draw({
      view, lens, now: cloud.moment(now()), span: timeline.span(), size: 0.018, motion: still.matches || timeline.paused() ? 0 : 1, light: light ? 0.5 : 1,
      spheres: state.spheres.filter(({ name }) => !state.hidden.has(name)).sort((one, other) => deep(one) - deep(other)).map(({ center, radius, variable }) => ({ center, radius, paint: paint(variable, light ? 0.9 : 0.8) })),
      lines: [{ places: BOX, paint: paint("--line-strong", 0.8) }, { places: FLOOR, paint: paint("--line", 0.9) }, ...trail()],
    });
    const where = camera.projection();
    labels.place(where);
    labels.ring(state.chosen?.position.map((part) => part / state.extent), where);
    canvas.dataset.frames = String(++state.frames);
    if (!timeline.paused() && !still.matches && performance.now() - state.arrived < 1600) changed();
  }

  function trail() {
    if (state.key === null) return [];
    const until = timeline.moment();
    const mine = live.records.filter(({ key, time }) => key === state.key && time <= until && time >= until - timeline.span()).slice(-TRAIL);
    if (mine.length < 2) return [];
    const places = new Float32Array(mine.flatMap(({ position }, at) => [...position.map((part) => part / state.extent), 0.15 + (0.85 * at) / mine.length]));
    return [{ places, paint: paint("--text"), strip: true }];
  }

  function found(x, y) {
    return cloud.at(x, y, { where: camera.projection(), extent: state.extent, now: timeline.moment(), span: timeline.span(), hidden: state.hidden });
  }

  function pick(x, y) {
    const record = found(x, y);
    if (record) location.hash = address("cube", null, record.key === null ? { n: record.n } : { n: record.n, key: record.key });
  }

  function hover(event) {
    if (event.buttons) return void (tip.hidden = true);
    const rect = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - rect.left, event.clientY - rect.top];
    const record = found(x, y);
    canvas.style.cursor = record ? "pointer" : "";
    tip.hidden = !record;
    if (!record) return;
    replace(tip, h("strong", {}, said(record.label)), h("span", {}, said(record.key ?? "–")), h("span", { class: "dim" }, when(record.time)));
    tip.style.left = `${Math.max(0, Math.min(x + 14, rect.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.min(y + 14, rect.height - tip.offsetHeight - 4)}px`;
  }

  function drawLegend() {
    const until = timeline.moment();
    const numbers = new Map([...live.scene.classes.map(({ name }) => [name, 0]), ["unknown", 0]]);
    for (const { label, time } of live.records) if (time <= until && time >= until - timeline.span()) numbers.set(label, (numbers.get(label) ?? 0) + 1);
    const text = JSON.stringify([...numbers, [...state.hidden]]);
    if (legend.dataset.shown === text) return;
    legend.dataset.shown = text;
    const focused = document.activeElement?.dataset?.label;
    replace(legend, h("legend", { class: "hidden-text" }, "Classes that are shown"), [...numbers].map(([name, number]) => {
      const box = h("input", { type: "checkbox", checked: !state.hidden.has(name), "data-label": name, on: { change: () => flip(name) } });
      return h("label", {}, box, h("i", { class: name === "unknown" ? "diamond" : live.scene.classes.find((one) => one.name === name)?.good ? "disc" : "square", css: { background: `var(${state.palette(name)})` } }), said(name), h("span", { class: "dim" }, count(number)));
    }));
    if (focused !== undefined) [...legend.querySelectorAll("input")].find((input) => input.dataset.label === focused)?.focus();
  }

  function flip(name) {
    if (!state.hidden.delete(name)) state.hidden.add(name);
    drawLegend();
    refill();
  }

  function drawTable() {
    if (tables.hidden) return;
    const until = timeline.moment();
    const rows = live.records.filter(({ time, label }) => time <= until && !state.hidden.has(label)).slice(-ROWS).reverse();
    redraw(tables, table("Latest records", [["Time"], ["Device"], ["Label"], ["Distance", true], ["Confidence", true]], rows.map((record) => [
      h("a", { href: address("cube", null, { n: record.n }) }, when(record.time)), said(record.key ?? "–"), said(record.label), figure(record.distance), percent(record.confidence)])));
  }

  function arrived(records) {
    if (!records.length) rescene();
    if (timeline.paused()) return timeline.show();
    state.arrived = performance.now();
    timeline.show();
    refill();
  }

  function slow() {
    const none = live.loaded && !live.records.length;
    empty.hidden = !none;
    split.hidden = none;
    if (none || !live.scene) return;
    drawLegend();
    drawTable();
    changed();
  }

  function select(query) {
    asked = query;
    const [n, key] = [query.get("n"), query.get("key")];
    state.chosen = live.records.find((record) => String(record.n) === n) ?? null;
    state.key = key ?? state.chosen?.key ?? null;
    trailing.hidden = state.key === null;
    replace(trailing, "Trail of ", said(state.key ?? ""), " ", h("a", { href: address("cube") }, "end"));
    side.hidden = n === null;
    split.classList.toggle("with-side", n !== null);
    if (n !== null) showRecord(side, n, () => (location.hash = address("cube", null, state.key === null ? null : { key: state.key })));
    changed();
  }

  toggle.addEventListener("click", () => {
    tables.hidden = !tables.hidden;
    stage.classList.toggle("as-table", !tables.hidden);
    toggle.setAttribute("aria-pressed", String(!tables.hidden));
    drawTable();
    changed();
  });
  if (!renderer) {
    replace(tip, "This browser has no WebGL 2: the table shows the same records.");
    toggle.click();
  }
  canvas.addEventListener("pointermove", hover);
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  canvas.addEventListener("repaint", refill);
  const resized = new ResizeObserver(changed);
  resized.observe(stage);
  const timer = setInterval(slow, 1000);
  const ends = [on("records", arrived), on("scene", rescene), on("loaded", slow), onTheme(rescene)];
  rescene();
  select(asked);
  fillRecords().then(() => {
    if (closed) return;
    rescene();
    slow();
    select(asked);
  }, slow);
  slow();
  return {
    update: ({ query }) => select(query),
    close() {
      closed = true;
      clearInterval(timer);
      resized.disconnect();
      for (const end of ends) end();
      renderer?.close();
    },
  };
}
