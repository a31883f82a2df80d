// The eye: turned by dragging or arrow keys, nearer by wheel, pinch or + and -.

import { multiply, orbit, perspective, project } from "./matrix.js";

const ANGLE = 0.7;
const START = { yaw: 0.65, pitch: 0.4 };
const MIDDLE = [0, -0.12, 0]; // the floor is seen from above, so the box hangs low
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** Handle the pointer and keys of a canvas; `changed()` asks for a frame, `clicked(x, y)` is a click that did not turn. */
export function makeCamera(canvas, changed, clicked) {
  const eye = { ...START, distance: 4.1, target: MIDDLE };
  const fingers = new Map();
  let moved = 0;
  let apart = 0;

  // A narrow canvas needs more distance for the same box.
  const farness = () => Math.max(1, 1.05 / (canvas.clientWidth / Math.max(1, canvas.clientHeight)));

  function turn(x, y) {
    eye.yaw -= x * 0.008;
    eye.pitch = clamp(eye.pitch + y * 0.008, -1.5, 1.5);
    changed();
  }

  function nearer(factor) {
    eye.distance = clamp(eye.distance * factor, 0.15, 12);
    changed();
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
    apart = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    fingers.set(event.pointerId, now);
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (fingers.size === 1) return turn(now[0] - before[0], now[1] - before[1]);
    const [one, other] = [...fingers.values()];
    const next = Math.hypot(one[0] - other[0], one[1] - other[1]);
    if (apart) nearer(apart / next);
    apart = next;
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => {
      const alone = fingers.size === 1;
      fingers.delete(event.pointerId);
      if (kind === "pointerup" && alone && moved < 5) {
        const rect = canvas.getBoundingClientRect();
        clicked(event.clientX - rect.left, event.clientY - rect.top);
      }
    });
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    nearer(Math.exp(clamp(event.deltaY, -200, 200) * 0.0015));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const turns = { ArrowLeft: [12, 0], ArrowRight: [-12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] }[event.key];
    if (turns) turn(...turns);
    else if (event.key === "+" || event.key === "=") nearer(0.87);
    else if (event.key === "-") nearer(1.15);
    else if (event.key === "0") reset();
    else return;
    event.preventDefault();
  });

  function reset() {
    Object.assign(eye, START, { distance: 4.1, target: MIDDLE });
    changed();
  }

  function matrices() {
    const aspect = canvas.clientWidth / Math.max(1, canvas.clientHeight);
    const view = orbit({ ...eye, distance: eye.distance * farness() });
    const lens = perspective(ANGLE, aspect, 0.02, 60);
    return { view, lens, both: multiply(lens, view) };
  }

  return {
    matrices,
    reset,
    /** A projection as the camera is now: [x, y, depth] of a place on the canvas. */
    projection() {
      const { both } = matrices();
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      return (place) => project(both, place, width, height);
    },
  };
}
