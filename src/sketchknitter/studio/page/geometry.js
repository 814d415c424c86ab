// Points are [x, y] in px of the paper; a stroke is a list of points. Nothing here changes its input.

export const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

export function length(points) {
  let sum = 0;
  for (let i = 1; i < points.length; i++) sum += distance(points[i - 1], points[i]);
  return sum;
}

/** {x, y, w, h} around strokes, or null where there is no point. */
export function bounds(strokes) {
  let x0 = Infinity, y0 = Infinity, x1 = -Infinity, y1 = -Infinity;
  for (const points of strokes) {
    for (const [x, y] of points) {
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      if (y > y1) y1 = y;
    }
  }
  return x0 <= x1 ? { x: x0, y: y0, w: x1 - x0, h: y1 - y0 } : null;
}

function toSegment(p, a, b) {
  const dx = b[0] - a[0], dy = b[1] - a[1];
  const square = dx * dx + dy * dy;
  const t = square ? Math.max(0, Math.min(1, ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / square)) : 0;
  return Math.hypot(p[0] - a[0] - t * dx, p[1] - a[1] - t * dy);
}

/** How far a point is from a stroke. */
export function toStroke(p, points) {
  if (points.length === 1) return distance(p, points[0]);
  let least = Infinity;
  for (let i = 1; i < points.length; i++) least = Math.min(least, toSegment(p, points[i - 1], points[i]));
  return least;
}

/** Fewer points: none of those left out was farther than `far` from the line that remains. */
export function simplified(points, far) {
  if (points.length < 3) return points;
  const keep = new Uint8Array(points.length);
  keep[0] = keep[points.length - 1] = 1;
  const todo = [[0, points.length - 1]];
  while (todo.length) {
    const [a, b] = todo.pop();
    let worst = far, at = -1;
    for (let i = a + 1; i < b; i++) {
      const d = toSegment(points[i], points[a], points[b]);
      if (d > worst) [worst, at] = [d, i];
    }
    if (at > 0) {
      keep[at] = 1;
      todo.push([a, at], [at, b]);
    }
  }
  return points.filter((_, i) => keep[i]);
}

const CORNER = Math.cos((62 * Math.PI) / 180); // a sharper turn is meant as a corner

/** Where a hand's line turns sharply within `reach` px: indices, ascending, without the ends. */
export function corners(points, reach = 10) {
  const along = [0];
  for (let i = 1; i < points.length; i++) along.push(along[i - 1] + distance(points[i - 1], points[i]));
  const sharp = points.map((p, i) => {
    let a = i, b = i;
    while (a > 0 && along[i] - along[a] < reach) a--;
    while (b < points.length - 1 && along[b] - along[i] < reach) b++;
    const u = [p[0] - points[a][0], p[1] - points[a][1]], v = [points[b][0] - p[0], points[b][1] - p[1]];
    const size = Math.hypot(...u) * Math.hypot(...v);
    return size > 0 ? (u[0] * v[0] + u[1] * v[1]) / size : 1; // cosine of the turn
  });
  const out = [];
  for (let i = 1; i + 1 < points.length; i++) {
    if (sharp[i] > CORNER) continue;
    const last = out.at(-1);
    if (last !== undefined && along[i] - along[last] < reach) {
      if (sharp[i] < sharp[last]) out[out.length - 1] = i; // one corner, at its sharpest
    } else {
      out.push(i);
    }
  }
  return out;
}

/** A hand's line as it was meant: smooth between its corners, which stay where they are. */
export function neat(points) {
  if (points.length < 3) return points;
  const ends = [...corners(points), points.length - 1];
  let from = 0;
  const pieces = ends.map((to) => {
    const piece = points.slice(from, to + 1);
    from = to;
    return curved(simplified(steadied(piece), 0.5), 8);
  });
  return pieces.flatMap((piece, i) => (i ? piece.slice(1) : piece));
}

/** A hand's line without its tremor: ends stay, the rest is averaged with its neighbors. */
export function steadied(points, passes = 2) {
  let out = points;
  for (let k = 0; k < passes; k++) {
    const before = out;
    out = before.map((p, i) => {
      if (i === 0 || i === before.length - 1) return p;
      const a = before[i - 1], b = before[i + 1];
      return [(a[0] + 2 * p[0] + b[0]) / 4, (a[1] + 2 * p[1] + b[1]) / 4];
    });
  }
  return out;
}

/** A curve through the points of a polyline (centripetal Catmull-Rom); corners stay corners. */
export function curved(points, step = 6) {
  if (points.length < 3) return points;
  const corner = (i) => {
    const [a, p, b] = [points[i - 1], points[i], points[i + 1]];
    const u = [p[0] - a[0], p[1] - a[1]], v = [b[0] - p[0], b[1] - p[1]];
    const size = Math.hypot(...u) * Math.hypot(...v);
    return size > 0 && (u[0] * v[0] + u[1] * v[1]) / size < CORNER;
  };
  const out = [points[0]];
  for (let i = 0; i + 1 < points.length; i++) {
    const p1 = points[i], p2 = points[i + 1];
    const p0 = i > 0 && !corner(i) ? points[i - 1] : [2 * p1[0] - p2[0], 2 * p1[1] - p2[1]];
    const p3 = i + 2 < points.length && !corner(i + 1) ? points[i + 2] : [2 * p2[0] - p1[0], 2 * p2[1] - p1[1]];
    const pieces = Math.max(1, Math.min(24, Math.round(distance(p1, p2) / step)));
    for (let k = 1; k <= pieces; k++) out.push(k === pieces ? p2 : between(p0, p1, p2, p3, k / pieces));
  }
  return out;
}

function between(p0, p1, p2, p3, u) {
  const knot = (a, b) => Math.max(1e-6, Math.sqrt(distance(a, b)));
  const t1 = knot(p0, p1), t2 = t1 + knot(p1, p2), t3 = t2 + knot(p2, p3);
  const t = t1 + u * (t2 - t1);
  const mix = (a, b, ta, tb) => {
    const w = (t - ta) / (tb - ta);
    return [a[0] + w * (b[0] - a[0]), a[1] + w * (b[1] - a[1])];
  };
  const a1 = mix(p0, p1, 0, t1), a2 = mix(p1, p2, t1, t2), a3 = mix(p2, p3, t2, t3);
  return mix(mix(a1, a2, 0, t2), mix(a2, a3, t1, t3), t1, t2);
}

/** What is left of a stroke when a disk is rubbed out of it: none, one or several strokes. */
export function rubbed(points, center, radius) {
  if (toStroke(center, points) > radius) return [points];
  const fine = [points[0]];
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]];
    const pieces = Math.ceil(distance(a, b) / (radius / 3)) || 1;
    for (let k = 1; k <= pieces; k++) {
      fine.push([a[0] + ((b[0] - a[0]) * k) / pieces, a[1] + ((b[1] - a[1]) * k) / pieces]);
    }
  }
  const out = [];
  let run = [];
  for (const p of fine) {
    if (distance(p, center) > radius) run.push(p);
    else if (run.length) out.push(run), (run = []);
  }
  if (run.length) out.push(run);
  return out.filter((s) => s.length > 1).map((s) => rounded(simplified(s, 0.2)));
}

/** Points to a tenth of a px: all that is kept and sent. */
export const rounded = (points) => points.map((p) => p.map((v) => Math.round(v * 10) / 10));

export const moved = (points, dx, dy) => rounded(points.map(([x, y]) => [x + dx, y + dy]));

export const scaled = (points, factor, [cx, cy]) =>
  rounded(points.map(([x, y]) => [cx + factor * (x - cx), cy + factor * (y - cy)]));

/** Strokes brought into a box of a size, in the middle. */
export function fitted(strokes, size, margin = 0.1) {
  const box = bounds(strokes);
  if (!box) return strokes;
  const factor = (size * (1 - 2 * margin)) / Math.max(box.w, box.h, 1e-9);
  const k = box.w || box.h ? factor : 1;
  const dx = size / 2 - k * (box.x + box.w / 2), dy = size / 2 - k * (box.y + box.h / 2);
  return strokes.map((s) => rounded(s.map(([x, y]) => [k * x + dx, k * y + dy])));
}

// -- a drawing in an address: whole px, differences, letters that addresses may hold ----------------

export function packed(strokes) {
  const bytes = [];
  const put = (value) => {
    let v = value < 0 ? -2 * value - 1 : 2 * value; // small numbers of either sign become small
    while (v > 127) bytes.push((v % 128) + 128), (v = Math.floor(v / 128));
    bytes.push(v);
  };
  let [x, y] = [0, 0];
  for (const stroke of strokes) {
    const points = simplified(stroke, 1);
    put(points.length);
    for (const [a, b] of points) {
      const [u, v] = [Math.round(a), Math.round(b)];
      put(u - x), put(v - y);
      [x, y] = [u, v];
    }
  }
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The inverse of `packed`; null for a text that no drawing made. */
export function unpacked(text) {
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  } catch {
    return null;
  }
  let at = 0;
  const get = () => {
    let v = 0, place = 1, byte;
    do {
      byte = bytes[at++];
      if (byte === undefined || place > 1e9) throw new RangeError("cut short");
      v += (byte % 128) * place;
      place *= 128;
    } while (byte > 127);
    return v % 2 ? -(v + 1) / 2 : v / 2;
  };
  try {
    const out = [];
    let [x, y] = [0, 0];
    while (at < bytes.length) {
      const count = get();
      if (count < 1 || count > 20000 || out.length >= 500) return null;
      const stroke = [];
      for (let i = 0; i < count; i++) stroke.push([(x += get()), (y += get())]);
      out.push(stroke);
    }
    return out.length ? out : null;
  } catch {
    return null;
  }
}
