// Time series by uPlot, in the colours of the theme; texts are set by us, never by uPlot's legend.

import { h } from "./dom.js";
import { clock, figure, utc, withUnit } from "./format.js";
import { colors, onTheme } from "./theme.js";

const LEAST = 120; // seconds
// The program begins while this is still on its way.
const library = document.querySelector('script[src*="uPlot"]');

/**
 * A chart of several series over time.
 * `series` are [{title, color, unit, width, points, dash}]; `paint(u, colors)` paints
 * on top, `top` is room for it, `span` the most seconds shown, `words(values)` says the values at a moment.
 */
export function timeChart({ title, series, height = 130, unit = "", zero = true, paint = null, top = 8, span = Infinity, words = null }) {
  const value = h("output", {});
  const element = h("figure", { class: "chart" }, h("figcaption", { class: "chart-head" }, h("span", {}, title), value));
  let data = [[], ...series.map(() => [])];
  let plot = null;
  let closed = false;

  // What the series are at an index, in words.
  function say(at) {
    const values = data.map((column) => column[at]);
    if (words) return words(values);
    return series.map(({ title: name }, index) => `${name ? `${name} ` : ""}${withUnit(values[index + 1], unit)}`).join(" · ");
  }

  function latest() {
    const at = data[0].length - 1;
    value.textContent = at < 0 ? "" : say(at);
    value.title = at < 0 ? "" : utc(data[0][at]);
    element.setAttribute("aria-label", `${title}: ${value.textContent}`);
  }

  function under(u) {
    const at = u.cursor.idx;
    if (at === null || at === undefined) return latest();
    value.textContent = `${clock(data[0][at])}: ${say(at)}`;
  }

  function build() {
    if (closed) return;
    if (!globalThis.uPlot) {
      library.addEventListener("load", build, { once: true });
      return;
    }
    plot?.destroy();
    const paints = colors();
    const axis = { stroke: paints["--dim"], grid: { stroke: paints["--line"], width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    plot = new uPlot({
      width: Math.max(200, element.clientWidth || 400),
      height,
      padding: [top, 6, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        // A short history fills the chart, but a single minute is not drawn as if it were all.
        x: { range: (u, low, high) => (low === null ? [0, 1] : [Math.min(Math.max(low, high - span), high - LEAST), high]) },
        y: { range: (u, low, high) => rangeOf(low, high, zero) },
      },
      axes: [
        { ...axis, values: (u, ticks) => ticks.map((tick) => (ticks[1] - ticks[0] < 60 ? clock(tick).slice(-8) : clock(tick).slice(-8, -3))), space: 60, size: 24 },
        { ...axis, values: (u, ticks) => ticks.map(figure), size: 52, space: 28 },
      ],
      series: [{}, ...series.map((one) => ({
        stroke: paints[one.color ?? "--accent"], width: one.width ?? 1.5, dash: one.dash, points: { show: false }, spanGaps: false,
      }))],
      hooks: { setCursor: [under], draw: paint ? [(u) => paint(u, colors())] : [] },
    }, data, element);
  }

  const resized = new ResizeObserver(() => {
    const width = Math.max(200, element.clientWidth);
    if (!plot) build();
    else if (plot.width !== width) plot.setSize({ width, height });
  });
  resized.observe(element);
  const endTheme = onTheme(build);
  return {
    element,
    set(next) {
      data = next;
      plot?.setData(next);
      latest();
    },
    close() {
      closed = true;
      resized.disconnect();
      endTheme();
      plot?.destroy();
    },
  };
}

function rangeOf(low, high, zero) {
  if (low === null || high === null) return [0, 1];
  const from = zero ? Math.min(0, low) : low;
  const room = (high - from || Math.abs(high) || 1) * 0.1;
  return [from, high + room];
}
