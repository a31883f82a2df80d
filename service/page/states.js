// What a device can be, in the order of trouble, with a shape, a letter and a colour for each.

import { h, said, svg } from "./dom.js";

const SEVERITIES = ["critical", "major", "minor", "warning", "indeterminate"];
const OCTAGON = "M5 1h6l4 4v6l-4 4H5l-4-4V5z";
const PENTAGON = "M8 .5 15.500 6.500V15h-15V6.500z";
const SQUARE = "M2 2h12v12H2z";
const DIAMOND = "M8 0 16 8 8 16 0 8z";
const DISC = "M3 8a5 5 0 1 0 10 0a5 5 0 1 0-10 0z";

const KINDS = {
  critical: { title: "Critical fault", letter: "C", path: OCTAGON, color: "--critical", full: true },
  major: { title: "Major fault", letter: "M", path: PENTAGON, color: "--major", full: true, low: true },
  minor: { title: "Minor fault", letter: "m", path: SQUARE, color: "--minor", full: true },
  warning: { title: "Warning", letter: "w", path: SQUARE, color: "--minor", full: true },
  indeterminate: { title: "Fault", letter: "F", path: SQUARE, color: "--minor", full: true },
  unknown: { title: "Unknown", letter: "?", path: DIAMOND, color: "--unknown", full: true },
  silent: { title: "Silent", letter: "×", path: DISC, color: "--silent", full: false },
  insufficient: { title: "Too few fields", letter: "–", path: DISC, color: "--insufficient", full: false },
  learning: { title: "Learning", letter: "L", path: DISC, color: "--learning", full: false },
  good: { title: "Good", letter: "", path: DISC, color: "--good", full: true },
};
export const ORDER = Object.keys(KINDS);
const RANK = new Map(ORDER.map((kind, at) => [kind, at]));

/** The kind of a device (or of anything with a state, a severity). */
export function kindOf({ state, severity }) {
  if (state === "fault") return SEVERITIES.includes(severity) ? severity : "indeterminate";
  return KINDS[state] ? state : "indeterminate";
}

/** The kind of an incident, or of a class by its name. */
export function kindOfIncident({ label, severity }) {
  if (label === "unknown") return "unknown";
  return SEVERITIES.includes(severity) ? severity : "indeterminate";
}

export function meaning(kind) {
  return KINDS[kind];
}

export function rank(kind) {
  return RANK.get(kind);
}

/** Since when a device is as it is: a silent one, since its last record. */
export function sinceOf({ state: now, since, time }) {
  return now === "silent" ? time : since;
}

/** For how many seconds it is so. */
export function lengthOf(device) {
  const until = device.state === "silent" ? Date.now() / 1000 : device.time;
  return Math.max(0, until - sinceOf(device));
}

/** Whether somebody should look at it. */
export function isTrouble(kind) {
  return rank(kind) <= rank("silent");
}

/** A glyph as SVG, for lists; its meaning must stand beside it in words. */
export function glyph(kind, size = 16) {
  const { path, color, full, letter, low } = KINDS[kind];
  const paint = `var(${color})`;
  return svg("svg", { class: "glyph", width: size, height: size, viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("path", { d: path, fill: full ? paint : "none", stroke: paint, "stroke-width": full ? 0 : 1.8 }),
    letter && svg("text", {
      x: 8, y: low ? 13 : 11.6, "text-anchor": "middle", "font-size": low ? 10 : 10.5, "font-weight": 700,
      fill: full ? "var(--on-state)" : paint,
    }, letter));
}

const PATHS = new Map(ORDER.map((kind) => [kind, new Path2D(KINDS[kind].path)]));

/** The same glyph on a canvas, its upper left corner at x, y. */
export function paintGlyph(context, kind, x, y, size, colors) {
  const { full, letter, low, color } = KINDS[kind];
  context.save();
  context.translate(x, y);
  context.scale(size / 16, size / 16);
  context.fillStyle = context.strokeStyle = colors[color];
  context.lineWidth = 1.8;
  if (full) context.fill(PATHS.get(kind));
  else context.stroke(PATHS.get(kind));
  if (letter && size >= 10) {
    context.fillStyle = full ? colors["--on-state"] : colors[color];
    context.font = `700 ${low ? 10 : 10.5}px sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    context.fillText(letter, 8, low ? 13 : 11.6);
  }
  context.restore();
}

/** Glyph and words: ▲ port_flap. */
export function state(kind, text = KINDS[kind].title) {
  return h("span", { class: "state", title: KINDS[kind].title }, glyph(kind), said(text));
}
