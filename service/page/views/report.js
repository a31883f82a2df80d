// What a dry run says of a class, drawn: how far it reaches, who is near, whose records it would take.

import { h, said } from "../dom.js";
import { count, figure, percent, plural } from "../format.js";
import { live } from "../live.js";

export function drawReport(report) {
  const { name, records, radius, spread, nearest, distances, calibration, recent, swallowed } = report;
  const { radii } = live;
  const rows = Object.entries(distances).sort(([, one], [, other]) => one - other);
  const most = Math.max(...rows.map(([other, distance]) => distance + (radii.get(other) ?? 0)), radius) * 1.02;
  const share = (value) => `${Math.max(0, Math.min(100, (value / most) * 100))}%`;
  const overlapping = rows.filter(([other, distance]) => distance < radius + (radii.get(other) ?? 0)).map(([other]) => other);
  return h("section", { class: "report", "aria-label": "What would change" },
    h("h2", {}, "What would change"),
    h("p", {}, `${plural(records, "record")}, reaching ${figure(radius)} around ${records === 1 ? "it" : "their centre"}`, spread !== null && spread !== undefined && ` (they lie ${figure(spread)} apart)`, ". Nearest class: ", said(nearest.name), ` at ${figure(nearest.distance)}.`),
    spread > nearest.distance && h("p", { class: "error" }, "The records lie farther from each other than from ", said(nearest.name), ": they may be of it, or of several classes."),
    h("div", { class: "reach", role: "img", "aria-label": overlapping.length ? `It overlaps with ${overlapping.join(", ")}` : "It overlaps with no class" },
      reach(name, 0, radius, share, true), rows.map(([other, distance]) => reach(other, distance, radii.get(other) ?? 0, share, false, distance < radius + (radii.get(other) ?? 0)))),
    h("p", { class: "dim note" }, "Along the line from its centre: the centre of each class and how far it reaches. Where bars meet, the nearer centre decides."),
    changes("Calibration records", calibration), changes("Recent traffic", recent),
    Object.entries(swallowed ?? {}).length > 0 && h("p", { class: "error" }, "It would take over: ", Object.entries(swallowed).map(([other, part], at) => [at ? ", " : "", said(other), ` ${percent(part)}`])));
}

function reach(name, center, radius, share, own, overlaps = false) {
  const from = Math.max(0, center - radius);
  const paint = own ? "var(--accent)" : overlaps ? "var(--major)" : "var(--dim)";
  const line = h("span", { class: "line" },
    h("span", { class: "extent", css: { left: share(from), width: `calc(${share(center + radius)} - ${share(from)})`, background: paint } }),
    h("span", { class: "center", css: { left: share(center), background: paint } }));
  return [said(name), h("span", { class: "where dim" }, own ? "new" : `${figure(center)}${overlaps ? ", meets it" : ""}`), line];
}

function changes(title, what) {
  if (!what || !what.records) return h("p", {}, `${title}: none to compare with.`);
  const { records, changed, taken } = what;
  return h("p", {}, `${title}: `, h("strong", {}, `${count(changed)} of ${count(records)}`), ` would change their label`,
    changed > 0 && [" (from ", Object.entries(taken).map(([label, number], at) => [at ? ", " : "", said(label), ` ${count(number)}`]), ")"], ".");
}
