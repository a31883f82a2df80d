// Incidents as bars over time, one line each, so that one sees what went on at the same time.

import { h, replace, said, svg } from "../dom.js";
import { clock, seconds, utc } from "../format.js";
import { address } from "../router.js";
import { kindOfIncident, meaning } from "../states.js";

const LINE = 20;
const MOST = 12;

/** Draw incidents, the latest first, into a place. */
export function drawTimeline(place, incidents) {
  const shown = incidents.slice(0, MOST);
  place.hidden = shown.length < 1;
  if (place.hidden) return;
  const now = Date.now() / 1000;
  const ends = shown.map((incident) => (incident.ended ? seconds(incident.ended) : now));
  const last = Math.max(...ends);
  const from = Math.min(...shown.map(({ first }) => seconds(first)), last - 60);
  // Up to now, unless that would press them all to the left.
  const to = now - from < 5 * (last - from) ? now : last + (last - from) * 0.1;
  const share = (time) => ((time - from) / (to - from)) * 100;
  const parts = place.clientWidth < 600 ? 2 : 5;
  const ticks = Array.from({ length: parts + 1 }, (_, at) => from + ((to - from) * at) / parts);
  const height = shown.length * LINE + 20;
  const picture = svg("svg", { width: "100%", height, role: "img", "aria-label": `Timeline of ${shown.length} incidents from ${utc(from)} to ${utc(to)}` },
    ticks.map((tick, at) => [
      svg("line", { x1: `${share(tick)}%`, x2: `${share(tick)}%`, y1: 0, y2: height - 18, stroke: "var(--line)" }),
      svg("text", { x: `${share(tick)}%`, y: height - 4, fill: "var(--dim)", "font-size": 11.5, "text-anchor": at === 0 ? "start" : at === parts ? "end" : "middle" }, clock(tick)),
    ]),
    shown.map((incident, at) => {
      const start = share(seconds(incident.first));
      return svg("rect", {
        x: `${start}%`, y: at * LINE + 4, width: `${Math.max(0.3, share(ends[at]) - start)}%`, height: LINE - 8, rx: 2,
        fill: `var(${meaning(kindOfIncident(incident)).color})`, "fill-opacity": incident.status === "closed" ? 0.55 : 1,
      });
    }));
  // The words lie over the bars as links, which SVG texts would not be cut for.
  const names = shown.map((incident, at) => {
    const start = share(seconds(incident.first));
    const left = start < 60;
    return h("a", {
      href: address("incidents", incident.id), tabindex: "-1",
      css: { top: `${at * LINE}px`, left: left ? `calc(${start}% + 6px)` : "auto", right: left ? "auto" : `calc(${100 - start}% + 6px)` },
    }, said(incident.label), incident.root ? [" at ", said(incident.root)] : "");
  });
  replace(place, h("div", { class: "lanes", css: { height: `${height}px` } }, picture, names));
}
