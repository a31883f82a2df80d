// Drift: how far recent traffic is from the records the model was calibrated on, and was in the last day.

import { get } from "../api.js";
import { timeChart } from "../charts.js";
import { h, replace } from "../dom.js";
import { count, figure } from "../format.js";

const MODERATE = 0.1;
const STRONG = 0.25;
const EVERY = 15_000; // ms

export function driftPanel() {
  const text = h("p", {});
  const chart = timeChart({
    title: "Population stability index of the embedding, last 24 hours", series: [{ color: "--accent" }, { color: "--major", dash: [4, 4], width: 1 }], height: 120, words: ([, drift]) => figure(drift),
  });
  const element = h("section", { class: "panel", "aria-label": "Drift" }, h("h2", {}, "Drift"), text, chart.element,
    h("p", { class: "dim note" }, `Above ${MODERATE} the shift is moderate; above ${STRONG} (dashed) it is different traffic, and verdicts are guesses.`));
  let closed = false;

  async function look() {
    const found = await get("live/drift").catch(() => null);
    if (closed || !found) return;
    const { mean, largest, records, history } = found;
    chart.element.hidden = mean === null;
    if (mean === null) return replace(text, h("span", { class: "dim" }, `It is measured once 500 records were sampled; ${count(records)} were.`));
    const seen = [...history, found];
    const word = mean > STRONG ? "different traffic" : mean > MODERATE ? "a moderate shift" : "like the calibration records";
    replace(text, h("strong", {}, figure(mean)), `, ${word}: the mean over all dimensions, the largest is ${figure(largest)}, of ${count(records)} records.`);
    chart.set([seen.map(({ time }) => time), seen.map((then) => then.mean), seen.map(() => STRONG)]);
  }

  const timer = setInterval(look, EVERY);
  look();
  return {
    element,
    close() {
      closed = true;
      clearInterval(timer);
      chart.close();
    },
  };
}
