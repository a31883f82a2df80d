// The programs of the graphics card: points with a shape for each verdict, glass spheres, lines.

/** Points: `place` in the cube, `moment` in seconds, `paint` a colour whose alpha is 0 when hidden, `shape` 0 to 3. */
export const POINTS = [`#version 300 es
uniform mat4 view, lens;
uniform float now, span, size, motion;
in vec3 place;
in float moment, shape;
in vec4 paint;
out vec4 color;
flat out int form;
void main() {
  float age = now - moment;
  bool shown = age >= 0.0 && age <= span && paint.a > 0.0;
  vec4 eye = view * vec4(place, 1.0);
  gl_Position = shown ? lens * eye : vec4(2.0, 2.0, 2.0, 1.0);
  float birth = motion * max(0.0, 1.0 - age / 1.5);
  gl_PointSize = clamp(size * (shape > 0.5 ? 1.5 : 1.0) * (1.0 + 2.0 * birth) / -eye.z, 3.0, 42.0);
  color = vec4(paint.rgb, mix(0.95, 0.30, clamp(age / span, 0.0, 1.0)));
  form = int(shape + 0.5);
}`, `#version 300 es
precision mediump float;
in vec4 color;
flat in int form;
out vec4 pixel;
void main() {
  vec2 p = gl_PointCoord * 2.0 - 1.0;
  float d = form == 0 ? length(p) : form == 1 ? abs(p.x) + abs(p.y) : max(abs(p.x), abs(p.y)) * 1.15;
  if (d > 1.0) discard;
  if (form == 1 && d < 0.45) discard;
  pixel = vec4(color.rgb * (d > 0.82 ? 0.75 : 1.0), color.a);
}`];

/** Spheres: a square that faces the eye, shaded as if it were glass. */
export const SPHERES = [`#version 300 es
uniform mat4 view, lens;
uniform vec3 center;
uniform float radius;
in vec2 corner;
out vec2 spot;
void main() {
  vec4 eye = view * vec4(center, 1.0);
  eye.xy += corner * radius * 1.02;
  spot = corner * 1.02;
  gl_Position = lens * eye;
}`, `#version 300 es
precision mediump float;
uniform vec4 paint;
uniform float light;
in vec2 spot;
out vec4 pixel;
void main() {
  float r = dot(spot, spot);
  if (r > 1.0) discard;
  float z = sqrt(1.0 - r);
  float rim = pow(1.0 - z, 2.2);
  float gleam = pow(max(0.0, dot(normalize(vec3(spot, z)), normalize(vec3(-0.45, 0.65, 0.6)))), 40.0);
  float edge = smoothstep(1.0, 0.96, r);
  pixel = vec4(mix(paint.rgb, vec3(1.0), gleam * light), edge * (paint.a * (0.07 + 0.75 * rim) + gleam * 0.35 * light));
}`];

/** Lines of one colour; `fade` is 1 for one that is fainter at its begin. */
export const LINES = [`#version 300 es
uniform mat4 view, lens;
in vec4 place;
out float strength;
void main() {
  gl_Position = lens * view * vec4(place.xyz, 1.0);
  strength = place.w;
}`, `#version 300 es
precision mediump float;
uniform vec4 paint;
in float strength;
out vec4 pixel;
void main() { pixel = vec4(paint.rgb, paint.a * strength); }`];
