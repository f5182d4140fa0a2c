// The receptive field explorer: a stack of layers on a photo, and what one unit behind it sees.

import { button, change, field, follow, h, liveLine, panel, select, svg, thousands } from "./common.js";
import { geometry, pixelOf, problem, seenBy, sidesOf, unitAt, weights } from "./fields.js";

const KERNELS = { conv: [1, 3, 5, 7, 9, 11, 13, 15], pool: [2, 3, 4, 5] };
const STRIDES = [1, 2, 3, 4];
const OWN = "your own";
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

const square = (side) => `${side}×${side}`;
const range = ([first, last]) => (first === last ? `${first}` : `${first} to ${last}`);

async function render({ model, el }) {
  const side = model.get("side");
  const presets = model.get("presets");
  const photoName = model.get("photo_name");
  const address = URL.createObjectURL(new Blob([model.get("photo")], { type: "image/jpeg" }));
  const photo = new Image();
  photo.src = address;
  await photo.decode();

  const layers = () => model.get("layers");
  const looking = () => layers().slice(0, model.get("depth")); // the layers before the unit
  const unit = () => model.get("position").map((pixel) => unitAt(looking(), side, pixel));

  // ---------------------------------------------------------------------------- the stack

  const preset = select([...Object.keys(presets), OWN], OWN, (name) => {
    if (name !== OWN) stack(presets[name]);
  });
  const channels = select([64, 128, 256, 512], 64, (value) => {
    change(model, "channels", Number(value));
  });
  const complaint = h("p", { className: "vgg-error", role: "status" });
  const body = h("tbody");
  const group = `depth-${Math.random().toString(36).slice(2)}`;

  /** Take a new stack, unless a layer of it would have nothing to read. */
  function stack(next, depth = next.length) {
    const found = problem(next, side);
    complaint.textContent = found && `${found}. The stack stays as it was.`;
    if (!found) {
      // The smaller depth goes first or last, so that it fits the stack at every moment.
      if (depth < model.get("depth")) model.set("depth", depth);
      model.set("layers", next);
      model.set("depth", depth);
      model.save_changes();
    }
    update();
  }

  function row([kind, kernel, stride], index) {
    const all = layers();
    const name = `layer ${index + 1}`;
    const before = all.slice(0, index + 1);
    const { field: sees, jump } = geometry(before);
    const replace = (layer) => stack(all.with(index, layer), model.get("depth"));
    const swap = (other) =>
      stack(all.with(index, all[other]).with(other, all[index]), model.get("depth"));
    const kernels = [...new Set([...KERNELS[kind], kernel])];
    const strides = [...new Set([...STRIDES.filter((s) => s <= kernel), stride])];
    const act = (text, label, isOff, onclick) =>
      button(text, onclick, { ariaLabel: `${label} ${name}`, disabled: isOff });
    const controls = [
      h("input", {
        type: "radio",
        name: group,
        checked: index + 1 === model.get("depth"),
        ariaLabel: `look from behind ${name}`,
        onchange: () => change(model, "depth", index + 1),
      }),
      select(kernels, kernel, (k) => replace([kind, Number(k), Math.min(stride, k)])),
      select(strides, stride, (s) => replace([kind, kernel, Number(s)])),
      act("↑", "move up", index === 0, () => swap(index - 1)),
      act("↓", "move down", index === all.length - 1, () => swap(index + 1)),
      act("×", "remove", all.length === 1, () => stack(all.toSpliced(index, 1))),
    ];
    controls[1].ariaLabel = `kernel of ${name}`;
    controls[2].ariaLabel = `stride of ${name}`;
    controls.forEach((control, place) => (control.dataset.place = `${index}-${place}`));
    const [look, kernelOf, strideOf, ...moves] = controls;
    const cells = [look, `${index + 1} ${kind}`, kernelOf, strideOf];
    const map = square(sidesOf(before, side).at(-1));
    return h(
      "tr",
      {},
      ...cells.map((cell) => h("td", {}, cell)),
      ...[square(sees), jump, map].map((fact) => h("td", {}, String(fact))),
      h("td", { className: "vgg-rf-moves" }, ...moves),
    );
  }

  const add = (kind, kernel, stride) => () => {
    if (layers().length < model.get("longest")) stack([...layers(), [kind, kernel, stride]]);
    else complaint.textContent = `A stack has ${model.get("longest")} layers at most.`;
  };

  // ---------------------------------------------------------------------------- the views

  const dashed = svg("rect", { class: "field" });
  const ground = svg("rect", { class: "under" });
  const solid = svg("rect", { class: "seen" });
  const view = svg(
    "svg",
    { "aria-hidden": "true" },
    svg("rect", { class: "padding", x: -side, y: -side, width: 3 * side, height: 3 * side }),
    svg("image", { href: address, width: side, height: side }),
    ground,
    dashed,
    solid,
  );
  const map = h(
    "div",
    {
      className: "vgg-rf-map",
      tabIndex: 0,
      role: "application",
      ariaLabel: `Units over ${photoName}: the arrow keys go to the next one`,
      onkeydown: (event) => {
        const step = STEPS[event.key];
        if (!step) return;
        event.preventDefault();
        const last = sidesOf(looking(), side).at(-1) - 1;
        move(unit().map((place, axis) => Math.min(Math.max(place + step[axis], 0), last)));
      },
    },
    view,
  );
  map.addEventListener("pointermove", (event) => {
    const { left, top, width, height } = map.getBoundingClientRect();
    const box = view.viewBox.baseVal;
    const pixels = [
      box.y + ((event.clientY - top) / height) * box.height,
      box.x + ((event.clientX - left) / width) * box.width,
    ];
    move(pixels.map((pixel) => unitAt(looking(), side, pixel)));
  });
  const crop = h("canvas", { role: "img" });
  const pen = crop.getContext("2d");
  const facts = liveLine();

  function move(to) {
    if (to.join() === unit().join()) return;
    change(model, "position", to.map((place) => pixelOf(looking(), side, place)));
  }

  function look() {
    const { field: sees, jump, start } = geometry(looking());
    const places = unit();
    const [y, x] = places.map((place) => start + place * jump);
    const [rows, columns] = places.map((place) => seenBy(looking(), side, place));
    const last = start + (sidesOf(looking(), side).at(-1) - 1) * jump + sees;
    const margin = Math.max(4, -start, last - side);
    view.setAttribute("viewBox", `${-margin} ${-margin} ${side + 2 * margin} ${side + 2 * margin}`);
    const seen = {
      x: columns[0],
      y: rows[0],
      width: columns[1] - columns[0] + 1,
      height: rows[1] - rows[0] + 1,
    };
    const whole = { x, y, width: sees, height: sees };
    for (const [box, rect] of [[whole, dashed], [seen, solid], [seen, ground]]) {
      for (const [name, value] of Object.entries(box)) rect.setAttribute(name, value);
    }
    crop.width = crop.height = sees;
    pen.fillStyle = "#8a8a8a";
    pen.fillRect(0, 0, sees, sees);
    pen.drawImage(photo, -x, -y);
    const text =
      `Behind ${model.get("depth") === 1 ? "the first layer" : `${model.get("depth")} layers`} ` +
      `the unit in row ${places[0]}, column ${places[1]} sees ${square(sees)} px: ` +
      `rows ${range(rows)}, columns ${range(columns)} of the photo` +
      `${seen.width * seen.height < sees ** 2 ? "; the rest is padding" : ""}.`;
    crop.ariaLabel = `Enlarged: ${text}`;
    facts.say(text);
  }

  // ------------------------------------------------------------------------- the comparison

  const comparison = h("div", { className: "vgg-rf-weights" });

  function compare() {
    const { stack: stacked, single } = weights(looking());
    const { field: sees, jump } = geometry(looking());
    const count = model.get("channels") ** 2;
    const bars = [
      ["this stack", stacked],
      [`one ${square(sees)}${jump > 1 ? ` with stride ${jump}` : ""}`, single],
    ].map(([name, number]) =>
      h(
        "div",
        {},
        h("span", {}, `${name}: ${thousands(number)} C² = ${thousands(number * count)} weights`),
        h("i", { ariaHidden: "true", style: `width: ${(100 * number) / Math.max(stacked, single)}%` }),
      ),
    );
    const more = Math.round(100 * (single / stacked - 1));
    const verdict = {
      0: "They cost the same.",
      1: more > 200
        ? `The single filter has ${thousands(single / stacked, more < 900 ? 1 : 0)} times as many.`
        : `The single filter has ${more} % more.`,
      [-1]: `The single filter has ${-more} % fewer.`,
    }[Math.sign(single - stacked)];
    comparison.replaceChildren(...bars, h("p", {}, stacked ? verdict : "Pools have no weights."));
  }

  function update() {
    const focused = body.contains(document.activeElement) && document.activeElement.dataset.place;
    body.replaceChildren(...layers().map(row));
    if (focused) {
      const [index, place] = focused.split("-");
      const same = body.querySelector(`[data-place="${focused}"]:enabled`);
      const near = body.rows[Math.min(index, body.rows.length - 1)];
      (same ?? near.querySelector(`[data-place$="-${place}"]:enabled, input`)).focus();
    }
    const now = JSON.stringify(layers());
    preset.value = Object.keys(presets).find((key) => JSON.stringify(presets[key]) === now) ?? OWN;
    const offered = [...channels.options].map((option) => option.value);
    const value = String(model.get("channels"));
    if (!offered.includes(value)) channels.append(h("option", { value }, value));
    channels.value = value;
    look();
    compare();
  }

  const titles = ["look", "layer", "kernel", "stride", "sees", "every", "map", "change"];
  const head = h("tr", {}, ...titles.map((title) => h("th", { scope: "col" }, title)));
  const table = h("table", {}, h("thead", {}, head), body);
  panel(
    el,
    "Receptive field explorer",
    h(
      "div",
      { className: "vgg-controls" },
      field("Stack", preset),
      field("Channels C", channels),
      button("Add convolution", add("conv", 3, 1)),
      button("Add pool", add("pool", 2, 2)),
    ),
    complaint,
    h(
      "div",
      { className: "vgg-rf-views" },
      h("figure", {}, map, h("figcaption", {}, "Where the unit looks; grey is zero padding.")),
      h("figure", {}, crop, h("figcaption", {}, "What it sees, enlarged.")),
    ),
    facts,
    comparison,
    h(
      "div",
      { className: "vgg-scroll vgg-rf-stack", tabIndex: 0, role: "region", ariaLabel: "Layers" },
      table,
    ),
  );
  const ends = [
    follow(model, ["layers", "depth", "channels"], update),
    follow(model, ["position"], look),
  ];
  return () => {
    ends.forEach((end) => end());
    URL.revokeObjectURL(address);
  };
}

/** Traits of an address that make no stack, or no place on the photo. */
function unfit({ layers, depth, position, side, longest }) {
  const odd = ([kind, kernel, stride]) =>
    (kind === "pool" ? kernel < 2 || kernel > 15 : !KERNELS.conv.includes(kernel)) ||
    stride < 1 || stride > kernel;
  const found = [];
  if (!layers.length || layers.length > longest || layers.some(odd) || problem(layers, side)) {
    found.push("layers");
  }
  if (depth < 1 || depth > layers.length) found.push("depth");
  if (position.some((pixel) => pixel < 0 || pixel >= side)) found.push("position");
  return found;
}

export default { render, unfit };
