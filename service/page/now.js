// One line that answers: is something wrong, what, where, since when. It stands on every view.

import { counts, howMany } from "./devices.js";
import { h, redraw, said } from "./dom.js";
import { count, plural, seconds, when } from "./format.js";
import { live, on, standing } from "./live.js";
import { address } from "./router.js";
import { glyph, isTrouble, kindOfIncident, meaning, rank } from "./states.js";

const MOST = 3;

export function showNow(place, badge) {
  let shown = "";
  const draw = () => {
    const open = standing().sort((one, other) =>
      rank(kindOfIncident(one)) - rank(kindOfIncident(other)) || seconds(one.first) - seconds(other.first));
    badge.hidden = !open.length;
    badge.textContent = open.length;
    badge.setAttribute("aria-label", `${open.length} open`);
    const lines = live.loaded ? (open.length ? trouble(open) : calm()) : [];
    // A screen reader is told only of what is new.
    const text = lines.map((line) => line.dataset.said).join("|");
    if (text === shown) return;
    shown = text;
    place.dataset.trouble = open.length ? "yes" : "no";
    redraw(place, lines);
  };
  for (const topic of ["incidents", "devices", "loaded"]) on(topic, draw);
  return draw;
}

function trouble(open) {
  const lines = open.slice(0, MOST).map((incident) => {
    const { id, label, root, keys, first, acknowledged, status } = incident;
    const others = keys.filter((key) => key !== root).length;
    return h("p", { "data-said": `${id} ${label} ${root} ${others} ${status} ${acknowledged}` },
      glyph(kindOfIncident(incident)),
      h("span", {},
        h("strong", {}, h("a", { href: address("incidents", id) }, said(label), root ? [" at ", said(root)] : ", root unknown")),
        " since ", when(first), others > 0 && `, seen on ${plural(others, "other device")}`,
        status === "settled" && ", settled", acknowledged && ", acknowledged"));
  });
  if (open.length > MOST) {
    lines.push(h("p", { "data-said": `${open.length}` }, h("a", { href: address("incidents") }, `and ${count(open.length - MOST)} more`)));
  }
  return lines;
}

function calm() {
  if (!live.devices.size) return [];
  const found = [...counts()].filter(([kind, number]) => number && isTrouble(kind));
  const last = [...live.incidents.values()].reduce((latest, { ended }) => Math.max(latest, ended ? seconds(ended) : 0), 0);
  const bad = found.map(([kind, number]) => `${count(number)} ${meaning(kind).title.toLowerCase()}`).join(", ");
  const devices = howMany();
  return [h("p", { "data-said": `${bad} ${devices} ${last}` }, glyph(found[0]?.[0] ?? "good"),
    h("span", {}, h("strong", {}, "No open incident."), ` ${devices}: ${bad || "none in trouble"}.`, last > 0 && [" The last one ended at ", when(last), "."]))];
}
