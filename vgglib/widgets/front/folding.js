// Folding of batch norm (chapter 10): a layer of up to three branches, each with its batch norm, and
// the one 3×3 convolution that computes the same. All values are 32-bit numbers, as in a net.

import { change, field, follow, h, liveLine, panel, select } from "./common.js";

const OWN = "your own";
const SETTINGS = [
  ["γ, the scale", -3, 3, 0.05],
  ["β, the shift", -3, 3, 0.05],
  ["μ, the running mean", -3, 3, 0.05],
  ["σ², the running variance", 0.05, 9, 0.05],
];

// ---------------------------------------------------------------- arithmetic

/** The branches' kernels as 3×3, row by row: a 1×1 weight is the middle of nine, so is the identity's 1. */
export function kernels(kernel, point) {
  return [kernel, ...[point, 1].map((middle) => [0, 0, 0, 0, middle, 0, 0, 0, 0])];
}

/** { scale, shift } that a batch norm [γ, β, μ, σ²] is, once its averages rest. */
export function affine([gamma, beta, mean, variance], epsilon) {
  const scale = gamma / Math.sqrt(variance + epsilon);
  return { scale, shift: beta - mean * scale };
}

/** { kernel, bias } of the one convolution. */
export function fold(all, norms, used, epsilon) {
  const kernel = new Float32Array(9);
  const bias = new Float32Array(1);
  all.forEach((one, i) => {
    if (!used[i]) return;
    const { scale, shift } = affine(norms[i], epsilon);
    one.forEach((weight, k) => (kernel[k] += scale * weight));
    bias[0] += shift;
  });
  return { kernel, bias: bias[0] };
}

/** A 3×3 convolution with a padding of zeros, side × side values in and out. */
export function convolve(image, side, kernel, bias = 0) {
  const out = new Float32Array(side * side).fill(bias);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      for (let k = 0; k < 9; k++) {
        const [row, column] = [y + Math.floor(k / 3) - 1, x + (k % 3) - 1];
        if (row < 0 || row >= side || column < 0 || column >= side) continue;
        out[y * side + x] += kernel[k] * image[row * side + column];
      }
    }
  }
  return out;
}

/** Convolution, then batch norm, branch by branch, and their sum. */
export function branched(image, side, all, norms, used, epsilon) {
  const total = new Float32Array(side * side);
  all.forEach((kernel, i) => {
    if (!used[i]) return;
    const [gamma, beta, mean, variance] = norms[i];
    const root = Math.sqrt(variance + epsilon);
    const out = convolve(image, side, kernel).map((value) => gamma * ((value - mean) / root) + beta);
    out.forEach((value, at) => (total[at] += value));
  });
  return total;
}

/** Largest difference of two lists of values. */
export const apart = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);

// ---------------------------------------------------------------- the widget

const number = (value, digits = 3) => value.toFixed(digits).replace(/^-(?=0\.0*$)/, "").replace("-", "−");

// 2.4e-7 as "2 · 10⁻⁷".
const rounded = (value) =>
  value.toExponential(0).replace(/e(.*)/, (_, power) =>
    ` · 10${[...power].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("")}`);

function drawn(canvas, values, low, high) {
  const { width } = canvas;
  const image = new ImageData(width, width);
  values.forEach((value, i) => {
    const grey = (255 * (value - low)) / (high - low || 1);
    image.data.set([grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function render({ model, el }) {
  const side = model.get("side");
  const epsilon = model.get("epsilon");
  const names = model.get("branches");
  const presets = model.get("presets");
  const image = Float32Array.from(atob(model.get("grey")), (letter) => letter.charCodeAt(0) / 255);
  let chosen = 0; // the branch whose batch norm the sliders show

  // ---- the branches and their weights

  const ticks = names.map((name, i) => h("input", {
    type: "checkbox",
    onchange: () => change(model, "used", model.get("used").map((on, j) => (i === j ? !on : on))),
  }));
  const preset = select([...Object.keys(presets), OWN], "", (name) => {
    if (presets[name]) change(model, "kernel", presets[name]);
  });
  const bounded = (value) => Math.max(-9, Math.min(9, Number(value) || 0));
  const weight = (label, set) => {
    const input = h("input", {
      type: "number", min: -9, max: 9, step: 0.1, ariaLabel: label,
      onchange: () => set(bounded(input.value)),
    });
    return input;
  };
  const weights = Array.from({ length: 9 }, (_, k) =>
    weight(`weight in row ${Math.floor(k / 3)}, column ${k % 3}`, (value) => {
      change(model, "kernel", model.get("kernel").with(k, value));
    }),
  );
  const point = weight("weight of the 1×1 convolution", (value) => change(model, "point", value));

  // ---- the batch norm of one branch

  const which = select(names.map((name, i) => [i, name]), 0, (value) => {
    chosen = Number(value);
    show();
  });
  const sliders = SETTINGS.map(([name, min, max, step], k) => {
    const words = h("span");
    const input = h("input", { type: "range", min, max, step, oninput: () => {
      const norms = model.get("norms");
      change(model, "norms", norms.with(chosen, norms[chosen].with(k, input.valueAsNumber)));
    } });
    const update = (value) => {
      input.value = value;
      words.textContent = `${name}: ${number(value, 2)}`;
    };
    return { label: h("label", { className: "vgg-field" }, words, input), update };
  });

  // ---- what comes out

  const canvases = ["input", "branches with batch norm, added", "one convolution"].map((name) => {
    const canvas = h("canvas", { width: side, height: side, role: "img", ariaLabel: name });
    return { canvas, figure: h("figure", {}, canvas, h("figcaption", {}, name)) };
  });
  const rows = h("tbody");
  const heads = ["branch", "scale γ ÷ √(σ² + ε)", "shift β − μ · scale"];
  const head = h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, name)));
  const result = h("tbody");
  const bias = h("p");
  const live = liveLine();

  function show() {
    const [kernel, norms, used] = ["kernel", "norms", "used"].map((name) => model.get(name));
    const all = kernels(kernel, model.get("point"));
    ticks.forEach((tick, i) => (tick.checked = used[i]));
    preset.value = Object.keys(presets).find((key) => String(presets[key]) === String(kernel)) ?? OWN;
    weights.forEach((input, k) => (input.value = kernel[k]));
    point.value = model.get("point");
    sliders.forEach((slider, k) => slider.update(norms[chosen][k]));

    const one = fold(all, norms, used, epsilon);
    const outputs = [
      branched(image, side, all, norms, used, epsilon),
      convolve(image, side, one.kernel, one.bias),
    ];
    const [low, high] = [Math.min(...outputs[0]), Math.max(...outputs[0])];
    drawn(canvases[0].canvas, image, 0, 1);
    outputs.forEach((values, i) => drawn(canvases[i + 1].canvas, values, low, high));

    rows.replaceChildren(...names.map((name, i) => {
      const { scale, shift } = affine(norms[i], epsilon);
      const texts = used[i] ? [number(scale), number(shift)] : ["–", "–"];
      const cells = texts.map((text) => h("td", {}, text));
      return h("tr", {}, h("th", { scope: "row" }, name), ...cells);
    }));
    result.replaceChildren(...[0, 3, 6].map((from) =>
      h("tr", {}, ...Array.from(one.kernel.subarray(from, from + 3), (w) => h("td", {}, number(w)))),
    ));
    bias.textContent = `Its bias: ${number(one.bias)}.`;
    const gap = apart(...outputs);
    live.say(`Output from ${number(low, 2)} to ${number(high, 2)}. Largest difference between the two: ` +
      (gap ? `${rounded(gap)}, which is rounding.` : "none."));
  }

  panel(
    el,
    "Folding of batch norm",
    h("div", { className: "vgg-controls", role: "group", ariaLabel: "Branches" },
      ...ticks.map((tick, i) => field(names[i], tick))),
    h("div", { className: "fold-sides" },
      h("div", {}, h("div", { className: "vgg-controls" }, field("3×3 kernel", preset)),
        h("div", { className: "fold-weights", role: "group", ariaLabel: "3×3 weights" }, ...weights),
        field("1×1 weight", point)),
      h("div", {}, field("Batch norm of", which), ...sliders.map(({ label }) => label))),
    h("div", { className: "fold-pictures" }, ...canvases.map(({ figure }) => figure)),
    live,
    h("div", { className: "fold-sides" },
      h("table", {}, h("caption", {}, "What each batch norm does"), h("thead", {}, head), rows),
      h("div", {}, h("table", {}, h("caption", {}, "The one kernel"), result), bias)),
  );
  return follow(model, ["kernel", "point", "used", "norms"], show);
}

export default { render };
