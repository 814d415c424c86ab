// What outlives a reload: the drawing, the shelf, the switches.

const KEY = "sketchknitter.studio.1";

const CHOICES = {
  lifted: "endings", // what a lift of the pen asks for: "endings", "turns" (one stroke each), "wait"
  penOnly: false,
  smooth: true,
  theme: "auto",
  tab: "finish",
  paper: { name: "A4", width: 210, height: 297, landscape: false, margin: 15, pen: 0.3 },
};

export class Store {
  choices = structuredClone(CHOICES);
  shelf = [];
  #drawing;
  #later = 0;
  full = false; // whether the browser had no room
  #unsaved = false;

  constructor(drawing) {
    this.#drawing = drawing;
    const kept = this.#read();
    if (kept) {
      Object.assign(this.choices, kept.choices);
      this.shelf = kept.shelf ?? [];
      if (kept.drawing?.now) drawing.unpack(kept.drawing);
    }
    // what another tab drew is shown here as well, once one comes back
    addEventListener("storage", (e) => {
      const other = e.key === KEY && document.hidden && this.#read();
      if (!other) return;
      this.shelf = other.shelf ?? [];
      drawing.unpack(other.drawing);
      clearTimeout(this.#later);
      this.#unsaved = false;
    });
    const now = () => this.save();
    addEventListener("pagehide", now);
    document.addEventListener("visibilitychange", now);
    drawing.addEventListener("change", () => this.soon());
  }

  #read() {
    try {
      return JSON.parse(localStorage.getItem(KEY));
    } catch {
      return null; // nothing there, or not ours
    }
  }

  choose(name, value) {
    this.choices[name] = value;
    this.soon();
  }

  soon() {
    this.#unsaved = true;
    clearTimeout(this.#later);
    this.#later = setTimeout(() => this.save(), 120);
  }

  /** Keep what has changed here. A page where nothing has must not write over another one's drawing. */
  save() {
    clearTimeout(this.#later);
    if (!this.#unsaved) return;
    this.#unsaved = false;
    const drawing = this.#drawing.packed();
    for (const past of [drawing.past, []]) {
      try {
        const kept = { drawing: { now: drawing.now, past }, shelf: this.shelf, choices: this.choices };
        localStorage.setItem(KEY, JSON.stringify(kept));
        this.full = false;
        return;
      } catch {
        this.full = true; // no room: what was undone may go, the drawing may not
      }
    }
  }
}
