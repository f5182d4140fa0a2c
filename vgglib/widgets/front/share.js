// A widget's settings as an address and as Python, for pages; shared.json (written by base.py) says
// which settings each widget has. "#network-explorer:net=E,image_size=64": values of a list are
// separated by ";", those of a list within a list by "_".

import { button, h, liveLine } from "./common.js";

const SEPARATORS = [";", "_"];
const FORM = /^#([a-z]+(?:-[a-z]+)*):(.*)$/;

/** { name, settings: [[trait, text]] } of an address's fragment; null where it is none of these. */
export function parse(fragment) {
  const found = FORM.exec(fragment);
  if (!found) return null;
  const settings = found[2].split(",").filter(Boolean).map((setting) => {
    const [name, ...value] = setting.split("=");
    return [decoded(name), value.join("=")];
  });
  return { name: found[1], settings };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // "%" with nothing behind it
  }
}

const said = ([name, text]) => `${name}=${decoded(text)}`;
const plain = (text) => encodeURIComponent(text).replaceAll("_", "%5F");
const NOTHING = undefined;

/** The value that a text stands for; undefined where the trait does not take it. */
export function read(values, text, depth = 0) {
  const { kind, of, min = -Infinity, max = Infinity } = values;
  const within = (number) => (number >= min && number <= max ? number : NOTHING);
  if (kind === "choice") return of.find((value) => String(value) === decoded(text));
  if (kind === "bool") return [true, false].find((value) => String(value) === text);
  if (kind === "text") return decoded(text);
  if (kind === "int") return /^-?\d+$/.test(text) ? within(Number(text)) : NOTHING;
  if (kind === "float") return text.trim() && Number.isFinite(Number(text)) ? within(Number(text)) : NOTHING;
  const parts = text === "" ? [] : text.split(SEPARATORS[depth]);
  const isTuple = kind === "tuple";
  if (isTuple ? parts.length !== of.length : within(parts.length) === NOTHING) return NOTHING;
  const found = parts.map((part, index) => read(isTuple ? of[index] : of, part, depth + 1));
  return found.includes(NOTHING) ? NOTHING : found;
}

/** The text of a value. */
export function write({ kind, of }, value, depth = 0) {
  if (kind === "choice" || kind === "text") return depth ? plain(value) : encodeURIComponent(value);
  if (kind !== "list" && kind !== "tuple") return String(value);
  const part = (one, index) => write(kind === "tuple" ? of[index] : of, one, depth + 1);
  return value.map(part).join(SEPARATORS[depth]);
}

/** A value as Python writes it. */
export function python({ kind, of }, value) {
  if (kind === "bool") return value ? "True" : "False";
  if (kind === "choice" || kind === "text") return JSON.stringify(value);
  if (kind === "list") return `[${value.map((one) => python(of, one)).join(", ")}]`;
  if (kind !== "tuple") return String(value);
  const parts = value.map((one, index) => python(of[index], one));
  return `(${parts.join(", ")}${parts.length === 1 ? "," : ""})`;
}

/** [trait, what it takes, value] of the settings that are not as they are by themselves. */
function told({ traits }, get) {
  return Object.entries(traits)
    .map(([name, values]) => [name, values, get(name)])
    .filter(([, values, value]) => {
      const same = JSON.stringify(value) === JSON.stringify(values.default);
      // What an address cannot say (a picture of the reader's own) stays out of it.
      return (!same || values.always) && read(values, write(values, value)) !== NOTHING;
    });
}

/** The settings as an address's fragment. */
export function fragment(widget, get) {
  const settings = told(widget, get).map(([name, values, value]) => `${name}=${write(values, value)}`);
  return `#${widget.name}:${settings.join(",")}`;
}

/** The settings as a call in Python. */
export function call(widget, get) {
  const settings = told(widget, get).map(([name, values, value]) => `${name}=${python(values, value)}`);
  return `import vgglib.widgets\n\n${widget.call}(${settings.join(", ")})`;
}

/**
 * { state, ignored }: a page's state with the settings of an address in place of its own, and the
 * settings ["net=Z"] that the widget does not have. `unfit(state)` names traits whose values do not
 * fit the others.
 */
export function restored({ traits }, state, settings, unfit = () => []) {
  const ignored = [];
  const found = { ...state };
  for (const [name, { default: value }] of Object.entries(traits)) found[name] = value;
  const asked = new Map();
  for (const [name, text] of settings) {
    const value = Object.hasOwn(traits, name) ? read(traits[name], text) : NOTHING;
    if (value === NOTHING) ignored.push(said([name, text]));
    else {
      found[name] = value;
      asked.set(name, said([name, text]));
    }
  }
  // What is left may not fit either once another is gone: ask again.
  for (let bad = unfit(found), round = 0; bad.length; bad = unfit(found), round += 1) {
    if (round === 3) return { state, ignored: settings.map(said) };
    for (const name of bad) {
      if (asked.has(name)) ignored.push(asked.get(name));
      asked.delete(name);
      found[name] = traits[name].default;
    }
  }
  return { state: found, ignored };
}

/** The row of buttons below a widget: copy a link to what it shows, or the Python for it. */
export function bar(widget, model, ignored) {
  const get = (name) => model.get(name);
  const report = liveLine({ className: "vgg-note vgg-said" });
  const text = h("pre", { className: "vgg-shared", tabIndex: 0, role: "group" });
  text.setAttribute("aria-label", "What was copied");
  const copy = async (what, copied) => {
    text.textContent = copied;
    if (!text.isConnected) row.append(report, text);
    try {
      await navigator.clipboard.writeText(copied);
      report.say(`${what} copied:`);
    } catch {
      getSelection().selectAllChildren(text);
      report.say("The browser does not let this page copy; here it is, selected:");
    }
  };
  const link = button("Copy link", () => {
    const here = new URL(fragment(widget, get), location.href);
    history.replaceState(history.state, "", here);
    return copy("Link", here.href);
  });
  const code = button("Copy as Python", () => copy("Python", call(widget, get)));
  const note = ignored.length
    ? [h("p", { className: "vgg-error", role: "status" },
        `The address asks for what this widget does not have; left out: ${ignored.join(", ")}.`)]
    : [];
  const row = h("div", { className: "vgg-share" }, ...note,
    h("div", { className: "vgg-controls" }, link, code));
  return row;
}
