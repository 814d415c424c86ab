// Drawings in and out: files, what is dropped on the page, the address.

import { stroke } from "./drawing.js";
import { bounds, fitted, packed, unpacked } from "./geometry.js";
import { SIDE, thumbnail } from "./paper.js";
import { $, color, download, el, toast } from "./ui.js";

const SHEETS = { A6: [105, 148], A5: [148, 210], A4: [210, 297], A3: [297, 420], Letter: [216, 279] };

export class Files {
  constructor(drawing, server, store, answers) {
    Object.assign(this, { drawing, server, store, answers });
    $("open").onclick = () => $("file").click();
    $("file").onchange = () => {
      if ($("file").files[0]) this.open($("file").files[0]);
      $("file").value = "";
    };
    $("open-cancel").onclick = () => $("open-dialog").close();
    $("link").onclick = () => this.share();
    this.#drops();
    this.#saves();
  }

  // -- in ----------------------------------------------------------------------------------------
  #drops() {
    let depth = 0;
    const show = (yes) => ($("drop").hidden = !yes);
    addEventListener("dragenter", (e) => {
      e.preventDefault();
      show(++depth > 0);
    });
    addEventListener("dragleave", () => show(--depth > 0));
    addEventListener("dragover", (e) => e.preventDefault());
    addEventListener("drop", (e) => {
      e.preventDefault();
      show((depth = 0));
      if (e.dataTransfer.files[0]) this.open(e.dataTransfer.files[0]);
    });
  }

  async open(file) {
    let found;
    try {
      found = await this.server.open(file);
    } catch (refusal) {
      toast(refusal.message);
      return;
    }
    if (found.drawings.length === 1) this.#use(found.drawings[0]);
    else this.#offer(found);
  }

  #offer({ drawings, skipped }) {
    $("open-note").textContent =
      `The first ${drawings.length} drawings of the file` + (skipped ? `; ${skipped} could not be read.` : ".");
    $("opened").replaceChildren(
      ...drawings.map((drawing, i) => {
        const canvas = el("canvas");
        const name = drawing.label || `drawing ${i + 1}`;
        const cell = el("button", { type: "button", className: "cell", title: name, "aria-label": name }, canvas);
        cell.onclick = () => {
          $("open-dialog").close();
          this.#use(drawing);
        };
        thumbnail(canvas, [{ strokes: drawing.strokes, color: color("--ink") }], 84);
        return cell;
      }),
    );
    $("open-dialog").showModal();
  }

  #use(found) {
    // what lies on the paper already, such as a file of our own, stays where it is
    const box = bounds(found.strokes);
    const side = Math.max(box.w, box.h);
    const fits = box.x >= 0 && box.y >= 0 && box.x + box.w <= SIDE && box.y + box.h <= SIDE && side > SIDE / 4;
    const strokes = fits ? found.strokes : fitted(found.strokes, SIDE);
    this.answers.clear();
    this.drawing.become(strokes.map((s) => stroke(s)), "open");
  }

  // -- out ---------------------------------------------------------------------------------------
  #saves() {
    const dialog = $("save-dialog");
    $("save").onclick = () => {
      if (this.drawing.empty) return toast("There is nothing on the paper yet.");
      this.#sheet();
      dialog.showModal();
    };
    const format = () => dialog.querySelector("input[name=format]:checked").value;
    dialog.addEventListener("change", () => ($("plotter").hidden = format() !== "plotter"));
    $("paper-name").onchange = () => {
      const size = SHEETS[$("paper-name").value];
      if (size) [$("paper-width").value, $("paper-height").value] = size;
    };
    for (const id of ["paper-width", "paper-height"]) $(id).oninput = () => ($("paper-name").value = "Custom");
    dialog.addEventListener("close", () => {
      if (dialog.returnValue === "save") this.save(format());
      dialog.returnValue = "";
    });
  }

  #sheet() {
    const { name, width, height, margin, pen, landscape } = this.store.choices.paper;
    $("paper-name").value = name;
    $("paper-width").value = width;
    $("paper-height").value = height;
    $("paper-margin").value = margin;
    $("paper-pen").value = pen;
    $("landscape").checked = landscape;
  }

  #paper() {
    const sheet = {
      name: $("paper-name").value,
      width: Number($("paper-width").value),
      height: Number($("paper-height").value),
      margin: Number($("paper-margin").value),
      pen: Number($("paper-pen").value),
      landscape: $("landscape").checked,
    };
    this.store.choose("paper", sheet);
    const sides = [sheet.width, sheet.height];
    if (sheet.landscape) sides.reverse();
    return { width: sides[0], height: sides[1], margin: sheet.margin, pen: sheet.pen };
  }

  async save(format) {
    const strokes = this.drawing.points;
    const message = { strokes, format: format === "plotter" ? "svg" : format, width: 0.008, size: 1024 };
    if (format === "plotter") message.paper = this.#paper();
    if (format === "gif") message.size = 384;
    try {
      download(await this.server.file("export", message), `drawing.${message.format}`);
    } catch (refusal) {
      toast(refusal.message);
    }
  }

  // -- the address -------------------------------------------------------------------------------
  /** Fields of the address, after #. */
  static address() {
    const fields = new URLSearchParams(location.hash.slice(1));
    const strokes = fields.has("d") ? unpacked(fields.get("d")) : null;
    return { seed: fields.get("seed"), label: fields.get("class"), strokes };
  }

  /** Write what is shown into the address, without the drawing. */
  note(seed, label) {
    const fields = new URLSearchParams({ seed, ...(label !== "guess" && { class: label }) });
    history.replaceState(null, "", `#${fields}`);
  }

  async share() {
    const fields = new URLSearchParams(location.hash.slice(1));
    if (!this.drawing.empty) fields.set("d", packed(this.drawing.points));
    const address = `${location.origin}${location.pathname}#${fields}`;
    try {
      await navigator.clipboard.writeText(address);
      toast("The address is copied: it holds the drawing and the seed.");
    } catch {
      history.replaceState(null, "", address);
      toast("The address above holds the drawing and the seed now.");
    }
  }
}
