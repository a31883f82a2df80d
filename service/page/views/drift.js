// Drift: how far recent traffic is from the records the model was calibrated on, over time.

import { timeChart } from "../charts.js";
import { h, replace } from "../dom.js";
import { count, figure } from "../format.js";
import { live, on } from "../live.js";

const MODERATE = 0.1;
const STRONG = 0.25;

export function driftPanel() {
  const text = h("p", {});
  const chart = timeChart({
    title: "Population stability index of the embedding, mean over its dimensions", series: [{ color: "--accent" }, { color: "--major", dash: [4, 4], width: 1 }], height: 120, words: ([, drift]) => figure(drift),
  });
  const element = h("section", { class: "panel" }, h("h2", {}, "Drift"), text, chart.element,
    h("p", { class: "dim note" }, `Above ${MODERATE} the shift is moderate; above ${STRONG} (dashed) it is different traffic, and verdicts are guesses.`));

  function draw() {
    const now = live.health?.drift;
    chart.element.hidden = !now;
    if (!now) return replace(text, h("span", { class: "dim" }, "It is measured once 500 records were sampled."));
    const word = now.mean > STRONG ? "different traffic" : now.mean > MODERATE ? "a moderate shift" : "like the calibration records";
    replace(text, h("strong", {}, figure(now.mean)), `: ${word}; the largest dimension ${figure(now.max)}, over ${count(now.records)} records.`);
    const points = live.healthHistory.map(({ time, drift }) => [time, typeof drift === "number" ? drift : (drift?.mean ?? null)]);
    chart.set([points.map(([time]) => time), points.map(([, drift]) => drift), points.map(() => STRONG)]);
  }

  const end = on("health", draw);
  draw();
  return {
    element,
    close() {
      end();
      chart.close();
    },
  };
}
