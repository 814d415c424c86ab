// The server: messages go out, events come back. docs/studio.md describes both.

const BASE = "api/v1";
const CLIENT = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 12)}`;

/** An answer that tells what is wrong. */
export class Refusal extends Error {
  constructor({ code, message, where }) {
    super(where ? `${message} (${where})` : message);
    this.code = code;
  }
}

export class Server extends EventTarget {
  state = "starting"; // "starting", "ready", "away"
  classes = [];
  #running = null;

  constructor() {
    super();
    this.#watch();
  }

  #become(state, detail = null) {
    if (state === this.state) return;
    const before = this.state;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, before, fault: detail } }));
  }

  /** Ask how the server is until it is ready; asked again whenever it was lost. */
  async #watch() {
    for (;;) {
      try {
        const answer = await fetch(`${BASE}/model`, { cache: "no-store" });
        const model = await answer.json();
        if (answer.status === 401) throw new Error(model.message);
        if (model.classes?.length) this.classes = model.classes;
        if (model.ready || model.fault) {
          this.#become(model.ready ? "ready" : "away", model.fault);
          return;
        }
        this.#become("starting");
      } catch {
        this.#become("away");
      }
      await new Promise((done) => setTimeout(done, 700));
    }
  }

  #lost() {
    if (this.state === "away") return;
    this.#become("away");
    this.#watch();
  }

  /** Stop the request that is under way. */
  cancel() {
    this.#running?.abort();
    this.#running = null;
  }

  /**
   * Ask for something to be drawn; a request under way is given up.
   *
   * @param verb "complete", "heal", "vary", "interpolate", "sample" or "guess"
   * @param message its fields
   * @param on handlers by event: { queued, guessed, frame, drawn, done }
   * @returns "done", "canceled" or "lost"
   * @throws Refusal
   */
  async ask(verb, message, on) {
    this.cancel();
    const mine = new AbortController();
    this.#running = mine;
    try {
      const answer = await fetch(`${BASE}/${verb}`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-studio-client": CLIENT },
        body: JSON.stringify({ v: 1, ...message }),
        signal: mine.signal,
      });
      if (!answer.ok) throw new Refusal(await answer.json());
      let last = null;
      for await (const [event, data] of events(answer.body)) {
        if (mine.signal.aborted) return "canceled";
        last = event;
        if (event === "error") {
          if (data.code === "superseded") return "canceled";
          if (data.code === "stopped") break;
          throw new Refusal(data);
        }
        on[event]?.(data);
      }
      if (last === "done") return "done";
      this.#lost(); // the stream broke off
      return "lost";
    } catch (error) {
      if (mine.signal.aborted) return "canceled";
      if (error instanceof Refusal) throw error;
      this.#lost();
      return "lost";
    } finally {
      if (this.#running === mine) this.#running = null;
    }
  }

  /** The drawings of a file. */
  async open(file) {
    const answer = await this.#fetch(`open?name=${encodeURIComponent(file.name)}`, file);
    return answer.json();
  }

  /** A file of a drawing ("export") or of frames ("film"), as a blob. */
  async file(kind, message) {
    const answer = await this.#fetch(kind, JSON.stringify({ v: 1, ...message }));
    return answer.blob();
  }

  async #fetch(path, body) {
    let answer;
    try {
      answer = await fetch(`${BASE}/${path}`, { method: "POST", body });
    } catch {
      this.#lost();
      throw new Refusal({ code: "away", message: "the server cannot be reached; your drawing is safe here" });
    }
    if (!answer.ok) throw new Refusal(await answer.json());
    return answer;
  }
}

/** Server-sent events of a body, as [name, data]. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const name = lines.find((l) => l.startsWith("event: "))?.slice(7);
      const data = lines.filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
      if (name) yield [name, JSON.parse(data)];
    }
  }
}
