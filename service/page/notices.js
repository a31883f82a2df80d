// Lines under the bar that say what happened; those with a name replace each other.

import { h } from "./dom.js";

const place = document.getElementById("notices");
const named = new Map();

/** Show a line. `actions` are [title, act]; without `stays` it leaves after a while. */
export function notice(text, { kind = "plain", name = null, actions = [], stays = false } = {}) {
  if (name) named.get(name)?.();
  const close = () => {
    line.remove();
    if (name && named.get(name) === close) named.delete(name);
  };
  const buttons = actions.map(([title, act]) => h("button", { type: "button", on: { click: () => { close(); act(); } } }, title));
  const line = h("div", { class: "notice", "data-kind": kind }, h("span", { dir: "auto" }, text), buttons,
    h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", on: { click: close } }, "✕"));
  place.append(line);
  if (name) named.set(name, close);
  if (!stays) setTimeout(close, 12_000);
  return close;
}

/** Take all lines away. */
export function withdrawAll() {
  place.replaceChildren();
  named.clear();
}

/** Take a named line away. */
export function withdraw(name) {
  named.get(name)?.();
}
