// Dense evaluation (chapter 7): the stand-in net run over a photo of any size. A map of class scores
// comes out, a place for each window in which the net would have fitted; their mean is its answer.

import {
  background, change, field, follow, h, liveLine, panel, pixelsOf, select, svg,
} from "./common.js";
import { resize } from "./resize.js";
import { Net, NET_PARTS, softmax } from "./vgg_net.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const LAST = "pool3";
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

/** In the worker: bytes (Q × Q × 3) → { scores, side, logits }. */
export function passed(rgb, given) {
  given.net ??= new Net(given.weights);
  const { scores, logits } = given.net.run(given.net.prepare(rgb));
  return { scores: Array.from(scores.values), side: scores.size, logits };
}

/** Class probabilities at a place of the map. */
export function chancesAt({ scores, side }, [row, column], classes) {
  const own = Array.from({ length: classes }, (_, k) => scores[(k * side + row) * side + column]);
  return softmax(own);
}

// 0 … 1 as dark blue, grey, yellow: cividis, which readers with any colour vision can order.
function colour(value) {
  const stops = [[0, 34, 78], [124, 123, 120], [254, 232, 56]];
  const at = 2 * value;
  const [a, b] = at < 1 ? [stops[0], stops[1]] : [stops[1], stops[2]];
  const share = at < 1 ? at : at - 1;
  return `rgb(${a.map((from, i) => Math.round(from + share * (b[i] - from))).join()})`;
}

async function render({ model, el }) {
  const net = new Net(model.get("weights"));
  const { classes, size: windowSide } = net;
  const step = model.get("step");
  const [least, most] = model.get("scales");
  const photo = await pixelsOf(model.get("photo"));
  const worker = background(passed, NET_PARTS, { weights: model.get("weights") });
  let result = null; // { Q, scores, side, logits }

  // ---------------------------------------------------------------- elements

  const words = h("span");
  const slider = h("input", {
    type: "range", min: least, max: most, step, oninput: () => change(model, "Q", slider.valueAsNumber),
  });
  const which = select(classes, model.get("class_name"), (name) => change(model, "class_name", name));
  const image = h("canvas", { className: "dense-photo" });
  image.setAttribute("aria-hidden", "true");
  const windows = svg("g");
  const frame = svg("svg", { role: "img", class: "dense-frame" }, windows);
  const cells = svg("g");
  const mark = svg("rect", { class: "dense-mark" });
  const drawn = svg("svg", { "aria-hidden": "true" }, cells, mark);
  const map = h("div", {
    className: "dense-map",
    tabIndex: 0,
    role: "application",
    ariaLabel: "Class map: the arrow keys go to the next place",
    onkeydown: (event) => {
      const by = STEPS[event.key];
      if (!by) return;
      event.preventDefault();
      choose(place().map((at, axis) => at + by[axis]));
    },
    onclick: (event) => {
      const { left, top, width, height } = map.getBoundingClientRect();
      const shares = [(event.clientY - top) / height, (event.clientX - left) / width];
      choose(shares.map((share) => Math.floor((share * result.Q - first()) / step)));
    },
  }, drawn);
  const shapes = h("p");
  const body = h("tbody");
  const heads = ["class", "mean of all places", "the chosen place"];
  const head = h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, name)));
  const table = h("table", {}, h("thead", {}, head), body);
  const live = liveLine();

  // ---------------------------------------------------------------- where things lie

  const first = () => (windowSide - step) / 2; // left edge of the first cell: windows' middles
  const within = (at) => Math.max(0, Math.min(result.side - 1, at));
  const place = () => model.get("place").map(within);
  const choose = (at) => change(model, "place", at.map(within));

  // ---------------------------------------------------------------- computing and showing

  function compute() {
    slider.value = model.get("Q");
    words.textContent = `test scale Q = ${model.get("Q")} pixels`;
    slider.setAttribute("aria-valuetext", `${model.get("Q")} pixels`);
    const Q = model.get("Q");
    const pixels = resize(photo.data, photo.width, photo.height, Q, Q);
    const rgb = Uint8Array.from({ length: 3 * Q * Q }, (_, i) => pixels[4 * Math.floor(i / 3) + (i % 3)]);
    panelOf.setAttribute("aria-busy", "true");
    const start = performance.now();
    worker.ask(rgb, (answer) => {
      if (Q === model.get("Q")) panelOf.removeAttribute("aria-busy");
      result = { Q, ...answer };
      Object.assign(image, { width: Q, height: Q });
      image.getContext("2d").putImageData(new ImageData(pixels, Q, Q), 0, 0);
      el.dataset.milliseconds = performance.now() - start;
      show();
    });
  }

  function show() {
    if (!result) return;
    const { Q, side } = result;
    which.value = model.get("class_name");
    const chosen = classes.indexOf(which.value);
    for (const one of [frame, drawn]) one.setAttribute("viewBox", `0 0 ${Q} ${Q}`);
    const all = [];
    let [low, high] = [1, 0];
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const chance = chancesAt(result, [row, column], classes.length)[chosen];
        [low, high] = [Math.min(low, chance), Math.max(high, chance)];
        all.push(svg("rect", {
          x: first() + step * column, y: first() + step * row, width: step, height: step,
          fill: colour(chance),
        }));
      }
    }
    cells.replaceChildren(...all);
    const [row, column] = place();
    for (const [name, value] of Object.entries({
      x: first() + step * column, y: first() + step * row, width: step, height: step,
    })) mark.setAttribute(name, value);

    // The window, and all that the place depends on: the context of the window's padding, too.
    const { size, stride, start } = net.sees(LAST);
    const reach = { x: start + step * column, y: start + step * row };
    const sees = size + stride * (windowSide / stride - 1);
    const square = (x, y, length, look) => svg("rect", { x, y, width: length, height: length, ...look });
    windows.replaceChildren(
      square(reach.x, reach.y, sees, { class: "dense-context" }),
      square(step * column, step * row, windowSide, { class: "dense-under" }),
      square(step * column, step * row, windowSide, { class: "dense-window" }),
    );
    const places = side === 1 ? "one place" : `${side} × ${side} = ${side ** 2} places`;
    frame.setAttribute("aria-label", `A cat's face at ${Q} pixels with the window of row ${row}, ` +
      `column ${column}`);
    shapes.textContent =
      `The last pool leaves ${Q / step} × ${Q / step} values of each channel; the last layer, read as a ` +
      `filter of ${windowSide / step} × ${windowSide / step}, fits there at ${places}.`;
    const mean = softmax(result.logits);
    const here = chancesAt(result, [row, column], classes.length);
    const order = classes.map((_, k) => k).sort((a, b) => mean[b] - mean[a]);
    body.replaceChildren(...order.slice(0, 3).concat(order.slice(3).includes(chosen) ? chosen : [])
      .map((k) => h("tr", {}, h("th", { scope: "row" }, classes[k]),
        h("td", {}, percent(mean[k])), h("td", {}, percent(here[k])))));
    live.say(`Q = ${Q}: ${places}. The mean scores say ${classes[order[0]]}, ${percent(mean[order[0]])}. ` +
      (side > 1 ? `At single places ${which.value} goes from ${percent(low)} to ${percent(high)}.` : ""));
  }

  const note = "Left, white: the window that the chosen place stands for; dashed: all that its value " +
    "depends on. Where a crop would be padded with zeros, the whole photo goes on. Right: the map, " +
    `each place at the middle of its window, ${step} pixels from the next.`;
  const panelOf = panel(
    el,
    "Dense evaluation",
    h("div", { className: "vgg-controls dense-controls" },
      h("label", { className: "vgg-field" }, words, slider), field("Map of the class", which)),
    h("div", { className: "dense-pair" }, h("div", { className: "dense-stage" }, image, frame), map),
    h("p", { className: "dense-scale" }, "0 %", h("span", { ariaHidden: "true" }), "100 %"),
    shapes,
    table,
    live,
    h("p", { className: "dense-note" }, note),
  );
  const ends = [follow(model, ["Q"], compute), follow(model, ["class_name", "place"], show)];
  return () => {
    ends.forEach((end) => end());
    worker.end();
  };
}

/** Traits of an address that the net cannot serve. */
function unfit({ Q, step, class_name, weights }) {
  const bad = Q % step ? ["Q"] : [];
  return new Net(weights).classes.includes(class_name) ? bad : [...bad, "class_name"];
}

export default { render, unfit };
