// Incidents: what stands and what has been, over time, and one of them in full.

import { h, redraw, replace, said } from "../dom.js";
import { count, duration, plural, seconds, when } from "../format.js";
import { live, byStart, know, loadOlder, on } from "../live.js";
import { notice, withdraw } from "../notices.js";
import { address } from "../router.js";
import { glyph, kindOfIncident, rank } from "../states.js";
import { nothingYet } from "./empty.js";
import { showIncident } from "./incident.js";
import { drawTimeline } from "./incident_timeline.js";

const FILTERS = [["standing", "Open"], ["unknown", "Unknown"], ["closed", "Closed"], ["all", "All"]];

const matches = {
  standing: ({ status }) => status !== "closed",
  unknown: ({ label }) => label === "unknown",
  closed: ({ status }) => status === "closed",
  all: () => true,
};

export function open(place, route) {
  let filter = "all";
  let selected = null;
  let one = null;
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Show" }, FILTERS.map(([name, title]) =>
    h("button", { type: "button", class: "chip", "data-filter": name, on: { click: () => { filter = name; draw(); } } }, title)));
  const timeline = h("div", { class: "incident-timeline" });
  const list = h("ul", { class: "incident-list" });
  const more = h("button", { type: "button", hidden: true, on: { click: older } }, "Older ones");
  const kept = h("p", { class: "dim", hidden: true }, "Incidents are kept in memory and end with the process: there is no database.");
  const nothing = h("p", { class: "dim", role: "status" });
  const side = h("section", { class: "side", "aria-label": "Incident", hidden: true });
  const split = h("div", { class: "split incidents" },
    h("section", { class: "list", "aria-label": "Incidents" }, h("h1", { class: "hidden-text" }, "Incidents"), chips, h("div", { class: "incident-scroll" }, timeline, nothing, list, more, kept)), side);
  const empty = nothingYet("No incident, and nothing has come in yet");
  place.append(split, empty);

  function draw() {
    const none = live.loaded && !live.devices.size && !live.incidents.size;
    empty.hidden = !none;
    split.hidden = none;
    kept.hidden = live.incidentsKept !== "memory";
    const all = [...live.incidents.values()];
    for (const chip of chips.children) {
      const { filter: name } = chip.dataset;
      chip.setAttribute("aria-pressed", String(name === filter));
      replace(chip, FILTERS.find(([known]) => known === name)[1], h("strong", {}, count(all.filter(matches[name]).length)));
    }
    const found = all.filter(matches[filter]).sort(order);
    nothing.textContent = found.length || !live.loaded ? "" : filter === "all" ? "No incident yet." : "None of these.";
    drawTimeline(timeline, [...found].sort(byStart));
    redraw(list, found.map((incident) => line(incident, incident.id === selected)));
    more.hidden = live.incidentsBefore === null;
  }

  async function older() {
    more.disabled = true;
    try {
      await loadOlder();
      withdraw("older");
    } catch ({ message }) {
      notice(`Older incidents could not be loaded: ${message}`, { kind: "bad", name: "older" });
    }
    more.disabled = false;
  }

  function select(id) {
    selected = id;
    side.hidden = id === null;
    split.classList.toggle("with-side", id !== null);
    one?.close();
    one = id === null ? null : showIncident(side, id, know);
    draw();
  }

  const ends = ["incidents", "loaded", "devices"].map((topic) => on(topic, () => (topic === "devices" && live.incidents.size ? null : draw())));
  const timer = setInterval(draw, 10_000);
  select(route.id);
  return {
    update: (next) => next.id !== selected && select(next.id),
    close() {
      for (const end of ends) end();
      clearInterval(timer);
      one?.close();
    },
  };
}

// What stands is first, the worst of it first; what is over, by its time.
function order(one, other) {
  const [a, b] = [one, other].map(({ status }) => (status === "closed" ? 1 : 0));
  if (a !== b) return a - b;
  if (a === 0 && kindOfIncident(one) !== kindOfIncident(other)) return rank(kindOfIncident(one)) - rank(kindOfIncident(other));
  return byStart(one, other);
}

function line(incident, selected) {
  const { id, label, root, status, stale, first, last, ended, keys, acknowledged } = incident;
  const long = seconds(ended ?? last) - seconds(first);
  const others = keys.filter((key) => key !== root).length;
  return h("li", {}, h("a", { href: address("incidents", id), class: "incident", "data-status": status, "aria-current": selected && "true" },
    glyph(kindOfIncident(incident), 18),
    h("span", { class: "what" }, h("strong", {}, said(label)), root ? [" at ", said(root)] : ", root unknown"),
    h("span", { class: "marks" }, h("span", { class: "tag", "data-kind": status === "closed" ? null : "bad" }, status), stale && h("span", { class: "tag" }, "stale"), acknowledged && h("span", { class: "tag" }, "acknowledged"),
      label === "unknown" && status !== "closed" && h("span", { class: "tag", "data-kind": "accent" }, "teach this")),
    h("span", { class: "more dim" }, "since ", when(first), `, ${ended ? "lasted" : "for"} ${duration(ended ? long : Math.max(long, Date.now() / 1000 - seconds(first)))}`, others > 0 && `, seen on ${plural(others, "other device")}`)));
}
