// One line that answers: is something wrong, what, where, since when. It stands on every view.

import { h, replace, said } from "./dom.js";
import { count, duration, plural, seconds, when } from "./format.js";
import { live, on, standing } from "./live.js";
import { address } from "./router.js";
import { glyph, isTrouble, kindOf, kindOfIncident, rank } from "./states.js";

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
    replace(place, lines);
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
  const bad = [...live.devices.values()].filter((device) => isTrouble(kindOf(device))).length;
  const last = [...live.incidents.values()].reduce((latest, { ended }) => Math.max(latest, ended ? seconds(ended) : 0), 0);
  const quiet = last ? ` The last one ended ${duration(Date.now() / 1000 - last)} ago.` : "";
  const devices = bad ? `${plural(bad, "device is", "devices are")} not well, without an incident.` : `${plural(live.devices.size, "device")}, none in trouble.`;
  return [h("p", { "data-said": `${bad} ${live.devices.size} ${last}` }, glyph(bad ? "indeterminate" : "good"),
    h("span", {}, h("strong", {}, "No open incident."), ` ${devices}${quiet}`))];
}
