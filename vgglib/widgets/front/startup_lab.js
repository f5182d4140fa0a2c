// Start-up laboratory (chapter 4): turn σ, the net and the units, and see whether the signal
// survives. signal.js computes, this module shows.

import {
  background, button, change, field, follow, h, liveLine, panel, select, svg, thousands,
} from "./common.js";
import { deviation, signal, SIGNAL_PARTS, weigh } from "./signal.js";

const SCHEMES = [
  ["normal", "normal, one σ for all"],
  ["xavier", "Xavier"],
  ["he", "He"],
];
const UNITS = [
  ["false", "0–255, mean subtracted"],
  ["true", "divided by their std as well"],
];
const VERDICTS = ["dies", "is at the edge", "lives", "explodes"];
const SIGMAS = { least: 0.003, most: 0.3, steps: 200 }; // of the slider, equal factors apart

// ---------------------------------------------------------------- results

// In the worker, which keeps the weights in hand: one pass forwards and back.
function pass({ layers, kind, seed, sigmas, pictures, labels }, given) {
  const key = JSON.stringify([layers, kind, seed]);
  if (given.key !== key) Object.assign(given, { key, weights: weigh(layers, kind, seed) });
  return signal(layers, given.weights, sigmas, pictures, labels);
}

// What the worker has to know of the model's present settings.
function question(model) {
  const layers = model.get("nets")[model.get("net")];
  const scheme = model.get("scheme");
  const sigmas = layers.map((layer) => deviation(scheme, model.get("sigma"), layer));
  const [pictures, labels] = batch(model);
  const kind = scheme === "xavier" ? "uniform" : "normal";
  return { layers, kind, seed: model.get("seed"), sigmas, pictures, labels };
}

// Everything that is shown of a pass.
function measured(model, { layers, sigmas }, { activation, gradient, loss }) {
  const rows = layers.map((layer, i) => ({
    name: layer.name,
    sigma: sigmas[i],
    gain: layer.gain * sigmas[i],
    activation: activation[i],
    gradient: gradient[i],
    step: (model.get("learning_rate") * gradient[i]) / sigmas[i],
  }));
  const steps = rows.map((row) => row.step).sort((a, b) => a - b);
  const middle = (steps.length - 1) / 2;
  const step = (steps[Math.floor(middle)] + steps[Math.ceil(middle)]) / 2;
  return { rows, loss, classes: layers.at(-1).outputs, step, verdict: verdict(model, rows, step) };
}

function verdict(model, rows, step) {
  const limits = model.get("limits");
  if (step > limits.at(-1) || rows.at(-1).activation > model.get("certain")) return VERDICTS.at(-1);
  return VERDICTS[limits.filter((limit) => step >= limit).length];
}

// The normalised pictures (3, count, side, side) and their classes 0, 1, …
function batch(model) {
  const bytes = model.get("pixels");
  const unit = model.get("unit_variance");
  const plane = bytes.byteLength / 3;
  const pictures = Float32Array.from({ length: bytes.byteLength }, (_, i) => {
    const channel = Math.floor(i / plane);
    const centred = bytes.getUint8(i) - model.get("mean")[channel];
    return unit ? centred / model.get("std")[channel] : centred;
  });
  const side = model.get("nets")[model.get("net")][0].side;
  return [pictures, Array.from({ length: plane / side ** 2 }, (_, n) => n)];
}

// ---------------------------------------------------------------- words

const power = (n) => `10${[...String(n)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("")}`;
const written = (x) => x.toExponential(1).replace(/e(.*)/, (_, n) => ` · ${power(Number(n))}`);
const short = (x) => (x === 0 ? "0" : x >= 0.01 && x < 1000 ? x.toPrecision(2) : written(x));

// 0.03 as "3 %", 2e-7 as "one part in 5,000,000".
function share(x) {
  if (x >= 1) return `${thousands(Number(x.toPrecision(2)))} times their size`;
  if (x >= 1e-3) return `${Number((100 * x).toPrecision(2))} % of their size`;
  if (x >= 1e-12) return `one part in ${thousands(Number((1 / x).toPrecision(2)))}`;
  return `less than one part in ${power(12)}`;
}

function start(model) {
  const scheme = model.get("scheme");
  if (scheme !== "normal") return scheme === "he" ? "He" : "Xavier";
  return `σ = ${model.get("sigma")}`;
}

const units = (model) => (model.get("unit_variance") ? "pixels divided" : "pixels 0–255");
const label = (model) => `${model.get("net")}, ${start(model)}, ${units(model)}`;

function summary(result) {
  const [first, last] = [result.rows[0], result.rows.at(-1)];
  return (
    `Standard deviations by layer, on logarithmic axes. Activations go from ` +
    `${short(first.activation)} at ${first.name} to ${short(last.activation)} at ${last.name}, ` +
    `gradients from ${short(first.gradient)} to ${short(last.gradient)}.`
  );
}

function story(model, result) {
  return [
    h("strong", {}, `${model.get("net")} ${result.verdict}.`),
    ` One step at the learning rate ${model.get("learning_rate")} changes the weights of the ` +
      `median layer by ${share(result.step)}. Loss before the first step: ` +
      `${result.loss < 1000 ? result.loss.toFixed(3) : written(result.loss)}; ` +
      `guessing costs ln ${result.classes} = ${Math.log(result.classes).toFixed(3)}.`,
  ];
}

// What the verdict means, and what has been computed.
function rules(model) {
  const [low, high, most] = model.get("limits").map(share);
  const layers = model.get("nets")[model.get("net")];
  const [{ side }, { outputs }] = [layers[0], layers.at(-1)];
  return (
    `Dies: a step below ${low}. Edge: up to ${high}, where it depends on the draw and on patience. ` +
    `Explodes: above ${most}, or scores (the last layer) with a standard deviation above ` +
    `${model.get("certain")}. In between it lives. Each setting is computed in this page: two photos ` +
    `of ${side} × ${side} pixels forwards and the gradient back, through a net of a quarter of the ` +
    `width with ${outputs} classes, as in the experiments of this chapter.`
  );
}

// ---------------------------------------------------------------- pictures

const QUANTITIES = { activation: "std before the ReLU", gradient: "std of gradients" };
const DECADES = { least: -10, most: 10, apart: 5 }; // always: a line that leaves them is a result
const HEIGHT = 160; // of a panel, in pixels

// Two panels over the same layers. The last of `shown` is the present line, others were kept.
function chart(width, shown) {
  const rows = shown.map(({ result }) => result.rows);
  const names = rows.reduce((a, b) => (b.length > a.length ? b : a)).map((row) => row.name);
  const [left, right, gap, foot] = [46, width - 6, 38, 56];
  const total = 2 * (HEIGHT + gap) + foot;
  const across = (name) => left + ((names.indexOf(name) + 0.5) / names.length) * (right - left);
  const drawing = svg("svg", {
    width,
    height: total,
    role: "img",
    "aria-label": summary(shown.at(-1).result),
  });
  Object.entries(QUANTITIES).forEach(([quantity, title], index) => {
    const top = gap + index * (HEIGHT + gap);
    drawing.append(
      svg("text", { x: left, y: top - 13, class: "lab-title" }, title),
      ...grid(left, right, top),
      ...rows.map((row, i) => line(row, quantity, across, left, right, top, i === rows.length - 1)),
    );
  });
  for (const name of names) {
    const [x, y] = [across(name) + 4, total - foot + 10];
    const turn = `rotate(-90 ${x} ${y})`;
    const look = { x, y, transform: turn, class: "lab-tick", "text-anchor": "end" };
    drawing.append(svg("text", look, name));
  }
  return drawing;
}

const down = (top, decade) =>
  top + ((DECADES.most - decade) / (DECADES.most - DECADES.least)) * HEIGHT;

function grid(left, right, top) {
  const drawn = [];
  for (let decade = DECADES.least; decade <= DECADES.most; decade += DECADES.apart) {
    const y = down(top, decade);
    const name = decade === 0 ? "1" : power(decade);
    drawn.push(
      svg("line", { x1: left, x2: right, y1: y, y2: y, class: decade ? "lab-grid" : "lab-one" }),
      svg("text", { x: left - 6, y: y + 4, class: "lab-tick", "text-anchor": "end" }, name),
    );
  }
  return drawn;
}

// A nested <svg> cuts off what leaves the panel.
function line(rows, quantity, across, left, right, top, now) {
  const frame = { x: left, y: top, width: right - left, height: HEIGHT };
  const points = rows
    .filter((row) => row[quantity] > 0)
    .map((row) => [across(row.name) - left, down(0, Math.log10(row[quantity]))]);
  const marks = points.map(([x, y]) =>
    now
      ? svg("circle", { cx: x, cy: y, r: 3.5 })
      : svg("rect", { x: x - 3, y: y - 3, width: 6, height: 6 }),
  );
  const path = svg("polyline", { points: points.map((point) => point.join()).join(" ") });
  return svg("svg", { ...frame, class: now ? "lab-now" : "lab-kept" }, path, ...marks);
}

// Where the median step stands between dying and exploding, on a logarithmic scale.
function gauge(width, model, result) {
  const [least, most] = [-12, 6];
  const x = (value) => {
    const decade = Math.min(most, Math.max(least, Math.log10(value)));
    return 6 + ((decade - least) / (most - least)) * (width - 12);
  };
  const edges = [10 ** least, ...model.get("limits"), 10 ** most];
  const drawing = svg("svg", { width, height: 46, role: "img" });
  drawing.setAttribute("aria-label", `On the scale from dying to exploding it ${result.verdict}.`);
  ["dies", "edge", "lives", "explodes"].forEach((name, i) => {
    const [from, to] = [x(edges[i]), x(edges[i + 1])];
    drawing.append(
      svg("rect", { x: from, y: 16, width: to - from, height: 10, class: `lab-zone lab-${name}` }),
      svg("text", { x: (from + to) / 2, y: 41, class: "lab-tick", "text-anchor": "middle" }, name),
    );
  });
  const here = x(Math.max(result.step, 10 ** least));
  drawing.append(svg("path", { d: `M${here} 18 l-7 -14 h14 z`, class: "lab-pointer" }));
  return drawing;
}

function table(result) {
  const columns = {
    layer: (row) => row.name,
    "σ": (row) => short(row.sigma),
    gain: (row) => row.gain.toPrecision(2),
    activations: (row) => short(row.activation),
    gradients: (row) => short(row.gradient),
    "step / σ": (row) => short(row.step),
  };
  const head = Object.keys(columns).map((name) => h("th", { scope: "col" }, name));
  const body = result.rows.map((row) => {
    const [name, ...cells] = Object.values(columns).map((cell) => cell(row));
    return h("tr", {}, h("th", { scope: "row" }, name), ...cells.map((c) => h("td", {}, c)));
  });
  return h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...body));
}

// ---------------------------------------------------------------- the widget

const slide = (sigma) =>
  Math.round((SIGMAS.steps * Math.log(sigma / SIGMAS.least)) / Math.log(SIGMAS.most / SIGMAS.least));
const sigmaAt = (step) => {
  const sigma = SIGMAS.least * (SIGMAS.most / SIGMAS.least) ** (step / SIGMAS.steps);
  return Number(sigma.toPrecision(2));
};

function controls(model) {
  const set = (name) => (value) => change(model, name, value);
  const nets = Object.entries(model.get("nets")).map(([name, layers]) => [
    name,
    `${name} (${layers.length} layers)`,
  ]);
  const net = select(nets, model.get("net"), set("net"));
  const scheme = select(SCHEMES, model.get("scheme"), set("scheme"));
  const pixels = select(UNITS, String(model.get("unit_variance")), (value) =>
    change(model, "unit_variance", value === "true"),
  );
  const sigma = h("input", {
    type: "range",
    min: 0,
    max: SIGMAS.steps,
    oninput: () => change(model, "sigma", sigmaAt(sigma.valueAsNumber)),
  });
  const again = button("Draw new weights", () => change(model, "seed", (model.get("seed") + 1) % 10000));
  const equal = h("p", { className: "lab-equal" });
  const row = h(
    "div",
    { className: "vgg-controls" },
    field("Net", net),
    field("Start", scheme),
    field("Pixels", pixels),
    again,
  );
  const sigmaField = field("σ, the standard deviation of the weights", sigma);
  sigmaField.classList.add("lab-sigma");
  const show = () => {
    net.value = model.get("net");
    scheme.value = model.get("scheme");
    pixels.value = String(model.get("unit_variance"));
    const value = model.get("sigma");
    const there = (value / model.get("full_size")[net.value]).toPrecision(2);
    const one = scheme.value === "normal";
    sigma.value = slide(value);
    sigma.disabled = !one;
    sigma.setAttribute("aria-valuetext", `${value}, at full size ${there}`);
    equal.replaceChildren(
      ...(one
        ? [h("b", {}, `σ = ${value}`), ` here has the gain of σ = ${there} in the full-size net`]
        : ["Each layer has a σ of its own, see the numbers below"]),
    );
  };
  return { elements: [row, h("div", { className: "vgg-controls" }, sigmaField, equal)], show };
}

function render({ model, el }) {
  const { elements, show } = controls(model);
  const verdictLine = liveLine({ className: "vgg-live lab-verdict" });
  const scale = h("div");
  const plot = h("div");
  const legend = h("p", { className: "lab-legend" });
  const numbers = h("div", { className: "vgg-scroll", tabIndex: 0 });
  numbers.setAttribute("role", "region");
  numbers.setAttribute("aria-label", "The numbers, layer by layer");
  let kept = null;
  let present = null;
  const worker = background(pass, SIGNAL_PARTS, {});

  const keep = button("Keep this line", () => {
    kept = present;
    paint();
  });
  const drop = button("Drop it", () => {
    kept = null;
    paint();
  });

  function paint() {
    const width = Math.max(240, plot.clientWidth || 640);
    const shown = [kept, present].filter(Boolean);
    scale.replaceChildren(gauge(width, model, present.result));
    plot.replaceChildren(chart(width, shown));
    numbers.replaceChildren(table(present.result));
    drop.disabled = !kept;
    legend.replaceChildren(h("span", { className: "lab-key lab-now" }, `● ${present.label}`));
    if (kept) legend.append(h("span", { className: "lab-key lab-kept" }, `■ ${kept.label}`));
  }

  let turn = 0;
  // What stands there belongs to the setting before, until the answer comes: it is dimmed.
  const stale = (is) =>
    [verdictLine, scale, plot, numbers].forEach((part) => part.classList.toggle("lab-stale", is));

  const update = () => {
    show();
    stale(true);
    const asked = question(model);
    const name = label(model);
    const mine = ++turn;
    worker.ask(asked, (answer) => {
      present = { label: name, result: measured(model, asked, answer) };
      paint();
      stale(mine !== turn);
      verdictLine.say(...story(model, present.result));
    });
  };

  panel(
    el,
    "Start-up laboratory",
    ...elements,
    verdictLine,
    scale,
    h("p", { className: "lab-rules" }, "The band, logarithmic: by what share of their size one step " +
      "changes the weights of the median layer. It is no scale of σ."),
    plot,
    h("div", { className: "vgg-controls lab-foot" }, legend, keep, drop),
    h("details", {}, h("summary", {}, "The numbers, layer by layer"), numbers),
    h("p", { className: "lab-rules" }, rules(model)),
  );
  const stop = follow(model, ["net", "scheme", "sigma", "unit_variance", "seed"], update);
  const resized = new ResizeObserver(() => present && paint());
  resized.observe(plot);
  return () => {
    worker.end();
    resized.disconnect();
    stop();
  };
}

export default { render };
