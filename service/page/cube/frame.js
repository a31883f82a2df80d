// The box around the points, and the words on the canvas: what its axes are, and the names of the classes.

import { h, said } from "../dom.js";

const EDGES = [];
for (const a of [-1, 1]) {
  for (const b of [-1, 1]) {
    EDGES.push([-1, a, b, 1, a, b], [a, -1, b, a, 1, b], [a, b, -1, a, b, 1]);
  }
}
/** The edges of the box as lines. */
export const BOX = new Float32Array(EDGES.flatMap(([a, b, c, d, e, f]) => [a, b, c, 1, d, e, f, 1]));

/** A grid on the floor, to see what is near and what is far. */
export const FLOOR = new Float32Array([-0.5, 0, 0.5].flatMap((at) => [at, -1, -1, 1, at, -1, 1, 1, -1, -1, at, 1, 1, -1, at, 1]));

const ENDS = [[1.08, -1, -1], [-1, 1.06, -1], [-1, -1, 1.08]];

/** What the axes are, honestly. */
export function axesOf({ axes, dimensions }) {
  if (axes.kind === "learned") {
    return { names: ["dimension 1", "dimension 2", "dimension 3"], text: "The three learned dimensions of the embedding; nothing is left out." };
  }
  const share = Math.round(axes.share * 100);
  return {
    names: ["axis 1", "axis 2", "axis 3"],
    text: `Three axes of ${dimensions} dimensions: they show ${share} % of the centroids' spread. A point that looks to be inside a sphere may be outside in the others.`,
  };
}

/** Labels that follow the camera. */
export function makeLabels(layer) {
  let marks = [];
  const ring = h("span", { class: "chosen", hidden: true });
  return {
    /** Ring a place, or none. */
    ring(place, where) {
      const spot = place && where(place);
      ring.hidden = !spot;
      if (spot) ring.style.transform = `translate(-50%, -50%) translate(${Math.round(spot[0])}px, ${Math.round(spot[1])}px)`;
    },
    set(axisNames, spheres) {
      layer.replaceChildren();
      const axes = axisNames.map((name, at) => [h("span", { class: "axis-name" }, name), ENDS[at]]);
      const classes = spheres.map(({ name, center, radius, variable }) =>
        [h("span", { class: "class-name", css: { color: `var(${variable})` } }, said(name)), [center[0], center[1] + radius, center[2]]]);
      marks = [...axes, ...classes];
      layer.append(...marks.map(([element]) => element), ring);
    },
    place(where) {
      const taken = [];
      for (const [element, place] of marks) {
        const spot = where(place);
        element.hidden = !spot;
        if (!spot) continue;
        // Names do not lie on each other: a later one goes up.
        let y = spot[1];
        while (taken.some(([left, top]) => Math.abs(left - spot[0]) < 90 && Math.abs(top - y) < 15)) y -= 15;
        taken.push([spot[0], y]);
        element.style.transform = `translate(-50%, -100%) translate(${Math.round(spot[0])}px, ${Math.round(y)}px)`;
      }
    },
  };
}
