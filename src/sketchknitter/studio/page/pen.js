// What a mouse, a pen, fingers and keys do on the paper.

import { SIDE } from "./paper.js";
import { bounds, distance, length, moved, neat, rounded, rubbed, scaled, toStroke } from "./geometry.js";

const PALM = 48; // px of the screen: a contact that wide is no fingertip
const AFTER_PEN = 700; // ms after the pen in which a touch is the hand that holds it
const REACH = 14; // px of the screen within which a stroke is meant
const RUB = 18; // radius of the eraser, px of the screen

export class Pen extends EventTarget {
  tool = "draw";
  #gesture = null;
  #lastPen = -Infinity;
  #keys = null;

  constructor(paper, drawing, choices) {
    super();
    Object.assign(this, { paper, drawing, choices });
    const canvas = paper.canvas;
    canvas.addEventListener("pointerdown", (e) => this.#down(e));
    canvas.addEventListener("pointermove", (e) => this.#move(e));
    canvas.addEventListener("pointerup", (e) => this.#up(e));
    canvas.addEventListener("pointercancel", (e) => this.#drop(e));
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("keydown", (e) => this.#key(e));
    canvas.addEventListener("blur", () => this.#endKeys());
    canvas.addEventListener("touchstart", (e) => e.preventDefault(), { passive: false });
  }

  use(tool) {
    this.tool = tool;
    this.paper.canvas.dataset.tool = tool;
    this.paper.handles = tool === "move";
    if (tool !== "move") this.drawing.selected = null;
    this.paper.draw();
    this.#say("tool");
  }

  #say(what, detail = null) {
    return this.dispatchEvent(new CustomEvent(what, { detail, cancelable: true }));
  }

  // -- pointers ----------------------------------------------------------------------------------
  #isPalm(event) {
    if (event.pointerType !== "touch") return false;
    return (
      this.choices.penOnly ||
      this.#gesture?.type === "pen" ||
      event.timeStamp - this.#lastPen < AFTER_PEN ||
      Math.max(event.width, event.height) > PALM
    );
  }

  #down(event) {
    this.paper.canvas.focus({ preventScroll: true });
    if (event.pointerType === "pen") {
      // the palm comes down before the pen does: what it drew is not meant
      if (this.#gesture?.type === "touch") this.#abandon();
      if (this.#lastPen === -Infinity) this.#say("pen");
      this.#lastPen = event.timeStamp;
    }
    if (this.#isPalm(event)) return;
    if (this.#gesture) {
      if (event.pointerType === "touch") this.#abandon(); // two fingers draw nothing
      return;
    }
    if (event.pointerType === "mouse" && event.button !== 0) return;
    event.preventDefault();
    this.paper.canvas.setPointerCapture(event.pointerId);
    this.paper.cursor = null;
    const at = this.paper.at(event.clientX, event.clientY);
    const tool = event.pointerType === "pen" && event.buttons & 32 ? "rub" : this.tool;
    this.#gesture = {
      id: event.pointerId, type: event.pointerType, tool, start: at, last: at, points: [at], time: event.timeStamp,
    };
    this.#begin(at);
  }

  #move(event) {
    const gesture = this.#gesture;
    if (!gesture || event.pointerId !== gesture.id) return;
    if (event.pointerType === "pen") this.#lastPen = event.timeStamp;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const one of between.length ? between : [event]) {
      const at = this.paper.at(one.clientX, one.clientY);
      if (distance(at, gesture.last) < 0.7 * this.paper.unit) continue;
      this.#go(at);
      gesture.last = at;
    }
  }

  #up(event) {
    const gesture = this.#gesture;
    if (!gesture || event.pointerId !== gesture.id) return;
    if (event.pointerType === "pen") this.#lastPen = event.timeStamp;
    this.#gesture = null;
    this.#end(gesture, event.timeStamp - gesture.time);
  }

  #drop(event) {
    if (this.#gesture && event.pointerId === this.#gesture.id) this.#abandon();
  }

  /** Forget a gesture that was not meant. */
  #abandon() {
    const { tool } = this.#gesture;
    this.#gesture = null;
    this.paper.live = null;
    if (tool !== "draw" && tool !== "lock") this.drawing.settle();
    this.paper.draw();
    this.#say("rest");
  }

  // -- tools -------------------------------------------------------------------------------------
  nearest(at, reach = REACH) {
    let found = null, least = reach * this.paper.unit;
    for (const s of this.drawing.strokes) {
      const d = toStroke(at, s.points);
      if (d <= least) [found, least] = [s, d];
    }
    return found;
  }

  #begin(at) {
    const { tool } = this.#gesture;
    this.#say("begin", tool);
    if (tool === "draw") {
      this.paper.live = this.#gesture.points;
    } else if (tool === "move") {
      const box = this.paper.selection();
      if (box && !box.stroke.locked && distance(at, box.corner) < 20 * this.paper.unit) {
        this.#gesture.scaling = { id: box.stroke.id, origin: [box.x, box.y], points: box.stroke.points };
      } else {
        const one = this.nearest(at, 22);
        this.drawing.selected = one?.id ?? null;
        if (one && !one.locked) this.#gesture.moving = { id: one.id, points: one.points };
        this.#say("select", one);
      }
    } else if (tool === "lock") {
      const one = this.nearest(at, 22);
      if (one) this.drawing.toggleLock(one.id);
    } else {
      this.#rub(at);
    }
    this.paper.draw();
  }

  #go(at) {
    const gesture = this.#gesture;
    if (gesture.tool === "draw") {
      gesture.points.push(at);
      if (!gesture.moved && distance(at, gesture.start) > 7 * this.paper.unit) {
        gesture.moved = true; // a line, no tap
        this.#say("line");
      }
      this.paper.draw();
    } else if (gesture.tool === "move") {
      this.#drag(gesture, at);
    } else if (gesture.tool !== "lock") {
      // a quick hand leaves gaps between events; the eraser does not
      const [from, step] = [gesture.last, (RUB / 2) * this.paper.unit];
      const pieces = Math.ceil(distance(from, at) / step) || 1;
      for (let k = 1; k <= pieces; k++) {
        this.#rub([from[0] + (k / pieces) * (at[0] - from[0]), from[1] + (k / pieces) * (at[1] - from[1])]);
      }
    }
  }

  #drag({ moving, scaling, start }, at) {
    const one = moving ?? scaling;
    if (!one) return;
    let points;
    if (moving) {
      points = moved(one.points, at[0] - start[0], at[1] - start[1]);
    } else {
      const reach = Math.max(1, distance(start, one.origin));
      points = scaled(one.points, Math.max(0.05, distance(at, one.origin) / reach), one.origin);
    }
    this.drawing.show(this.drawing.strokes.map((s) => (s.id === one.id ? { ...s, points } : s)));
  }

  #rub(at) {
    const all = this.drawing.strokes;
    const radius = RUB * this.paper.unit;
    let left;
    if (this.#gesture.tool === "erase") {
      const near = (s) => !s.locked && toStroke(at, s.points) <= REACH * this.paper.unit;
      left = all.filter((s) => !near(s));
    } else {
      left = all.flatMap((s) => {
        if (s.locked) return [s];
        const parts = rubbed(s.points, at, radius);
        if (parts.length === 1 && parts[0] === s.points) return [s];
        return parts.map((points, i) => ({ ...s, id: i ? `${s.id}.${i}.${Math.random()}` : s.id, points }));
      });
    }
    if (left.length !== all.length || left.some((s, i) => s !== all[i])) this.drawing.show(left);
  }

  #end(gesture, ms) {
    this.paper.live = null;
    if (gesture.tool === "draw") {
      const short = length(gesture.points) < 7 * this.paper.unit;
      const tap = short && ms < 350;
      // an event that somebody has canceled was a tap on the ghost
      if (tap && !this.#say("tap", gesture.start)) this.paper.draw();
      else this.drawing.add(this.#cleaned(short ? [gesture.start] : gesture.points));
    } else if (gesture.tool !== "lock") {
      this.drawing.settle(gesture.tool);
    }
    this.paper.draw();
    this.#say("rest");
  }

  #cleaned(points) {
    return rounded(this.choices.smooth ? neat(points) : points);
  }

  // -- keys: the arrows carry a pen that the space bar puts down and lifts -------------------------
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 50 : 10;
    const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (this.tool === "move") {
      const { selected, strokes } = this.drawing;
      if (event.key === "Tab" && strokes.length && !event.shiftKey) {
        const i = strokes.findIndex((s) => s.id === selected);
        if (i + 1 >= strokes.length) return; // on to what comes after the paper
        this.drawing.selected = strokes[i + 1].id;
        this.#say("select", strokes[i + 1]);
      } else if (way && selected) this.drawing.moveBy(selected, ...way);
      else if (event.key === "+" && selected) this.drawing.scaleBy(selected, 1.1);
      else if (event.key === "-" && selected) this.drawing.scaleBy(selected, 1 / 1.1);
      else if (["Delete", "Backspace"].includes(event.key) && selected) this.drawing.remove(selected);
      else return;
    } else if (way) {
      this.#steer(way);
    } else if (event.key === " " && this.paper.cursor) {
      this.#act();
    } else {
      return;
    }
    event.preventDefault();
    this.paper.draw();
  }

  #steer([dx, dy]) {
    const box = bounds(this.drawing.points);
    const from = this.paper.cursor ?? (box ? [box.x + box.w, box.y + box.h] : [SIDE / 2, SIDE / 2]);
    this.paper.cursor = [from[0] + dx, from[1] + dy];
    if (this.#keys) this.#keys.push(this.paper.cursor);
  }

  #act() {
    const at = this.paper.cursor;
    if (this.tool === "draw" && !this.#keys) {
      this.#say("begin", "draw");
      this.#keys = this.paper.live = [at];
    } else if (this.tool === "draw") {
      this.#endKeys();
    } else {
      const one = this.nearest(at, 40);
      if (one && this.tool === "lock") this.drawing.toggleLock(one.id);
      else if (one) this.drawing.remove(one.id);
      this.#say("rest");
    }
  }

  #endKeys() {
    if (!this.#keys) return;
    const points = this.#keys;
    this.#keys = this.paper.live = null;
    this.drawing.add(points);
    this.#say("rest");
  }
}
