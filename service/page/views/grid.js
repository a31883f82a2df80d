// The grid of devices: one canvas that draws what is in sight, so that ten thousand stay smooth.

import { h, replace } from "../dom.js";
import { count, duration } from "../format.js";
import { lengthOf, meaning, paintGlyph } from "../states.js";
import { colors, onTheme } from "../theme.js";
import { HEAD, indexAt, layout, placeOf, step, visible } from "./grid_layout.js";

const FONT = getComputedStyle(document.body).fontFamily;

/** Make the grid. `choose(key)` is called for a click or Enter. */
export function makeGrid(choose) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const option = h("div", { role: "option", id: "grid-option", class: "hidden-text", "aria-selected": "false" });
  const spacer = h("div", { class: "grid-spacer" });
  const box = h("div", {
    class: "grid-box", role: "listbox", tabindex: "0", "aria-label": "Devices, sorted by trouble", "aria-activedescendant": "grid-option",
  }, canvas, spacer, option);
  const tip = h("div", { class: "tip", hidden: true });
  const element = h("div", { class: "grid" }, box, tip);
  const context = canvas.getContext("2d");
  let plan = { sections: [], height: 0, number: 0 };
  let lists = new Map();
  let cursor = 0;
  let chosen = null;
  let waiting = false;

  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      paint();
    });
  };

  function arrange() {
    plan = layout(lists, box.clientWidth - 2);
    spacer.style.height = `${Math.max(0, plan.height - box.clientHeight)}px`;
    cursor = Math.max(0, Math.min(cursor, plan.number - 1));
    describe();
    soon();
  }

  function describe() {
    if (!plan.number) return replace(option, "No device");
    const [kind, device] = placeOf(plan, cursor).entry;
    option.textContent = `${device.key}: ${meaning(kind).title}, ${device.label}, for ${duration(lengthOf(device))}. ${cursor + 1} of ${plan.number}`;
    option.setAttribute("aria-selected", String(device.key === chosen));
  }

  function paint() {
    const scale = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = box;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const from = box.scrollTop;
    context.translate(1, -from);
    const paints = colors();
    for (const section of plan.sections) {
      context.fillStyle = paints["--dim"];
      context.font = `600 13px ${FONT}`;
      context.textBaseline = "middle";
      context.fillText(`${section.title} · ${count(section.devices.length)}`, 0, section.top + HEAD / 2);
      const [start, end] = visible(section, from, from + height);
      for (let at = start; at < end; at += 1) paintTile(context, placeOf(plan, section.first + at), paints, chosen);
    }
    if (document.activeElement === box && plan.number) {
      const { x, y, width: wide, height: high } = placeOf(plan, cursor);
      context.strokeStyle = paints["--accent"];
      context.lineWidth = 2;
      context.strokeRect(x, y, wide, high);
    }
  }

  function find(event) {
    const rect = box.getBoundingClientRect();
    return indexAt(plan, event.clientX - rect.left, event.clientY - rect.top + box.scrollTop);
  }

  function point(event) {
    const index = find(event);
    box.style.cursor = index < 0 ? "" : "pointer";
    tip.hidden = index < 0;
    if (index < 0) return;
    const [kind, device] = placeOf(plan, index).entry;
    replace(tip, h("strong", { dir: "auto" }, device.key), h("span", {}, `${meaning(kind).title} · `, h("bdi", {}, device.label)),
      h("span", { class: "dim" }, `for ${duration(lengthOf(device))}`));
    const rect = element.getBoundingClientRect();
    const x = event.clientX - rect.left;
    tip.style.left = `${Math.max(0, Math.min(x + 14, rect.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.min(event.clientY - rect.top + 14, rect.height - tip.offsetHeight - 4)}px`;
  }

  box.addEventListener("scroll", () => {
    tip.hidden = true;
    soon();
  }, { passive: true });
  box.addEventListener("pointermove", point);
  box.addEventListener("pointerleave", () => (tip.hidden = true));
  box.addEventListener("click", (event) => {
    const index = find(event);
    if (index < 0) return;
    cursor = index;
    choose(placeOf(plan, index).entry[1].key);
    describe();
  });
  box.addEventListener("focus", soon);
  box.addEventListener("blur", soon);
  box.addEventListener("keydown", (event) => {
    if (!plan.number) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return choose(placeOf(plan, cursor).entry[1].key);
    }
    const next = step(plan, cursor, event.key);
    if (next === null) return;
    event.preventDefault();
    cursor = next;
    const { y, height } = placeOf(plan, cursor);
    if (y - HEAD < box.scrollTop) box.scrollTop = y - HEAD;
    else if (y + height > box.scrollTop + box.clientHeight) box.scrollTop = y + height - box.clientHeight + 4;
    describe();
    soon();
  });
  const resized = new ResizeObserver(arrange);
  resized.observe(box);
  const endTheme = onTheme(soon);
  return {
    element,
    show(next) {
      lists = next;
      arrange();
    },
    choose(key) {
      chosen = key;
      describe();
      soon();
    },
    close() {
      resized.disconnect();
      endTheme();
    },
  };
}

function paintTile(context, { x, y, width, height, section, entry: [kind, device] }, paints, chosen) {
  const { color } = meaning(kind);
  const tile = section.tile.kind;
  if (tile === "dot" || tile === "speck") {
    if (kind === "good") {
      context.fillStyle = paints["--good"];
      context.globalAlpha = 0.55;
      context.fillRect(x + 1, y + 1, width - 2, height - 2);
      context.globalAlpha = 1;
    } else paintGlyph(context, kind, x, y, width, paints);
  } else {
    context.fillStyle = kind === "good" ? paints["--good-fill"] : paints["--raise"];
    context.fillRect(x, y, width, height);
    context.fillStyle = paints[color];
    context.fillRect(x, y, 3, height);
    paintGlyph(context, kind, x + 9, y + (tile === "card" ? 7 : 6), tile === "card" ? 15 : 14, paints);
    paintTexts(context, { x: x + 30, y, width: width - 36 }, tile, kind, device, paints);
  }
  if (device.key === chosen) {
    context.strokeStyle = paints["--text"];
    context.lineWidth = 2;
    context.strokeRect(x, y, width, height);
  }
}

function paintTexts(context, { x, y, width }, tile, kind, device, paints) {
  context.textBaseline = "middle";
  context.textAlign = "left";
  // What is well recedes.
  const calm = kind === "good" && tile === "name";
  context.fillStyle = paints[calm ? "--dim" : "--text"];
  context.font = `${calm ? 400 : 600} 13px ${FONT}`;
  context.fillText(cut(context, device.key, width), x, y + (tile === "card" ? 15 : 13));
  if (tile !== "card") return;
  const since = duration(lengthOf(device));
  context.font = `12px ${FONT}`;
  context.fillStyle = paints["--dim"];
  context.textAlign = "right";
  context.fillText(since, x + width, y + 33);
  const room = width - context.measureText(since).width - 8;
  context.textAlign = "left";
  context.fillText(cut(context, device.state !== "fault" ? meaning(kind).title : device.label, room), x, y + 33);
}

const CUTS = new Map();
const CONTROLS = /[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g; // a canvas has no isolation

/** As much of a text as fits, with an ellipsis. */
function cut(context, text, room) {
  const key = `${context.font}|${Math.round(room)}|${text}`;
  let fitting = CUTS.get(key);
  if (fitting === undefined) {
    fitting = text.slice(0, 200).replace(CONTROLS, "");
    if (context.measureText(fitting).width > room) {
      while (fitting && context.measureText(`${fitting}…`).width > room) fitting = fitting.slice(0, -1);
      fitting += "…";
    }
    if (CUTS.size > 20_000) CUTS.clear();
    CUTS.set(key, fitting);
  }
  return fitting;
}
