// Drift: how far recent traffic is from the records the model was calibrated on, while the page is open.

import { metrics } from "../api.js";
import { timeChart } from "../charts.js";
import { h, replace } from "../dom.js";
import { count, figure } from "../format.js";

const MODERATE = 0.1;
const STRONG = 0.25;
const EVERY = 5000; // ms
const MOST = 1000;
const seen = []; // [time, drift], kept between two looks at the view

export function driftPanel() {
  const text = h("p", {});
  const chart = timeChart({
    title: "Population stability index of the embedding, since this page was opened", series: [{ color: "--accent" }, { color: "--major", dash: [4, 4], width: 1 }], height: 120, words: ([, drift]) => figure(drift),
  });
  const element = h("section", { class: "panel", "aria-label": "Drift" }, h("h2", {}, "Drift"), text, chart.element,
    h("p", { class: "dim note" }, `Above ${MODERATE} the shift is moderate; above ${STRONG} (dashed) it is different traffic, and verdicts are guesses.`));
  let closed = false;

  async function look() {
    const value = await metrics().catch(() => null);
    if (closed || !value) return;
    const [mean, largest, records] = ['faultcube_drift{statistic="mean"}', 'faultcube_drift{statistic="max"}', "faultcube_drift_records"].map(value);
    chart.element.hidden = mean === null;
    if (mean === null) return replace(text, h("span", { class: "dim" }, "It is measured once 500 records were sampled."));
    seen.push([Date.now() / 1000, mean]);
    if (seen.length > MOST) seen.shift();
    const word = mean > STRONG ? "different traffic" : mean > MODERATE ? "a moderate shift" : "like the calibration records";
    replace(text, h("strong", {}, figure(mean)), `, ${word}: the mean over all dimensions, the largest is ${figure(largest)}, of ${count(records)} records.`);
    chart.set([seen.map(([time]) => time), seen.map(([, drift]) => drift), seen.map(() => STRONG)]);
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
