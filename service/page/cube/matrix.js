// The little of linear algebra that a camera needs; matrices are 16 numbers, column by column.

export function multiply(a, b) {
  const product = new Float32Array(16);
  for (let column = 0; column < 4; column += 1) {
    for (let row = 0; row < 4; row += 1) {
      let sum = 0;
      for (let at = 0; at < 4; at += 1) sum += a[at * 4 + row] * b[column * 4 + at];
      product[column * 4 + row] = sum;
    }
  }
  return product;
}

export function perspective(angle, aspect, near, far) {
  const f = 1 / Math.tan(angle / 2);
  return new Float32Array([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0]);
}

/** World to eye, for an eye that looks at a target from a distance, turned by yaw and pitch. */
export function orbit({ yaw, pitch, distance, target }) {
  const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  const right = [cy, 0, -sy];
  const up = [-sy * sp, cp, -cy * sp];
  const back = [sy * cp, sp, cy * cp];
  const along = (axis) => -(axis[0] * target[0] + axis[1] * target[1] + axis[2] * target[2]);
  return new Float32Array([
    right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0,
    along(right), along(up), along(back) - distance, 1,
  ]);
}

/** Where a point is on a canvas: [x, y, depth], or null behind the eye. */
export function project(matrix, [x, y, z], width, height) {
  const w = matrix[3] * x + matrix[7] * y + matrix[11] * z + matrix[15];
  if (w <= 0) return null;
  const left = (matrix[0] * x + matrix[4] * y + matrix[8] * z + matrix[12]) / w;
  const high = (matrix[1] * x + matrix[5] * y + matrix[9] * z + matrix[13]) / w;
  return [((left + 1) / 2) * width, ((1 - high) / 2) * height, w];
}
