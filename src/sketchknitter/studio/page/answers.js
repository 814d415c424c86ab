// What the model answered: drawings to look through, to take whole or in part.

import { stroke } from "./drawing.js";
import { curved, fitted, rounded, toStroke } from "./geometry.js";
import { SIDE } from "./paper.js";

export const COLORS = ["--ghost-0", "--ghost-1", "--ghost-2", "--ghost-3", "--ghost-4", "--ghost-5"];

const BEHIND = { sample: 0, interpolate: 0 }; // how strongly the paper's drawing shows behind others

/** One drawing of an answer. */
class Answer {
  drawn = false;
  strokes = []; // all of it
  fresh = []; // those that are new
  frames = []; // all of it, after each evaluation
  label = null;
}

export class Answers extends EventTarget {
  verb = null;
  list = [];
  at = 0;
  classes = []; // what the drawing may be, likeliest first
  sure = false;
  most = Infinity; // strokes of an ending that are offered
  share = 1; // of the healed drawing, when before and after are compared
  seed = 0;
  busy = false;
  #again = null; // the request, should the server come back
  #number = 0;

  constructor(server, drawing, paper, choices) {
    super();
    Object.assign(this, { server, drawing, paper, choices });
    server.addEventListener("state", ({ detail }) => {
      if (detail.state === "ready" && this.#again) this.#again();
    });
  }

  #say(what, detail = null) {
    this.dispatchEvent(new CustomEvent(what, { detail }));
  }

  get current() {
    return this.list[this.at] ?? null;
  }

  /** Give up what is under way and what is offered. */
  clear() {
    this.server.cancel();
    this.#number++;
    this.#again = null;
    this.busy = false;
    this.verb = null;
    this.list = [];
    this.at = 0;
    this.paper.compare = null;
    this.paper.behind = 1;
    this.paper.offer(null);
    this.#say("change");
  }

  /** Ask; what was offered before stays in sight until the first new drawing is there. */
  async ask(verb, message) {
    const number = ++this.#number;
    const mine = () => number === this.#number;
    const list = [];
    this.busy = true;
    this.#again = () => this.ask(verb, message);
    this.#say("asking");
    const take = () => {
      if (this.list === list) return;
      [this.verb, this.list, this.at, this.seed] = [verb, list, 0, message.seed ?? 0];
      this.paper.compare = null;
    };
    const place = (drawing) => {
      while (list.length <= drawing.index) list.push(new Answer());
      const strokes = verb === "sample" ? fitted(drawing.strokes, SIDE, 0.17) : drawing.strokes;
      return [list[drawing.index], strokes];
    };
    const on = {
      guessed: ({ classes, sure }) => {
        if (!mine()) return;
        [this.classes, this.sure] = [classes, sure];
        this.#say("guess");
      },
      frame: ({ drawings }) => {
        if (!mine()) return;
        for (const drawing of drawings) {
          const [answer, strokes] = place(drawing);
          answer.frames.push(strokes);
          if (answer.drawn) continue;
          answer.strokes = strokes;
          answer.fresh = drawing.new.map((i) => strokes[i]).filter(Boolean);
        }
        if (!list[0]) return;
        take();
        this.#look(true);
      },
      drawn: ({ drawing }) => {
        if (!mine()) return;
        const [answer, strokes] = place(drawing);
        const fresh = new Set(drawing.new);
        answer.strokes = strokes.map((s, i) => (fresh.has(i) ? this.#smooth(s) : s));
        answer.fresh = drawing.new.map((i) => answer.strokes[i]);
        answer.label = drawing.label;
        answer.drawn = true;
        take();
        if (drawing.index === this.at) this.#look(false);
        this.#say("change");
      },
    };
    let end;
    try {
      end = await this.server.ask(verb, message, on);
    } catch (error) {
      end = "refused";
      if (mine()) this.#say("refused", error);
    }
    if (!mine()) return end;
    if (end !== "lost") this.#again = null; // what was lost is asked for again
    this.busy = end === "lost";
    this.#say("change");
    this.#say("end", end);
    return end;
  }

  /** Strokes of the current answer that would be taken. */
  offered() {
    const one = this.current;
    if (!one) return [];
    return this.verb === "complete" && !this.redrawn ? one.fresh.slice(0, this.most) : one.strokes;
  }

  /** Whether an ending redraws what was drawn as well. */
  get redrawn() {
    const one = this.current;
    return Boolean(one) && one.strokes.length === one.fresh.length;
  }

  #smooth(points) {
    return rounded(this.choices.smooth ? curved(points) : points);
  }

  #look(still) {
    const one = this.current;
    if (!one) return;
    if (this.verb === "heal") {
      this.paper.behind = 1;
      this.paper.ghost = null;
      this.paper.compare = { strokes: one.strokes, share: this.share };
      this.paper.draw();
      return;
    }
    const whole = this.verb !== "complete" || this.redrawn;
    this.paper.compare = null;
    this.paper.behind = BEHIND[this.verb] ?? (whole ? 0.16 : 1);
    const color = this.verb === "complete" ? COLORS[this.at % COLORS.length] : "--accent";
    const strokes = this.offered();
    this.paper.offer({ strokes, color, still, own: whole });
    this.paper.canvas.offered = strokes; // for tests, and whoever looks from the console
  }

  show(i) {
    if (!this.list.length) return;
    this.at = (i + this.list.length) % this.list.length;
    this.#look(false);
    this.#say("change");
  }

  limit(most) {
    this.most = most;
    if (this.verb === "complete") this.#look(true);
    this.#say("change");
  }

  fade(share) {
    this.share = share;
    if (this.paper.compare) this.paper.compare.share = share;
    this.paper.draw();
  }

  /** Choose the stroke of the ghost at a place, or let it go; false where there is none. */
  tap(at, reach) {
    const ghost = this.paper.ghost;
    if (!ghost || this.verb !== "complete" || this.redrawn) return false;
    let found = -1, least = reach;
    ghost.strokes.forEach((points, i) => {
      const d = toStroke(at, points);
      if (d <= least) [found, least] = [i, d];
    });
    if (found < 0) return false;
    if (!ghost.picked.delete(found)) ghost.picked.add(found);
    this.paper.draw();
    this.#say("change");
    return true;
  }

  get picked() {
    return [...(this.paper.ghost?.picked ?? [])].sort((a, b) => a - b);
  }

  /** Bring what is offered onto the paper: all of it, or the strokes that were tapped. */
  take(strokes = null) {
    const one = this.current;
    if (!one?.drawn) return false;
    const { verb } = this;
    const offered = this.offered();
    const chosen = strokes ?? (this.picked.length ? this.picked.map((i) => offered[i]) : offered);
    if (!chosen.length) return false;
    const added = verb === "complete" && !this.redrawn;
    const next = added
      ? [...this.drawing.strokes, ...chosen.map((s) => stroke(s, "model"))]
      : this.#kept(chosen);
    this.clear();
    this.drawing.become(next, added ? "take" : "replace");
    return true;
  }

  /** Strokes of a whole drawing; those that stayed as they were keep whose they are. */
  #kept(strokes) {
    const known = new Map(this.drawing.strokes.map((s) => [JSON.stringify(s.points), s]));
    return strokes.map((points) => known.get(JSON.stringify(points)) ?? stroke(points, "model"));
  }

  /** Take an ending up to the tapped stroke, so that it can go on otherwise. */
  takeUpTo(last) {
    return this.take(this.offered().slice(0, last + 1));
  }
}
