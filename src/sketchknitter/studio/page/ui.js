// Small helpers of the page.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children. */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Change the symbol of a button. */
export const icon = (button, name) => button.querySelector("use").setAttribute("href", `#i-${name}`);

let hide = 0;
/** A sentence that goes away by itself. */
export function toast(text) {
  const box = $("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(hide);
  hide = setTimeout(() => (box.hidden = true), 4500);
}

/** `work`, once calls have been quiet for a while. */
export function quiet(ms, work) {
  let later = 0;
  return (...args) => {
    clearTimeout(later);
    later = setTimeout(() => work(...args), ms);
  };
}

export const color = (name) => getComputedStyle($("paper")).getPropertyValue(name).trim();

/** Hand a blob to the person as a file. */
export function download(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export const freshSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1000000;
