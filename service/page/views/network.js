// The network: how many devices are in which state, the grid, a table for those who do not see it, and one device.

import { areLeftOut, byKind, counts, howMany } from "../devices.js";
import { h, redraw, replace, said, table } from "../dom.js";
import { count, duration, figure, percent, when } from "../format.js";
import { live, on } from "../live.js";
import { address } from "../router.js";
import { glyph, kindOf, lengthOf, meaning, sinceOf, state } from "../states.js";
import { showDevice } from "./device.js";
import { nothingYet } from "./empty.js";
import { makeGrid } from "./grid.js";

const ROWS = 200;

export function open(place, route) {
  const filter = { search: "", kinds: new Set() };
  let selected = route.id;
  let asTable = false;
  let rows = ROWS;
  const choose = (key) => (location.hash = address("network", key));
  const grid = makeGrid(choose);
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Show only" });
  const search = h("input", { type: "search", placeholder: "Search devices and labels", "aria-label": "Search devices and labels", on: { input: () => { filter.search = search.value; draw(); } } });
  const toggle = h("button", { type: "button", "aria-pressed": "false", on: { click: swap } }, "Table");
  const tables = h("div", { class: "grid-table", hidden: true });
  const nothing = h("p", { class: "dim", role: "status" });
  const limited = h("p", { class: "dim", role: "status", hidden: true });
  const list = h("section", { class: "list", "aria-label": "Devices" }, h("div", { class: "row list-head" }, search, toggle), chips, limited, nothing, grid.element, tables);
  const side = h("aside", { class: "side", "aria-label": "Device", hidden: true });
  const split = h("div", { class: "split" }, h("h1", { class: "hidden-text" }, "Network"), list, side);
  const empty = nothingYet("Nothing has come in yet");
  place.append(split, empty);
  let device = null;

  function swap() {
    asTable = !asTable;
    toggle.setAttribute("aria-pressed", String(asTable));
    grid.element.hidden = asTable;
    tables.hidden = !asTable;
    draw();
  }

  function draw() {
    const none = live.loaded && !live.devices.size;
    empty.hidden = !none;
    split.hidden = none || !(live.loaded || live.devices.size);
    if (split.hidden) return;
    drawChips();
    drawLimit();
    const lists = byKind(filter);
    const found = [...lists.values()].reduce((sum, devices) => sum + devices.length, 0);
    nothing.textContent = found ? "" : "No device matches.";
    if (asTable) drawTable([...lists.values()].flat());
    else grid.show(lists);
  }

  function drawLimit() {
    limited.hidden = !areLeftOut();
    const text = limited.hidden ? "" : `${howMany()}.`;
    if (limited.textContent !== text) limited.textContent = text;
  }

  function drawChips() {
    const now = [...counts()].filter(([kind, number]) => number || filter.kinds.has(kind));
    const text = now.map(String).join();
    if (chips.dataset.shown === text + [...filter.kinds]) return;
    chips.dataset.shown = text + [...filter.kinds];
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.kind : null;
    replace(chips, now.map(([kind, number]) => {
      const flip = () => {
        if (!filter.kinds.delete(kind)) filter.kinds.add(kind);
        draw();
      };
      return h("button", { type: "button", class: "chip", "data-kind": kind, "aria-pressed": String(filter.kinds.has(kind)), on: { click: flip } },
        glyph(kind, 14), h("strong", {}, count(number)), meaning(kind).title);
    }));
    if (focused) chips.querySelector(`[data-kind="${focused}"]`)?.focus();
  }

  function drawTable(devices) {
    const lines = devices.slice(0, rows).map((each) => [
      h("a", { href: address("network", each.key) }, said(each.key)), state(kindOf(each)), said(each.label),
      when(sinceOf(each)), duration(lengthOf(each)), figure(each.distance), percent(each.confidence)]);
    redraw(tables, table("Devices by trouble", [["Device"], ["State"], ["Label"], ["Since"], ["For", true], ["Distance", true], ["Confidence", true]], lines),
      devices.length > rows && h("button", { type: "button", on: { click: () => { rows += ROWS; draw(); } } }, `Show ${Math.min(ROWS, devices.length - rows)} more of ${count(devices.length)}`));
  }

  function select(key) {
    selected = key;
    grid.choose(key);
    split.classList.toggle("with-side", key !== null);
    side.hidden = key === null;
    device?.close();
    device = key === null ? null : showDevice(side, key);
  }

  const ends = [on("loaded", draw), on("devices", draw)];
  draw();
  select(selected);
  return {
    update: (next) => next.id !== selected && select(next.id),
    close() {
      for (const end of ends) end();
      grid.close();
      device?.close();
    },
  };
}
