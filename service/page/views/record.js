// One record: its verdict, its distance to every class, what drove it, and its fields.

import { get } from "../api.js";
import { h, replace, said, table } from "../dom.js";
import { figure, percent, when, withUnit } from "../format.js";
import { live } from "../live.js";
import { address } from "../router.js";

const asked = new WeakMap(); // the record that each place is to show

/** Show record `n` in a place, unless another is asked for meanwhile. */
export async function showRecord(place, n, close) {
  asked.set(place, n);
  const back = h("button", { type: "button", class: "quiet back", on: { click: close } }, "Close");
  try {
    const found = await get(`live/records/${n}`);
    if (asked.get(place) === n) draw(place, back, found);
  } catch (failure) {
    if (asked.get(place) !== n) return;
    replace(place, back, h("h1", {}, "Record"), h("p", { class: "dim" }, failure.status === 404 ? "This record is no longer kept." : failure.message));
  }
}

function draw(place, back, found) {
  const { key, time, label, good, distance, confidence, distances, nearest, explanation, record } = found;
  const drivers = Array.isArray(explanation) ? explanation : (explanation?.fields ?? []);
  const units = new Map(live.scene?.fields.map(({ name, unit }) => [name, unit]));
  replace(place, back, h("h1", {}, said(label)),
    h("dl", { class: "facts" },
      h("dt", {}, "Device"), h("dd", {}, key === null ? "–" : h("a", { href: address("network", key) }, said(key))),
      h("dt", {}, "Time"), h("dd", {}, when(time)),
      h("dt", {}, "Verdict"), h("dd", {}, good ? "good traffic" : label === "unknown" ? "no class accepts it" : "fault"),
      h("dt", {}, "Distance"), h("dd", {}, figure(distance), `, confidence ${percent(confidence)}`)),
    h("h2", { class: "section" }, "Distance to every class"), distanceBars(distances, nearest),
    h("h2", { class: "section" }, "What drove it"), drivers.length
      ? table("Fields that drove the verdict", [["Field"], ["Value", true], ["Typical", true], ["Share", true]],
        drivers.map(({ field, value, typical, unit, share }) => [said(field), withUnit(value, unit), withUnit(typical, unit), percent(share)]))
      : h("p", { class: "dim" }, good ? "Good traffic needs no explanation." : "Nothing stands out."),
    h("details", {}, h("summary", {}, `All ${Object.keys(record).length} fields`),
      table("Fields of the record", [["Field"], ["Value", true]],
        Object.entries(record).map(([field, value]) => [said(field), value === null ? h("span", { class: "dim" }, "missing") : withUnit(value, units.get(field))]))));
}

/** Bars of distances, the nearest first, with a mark where each class ends; the one that decides stands out. */
function distanceBars(distances, deciding) {
  const reach = live.radii;
  const rows = Object.entries(distances).sort(([, one], [, other]) => one - other);
  const most = Math.max(...rows.map(([name, distance]) => Math.max(distance, reach.get(name) ?? 0)), 1e-9) * 1.05;
  return h("div", {}, h("div", { class: "bars" }, rows.map(([name, distance]) => {
    const radius = reach.get(name);
    return [name === deciding ? h("strong", {}, said(name)) : said(name),
      h("div", { class: "track" }, h("div", { class: "fill", css: { width: `${(distance / most) * 100}%`, background: name === deciding ? "var(--accent)" : "var(--dim)" } }),
        radius !== undefined && h("div", { class: "mark", css: { left: `${(radius / most) * 100}%` } })),
      h("span", { class: "value" }, figure(distance))];
  })), h("p", { class: "dim note" }, "Bold: the class that decides, by distance and by how common it is; it accepts what lies within its mark."));
}
