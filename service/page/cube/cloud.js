// Records become points: their place in the box, a colour for each class, a shape for each kind of verdict.

import { colors } from "../theme.js";
import { POINT_BYTES } from "./renderer.js";

const PALETTE = 8;
const DISC = 0;
const RING = 1; // a diamond with a hole: what no class accepts
const SQUARE = 2;

/** The colour of each class by name, as a custom property. */
export function paletteOf(classes) {
  const names = new Map();
  let next = 0;
  for (const { name, good } of classes) names.set(name, good ? "--good" : `--class-${(next++ % PALETTE) + 1}`);
  return (label) => names.get(label) ?? "--unknown";
}

/** "#ff5f5f" as numbers of 0 to 255. */
export function rgb(variable) {
  const hex = colors()[variable];
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

export const paint = (variable, alpha = 1) => [...rgb(variable).map((part) => part / 255), alpha];

/** How large half of the box is, in embedding units: all classes and nearly all records are inside. */
export function extentOf(classes, records) {
  let extent = 1e-6;
  for (const { position, radius } of classes) for (const part of position) extent = Math.max(extent, Math.abs(part) + radius);
  const far = records.map(({ position }) => Math.max(...position.map(Math.abs))).sort((one, other) => one - other);
  if (far.length) extent = Math.max(extent, Math.min(far[Math.floor(far.length * 0.99)], extent * 2));
  return extent * 1.05;
}

/** Holds the points of all records in one buffer, ready for the graphics card. */
export function makeCloud() {
  let buffer = new ArrayBuffer(0);
  let shown = [];
  let base = 0;

  /** Take all records; `hidden` are labels that are not drawn. Gives the buffer and how many points it has. */
  function fill(records, { extent, palette, hidden }) {
    if (buffer.byteLength < records.length * POINT_BYTES) buffer = new ArrayBuffer(Math.ceil(records.length * 1.5) * POINT_BYTES);
    const floats = new Float32Array(buffer);
    const bytes = new Uint8Array(buffer);
    const paints = new Map();
    base = records[0]?.time ?? 0;
    shown = records;
    const step = POINT_BYTES / 4;
    records.forEach(({ position, time, label, good }, at) => {
      const variable = palette(label);
      if (!paints.has(variable)) paints.set(variable, rgb(variable));
      const color = paints.get(variable);
      const from = at * step;
      floats[from] = position[0] / extent;
      floats[from + 1] = position[1] / extent;
      floats[from + 2] = position[2] / extent;
      floats[from + 3] = time - base;
      bytes.set(color, from * 4 + 16);
      bytes[from * 4 + 19] = hidden.has(label) ? 0 : 255;
      floats[from + 5] = good ? DISC : variable === "--unknown" ? RING : SQUARE;
    });
    return [buffer, records.length];
  }

  return {
    fill,
    /** A time as the graphics card counts it: float32 has no room for the seconds since 1970. */
    moment: (time) => time - base,
    /** The record that is drawn nearest to a spot, or null; `where` projects. */
    at(x, y, { where, extent, now, span, hidden }) {
      let best = null;
      let least = 14;
      for (const record of shown) {
        if (record.time > now || record.time < now - span || hidden.has(record.label)) continue;
        const spot = where(record.position.map((part) => part / extent));
        if (!spot) continue;
        const away = Math.hypot(spot[0] - x, spot[1] - y) + spot[2] * 0.5;
        if (away < least) [best, least] = [record, away];
      }
      return best;
    },
  };
}
