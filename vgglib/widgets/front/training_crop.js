// Training crop (chapter 3): a photo, the frame that is cut from it, and what the net is given.

import {
  button, change, field, follow, h, liveLine, panel, pixelsOf, select, thousands,
} from "./common.js";
import { resize } from "./resize.js";

// What ImageNet's three axes look like: name, what is measured of [red, green, blue], and what less
// and more of it are.
const AXES = [
  ["brightness", ([r, g, b]) => r + g + b, ["darker", "brighter"]],
  ["blue–orange", ([r, , b]) => r - b, ["bluer", "more orange"]],
  ["green–magenta", ([r, g, b]) => g - (r + b) / 2, ["more magenta", "greener"]],
];
const TRAITS = ["photo", "scale", "x", "y", "flip", "alpha", "subtract_mean"];

// ---------------------------------------------------------------- arithmetic

/** Width and height at S, as torchvision rounds them. */
export function rescaledSize(width, height, S) {
  const short = Math.min(width, height);
  return [width, height].map((side) => (side === short ? S : Math.trunc((S * side) / short)));
}

/** Left and top of the crop: x and y say how much of the way it has gone. */
export function corner([width, height], size, x, y) {
  return [Math.floor(x * (width - size) + 0.5), Math.floor(y * (height - size) + 0.5)];
}

/** What is added to red, green and blue: Σ αᵢ λᵢ pᵢ in 0–255 units. */
export function colourShift(axes, alpha) {
  return axes.map((row) => row.reduce((sum, value, i) => sum + value * alpha[i], 0));
}

/** The net's input (size, size, 3) from RGBA pixels of the given width. */
export function cut(pixels, width, { left, top, size, flip, added }) {
  const values = new Float32Array(size * size * 3);
  for (let row = 0, n = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const from = 4 * ((top + row) * width + left + (flip ? size - 1 - column : column));
      for (let c = 0; c < 3; c++) values[n++] = pixels[from + c] + added[c];
    }
  }
  return values;
}

/** One draw as the recipe makes it; with `scales` S is drawn as well, from these two numbers. */
export function sample(sides, size, S, spread, scales) {
  const below = (count) => Math.floor(Math.random() * count);
  const scale = scales ? scales[0] + below(scales[1] - scales[0] + 1) : S;
  const [x, y] = rescaledSize(...sides, scale).map((side) => {
    const room = side - size;
    return room ? below(room + 1) / room : 0;
  });
  const normal = () =>
    Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const alpha = [1, 2, 3].map(() => Math.max(-3, Math.min(3, spread * normal())));
  return { scale, x, y, flip: Math.random() < 0.5, alpha };
}

// ---------------------------------------------------------------- photos

// The files lie one behind the other, each after its length in four bytes.
function files(view, names) {
  const found = {};
  let at = view.byteOffset;
  for (const name of names) {
    const length = view.getUint32(at - view.byteOffset, true);
    found[name] = new Blob([new Uint8Array(view.buffer, at + 4, length)], { type: "image/jpeg" });
    at += 4 + length;
  }
  return found;
}

// ---------------------------------------------------------------- controls

// A slider whose label says its value.
function slider(model, name, attributes, text, read, write = (value) => value) {
  const words = h("span");
  const input = h("input", {
    type: "range",
    ...attributes,
    oninput: () => change(model, name, write(input.valueAsNumber)),
  });
  const label = h("label", { className: "vgg-field" }, words, input);
  const show = () => {
    input.value = read(model.get(name));
    words.textContent = text(model.get(name));
  };
  return { label, show };
}

function tick(model, name, text) {
  const input = h("input", {
    type: "checkbox",
    onchange: () => change(model, name, input.checked),
  });
  return { label: field(text, input), show: () => (input.checked = model.get(name)) };
}

const signed = (value, digits) => {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? "0" : (value < 0 ? "−" : "+") + text;
};

function controls(model, [least, most]) {
  const photo = select(Object.keys(model.get("photos")), model.get("photo"), (value) =>
    change(model, "photo", value),
  );
  const same = (value) => value;
  const scale = { min: least, max: most };
  const way = { min: 0, max: 1, step: 0.01 };
  const sliders = [
    slider(model, "scale", scale, (value) => `S = ${value}`, same),
    slider(model, "x", way, (value) => `left to right: ${Math.round(100 * value)} %`, same),
    slider(model, "y", way, (value) => `top to bottom: ${Math.round(100 * value)} %`, same),
    ...AXES.map(([axis, measure, [less, more]], i) =>
      slider(
        model,
        "alpha",
        { min: -3, max: 3, step: 0.05 },
        (alpha) => {
          const by = alpha[i] * measure(model.get("axes").map((row) => row[i]));
          const text = `α${i + 1} (${axis}) = ${signed(alpha[i], 2)}`;
          return by ? `${text}: ${by > 0 ? more : less}` : text;
        },
        (alpha) => alpha[i],
        (value) => model.get("alpha").map((old, j) => (i === j ? value : old)),
      ),
    ),
  ];
  const ticks = [tick(model, "flip", "mirror"), tick(model, "subtract_mean", "subtract the mean")];
  const above = [field("Photo", photo), ...ticks.map((control) => control.label)];
  const below = sliders.map((control) => control.label);
  const show = () => {
    photo.value = model.get("photo");
    [...sliders, ...ticks].forEach((control) => control.show());
  };
  return { above, below, show };
}

// The frame: dragged with a pointer, moved with the arrow keys.
function movable(model, frame, stage, sizes) {
  const moveBy = (dx, dy) => {
    const [sides, size] = sizes();
    [dx, dy].forEach((by, i) => {
      const name = "xy"[i];
      const at = model.get(name) + by / (sides[i] - size);
      model.set(name, Math.max(0, Math.min(1, at)));
    });
    model.save_changes();
  };
  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  frame.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    const pixels = event.shiftKey ? 1 : 8;
    moveBy(...keys[event.key].map((direction) => direction * pixels));
  });
  let last = null;
  frame.addEventListener("pointerdown", (event) => {
    frame.setPointerCapture(event.pointerId);
    last = [event.clientX, event.clientY];
  });
  frame.addEventListener("pointermove", (event) => {
    if (!last) return;
    const zoom = sizes()[0][0] / stage.clientWidth;
    moveBy((event.clientX - last[0]) * zoom, (event.clientY - last[1]) * zoom);
    last = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) {
    frame.addEventListener(end, () => (last = null));
  }
}

// ---------------------------------------------------------------- words

function facts(model, sides, scaled, place, values) {
  const size = model.get("size");
  const [r, g, b] = colourShift(model.get("axes"), model.get("alpha")).map((v) => signed(v, 1));
  const [low, high] = values.reduce(
    ([low, high], v) => [Math.min(low, v), Math.max(high, v)],
    [Infinity, -Infinity],
  );
  const share = (100 * size ** 2) / (scaled[0] * scaled[1]);
  const sign = (v) => thousands(Math.round(v)).replace("-", "−");
  return [
    `Rescaled from ${sides.join(" × ")} to ${scaled.join(" × ")} pixels. The crop begins ` +
      `${place[0]} from the left and ${place[1]} from the top` +
      `${model.get("flip") ? ", is mirrored" : ""} and sees ${share.toFixed(0)} % of the photo.`,
    `Added to red, green and blue: ${r}, ${g}, ${b} of 255.`,
    `The net is given ${size} × ${size} × 3 numbers from ${sign(low)} to ${sign(high)}` +
      `${model.get("subtract_mean") ? " (drawn with zero as middle grey)" : ""}.`,
  ].join(" ");
}

// ---------------------------------------------------------------- the widget

async function render({ model, el }) {
  const blobs = files(model.get("jpegs"), Object.keys(model.get("photos")));
  const size = model.get("size");
  const scales = model.get("scales");
  const photos = {}; // decoded ones
  let scaled = {}; // the present photo at the present S
  let sides = [1, 1];

  const { above, below, show } = controls(model, scales);
  const jitter = h("input", { type: "checkbox", checked: true });
  const draw = button("Draw one at random", () => {
    const spread = model.get("spread");
    const drawn = sample(sides, size, model.get("scale"), spread, jitter.checked && scales);
    for (const [name, value] of Object.entries(drawn)) model.set(name, value);
    model.save_changes();
  });

  const whole = h("canvas", { role: "img" });
  const frame = h("button", { type: "button", className: "crop-frame" });
  frame.setAttribute("aria-label", "Crop frame: the arrow keys move it, with Shift by one pixel");
  const stage = h("div", { className: "crop-stage" }, whole, frame);
  const input = h("canvas", { width: size, height: size, role: "img", className: "crop-input" });
  const caption = h("p", { className: "crop-caption" });
  const words = liveLine();
  movable(model, frame, stage, () => [[scaled.width, scaled.height], size]);

  async function paint() {
    waiting = undefined;
    const photo = model.get("photo");
    photos[photo] ??= await pixelsOf(blobs[photo]);
    if (photo !== model.get("photo")) return; // another was chosen while this one was decoded
    sides = [photos[photo].width, photos[photo].height];
    const S = model.get("scale");
    if (scaled.photo !== photo || scaled.S !== S) rescale(photo, S);
    const now = [scaled.width, scaled.height];
    const place = corner(now, size, model.get("x"), model.get("y"));
    const percent = (part, all) => `${(100 * part) / all}%`;
    Object.assign(frame.style, {
      left: percent(place[0], now[0]),
      top: percent(place[1], now[1]),
      width: percent(size, now[0]),
      height: percent(size, now[1]),
    });
    const shift = colourShift(model.get("axes"), model.get("alpha"));
    const mean = model.get("subtract_mean") ? model.get("mean") : [0, 0, 0];
    const values = cut(scaled.pixels, scaled.width, {
      left: place[0],
      top: place[1],
      size,
      flip: model.get("flip"),
      added: shift.map((value, c) => value - mean[c]),
    });
    show224(values);
    const text = facts(model, sides, now, place, values);
    whole.setAttribute("aria-label", `The photo ${photo}, rescaled to S = ${S}`);
    input.setAttribute("aria-label", `The crop of the photo ${photo} that the net is given`);
    caption.textContent = `Photo: ${model.get("photos")[photo]}`;
    words.say(text);
  }

  function rescale(photo, S) {
    const [width, height] = rescaledSize(...sides, S);
    const pixels = resize(photos[photo].data, ...sides, width, height);
    scaled = { photo, S, width, height, pixels };
    Object.assign(whole, { width, height });
    whole.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  }

  // A screen shows 0 to 255: without its mean the crop is drawn at half contrast around grey.
  function show224(values) {
    const half = model.get("subtract_mean");
    const image = new ImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      for (let c = 0; c < 3; c++) {
        const value = values[3 * i + c];
        image.data[4 * i + c] = half ? value / 2 + 127 : value;
      }
      image.data[4 * i + 3] = 255;
    }
    input.getContext("2d").putImageData(image, 0, 0);
  }

  let waiting;
  const update = () => {
    show();
    waiting ??= requestAnimationFrame(paint);
  };
  panel(
    el,
    "Training crop",
    h("div", { className: "vgg-controls" }, ...above),
    h(
      "div",
      { className: "crop-pictures" },
      h("div", {}, stage, caption),
      h("div", {}, input, h("p", { className: "crop-caption" }, "what the net is given")),
    ),
    h("div", { className: "vgg-controls crop-sliders" }, ...below),
    h("div", { className: "vgg-controls" }, draw, field(`S from ${scales.join(" to ")}, too`, jitter)),
    words,
  );
  const stop = follow(model, TRAITS, update);
  return () => {
    cancelAnimationFrame(waiting);
    stop();
  };
}

export default { render };
