// What a dry run says of a class, drawn: how far it reaches, who is near, whose records it would take.

import { h, said } from "../dom.js";
import { count, figure, percent, plural } from "../format.js";
import { live } from "../live.js";

/** Distances are squares, which do not add up along a line: what is drawn are their roots. */
export function drawReport(report) {
  const { name, records, radius, spread, nearest, distances, calibration, recent, swallowed } = report;
  const rows = Object.entries(distances).sort(([, one], [, other]) => one - other)
    .map(([other, distance]) => ({ other, distance, center: Math.sqrt(distance), reach: Math.sqrt(live.radii.get(other) ?? 0) }));
  const own = Math.sqrt(radius);
  const most = Math.max(own, ...rows.map(({ center, reach }) => center + reach)) * 1.02;
  const share = (value) => `${Math.max(0, Math.min(100, (value / most) * 100))}%`;
  const overlapping = rows.filter(({ center, reach }) => center < own + reach).map(({ other }) => other);
  return h("section", { class: "report", "aria-label": "What would change" },
    h("h2", {}, "What would change"),
    h("p", {}, `${plural(records, "record")}, reaching ${figure(radius)} around ${records === 1 ? "it" : "their centre"}`, spread !== null && spread !== undefined && ` (they lie ${figure(spread)} apart)`, ". Nearest class: ", said(nearest.name), ` at ${figure(nearest.distance)}.`),
    spread > nearest.distance && h("p", { class: "error" }, "The records lie farther from each other than from ", said(nearest.name), ": they may be of it, or of several classes."),
    h("div", { class: "reach", role: "img", "aria-label": overlapping.length ? `It overlaps with ${overlapping.join(", ")}` : "It overlaps with no class" },
      bar(name, "new", 0, own, share, "--accent"),
      rows.map(({ other, distance, center, reach }) => {
        const meets = overlapping.includes(other);
        return bar(other, `${figure(distance)}${meets ? ", meets it" : ""}`, center, reach, share, meets ? "--major" : "--dim");
      })),
    h("p", { class: "dim note" }, "Along the line from its centre: the centre of each class and how far it reaches, as roots of the distances. Where bars meet, the likelier class decides."),
    changes("Calibration records", calibration), changes("Recent traffic", recent),
    Object.entries(swallowed ?? {}).length > 0 && h("p", { class: "error" }, "It would take over: ", Object.entries(swallowed).map(([other, part], at) => [at ? ", " : "", said(other), ` ${percent(part)}`])));
}

function bar(name, words, center, reach, share, color) {
  const from = Math.max(0, center - reach);
  const background = `var(${color})`;
  const line = h("span", { class: "line" },
    h("span", { class: "extent", css: { left: share(from), width: `calc(${share(center + reach)} - ${share(from)})`, background } }),
    h("span", { class: "center", css: { left: share(center), background } }));
  return [said(name), h("span", { class: "where dim" }, words), line];
}

function changes(title, what) {
  if (!what || !what.records) return h("p", {}, `${title}: none to compare with.`);
  const { records, changed, taken } = what;
  return h("p", {}, `${title}: `, h("strong", {}, `${count(changed)} of ${count(records)}`), ` would change their label`,
    changed > 0 && [" (from ", Object.entries(taken).map(([label, number], at) => [at ? ", " : "", said(label), ` ${count(number)}`]), ")"], ".");
}
