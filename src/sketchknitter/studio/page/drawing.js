// The drawing on the paper: its strokes, what was undone, what is locked.

import { bounds, moved, scaled } from "./geometry.js";

const DEEP = 200; // steps that can be undone
let counter = 0;

/** A stroke: points, whether it is locked, and whose it is ("me" or "model"). */
export const stroke = (points, by = "me", locked = false) => ({ id: ++counter, points, by, locked });

export class Drawing extends EventTarget {
  #past = [];
  #future = [];
  strokes = [];
  selected = null; // id of the stroke that is being moved

  get empty() {
    return this.strokes.length === 0;
  }
  get canUndo() {
    return this.#past.length > 0;
  }
  get canRedo() {
    return this.#future.length > 0;
  }
  get points() {
    return this.strokes.map((s) => s.points);
  }
  get locked() {
    return this.strokes.flatMap((s, i) => (s.locked ? [i] : []));
  }

  /** Put other strokes on the paper, as one step that can be undone. */
  become(strokes, why = "edit") {
    this.#past.push(this.strokes);
    if (this.#past.length > DEEP) this.#past.shift();
    this.#future = [];
    this.#set(strokes, why);
  }

  /** Show a change while it is being made; `settle` makes one step of all of it. */
  show(strokes) {
    this.#before ??= this.strokes;
    this.strokes = strokes;
    this.dispatchEvent(new Event("look"));
  }
  #before = null;

  settle(why = "edit") {
    if (!this.#before) return;
    const now = this.strokes;
    this.strokes = this.#before;
    this.#before = null;
    if (now !== this.strokes) this.become(now, why);
  }

  add(points, by = "me") {
    this.become([...this.strokes, stroke(points, by)], "stroke");
  }
  remove(id) {
    const gone = this.strokes.find((s) => s.id === id);
    if (gone && !gone.locked) this.become(this.strokes.filter((s) => s.id !== id));
  }
  clear() {
    if (this.empty) return;
    this.become(this.strokes.filter((s) => s.locked), "clear");
  }
  toggleLock(id) {
    this.become(this.strokes.map((s) => (s.id === id ? { ...s, locked: !s.locked } : s)), "lock");
  }
  moveBy(id, dx, dy) {
    this.#change(id, (points) => moved(points, dx, dy));
  }
  scaleBy(id, factor) {
    this.#change(id, (points) => {
      const box = bounds([points]);
      return scaled(points, factor, [box.x + box.w / 2, box.y + box.h / 2]);
    });
  }
  #change(id, how) {
    const one = this.strokes.find((s) => s.id === id);
    if (!one || one.locked) return;
    this.become(this.strokes.map((s) => (s.id === id ? { ...s, points: how(s.points) } : s)));
  }

  undo() {
    if (!this.canUndo) return;
    this.#future.push(this.strokes);
    this.#set(this.#past.pop(), "undo");
  }
  redo() {
    if (!this.canRedo) return;
    this.#past.push(this.strokes);
    this.#set(this.#future.pop(), "redo");
  }

  #set(strokes, why) {
    this.strokes = strokes;
    if (!strokes.some((s) => s.id === this.selected)) this.selected = null;
    this.dispatchEvent(new CustomEvent("change", { detail: why }));
    this.dispatchEvent(new Event("look"));
  }

  // -- kept in the browser ---------------------------------------------------------------------
  packed() {
    const round = (v) => Math.round(v * 10) / 10;
    const one = (s) => ({
      p: s.points.map(([x, y]) => [round(x), round(y)]),
      by: s.by,
      ...(s.locked && { locked: true }),
    });
    return { now: this.strokes.map(one), past: this.#past.slice(-20).map((step) => step.map(one)) };
  }
  unpack(kept) {
    const one = (s) => stroke(s.p, s.by, Boolean(s.locked));
    this.#past = (kept.past ?? []).map((step) => step.map(one));
    this.#future = [];
    this.#set(kept.now.map(one), "restore");
  }
}
