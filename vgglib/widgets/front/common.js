// Helpers that the widgets share. They keep no state of their own: a notebook has a copy of them
// for each widget.

/** An HTML element: h("button", { type: "button", onclick: act }, "Go"). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, in the same way. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "style" && !(element instanceof SVGElement)) {
      element[name] = value;
    } else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The frame of a widget, which carries the shared style; its title is what readers hear. */
export function panel(el, title, ...children) {
  const frame = h("section", { className: "vgg", ariaLabel: title }, ...children);
  frame.addEventListener("keydown", keepToControls);
  el.append(frame);
  return frame;
}

/** In JupyterLab plain keys are commands (arrows choose a cell, D D deletes it); here they are not. */
function keepToControls(event) {
  if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
}

/** A control with its label: field("Image size", input). */
export function field(text, control) {
  const label = h("label", { className: "vgg-field" }, h("span", {}, text), control);
  if (control.type === "checkbox" || control.type === "radio") label.classList.add("vgg-tick");
  return label;
}

/** A choice among values, or [value, text] pairs. */
export function select(options, value, onchange) {
  const choices = options.map((option) => {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    return h("option", { value }, text);
  });
  const control = h("select", { onchange: () => onchange(control.value) }, ...choices);
  control.value = value;
  return control;
}

export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

/** A line that screen readers speak when it changes, once it has rested for a moment. */
export function liveLine(attributes = {}) {
  const line = h("p", { className: "vgg-live", role: "status", ...attributes });
  let waiting;
  line.say = (...content) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => line.replaceChildren(...content), 150);
  };
  return line;
}

/** Call `update` now and whenever one of the traits changes; returns what ends it. */
export function follow(model, names, update) {
  names.forEach((name) => model.on(`change:${name}`, update));
  update();
  return () => names.forEach((name) => model.off(`change:${name}`, update));
}

/** Change a trait here and in the kernel. */
export function change(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

/** 138357544 as "138,357,544", in every country; with so many decimals at most. */
export function thousands(number, decimals = 0) {
  return number.toLocaleString("en-US", { maximumFractionDigits: decimals });
}

/** Pixels of a picture's file (a Blob or a DataView): an ImageData, its colours as they are stored. */
export async function pixelsOf(file) {
  const image = await createImageBitmap(new Blob([file]), { colorSpaceConversion: "none" });
  const canvas = h("canvas", { width: image.width, height: image.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

/**
 * Computes beside the page, which stays quick: { ask(question, take), end() }. `answer(question,
 * given)` runs in a worker, made of its own text and that of the functions and classes that it
 * needs, since in a notebook a module has no address. What is asked while it computes waits; of
 * several, the last.
 */
export function background(answer, needed, given) {
  const text = needed.map((part) => `const ${part.name} = ${part};`).join("\n");
  const program =
    `${text}\nlet given;\nonmessage = ({ data }) => {\n` +
    `  if (given) postMessage((${answer})(data, given)); else given = data;\n};`;
  const address = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
  const worker = new Worker(address);
  let taking = null; // what takes the answer that is being computed
  let waiting = null;
  worker.postMessage(given);
  worker.onmessage = ({ data }) => {
    const take = taking;
    taking = null;
    if (waiting) ask(...waiting);
    take(data);
  };
  worker.onerror = ({ message }) => {
    throw new Error(message);
  };

  function ask(question, take) {
    waiting = taking ? [question, take] : null;
    if (waiting) return;
    taking = take;
    worker.postMessage(question);
  }

  return {
    ask,
    end() {
      worker.terminate();
      URL.revokeObjectURL(address);
    },
  };
}

export function prefersStill() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
