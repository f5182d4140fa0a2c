// Nearest neighbours (chapter 8): a picture, the maps that the stand-in net makes of it, their means
// as one vector, and the pictures whose vectors point most nearly the same way.

import { background, button, change, field, follow, h, liveLine, panel, select } from "./common.js";
import { Net, NET_PARTS } from "./vgg_net.js";

const STEPS = { ArrowRight: 1, ArrowLeft: -1 };

/** In the worker: grey pictures → of each, its pools' maps by name. */
export function mapsOf({ bytes, side }, given) {
  given.net ??= new Net(given.weights);
  const each = side * side;
  return Array.from({ length: bytes.length / each }, (_, n) => {
    const rgb = new Uint8Array(3 * each);
    for (let i = 0; i < 3 * each; i++) rgb[i] = bytes[n * each + Math.floor(i / 3)];
    const { maps } = given.net.run(given.net.prepare(rgb));
    return Object.fromEntries(Object.entries(maps).filter(([name]) => name.startsWith("pool")));
  });
}

/** One number a channel: the mean of its map. */
export function means({ values, channels, size }) {
  const places = size * size;
  return Array.from({ length: channels }, (_, c) => {
    let sum = 0;
    for (let i = c * places; i < (c + 1) * places; i++) sum += values[i];
    return sum / places;
  });
}

/** The same direction with length 1; zeros stay. */
export function unit(vector) {
  const length = Math.hypot(...vector) || 1;
  return Array.from(vector, (value) => value / length);
}

/** [place, cosine] of all other vectors of length 1, the nearest first. */
export function order(vectors, query) {
  return vectors
    .map((other, place) => [place, other.reduce((sum, value, i) => sum + value * vectors[query][i], 0)])
    .filter(([place]) => place !== query)
    .sort((a, b) => b[1] - a[1]);
}

// ---------------------------------------------------------------- drawing

function drawn(canvas, grey) {
  const image = new ImageData(canvas.width, canvas.height);
  grey.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// All maps of a layer on one canvas, as many across as down, each from black to its own largest.
function mosaic(canvas, { values, channels, size }) {
  const across = 2 ** Math.ceil(Math.log2(Math.sqrt(channels)));
  const [width, height] = [across * size, Math.ceil(channels / across) * size];
  Object.assign(canvas, { width, height });
  const grey = new Uint8ClampedArray(width * height);
  for (let c = 0; c < channels; c++) {
    const own = values.subarray(c * size * size, (c + 1) * size * size);
    const largest = own.reduce((a, b) => Math.max(a, b), 0) || 1;
    own.forEach((value, i) => {
      const x = (c % across) * size + (i % size);
      const y = Math.floor(c / across) * size + Math.floor(i / size);
      grey[y * width + x] = (255 * value) / largest;
    });
  }
  drawn(canvas, grey);
}

// The vector as bars, a column a channel.
function bars(canvas, vector) {
  const height = 60;
  Object.assign(canvas, { width: vector.length, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#0072b2";
  const largest = Math.max(...vector) || 1;
  vector.forEach((value, i) => {
    const tall = (height * value) / largest;
    context.fillRect(i, height - tall, 1, tall);
  });
}

// ---------------------------------------------------------------- the widget

function render({ model, el }) {
  const [labels, classes] = [model.get("labels"), model.get("classes")];
  const raw = model.get("pictures");
  const bytes = new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength);
  const side = Math.sqrt(bytes.length / labels.length);
  const own = (n) => bytes.subarray(n * side * side, (n + 1) * side * side);
  const name = (n) => classes[labels[n]];
  let maps = null; // of every picture, once computed
  const known = {}; // layer → the vectors of length 1

  function vectors(layer) {
    known[layer] ??= labels.map((_, n) => unit(layer === "pixels" ? own(n) : means(maps[n][layer])));
    return known[layer];
  }

  const canvasOf = (label, attributes = {}) => {
    const canvas = h("canvas", { width: side, height: side, ...attributes });
    canvas.setAttribute("role", "img");
    canvas.ariaLabel = label;
    return canvas;
  };
  const gallery = h("div", { className: "near-gallery", role: "group" });
  gallery.ariaLabel = "Pictures to choose from";
  gallery.append(...labels.map((_, n) => {
    const thumb = button("", () => change(model, "query", n), { className: "near-thumb" });
    thumb.ariaLabel = `${name(n)} ${1 + labels.slice(0, n).filter((label) => label === labels[n]).length}`;
    thumb.title = thumb.ariaLabel;
    const canvas = h("canvas", { width: side, height: side });
    drawn(canvas, own(n));
    thumb.append(canvas);
    return thumb;
  }));
  gallery.addEventListener("keydown", (event) => {
    const [one, two] = gallery.children;
    const across = Math.max(1, Math.floor(gallery.clientWidth / (two.offsetLeft - one.offsetLeft)));
    const step = { ...STEPS, ArrowDown: across, ArrowUp: -across }[event.key];
    const next = gallery.children[model.get("query") + step];
    if (!next) return;
    event.preventDefault();
    change(model, "query", model.get("query") + step);
    next.focus();
  });

  const layers = select(model.get("layers"), model.get("layer"), (value) => change(model, "layer", value));
  const way = h("div", { className: "near-way" });
  const found = h("div", { className: "near-found" });
  const live = liveLine();
  const shares = h("p");
  const figure = (canvas, text) => h("figure", {}, canvas, h("figcaption", {}, text));

  function show() {
    const [query, layer] = [model.get("query"), model.get("layer")];
    layers.value = layer;
    [...gallery.children].forEach((thumb, n) => {
      thumb.ariaPressed = String(n === query);
      thumb.tabIndex = n === query ? 0 : -1;
    });
    if (!maps) return;
    const picture = canvasOf(`The picture: ${name(query)}`);
    drawn(picture, own(query));
    const steps = [figure(picture, `${name(query)}: ${side} × ${side} pixels`)];
    const vector = vectors(layer)[query];
    if (layer !== "pixels") {
      const map = maps[query][layer];
      const all = canvasOf(`The maps of ${layer}`);
      mosaic(all, map);
      const text = `${layer}: ${map.channels} maps of ${map.size} × ${map.size}, each from black (0) to its largest`;
      const row = canvasOf(`The means of ${map.channels} maps as bars`, { className: "near-bars" });
      bars(row, vector);
      steps.push(figure(all, text),
        figure(row, `the mean of each map, the whole brought to length 1: the descriptor, ${map.channels} numbers`));
    } else steps[0].lastChild.textContent += `, taken as a vector of ${side * side} numbers of length 1`;
    way.replaceChildren(...steps);

    const near = order(vectors(layer), query).slice(0, model.get("nearest"));
    found.replaceChildren(...near.map(([place, cosine]) => {
      const canvas = canvasOf(name(place));
      drawn(canvas, own(place));
      const one = figure(canvas, `${name(place)} ${cosine.toFixed(3)}`);
      one.classList.toggle("near-same", labels[place] === labels[query]);
      return one;
    }));
    const same = near.filter(([place]) => labels[place] === labels[query]).length;
    live.say(`By ${layer}, ${same} of the ${near.length} nearest are of the class ${name(query)}.`);
    const percents = model.get("layers").map((one) => {
      const all = vectors(one);
      const right = labels.filter((label, n) => labels[order(all, n)[0][0]] === label).length;
      return `${one} ${((100 * right) / labels.length).toFixed(0)} %`;
    });
    shares.textContent =
      `How often the nearest of the other ${labels.length - 1} is of the same class, by ${percents.join(", ")}.`;
  }

  const frame = panel(
    el,
    "Nearest neighbours",
    h("div", { className: "vgg-controls" }, field("Compare by", layers)),
    way,
    h("p", { className: "near-head" }, "The nearest, with the cosine of the angle between the two vectors " +
      "(framed: of the same class)"),
    found,
    live,
    shares,
    h("p", { className: "near-head" }, "Choose another picture; the arrow keys go from one to the next"),
    gallery,
  );
  frame.setAttribute("aria-busy", "true");
  const worker = background(mapsOf, NET_PARTS, { weights: model.get("weights") });
  live.say(`Computing the maps of ${labels.length} pictures …`);
  worker.ask({ bytes, side }, (answer) => {
    maps = answer;
    frame.removeAttribute("aria-busy");
    show();
  });
  const stop = follow(model, ["query", "layer"], show);
  return () => {
    stop();
    worker.end();
  };
}

export default { render };
