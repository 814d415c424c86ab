// The panels beside the paper: finish, heal, vary, blend, new.

import { COLORS } from "./answers.js";
import { simplified } from "./geometry.js";
import { thumbnail } from "./paper.js";
import { $, color, el, freshSeed, quiet, toast } from "./ui.js";

const ENDINGS = 6, VARIATIONS = 9, BETWEEN = 9, PAGE = 9;
const GRIDS = { complete: "endings", vary: "variations", sample: "page" };
const TABS = ["finish", "heal", "vary", "blend", "new"];
const VERBS = { finish: "complete", heal: "heal", vary: "vary", blend: "interpolate", new: "sample" };
const NOUNS = { complete: "ending", heal: "drawing", vary: "variation", interpolate: "drawing", sample: "drawing" };
const MANY = 15000; // points above which a simplified copy is sent

const percent = (v) => `${Math.round(100 * v)} %`;

export class Panels {
  tab = "finish";
  #chosen = null; // index on the shelf of the drawing to blend into

  constructor(drawing, server, store, answers, files) {
    Object.assign(this, { drawing, server, store, answers, files });
    this.#tabs();
    this.#finish();
    this.#heal();
    this.#rest();
    this.#bar();
    this.#guesses();
    answers.addEventListener("change", () => this.show());
    answers.addEventListener("asking", () => this.show());
    answers.addEventListener("guess", () => this.#guesses());
    answers.addEventListener("refused", ({ detail }) => toast(detail.message));
    answers.addEventListener("end", ({ detail }) => this.#nothing(detail));
    server.addEventListener("state", () => this.#classes());
  }

  get seed() {
    const seed = Math.floor(Number($("seed").value));
    return seed >= 0 && seed <= 4294967295 ? seed : 0;
  }

  setSeed(seed) {
    $("seed").value = seed;
    this.note();
  }

  note() {
    this.files.note(this.seed, $("class").value);
  }

  #nothing(end) {
    const { verb, list } = this.answers;
    if (end !== "done" || verb !== "complete" || list.some((a) => a.fresh.length)) return;
    toast("It looks finished: nothing was added.");
  }

  // -- asking ------------------------------------------------------------------------------------
  #strokes() {
    const all = this.drawing.points;
    const count = all.reduce((sum, s) => sum + s.length, 0);
    return count > MANY ? all.map((s) => simplified(s, 1)) : all;
  }

  #drawn() {
    if (this.drawing.points.some((s) => s.length > 1)) return true;
    toast("Draw something first.");
    return false;
  }

  /** Finish, heal, vary …: what the open panel is for. */
  ask() {
    const verb = VERBS[this.tab];
    const base = { seed: this.seed };
    if (verb !== "sample" && !this.#drawn()) return;
    const label = (id) => $(id).value || null;
    if (verb === "complete") {
      const n = this.#turns ? 1 : ENDINGS;
      const tidy = this.#turns ? 0 : Number($("tidy").value);
      const message = { ...base, strokes: this.#strokes(), n, label: label("class"), tidy, keep: this.drawing.locked };
      return this.answers.ask(verb, message);
    }
    if (verb === "heal") {
      const strength = Number($("strength").value);
      const message = { ...base, strokes: this.#strokes(), strength, label: label("heal-class"), keep: this.drawing.locked };
      return this.answers.ask(verb, message);
    }
    if (verb === "vary") {
      const message = { ...base, strokes: this.#strokes(), n: VARIATIONS, strength: Number($("stray").value) };
      return this.answers.ask(verb, message);
    }
    if (verb === "interpolate") {
      const other = this.store.shelf[this.#chosen];
      if (!other) return toast("Choose a drawing of the shelf.");
      return this.answers.ask(verb, { ...base, a: this.#strokes(), b: other, n: BETWEEN });
    }
    return this.answers.ask(verb, { ...base, n: PAGE, label: label("new-class") });
  }

  /** The drawing has changed: what was offered for it is out of date. */
  changed(why) {
    if (why === "restore") return;
    this.answers.clear();
    if (this.drawing.empty) this.answers.classes = [];
    this.#guesses();
    const mine = ["stroke", "undo", "redo", "move", "erase", "rub", "open", "edit", "part"];
    if (this.tab === "finish" && !this.drawing.empty && mine.includes(why)) {
      if (this.#turns && why === "stroke") this.#turn();
      else if (this.#live) why === "stroke" || why === "part" ? this.#soon() : this.#later();
    }
  }
  get #live() {
    return this.store.choices.lifted === "endings";
  }
  get #turns() {
    return this.store.choices.lifted === "turns";
  }
  #soon = () => {
    if (this.drawing.points.some((s) => s.length > 1)) this.ask();
  };
  #later = quiet(250, () => {
    if (this.tab === "finish" && this.#live) this.#soon();
  });

  /** The model draws the next stroke: the first of an ending, seen to be drawn. */
  async #turn() {
    if (!this.drawing.points.some((s) => s.length > 1)) return;
    const { answers } = this;
    if ((await this.ask()) !== "done") return;
    const one = answers.current;
    if (!answers.offered().length) return toast("The model has nothing to add: your turn.");
    await new Promise((drawn) => setTimeout(drawn, answers.paper.left));
    if (this.#turns && answers.current === one) answers.take();
  }

  again() {
    this.setSeed(freshSeed());
    this.ask();
  }

  // -- tabs --------------------------------------------------------------------------------------
  #tabs() {
    TABS.forEach((name, i) => {
      const tab = $(`tab-${name}`);
      tab.onclick = () => this.open(name);
      tab.onkeydown = (e) => {
        const way = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
        if (!way) return;
        const next = TABS[(i + way + TABS.length) % TABS.length];
        this.open(next);
        $(`tab-${next}`).focus();
      };
    });
  }

  open(name) {
    this.tab = TABS.includes(name) ? name : "finish";
    this.store.choose("tab", this.tab);
    for (const each of TABS) {
      $(each).hidden = each !== this.tab;
      $(`tab-${each}`).setAttribute("aria-selected", each === this.tab);
      $(`tab-${each}`).tabIndex = each === this.tab ? 0 : -1;
    }
    this.answers.clear();
    if (this.tab === "finish" && this.#live && !this.drawing.empty) this.#later();
    if (this.tab === "blend") this.#shelf();
  }

  // -- finish ------------------------------------------------------------------------------------
  #finish() {
    const ways = [...document.querySelectorAll("input[name=lifted]")];
    for (const way of ways) {
      way.checked = way.value === this.store.choices.lifted;
      way.onchange = () => {
        this.store.choose("lifted", way.value);
        this.#limit();
        this.answers.clear();
        if (this.#live) this.#soon();
      };
    }
    $("finish-now").onclick = () => (this.#turns ? this.#turn() : this.ask());
    $("class").onchange = () => {
      this.note();
      this.#guesses();
      if (!this.drawing.empty) this.ask();
    };
    $("most").oninput = () => this.#limit();
    this.#limit();
    $("tidy").oninput = () => {
      const share = Number($("tidy").value);
      $("tidy-out").value = share ? percent(share) : "not at all";
      if (!this.drawing.empty) this.#tidied();
    };
  }
  #tidied = quiet(200, () => this.ask());

  /** How many strokes of an ending are offered: as the slider says, and one where turns are taken. */
  #limit() {
    const all = $("most").value === $("most").max && !this.#turns;
    const count = this.#turns ? 1 : Number($("most").value);
    $("most").disabled = $("tidy").disabled = this.#turns;
    $("most-out").value = all ? "everything" : `${count} stroke${count > 1 ? "s" : ""}`;
    $("finish-now").textContent = this.#turns ? "Draw the next stroke" : "Finish it";
    this.answers.limit(all ? Infinity : count);
  }

  #guesses() {
    const { classes, sure } = this.answers;
    const chosen = $("class").value;
    $("guesses").replaceChildren(
      ...(classes.length ? [] : [1, 2, 3].map(() => el("div", { className: "guess none" }))),
      ...classes.map(({ label, p }) => {
        const bar = el("span", { className: "level" });
        bar.style.width = `${100 * p}%`;
        const one = el(
          "button",
          { type: "button", className: "guess", title: `Finish it as ${label}`, "aria-pressed": String(chosen === label) },
          bar, el("span", {}, label), el("span", { className: "p" }, p >= 0.995 ? "> 99 %" : p < 0.005 ? "< 1 %" : percent(p)),
        );
        one.onclick = () => {
          $("class").value = $("class").value === label ? "guess" : label;
          $("class").onchange();
        };
        return one;
      }),
    );
    const chip = $("taken-for");
    chip.hidden = !classes.length || this.tab !== "finish" || this.drawing.empty;
    if (classes.length) {
      const meant = chosen && chosen !== "guess";
      chip.textContent = meant
        ? `finished as ${chosen}`
        : sure ? `${classes[0].label}, I think` : `${classes[0].label}? ${classes[1]?.label ?? "something"}?`;
    }
  }

  // -- heal --------------------------------------------------------------------------------------
  #heal() {
    const live = quiet(120, () => this.ask());
    $("strength").oninput = () => {
      $("strength-out").value = percent(Number($("strength").value));
      if (!this.drawing.empty) live();
    };
    $("heal-class").onchange = () => !this.drawing.empty && this.ask();
    $("heal-now").onclick = () => this.ask();
    $("compare").oninput = () => {
      const share = Number($("compare").value);
      $("compare-out").value = share === 0 ? "before" : share === 1 ? "after" : "both";
      this.answers.fade(share);
    };
  }

  // -- vary, blend, new --------------------------------------------------------------------------
  #rest() {
    $("stray").oninput = () => ($("stray-out").value = percent(Number($("stray").value)));
    $("stray").onchange = () => this.answers.verb === "vary" && this.ask();
    $("vary-now").onclick = () => this.ask();
    $("blend-now").onclick = () => this.ask();
    $("new-now").onclick = () => this.ask();
    $("between").oninput = () => this.answers.show(Number($("between").value));
    $("seed").onchange = () => {
      this.note();
      if (this.answers.verb) this.ask();
    };
    $("roll").onclick = () => (this.answers.verb ? this.again() : this.setSeed(freshSeed()));
  }

  #shelf() {
    const { shelf } = this.store;
    const add = el("button", { type: "button", className: "cell add", "aria-label": "Put this drawing on the shelf" }, "Keep this");
    add.onclick = () => {
      if (!this.#drawn()) return;
      shelf.push(this.drawing.points);
      if (shelf.length > 23) shelf.shift();
      this.#chosen ??= 0;
      this.store.soon();
      this.#shelf();
      if (shelf.length === 1) toast("Kept. Draw another one now, or take one from New, and blend.");
    };
    const cells = shelf.map((strokes, i) => {
      const canvas = el("canvas");
      const one = this.#cell(canvas, `drawing ${i + 1} of the shelf`, i === this.#chosen);
      one.onclick = () => {
        this.#chosen = i;
        this.#shelf();
      };
      one.onkeydown = (e) => {
        if (e.key !== "Delete") return;
        shelf.splice(i, 1);
        this.#chosen = null;
        this.store.soon();
        this.#shelf();
      };
      thumbnail(canvas, [{ strokes, color: color("--ink") }], 92);
      return one;
    });
    $("shelf").replaceChildren(...cells, add);
    $("blend-now").disabled = !shelf[this.#chosen];
  }

  #classes() {
    for (const select of document.querySelectorAll("select[data-classes]")) {
      if (select.querySelector("optgroup") || !this.server.classes.length) continue;
      const group = el("optgroup", { label: "a class" });
      group.append(...this.server.classes.map((name) => el("option", { value: name }, name)));
      select.append(group);
    }
    const wanted = this.wantedClass;
    if (wanted != null && this.server.classes.length) {
      if (wanted === "" || this.server.classes.includes(wanted)) $("class").value = wanted;
      this.wantedClass = null;
    }
  }

  #cell(canvas, name, pressed) {
    return el("button", { type: "button", className: "cell", "aria-label": name, "aria-pressed": String(pressed) }, canvas);
  }

  // -- what is offered ---------------------------------------------------------------------------
  #bar() {
    $("previous").onclick = () => this.answers.show(this.answers.at - 1);
    $("next").onclick = () => this.answers.show(this.answers.at + 1);
    $("take").onclick = () => this.take();
    $("from-here").onclick = () => {
      if (this.answers.takeUpTo(this.answers.picked[0])) {
        this.setSeed(freshSeed());
        this.changed("part");
      }
    };
    $("again").onclick = () => this.again();
  }

  take() {
    const part = this.answers.picked.length > 0;
    if (!this.answers.take()) return;
    if (part) this.changed("part");
  }

  show() {
    const { answers } = this;
    const { verb, list, at, busy } = answers;
    document.body.classList.toggle("busy", busy);
    const grid = GRIDS[verb];
    for (const id of Object.values(GRIDS)) {
      const wanted = { endings: ENDINGS, variations: VARIATIONS, page: PAGE }[id];
      $(id).classList.toggle("waiting", busy && VERBS[this.tab] === Object.keys(GRIDS).find((k) => GRIDS[k] === id));
      if (id !== grid) this.#cells($(id), [], id === "endings" ? wanted : 0);
      else this.#cells($(id), list, busy ? wanted : list.length);
    }
    $("compare").disabled = verb !== "heal" || !answers.current?.drawn;
    $("between").disabled = verb !== "interpolate";
    $("between-out").value = "";
    if (verb === "interpolate") {
      $("between").max = Math.max(1, list.length - 1);
      $("between").value = at;
      $("between-out").value = `${at + 1} of ${list.length}`;
    }
    const one = answers.current;
    const nothing = Boolean(one?.drawn) && !answers.offered().length;
    const film = !$("film-bar").hidden;
    $("bar").hidden = !one || film;
    const several = list.length > 1;
    for (const id of ["previous", "next", "count"]) $(id).hidden = !several;
    $("count").value = `${at + 1} of ${busy ? { complete: ENDINGS, vary: VARIATIONS, sample: PAGE }[verb] ?? list.length : list.length}`;
    const { picked } = answers;
    $("take").disabled = !one?.drawn || nothing;
    $("take").textContent = nothing
      ? "Nothing to add"
      : picked.length ? `Take ${picked.length} stroke${picked.length > 1 ? "s" : ""}`
      : verb === "complete" ? "Take it" : "Use it";
    $("from-here").hidden = picked.length !== 1;
    $("film").disabled = !one?.frames.length;
    if (verb !== "complete") $("taken-for").hidden = true;
    this.#tell();
  }

  #cells(grid, list, count) {
    while (grid.children.length > count) grid.lastChild.remove();
    while (grid.children.length < count) {
      const i = grid.children.length;
      const cell = this.#cell(el("canvas"), "", false);
      cell.onclick = () => this.answers.list[i] && this.answers.show(i);
      grid.append(cell);
    }
    const { verb, at, redrawn } = this.answers;
    [...grid.children].forEach((cell, i) => {
      const one = list[i];
      const noun = NOUNS[verb] ?? "ending";
      cell.disabled = !one?.drawn;
      cell.setAttribute("aria-label", `${noun} ${i + 1}${one?.label ? `, ${one.label}` : ""}`);
      cell.setAttribute("aria-pressed", String(Boolean(one) && i === at));
      cell.title = one?.label ?? "";
      if (cell.shown === one?.strokes && cell.of === one) return;
      [cell.shown, cell.of] = [one?.strokes, one];
      const groups = !one?.drawn
        ? []
        : verb === "complete" && !redrawn
          ? [
              { strokes: this.drawing.points, color: color("--ink") },
              { strokes: one.fresh, color: color(COLORS[i % COLORS.length]) },
            ]
          : [{ strokes: one.strokes, color: color("--ink") }];
      thumbnail(cell.firstChild, groups, 92);
    });
  }

  /** Say in words what came, for those who do not see it. */
  #tell() {
    const { verb, list, busy } = this.answers;
    if (!verb || busy) return;
    const count = list.filter((one) => one.drawn).length;
    if (!count) return;
    const detail = verb === "heal" ? "healed" : `${count} ${NOUNS[verb]}${count > 1 ? "s" : ""}`;
    $("paper").dispatchEvent(new CustomEvent("done", { detail }));
  }
}
