// Elements without markup: texts are only ever set as text, so that no label can become HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `on` are listeners, `css` are style properties, `true` is an empty attribute. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [kind, act] of Object.entries(value)) element.addEventListener(kind, act);
    else if (name === "css") for (const [key, to] of Object.entries(value)) element.style.setProperty(key, to);
    else element.setAttribute(name, value === true ? "" : value);
  }
  put(element, ...children);
  return element;
}

/** Append nodes and texts; nothing for null, undefined and false. */
export function put(element, ...children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child);
  }
  return element;
}

/** Put other children in the place of those that are there. */
export function replace(element, ...children) {
  element.replaceChildren();
  return put(element, ...children);
}

/** The same; a link that had the focus gives it to the one with its address. */
export function redraw(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  replace(element, ...children);
  if (focused) element.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  return element;
}

/** A text that somebody else wrote, in its own direction. */
export function said(text, tag = "bdi") {
  return h(tag, { class: "text", dir: "auto" }, String(text));
}

/** A table with a caption; columns are [title, is it a number]. */
export function table(caption, columns, rows) {
  const heads = columns.map(([title, number]) => h("th", { scope: "col", class: number && "number" }, title));
  const body = rows.map((cells) =>
    h("tr", {}, cells.map((cell, at) => h("td", { class: columns[at]?.[1] && "number" }, cell))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden-text" }, caption), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body)));
}
