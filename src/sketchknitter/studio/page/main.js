// The studio: everything is made and tied together here.

import { Answers } from "./answers.js";
import { Server } from "./api.js";
import { Drawing, stroke } from "./drawing.js";
import { Files } from "./files.js";
import { Film } from "./film.js";
import { Panels } from "./panels.js";
import { Paper } from "./paper.js";
import { Pen } from "./pen.js";
import { Store } from "./store.js";
import { $, freshSeed, toast } from "./ui.js";

const drawing = new Drawing();
const store = new Store(drawing);
const server = new Server();
const paper = new Paper($("paper"), drawing);
const pen = new Pen(paper, drawing, store.choices);
const answers = new Answers(server, drawing, paper, store.choices);
const files = new Files(drawing, server, store, answers);
const panels = new Panels(drawing, server, store, answers, files);
const film = new Film(answers, server);

// -- the paper -----------------------------------------------------------------------------------
pen.addEventListener("begin", () => ($("hint").hidden = true));
pen.addEventListener("line", () => answers.clear());
pen.addEventListener("tap", (e) => {
  if (answers.tap(e.detail, 14 * paper.unit)) e.preventDefault();
});
pen.addEventListener("pen", () => {
  if (store.choices.penOnly) return;
  store.choose("penOnly", true);
  $("pen-only").checked = true;
  toast("A pen: fingers and palms are passed over from now on (see Settings).");
});
drawing.addEventListener("change", ({ detail }) => {
  film.close();
  shown();
  if (["open", "replace", "take"].includes(detail)) paper.fit();
  panels.changed(detail);
});

function shown() {
  $("undo").disabled = !drawing.canUndo;
  $("redo").disabled = !drawing.canRedo;
  $("clear").disabled = drawing.empty;
  $("hint").hidden = !drawing.empty;
  if (store.full) toast("This browser has no room left: save the drawing as a file.");
}

// -- tools and keys ------------------------------------------------------------------------------
const tools = [...document.querySelectorAll("[data-tool]")].filter((b) => b.tagName === "BUTTON");
for (const button of tools) button.onclick = () => pen.use(button.dataset.tool);
pen.addEventListener("tool", () => {
  for (const b of tools) b.setAttribute("aria-pressed", String(b.dataset.tool === pen.tool));
});
$("undo").onclick = () => drawing.undo();
$("redo").onclick = () => drawing.redo();
$("clear").onclick = () => {
  if (drawing.strokes.every((s) => s.locked)) toast("All strokes are locked.");
  drawing.clear();
};

const KEYS = {
  p: () => pen.use("draw"),
  e: () => pen.use("erase"),
  r: () => pen.use("rub"),
  v: () => pen.use("move"),
  l: () => pen.use("lock"),
  "[": () => answers.show(answers.at - 1),
  "]": () => answers.show(answers.at + 1),
  g: () => answers.verb && panels.again(),
  Enter: () => panels.take(),
  Escape: () => ($("film-bar").hidden ? answers.clear() : film.close()),
};
addEventListener("pointerdown", () => delete document.body.dataset.keys, true);
addEventListener("keydown", (event) => {
  document.body.dataset.keys = ""; // whoever uses keys wants to see where they are
  if (document.querySelector("dialog[open]")) return;
  const target = event.target;
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    if (key === "z" && !target.matches("input[type=number]")) {
      event.shiftKey ? drawing.redo() : drawing.undo();
      event.preventDefault();
    } else if (key === "y") {
      drawing.redo();
      event.preventDefault();
    } else if (key === "s") {
      $("save").click();
      event.preventDefault();
    }
    return;
  }
  if (event.altKey || target.matches("input[type=number], select")) return;
  if (event.key === "Enter" && target.matches("button")) return;
  KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key]?.();
});

// -- settings ------------------------------------------------------------------------------------
function colors() {
  const { theme } = store.choices;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  paper.draw();
  panels.show();
}
$("settings").onclick = () => $("settings-dialog").showModal();
$("pen-only").checked = store.choices.penOnly;
$("smooth").checked = store.choices.smooth;
$("theme").value = store.choices.theme;
$("pen-only").onchange = () => store.choose("penOnly", $("pen-only").checked);
$("smooth").onchange = () => store.choose("smooth", $("smooth").checked);
$("theme").onchange = () => {
  store.choose("theme", $("theme").value);
  colors();
};

// -- the server ----------------------------------------------------------------------------------
function status(text, kind = "") {
  $("status").textContent = text;
  $("status").dataset.kind = kind;
}
server.addEventListener("state", ({ detail: { state, before, fault } }) => {
  document.body.dataset.server = state;
  if (state === "ready") {
    status("");
    if (before === "away") toast("The server is back.");
  } else if (state === "starting") {
    status("The model is being loaded …", "busy");
  } else {
    status(fault ?? "The server is away. Your drawing is safe; looking for it …", "away");
  }
});
$("paper").addEventListener("done", ({ detail }) => {
  if (server.state === "ready") status(detail);
});
answers.addEventListener("change", () => ($("hint").hidden = !drawing.empty || Boolean(answers.verb)));
answers.addEventListener("change", () => !answers.verb && server.state === "ready" && status(""));
answers.addEventListener("asking", () => server.state === "ready" && status("drawing …", "busy"));
answers.addEventListener("end", ({ detail }) => detail !== "done" && server.state === "ready" && status(""));

// -- begin ---------------------------------------------------------------------------------------
const given = Files.address();
if (given.strokes) drawing.become(given.strokes.map((points) => stroke(points)), "open");
$("seed").value = given.seed && /^\d{1,10}$/.test(given.seed) ? given.seed : freshSeed();
panels.wantedClass = given.label;
panels.open(store.choices.tab);
panels.note();
document.body.dataset.server = server.state;
status("The model is being loaded …", "busy");
colors();
shown();
pen.use("draw");
