// Brings the widgets of a page to life without a kernel. Each is a <div class="vgg-widget"> that
// holds a still picture and its state as JSON (vgglib/widgets/base.py writes it). When one comes
// near the screen, its front end is loaded from _static/widgets/ and runs over that state.

const FILES = new URL("widgets/", import.meta.url);

/** What a front end knows of anywidget's model: here the state is all there is. */
class PageModel {
  #state;
  #listeners = new Map();

  constructor(state) {
    this.#state = state;
  }

  get(name) {
    return this.#state[name];
  }

  set(name, value) {
    const before = JSON.stringify(this.#state[name]);
    this.#state[name] = value;
    if (JSON.stringify(value) === before) return;
    for (const event of [`change:${name}`, "change"]) {
      for (const listener of [...(this.#listeners.get(event) ?? [])]) listener();
    }
  }

  save_changes() {} // in a notebook: tells the kernel

  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
  }

  off(event, listener) {
    this.#listeners.get(event)?.delete(listener);
  }
}

async function fetched(file) {
  const answer = await fetch(new URL(file, FILES));
  if (!answer.ok) throw new Error(`${file}: ${answer.status} ${answer.statusText}`);
  return new DataView(await answer.arrayBuffer());
}

/** The state, with the bytes of files in place of their names. */
async function stateOf(widget) {
  const state = JSON.parse(widget.querySelector("script").textContent);
  const files = Object.entries(state).filter(([, value]) => value?.file);
  await Promise.all(files.map(async ([name, { file }]) => (state[name] = await fetched(file))));
  return state;
}

const sheets = new Map();

function stylesheet(name) {
  if (!sheets.has(name)) sheets.set(name, loaded(name));
  return sheets.get(name);
}

function loaded(name) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL(`${name}.css`, FILES);
  return new Promise((resolve, reject) => {
    link.onload = resolve;
    link.onerror = () => reject(new Error(`${name}.css did not load`));
    document.head.append(link);
  });
}

async function start(widget) {
  const name = widget.dataset.widget;
  const fallback = widget.querySelector(".vgg-fallback");
  const el = document.createElement("div");
  try {
    const [{ default: front }, state] = await Promise.all([
      import(new URL(`${name}.js`, FILES)),
      stateOf(widget),
      stylesheet(name),
    ]);
    fallback.hidden = true; // before render, which may measure
    widget.append(el);
    await front.render({ model: new PageModel(state), el });
    widget.dataset.ready = "";
  } catch (error) {
    console.error(error);
    el.replaceChildren("The interactive version could not be started; this is a still picture.");
    fallback.hidden = false;
    widget.append(el);
  }
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      start(target);
    }
  },
  { rootMargin: "300px" },
);
for (const widget of document.querySelectorAll(".vgg-widget")) {
  // What waits for a prediction is folded before the reader comes near.
  if (widget.dataset.widget === "predict") start(widget);
  else seen.observe(widget);
}
