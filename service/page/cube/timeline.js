// Which moment the cube shows: live, or a moment of the last minutes.

import { h } from "../dom.js";
import { clock, duration, utc } from "../format.js";

const SPANS = [[60, "1 min"], [300, "5 min"], [900, "15 min"], [3600, "1 h"]];
const STEP = 10;

/** `range()` gives the oldest and newest time; `changed()` asks for a frame. */
export function makeTimeline(range, changed) {
  let held = null; // the moment, while paused
  let span = 300;
  const hold = h("button", { type: "button", class: "hold", on: { click: () => set(held === null ? range()[1] : null) } }, "Pause");
  const back = h("button", { type: "button", "aria-label": `Back ${STEP} seconds`, on: { click: () => set(moment() - STEP) } }, `−${STEP} s`);
  const forth = h("button", { type: "button", "aria-label": `Forth ${STEP} seconds`, on: { click: () => set(moment() + STEP) } }, `+${STEP} s`);
  const slider = h("input", { type: "range", min: "0", max: "1000", value: "1000", "aria-label": "Moment", on: { input: slide } });
  const output = h("output", {});
  const select = h("select", { "aria-label": "Records of the last", on: { change: () => { span = Number(select.value); changed(); } } },
    SPANS.map(([seconds, text]) => h("option", { value: seconds, selected: seconds === span }, text)));
  const element = h("div", { class: "timeline", role: "group", "aria-label": "Time" }, hold, back, forth, slider, output,
    h("label", { class: "row" }, h("span", { class: "dim" }, "records of the last"), select));

  const moment = () => held ?? range()[1];

  function set(time) {
    const [oldest, newest] = range();
    held = time === null || time > newest ? null : Math.max(oldest, time);
    show();
    changed();
  }

  function slide() {
    const [oldest, newest] = range();
    const share = Number(slider.value) / 1000;
    set(share >= 1 ? null : oldest + share * (newest - oldest));
  }

  function show() {
    const [oldest, newest] = range();
    const now = moment();
    hold.textContent = held === null ? "Pause" : "Go live";
    hold.setAttribute("aria-pressed", String(held !== null));
    slider.value = String(newest > oldest ? Math.round(((now - oldest) / (newest - oldest)) * 1000) : 1000);
    const text = held === null ? `live, ${clock(now)}` : `${clock(now)}, ${duration(newest - now)} before the newest`;
    slider.setAttribute("aria-valuetext", text);
    output.textContent = text;
    output.title = utc(now);
  }

  return { element, show, moment, paused: () => held !== null, span: () => span, hold: (time) => set(time) };
}
