// The film of the denoising: what the network saw after each of its evaluations.

import { $, download, icon, toast } from "./ui.js";

const STEP = 90; // ms a frame
const HOLD = 900; // ms of the last one

export class Film {
  #frames = [];
  #timer = 0;

  constructor(answers, server) {
    Object.assign(this, { answers, server });
    $("film").onclick = () => this.open();
    $("film-close").onclick = () => this.close();
    $("film-play").onclick = () => (this.#timer ? this.#pause() : this.#play());
    $("film-at").oninput = () => {
      this.#pause();
      this.#show();
    };
    $("film-save").onclick = () => this.#save();
    answers.addEventListener("asking", () => this.close());
  }

  get #at() {
    return Number($("film-at").value);
  }

  open() {
    const one = this.answers.current;
    if (!one) return;
    this.#frames = [...one.frames.filter((f) => f.length), one.strokes];
    $("film-at").max = this.#frames.length - 1;
    $("film-at").value = 0;
    $("bar").hidden = true;
    $("film-bar").hidden = false;
    this.answers.paper.compare = null;
    this.answers.paper.behind = 0;
    this.#play();
    $("film-play").focus();
  }

  close() {
    if ($("film-bar").hidden) return;
    this.#pause();
    $("film-bar").hidden = true;
    if (this.answers.list.length) this.answers.show(this.answers.at);
  }

  #show() {
    const { paper } = this.answers;
    paper.offer({ strokes: this.#frames[this.#at], color: "--accent", still: true, own: true });
    $("film-count").value = `${this.#at + 1} of ${this.#frames.length}`;
  }

  #play() {
    icon($("film-play"), "pause");
    const step = () => {
      this.#show();
      const last = this.#at + 1 >= this.#frames.length;
      this.#timer = setTimeout(() => {
        $("film-at").value = last ? 0 : this.#at + 1;
        step();
      }, last ? HOLD : STEP);
    };
    step();
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    icon($("film-play"), "film");
  }

  async #save() {
    const every = Math.ceil(this.#frames.length / 100);
    const last = this.#frames.length - 1;
    const frames = this.#frames.filter((_, i) => i % every === 0 || i === last);
    try {
      download(await this.server.file("film", { frames }), "film.gif");
    } catch (refusal) {
      toast(refusal.message);
    }
  }
}
