// Draws the cube with WebGL 2: points, glass spheres, the box and a trail. It knows nothing of records.

import { LINES, POINTS, SPHERES } from "./shaders.js";

const POINT_BYTES = 24; // three floats, a float for the time, four bytes of colour, a float for the shape
const CORNERS = new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]);

const SLOW = 40; // ms a frame
const STILL = 300;
const COARSEST = 0.5;

// Without a graphics card, smooth edges cost more than half of the frames.
function isSoftware() {
  const gl = document.createElement("canvas").getContext("webgl2");
  const info = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software/i.test(name);
}

/** A renderer of a canvas, or null where there is no WebGL 2. */
export function makeRenderer(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: !isSoftware() });
  if (!gl) return null;
  let made = setUp(gl);
  let room = 0;
  let number = 0;
  let sharpness = 1;
  let last = 0;
  let slow = 0;
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => {
    made = setUp(gl);
    room = 0;
    canvas.dispatchEvent(new Event("repaint"));
  });

  /** Take the points: `floats` and `bytes` are two views of one buffer of POINT_BYTES each. */
  function points(buffer, many) {
    gl.bindBuffer(gl.ARRAY_BUFFER, made.points.buffer);
    const used = new Uint8Array(buffer, 0, many * POINT_BYTES);
    if (buffer.byteLength > room) {
      gl.bufferData(gl.ARRAY_BUFFER, buffer.byteLength, gl.DYNAMIC_DRAW);
      room = buffer.byteLength;
    }
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, used);
    number = many;
  }

  /** Draw one frame; `lines` are [{places (x, y, z, strength), paint, strip}]. */
  function draw({ view, lens, now, span, size, motion, spheres, lines, light }) {
    const scale = (devicePixelRatio || 1) * sharpen(performance.now());
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.depthMask(true);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

    gl.depthMask(false);
    use(made.lines, { view, lens });
    for (const { places, paint, strip } of lines) {
      gl.bindBuffer(gl.ARRAY_BUFFER, made.lines.buffer);
      gl.bufferData(gl.ARRAY_BUFFER, places, gl.DYNAMIC_DRAW);
      gl.uniform4fv(made.lines.at("paint"), paint);
      gl.drawArrays(strip ? gl.LINE_STRIP : gl.LINES, 0, places.length / 4);
    }

    gl.depthMask(true);
    use(made.points, { view, lens });
    gl.uniform1f(made.points.at("now"), now);
    gl.uniform1f(made.points.at("span"), span);
    gl.uniform1f(made.points.at("size"), size * height);
    gl.uniform1f(made.points.at("motion"), motion);
    gl.drawArrays(gl.POINTS, 0, number);

    gl.depthMask(false);
    use(made.spheres, { view, lens });
    gl.uniform1f(made.spheres.at("light"), light);
    for (const { center, radius, paint } of spheres) {
      gl.uniform3fv(made.spheres.at("center"), center);
      gl.uniform1f(made.spheres.at("radius"), radius);
      gl.uniform4fv(made.spheres.at("paint"), paint);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    }
  }

  // Where frames take long, the picture becomes coarser rather than the motion slower.
  function sharpen(now) {
    const took = now - last;
    last = now;
    slow = took > SLOW && took < 1000 ? slow + 1 : Math.max(0, slow - 1);
    if (slow >= 20 && sharpness > COARSEST) {
      sharpness *= 0.85;
      slow = 0;
    }
    return took > STILL ? 1 : sharpness;
  }

  function use({ program, array, at }, { view, lens }) {
    gl.useProgram(program);
    gl.bindVertexArray(array);
    gl.uniformMatrix4fv(at("view"), false, view);
    gl.uniformMatrix4fv(at("lens"), false, lens);
  }

  return { points, draw, close: () => gl.getExtension("WEBGL_lose_context")?.loseContext() };
}

function setUp(gl) {
  const made = { points: make(gl, POINTS), spheres: make(gl, SPHERES), lines: make(gl, LINES) };
  attribute(gl, made.points, "place", 3, gl.FLOAT, false, POINT_BYTES, 0);
  attribute(gl, made.points, "moment", 1, gl.FLOAT, false, POINT_BYTES, 12);
  attribute(gl, made.points, "paint", 4, gl.UNSIGNED_BYTE, true, POINT_BYTES, 16);
  attribute(gl, made.points, "shape", 1, gl.FLOAT, false, POINT_BYTES, 20);
  attribute(gl, made.spheres, "corner", 2, gl.FLOAT, false, 8, 0);
  gl.bufferData(gl.ARRAY_BUFFER, CORNERS, gl.STATIC_DRAW);
  attribute(gl, made.lines, "place", 4, gl.FLOAT, false, 16, 0);
  return made;
}

function make(gl, [vertex, fragment]) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(program));
  const places = new Map();
  const at = (name) => {
    if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
    return places.get(name);
  };
  return { program, at, array: gl.createVertexArray(), buffer: gl.createBuffer() };
}

function attribute(gl, { program, array, buffer }, name, size, type, normalized, stride, offset) {
  gl.bindVertexArray(array);
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  const at = gl.getAttribLocation(program, name);
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, size, type, normalized, stride, offset);
}

export { POINT_BYTES };
