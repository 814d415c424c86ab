// The canvas: the drawing, the ghost of an ending, what is selected.

import { bounds, distance, length } from "./geometry.js";

export const SIDE = 1000; // px of the paper that are always in view, both ways
const WIDTH = 6; // of lines, px of the paper
const SPEED = 1500; // px of the paper a second, at which ghosts are drawn
const LONGEST = 1.3; // seconds that a ghost takes at most
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** The line through points, up to a share of its ink. */
function path(points, share = 1) {
  const line = new Path2D();
  line.moveTo(...points[0]);
  if (points.length === 1) {
    line.lineTo(points[0][0] + 0.01, points[0][1]);
    return line;
  }
  let left = share >= 1 ? Infinity : share * length(points);
  for (let i = 1; i < points.length && left > 0; i++) {
    const step = distance(points[i - 1], points[i]);
    const part = step > left ? left / step : 1;
    const [a, b] = [points[i - 1], points[i]];
    line.lineTo(a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]));
    left -= step;
  }
  return line;
}

const lines = new WeakMap();
/** The whole line, made once for each list of points. */
function whole(points) {
  let line = lines.get(points);
  if (!line) lines.set(points, (line = path(points)));
  return line;
}

/** Strokes on a small canvas of their own, fitted. */
export function thumbnail(canvas, groups, size) {
  const ratio = Math.min(3, devicePixelRatio || 1);
  canvas.width = canvas.height = Math.round(size * ratio);
  const box = bounds(groups.flatMap((g) => g.strokes));
  if (!box) return;
  const scale = (0.8 * canvas.width) / Math.max(box.w, box.h, 1);
  const pen = canvas.getContext("2d");
  pen.setTransform(
    scale, 0, 0, scale,
    canvas.width / 2 - scale * (box.x + box.w / 2),
    canvas.height / 2 - scale * (box.y + box.h / 2),
  );
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = (1.7 * ratio) / scale;
  for (const { strokes, color } of groups) {
    pen.strokeStyle = color;
    for (const s of strokes) pen.stroke(whole(s));
  }
}

export class Paper {
  ghost = null; // {strokes, color, picked, since, own}: what is offered
  compare = null; // {strokes, share}: what is shown instead of the drawing, for a share
  live = null; // points of the stroke under the pen
  cursor = null; // [x, y] of the keyboard's pen
  handles = false; // whether the selected stroke shows its box
  behind = 1; // how strongly the drawing shows behind what is offered
  #asked = false;

  constructor(canvas, drawing) {
    this.canvas = canvas;
    this.drawing = drawing;
    this.pen = canvas.getContext("2d");
    this.view = { scale: 1, x: 0, y: 0 };
    new ResizeObserver(() => this.fit()).observe(canvas);
    drawing.addEventListener("look", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Bring the paper, and all of the drawing, into view. */
  fit() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    const ratio = Math.min(3, devicePixelRatio || 1);
    this.canvas.width = Math.round(w * ratio);
    this.canvas.height = Math.round(h * ratio);
    const box = bounds(this.drawing.points) ?? { x: 0, y: 0, w: 0, h: 0 };
    const x0 = Math.min(0, box.x), y0 = Math.min(0, box.y);
    const x1 = Math.max(SIDE, box.x + box.w), y1 = Math.max(SIDE, box.y + box.h);
    // on a small paper, what lies over its upper and lower edge takes too much of it
    const top = w < 640 ? Math.min(56, 0.2 * h) : 0, low = w < 640 || h < 420 ? Math.min(58, 0.2 * h) : 0;
    const high = h - top - low;
    const usual = Math.min(w, high) / SIDE;
    const at = (w / usual - SIDE) / 2, up = (high / usual - SIDE) / 2;
    const inside = x0 >= -at && x1 <= SIDE + at && y0 >= -up && y1 <= SIDE + up;
    const scale = inside ? usual : 0.95 * Math.min(w / (x1 - x0), high / (y1 - y0));
    const [cx, cy] = inside ? [SIDE / 2, SIDE / 2] : [(x0 + x1) / 2, (y0 + y1) / 2];
    this.view = { scale, x: w / 2 - scale * cx, y: top + high / 2 - scale * cy };
    this.canvas.view = this.view; // for tests, and whoever looks from the console
    this.draw();
  }

  /** Where on the paper a place of the window is. */
  at(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const { scale, x, y } = this.view;
    return [(clientX - box.left - x) / scale, (clientY - box.top - y) / scale];
  }

  /** px of the paper for px of the screen. */
  get unit() {
    return 1 / this.view.scale;
  }

  offer(ghost) {
    this.ghost = ghost && { picked: new Set(), since: performance.now(), ...ghost };
    this.draw();
  }

  draw() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame((now) => {
      this.#asked = false;
      this.#paint(now);
    });
  }

  #paint(now) {
    const { pen, canvas, view } = this;
    const look = getComputedStyle(canvas);
    const color = (name) => look.getPropertyValue(name).trim();
    const ratio = canvas.width / Math.max(1, canvas.clientWidth);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = WIDTH;
    const back = this.compare ? 1 - this.compare.share : this.ghost ? this.behind : 1;
    for (const s of this.drawing.strokes) {
      if (back <= 0) break;
      pen.globalAlpha = back;
      pen.strokeStyle = color(s.locked ? "--locked" : "--ink");
      pen.stroke(whole(s.points));
      if (s.locked) this.#lock(s.points[0], color("--locked"), color("--paper"));
    }
    if (this.compare) {
      pen.globalAlpha = this.compare.share;
      pen.strokeStyle = color("--heal");
      for (const s of this.compare.strokes) pen.stroke(whole(s));
    }
    pen.globalAlpha = 1;
    if (this.ghost) this.#haunt(now, color);
    if (this.live) {
      pen.strokeStyle = color("--ink");
      pen.stroke(path(this.live));
    }
    if (this.handles) this.#box(color("--accent"), color("--paper"));
    if (this.cursor) this.#cross(color("--accent"));
  }

  /** Seconds that it takes to draw the ghost, and px a second. */
  #pace() {
    const { ghost } = this;
    if (!ghost || calm.matches || ghost.still) return [0, Infinity];
    const ink = ghost.strokes.reduce((sum, points) => sum + Math.max(length(points), 40), 0);
    const speed = Math.max(SPEED, ink / LONGEST);
    return [ink / speed, speed];
  }

  /** ms until the ghost is drawn. */
  get left() {
    const [seconds] = this.#pace();
    return seconds && Math.max(0, this.ghost.since + 1000 * seconds - performance.now());
  }

  /** The ghost, stroke after stroke. */
  #haunt(now, color) {
    const { pen, ghost } = this;
    const [seconds, speed] = this.#pace();
    let left = seconds ? ((now - ghost.since) / 1000) * speed : Infinity;
    ghost.strokes.forEach((points, i) => {
      const own = Math.max(length(points), 40);
      const share = Math.max(0, Math.min(1, left / own));
      left -= own;
      const picked = ghost.picked.has(i);
      pen.strokeStyle = color(ghost.color);
      pen.lineWidth = picked ? WIDTH + 2 : WIDTH;
      if (share < 1) {
        pen.globalAlpha = 0.18; // where it will be
        pen.stroke(whole(points));
      }
      if (!share) return;
      pen.globalAlpha = picked ? 1 : ghost.picked.size ? 0.35 : ghost.own ? 1 : 0.78;
      pen.stroke(share < 1 ? path(points, share) : whole(points));
    });
    pen.globalAlpha = 1;
    pen.lineWidth = WIDTH;
    if (left < 0) this.draw();
  }

  #lock([x, y], color, paper) {
    const { pen, unit } = this;
    pen.fillStyle = paper;
    pen.beginPath();
    pen.arc(x, y, 6.5 * unit, 0, 7);
    pen.fill();
    pen.fillStyle = color;
    pen.beginPath();
    pen.arc(x, y, 4.5 * unit, 0, 7);
    pen.fill();
  }

  /** The box of the selected stroke, on the screen's scale: {x, y, w, h, corner}. */
  selection() {
    const one = this.drawing.strokes.find((s) => s.id === this.drawing.selected);
    if (!one) return null;
    const b = bounds([one.points]), pad = 12 * this.unit;
    const box = { x: b.x - pad, y: b.y - pad, w: b.w + 2 * pad, h: b.h + 2 * pad };
    return { ...box, corner: [box.x + box.w, box.y + box.h], stroke: one };
  }

  #box(color, paper) {
    const box = this.selection();
    if (!box) return;
    const { pen, unit } = this;
    pen.strokeStyle = color;
    pen.lineWidth = 1.5 * unit;
    pen.setLineDash([5 * unit, 5 * unit]);
    pen.strokeRect(box.x, box.y, box.w, box.h);
    pen.setLineDash([]);
    pen.beginPath();
    pen.arc(...box.corner, 7 * unit, 0, 7);
    pen.fillStyle = paper;
    pen.fill();
    pen.lineWidth = 2 * unit;
    pen.stroke();
    pen.lineWidth = WIDTH;
  }

  #cross(color) {
    const { pen, unit, cursor } = this;
    const [x, y] = cursor;
    pen.strokeStyle = color;
    pen.lineWidth = 2 * unit;
    pen.beginPath();
    pen.arc(x, y, 9 * unit, 0, 7);
    pen.moveTo(x - 15 * unit, y), pen.lineTo(x + 15 * unit, y);
    pen.moveTo(x, y - 15 * unit), pen.lineTo(x, y + 15 * unit);
    pen.stroke();
    pen.lineWidth = WIDTH;
  }
}
