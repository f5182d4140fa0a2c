// Brings the widgets of a page to life without a kernel. Each is a <div class="vgg-widget"> that
// holds a still picture and its state as JSON (vgglib/widgets/base.py writes it). When one comes
// near the screen, its front end is loaded from _static/widgets/ and runs over that state; one with
// `data-asked` waits until its reader asks for it. An address that ends in a widget's settings
// ("#network-explorer:net=E", see share.js) opens the page with that widget set so.

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

/** What share.js can do, and what it says of each widget. */
let sharing;
function share() {
  sharing ??= Promise.all([
    import(new URL("share.js", FILES)),
    fetch(new URL("shared.json", FILES)).then((answer) => answer.json()),
  ]).then(([module, widgets]) => ({ ...module, widgets }));
  return sharing;
}

const sheets = new Map();
function stylesheet(name) {
  if (!sheets.has(name)) sheets.set(name, load(name));
  return sheets.get(name);
}

function load(name) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL(`${name}.css`, FILES);
  return new Promise((resolve, reject) => {
    link.onload = resolve;
    link.onerror = () => reject(new Error(`${name}.css did not load`));
    document.head.append(link);
  });
}

const running = new Map(); // widget → what takes its view away
const turns = new Map(); // widget → when its last start is over: one at a time

/**
 * Start a widget, anew if it runs already.
 *
 * `settings` are those of an address; `change` is what the reader's first touch asked for.
 */
function start(widget, { settings, change } = {}) {
  seen.unobserve(widget);
  const turn = (turns.get(widget) ?? Promise.resolve()).then(() => view(widget, settings, change));
  turns.set(widget, turn);
  return turn;
}

async function view(widget, settings, change) {
  const name = widget.dataset.widget;
  const fallback = widget.querySelector(".vgg-fallback");
  const el = document.createElement("div");
  try {
    const [{ default: front }, stored, shared] = await Promise.all([
      import(new URL(`${name}.js`, FILES)),
      stateOf(widget),
      share(),
      stylesheet(name),
    ]);
    const traits = shared.widgets[name];
    const { state, ignored } = settings && traits
      ? shared.restored(traits, stored, settings, front.unfit)
      : { state: { ...stored, ...change }, ignored: [] };
    running.get(widget)?.();
    fallback.hidden = true; // before render, which may measure
    widget.append(el);
    const model = new PageModel(state);
    const end = await front.render({ model, el });
    running.set(widget, () => {
      end?.();
      el.remove();
    });
    if (traits) (el.querySelector(".vgg") ?? el).append(shared.bar(traits, model, ignored));
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
    for (const { isIntersecting, target } of entries) if (isIntersecting) start(target);
  },
  { rootMargin: "300px" },
);

/** A widget that is heavy for its page: a button beside its picture, and the picture itself, start it. */
function waitForReader(widget) {
  const { asked, then } = widget.dataset;
  const fallback = widget.querySelector(".vgg-fallback");
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "vgg-start", textContent: asked });
  const begin = async () => {
    if (button.disabled) return;
    button.disabled = true;
    button.textContent = "Loading…";
    await start(widget, { change: JSON.parse(then ?? "{}") });
    const panel = widget.querySelector(".vgg:not(.vgg-poster)");
    panel?.setAttribute("tabindex", "-1");
    panel?.focus({ preventScroll: true }); // the button that was pressed is gone
  };
  button.addEventListener("click", begin);
  fallback.querySelector("img")?.addEventListener("click", begin);
  (fallback.querySelector(".vgg-begin") ?? fallback).append(button);
}

/** Set the widget that the page's address speaks of. */
async function follow() {
  if (!/^#[a-z-]+:/.test(location.hash)) return;
  const { parse, widgets } = await share();
  const { name, settings } = parse(location.hash) ?? {};
  const front = Object.keys(widgets).find((key) => widgets[key].name === name);
  const widget = front && document.querySelector(`.vgg-widget[data-widget="${front}"]`);
  if (!widget) return;
  await start(widget, { settings });
  widget.scrollIntoView();
}

for (const widget of document.querySelectorAll(".vgg-widget")) {
  if (widget.dataset.asked) waitForReader(widget);
  // What waits for a prediction is folded before the reader comes near.
  else if (widget.dataset.widget === "predict") start(widget);
  else seen.observe(widget);
}
addEventListener("hashchange", follow);
follow();
