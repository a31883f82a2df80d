// Where each device of the grid stands: troubled ones large and first, the others as small as they must be.

import { isTrouble } from "../states.js";

const GAP = 4;
const HEAD = 26;
const CARD = { kind: "card", width: 232, height: 46 };
const NAME = { kind: "name", width: 116, height: 26 };
const DOT = { kind: "dot", width: 14, height: 14 };
const SPECK = { kind: "speck", width: 9, height: 9 };

const tileFor = (number, trouble) => {
  if (trouble) return number <= 120 ? CARD : number <= 600 ? NAME : DOT;
  return number <= 60 ? CARD : number <= 400 ? NAME : number <= 3000 ? DOT : SPECK;
};

/** Sections [{title, devices, tile, columns, top, first}] for lists by kind, and the height of all. */
export function layout(lists, width) {
  const trouble = [];
  const rest = [];
  for (const [kind, devices] of lists) {
    const into = isTrouble(kind) ? trouble : rest;
    for (const device of devices) into.push([kind, device]);
  }
  const sections = [];
  let top = 0;
  let first = 0;
  for (const [title, devices, bad] of [["Needs a look", trouble, true], ["Well, or not judged yet", rest, false]]) {
    if (!devices.length) continue;
    const tile = tileFor(devices.length, bad);
    const gap = tile === SPECK ? 2 : GAP;
    const columns = Math.max(1, Math.floor((width + gap) / (tile.width + gap)));
    // Cards and names share the whole width.
    const stretched = tile === DOT || tile === SPECK ? tile.width : Math.floor((width + gap) / columns) - gap;
    const rows = Math.ceil(devices.length / columns);
    sections.push({ title, devices, tile, gap, columns, width: Math.min(stretched, tile.width * 1.6), top, first });
    top += HEAD + rows * (tile.height + gap) + 10;
    first += devices.length;
  }
  return { sections, height: top, number: first };
}

/** The place of one device: {x, y, width, height} and its section. */
export function placeOf({ sections }, index) {
  const section = sections.findLast(({ first }) => first <= index);
  const at = index - section.first;
  const { tile, gap, columns, width } = section;
  const x = (at % columns) * (width + gap);
  const y = section.top + HEAD + Math.floor(at / columns) * (tile.height + gap);
  return { x, y, width, height: tile.height, section, entry: section.devices[at] };
}

/** Index of the device at a point, or -1. */
export function indexAt({ sections }, x, y) {
  for (const section of sections) {
    const { tile, gap, columns, width, devices, first } = section;
    const row = Math.floor((y - section.top - HEAD) / (tile.height + gap));
    const column = Math.floor(x / (width + gap));
    const at = row * columns + column;
    if (row >= 0 && column >= 0 && column < columns && at < devices.length) return first + at;
  }
  return -1;
}

/** Index one step to a side, in rows of the section where it begins. */
export function step(plan, index, key) {
  const { columns } = placeOf(plan, index).section;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -columns * 8, PageDown: columns * 8 }[key];
  if (key === "Home") return 0;
  if (key === "End") return plan.number - 1;
  return by === undefined ? null : Math.max(0, Math.min(plan.number - 1, index + by));
}

/** Indices of the devices of a section between two heights. */
export function visible(section, from, to) {
  const pitch = section.tile.height + section.gap;
  const start = Math.max(0, Math.floor((from - section.top - HEAD) / pitch)) * section.columns;
  const end = Math.max(0, Math.ceil((to - section.top - HEAD) / pitch)) * section.columns;
  return [Math.min(start, section.devices.length), Math.min(end, section.devices.length)];
}

export { HEAD };
