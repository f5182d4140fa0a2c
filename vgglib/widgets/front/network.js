// The network explorer: the drawing of a net, where its costs sit, and the table of its layers.

import { anatomy, problems, product } from "./anatomy.js";
import { change, field, follow, h, liveLine, panel, select, svg, thousands } from "./common.js";

// What is drawn, by kind: [legend, colour]. Layers without an entry belong to the one before.
const DRAWN = {
  input: ["image", "--green"],
  conv3: ["conv 3×3", "--blue"],
  conv1: ["conv 1×1", "--orange"],
  lrn: ["LRN", "--purple"],
  pool: ["max-pool", "--muted"],
  fc: ["fully connected", "--vermilion"],
};
// Each cost: name, and how it is written in a sentence and in the table's column.
const COSTS = {
  params: { name: "parameters", unit: "", write: thousands, cell: thousands },
  macs: {
    name: "MACs",
    unit: " (million)",
    write: (macs) => `${thousands(macs / 1e9, 2)} billion`,
    cell: (macs) => tenths(macs / 1e6),
  },
  activation_bytes: {
    name: "memory",
    unit: " (MiB)",
    write: (bytes) => `${thousands(bytes / 2 ** 20, 1)} MiB`,
    cell: (bytes) => tenths(bytes / 2 ** 20),
  },
};
const SETTINGS = {
  image_size: ["Image side (px)", { min: 32, step: 32 }],
  width: ["Width (× channels)", { min: 0.05, step: 0.05 }],
  num_classes: ["Classes", { min: 1, step: 1 }],
};
// Small numbers get more decimals: what is not nothing does not read 0.
const tenths = (number) => thousands(number, number < 0.1 ? 3 : 1);
const TRAITS = ["net", "batch_norm", ...Object.keys(SETTINGS)];
const BOXES = 136; // heights in px: of the boxes, and of each strip of bars
const STRIP = 64;

const percent = (part, whole) =>
  part && part < whole / 1000 ? "under 0.1 %" : `${thousands((100 * part) / whole, 1)} %`;
const shapeOf = (row) => row.output_shape.join(" × ");
const drawnAs = ({ kind, kernel }) => (kind === "conv" ? `conv${kernel}` : kind);

function render({ model, el }) {
  const configs = model.get("configs");
  const largest = model.get("largest");
  let rows = [];
  let columns = []; // {row, rows}: what is drawn as one, for example conv3_2 with its ReLU
  let hovered = null;

  // ------------------------------------------------------------------------------- settings

  const settingsNow = () => ({
    imageSize: model.get("image_size"),
    width: model.get("width"),
    batchNorm: model.get("batch_norm"),
    numClasses: model.get("num_classes"),
  });
  const net = select(Object.keys(configs), model.get("net"), (name) => change(model, "net", name));
  const batchNorm = h("input", {
    type: "checkbox",
    onchange: () => change(model, "batch_norm", batchNorm.checked),
  });
  const problem = h("p", { className: "vgg-error", role: "status" });

  function problemWith(trait, value) {
    const key = { image_size: "imageSize", width: "width", num_classes: "numClasses" }[trait];
    const settings = { ...settingsNow(), [key]: value };
    const [title, { min, step }] = SETTINGS[trait];
    const isFine = !problems(configs[model.get("net")], settings)[trait];
    if (isFine && value >= min && value <= largest[trait]) return "";
    const kind = step < 1 ? "a number" : "a whole number";
    const given = Number.isNaN(value) ? "nothing" : thousands(value, 4);
    return `${title}: ${kind} from ${min} to ${thousands(largest[trait])} is needed, not ${given}`;
  }

  const inputs = {};
  for (const [trait, [, attributes]] of Object.entries(SETTINGS)) {
    const input = h("input", { type: "number", max: largest[trait], ...attributes });
    const take = (isDone) => {
      const found = problemWith(trait, input.valueAsNumber);
      if (!found) change(model, trait, input.valueAsNumber);
      if (!found || isDone) {
        // While one types 128, 1 and 12 are no mistakes yet.
        input.ariaInvalid = found ? "true" : null;
        problem.textContent = found ? `${found}. Shown is still ${model.get(trait)}.` : "";
      }
    };
    input.addEventListener("input", () => take(false));
    input.addEventListener("change", () => take(true));
    inputs[trait] = input;
  }

  // -------------------------------------------------------------------------------- drawing

  const drawing = h("div", { className: "vgg-net-drawing" });
  const slider = h("input", {
    type: "range",
    min: 0,
    oninput: () => choose(columns[slider.valueAsNumber].row.layer),
  });
  const legend = h("p", { className: "vgg-net-legend" });
  const detail = h("p", { className: "vgg-net-detail" });
  const body = h("tbody");
  const costs = Object.values(COSTS).map(({ name, unit }) => name + unit);
  const titles = ["layer", "output", ...costs, "field (px)", "stride (px)"];
  const head = h("tr", {}, ...titles.map((title) => h("th", { scope: "col" }, title)));
  const table = h("table", {}, h("thead", {}, head), body);
  const scroller = h(
    "div",
    { className: "vgg-scroll vgg-net-table", tabIndex: 0, role: "region", ariaLabel: "Layers" },
    table,
  );
  const totals = liveLine({ className: "vgg-net-totals" });

  const choose = (layer) => change(model, "layer", layer);
  const columnOf = (layer) => columns.findIndex(({ rows }) => rows.some((r) => r.layer === layer));
  const columnAt = (event) => {
    const { left, width } = drawing.getBoundingClientRect();
    const at = Math.floor(((event.clientX - left) / width) * columns.length);
    return columns[Math.min(Math.max(at, 0), columns.length - 1)];
  };
  drawing.addEventListener("pointermove", (event) => mark((hovered = columnAt(event).row.layer)));
  drawing.addEventListener("pointerleave", () => mark((hovered = null)));
  drawing.addEventListener("click", (event) => choose(columnAt(event).row.layer));

  /** Boxes above, and below them for each cost a bar a column: the share of the whole net. */
  function draw() {
    const width = drawing.clientWidth || 600;
    const step = width / columns.length;
    const size = model.get("image_size");
    const costs = Object.entries(COSTS);
    const height = BOXES + costs.length * STRIP;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
    picture.setAttribute("aria-label", describe());
    columns.forEach((column, index) => {
      const [channels, side = 1] = column.row.output_shape;
      const tall = Math.max(6, (BOXES - 32) * Math.sqrt(side / size));
      const wide = column.row.kind === "pool" ? 4 : (step - 2) * Math.cbrt(channels / 4096);
      const kept = Math.min(Math.max(wide, 3), step - 2);
      const mount = svg("g", { "data-column": index });
      mount.append(
        svg("rect", { class: "ground", x: index * step, y: 0, width: step, height }),
        svg("rect", {
          x: (index + 0.5) * step - kept / 2,
          y: (BOXES - 20 - tall) / 2,
          width: kept,
          height: tall,
          style: `fill: var(${DRAWN[drawnAs(column.row)][1]})`,
        }),
      );
      costs.forEach(([cost], strip) => {
        const most = Math.max(...columns.map((other) => other[cost]));
        const bar = (most && column[cost] / most) * (STRIP - 24);
        mount.append(
          svg("rect", {
            x: index * step + step * 0.15,
            y: BOXES + (strip + 1) * STRIP - bar,
            width: step * 0.7,
            height: bar,
            style: `fill: var(${DRAWN[drawnAs(column.row)][1]})`,
          }),
        );
      });
      picture.append(mount);
    });
    costs.forEach(([cost], strip) => {
      const y = BOXES + strip * STRIP;
      picture.append(
        svg("line", { x1: 0, x2: width, y1: y + STRIP, y2: y + STRIP }),
        svg("text", { x: 0, y: y + 16, "data-cost": cost }),
      );
    });
    for (const [name, places] of Object.entries(stages())) {
      const middle = ((places[0] + places.at(-1) + 1) / 2) * step;
      const label = places.length * step < 60 ? name.replace("stage ", "") : name;
      picture.append(svg("text", { x: middle, y: BOXES - 4, "text-anchor": "middle" }, label));
    }
    drawing.replaceChildren(picture);
  }

  /** The columns of each stage and of the fully connected layers. */
  function stages() {
    const found = {};
    columns.forEach(({ row }, index) => {
      if (row.kind === "input") return;
      const name = row.kind === "fc" ? "FC" : `stage ${row.layer.match(/\d+/)[0]}`;
      (found[name] ??= []).push(index);
    });
    return found;
  }

  const sum = (cost) => rows.reduce((total, row) => total + row[cost], 0);

  function describe() {
    const drawn = columns.map(({ row }) => row.layer).join(", ");
    return `Net ${model.get("net")} from left to right: ${drawn}. Below, each layer's share of the costs.`;
  }

  // ------------------------------------------------------------------------- in step with all

  /** Show which layer is meant: the one under the pointer, else the chosen one. */
  function mark() {
    const layer = hovered ?? model.get("layer");
    const at = columnOf(layer);
    const column = columns[at];
    drawing.querySelectorAll("g").forEach((g, index) => g.classList.toggle("chosen", index === at));
    for (const line of body.children) {
      line.classList.toggle("chosen", Boolean(column?.rows.some((r) => r.layer === line.dataset.layer)));
    }
    for (const [cost, { name, write }] of Object.entries(COSTS)) {
      drawing.querySelector(`[data-cost="${cost}"]`).textContent = column
        ? `${name}: ${write(column[cost])}, ${percent(column[cost], sum(cost))}`
        : `${name}: ${write(sum(cost))}`;
    }
    detail.textContent = column
      ? sentence(column.row)
      : "Point at a layer, or move the slider, to see what it costs and sees.";
    if (!column) return;
    const line = body.querySelector(`[data-layer="${layer}"]`);
    const hidden = line.offsetTop - head.offsetHeight;
    if (scroller.scrollTop > hidden || scroller.scrollTop + scroller.clientHeight < line.offsetTop + line.offsetHeight) {
      scroller.scrollTop = hidden - scroller.clientHeight / 3; // the page stays where it is
    }
    if (hovered === null) {
      slider.value = at;
      slider.ariaValueText = sentence(column.row);
    }
  }

  function sentence(row) {
    const values = thousands(product(row.output_shape));
    return (
      `${row.layer}: puts out ${shapeOf(row)}, ${values} values; ` +
      `${thousands(row.params)} parameters; one value sees ${row.receptive_field} px of the image.`
    );
  }

  function update() {
    const name = model.get("net");
    rows = anatomy(configs[name], settingsNow());
    columns = [];
    for (const row of rows) {
      if (DRAWN[drawnAs(row)]) columns.push({ row, rows: [] });
      columns.at(-1).rows.push(row);
    }
    for (const column of columns) {
      for (const cost of Object.keys(COSTS)) {
        column[cost] = column.rows.reduce((total, row) => total + row[cost], 0);
      }
    }
    net.value = name;
    batchNorm.checked = model.get("batch_norm");
    for (const [trait, input] of Object.entries(inputs)) {
      if (input.valueAsNumber === model.get(trait)) continue;
      input.value = model.get(trait);
      input.ariaInvalid = null;
      problem.textContent = "";
    }
    slider.max = columns.length - 1;
    if (columnOf(model.get("layer")) < 0 && model.get("layer")) choose("");
    if (!model.get("layer")) slider.value = 0;

    const kinds = [...new Set(columns.map(({ row }) => drawnAs(row)))];
    legend.replaceChildren(
      ...kinds.map((kind) => {
        const swatch = h("i", { ariaHidden: "true", style: `background: var(${DRAWN[kind][1]})` });
        return h("span", {}, swatch, DRAWN[kind][0]);
      }),
    );
    body.replaceChildren(
      ...rows.map((row) => {
        const numbers = [
          shapeOf(row),
          ...Object.entries(COSTS).map(([cost, { cell }]) => (row[cost] ? cell(row[cost]) : "–")),
          row.receptive_field,
          row.stride,
        ];
        const line = h(
          "tr",
          { onclick: () => choose(row.layer) },
          h("th", { scope: "row" }, row.layer),
          ...numbers.map((number) => h("td", {}, String(number))),
        );
        line.dataset.layer = row.layer;
        line.dataset.kind = row.kind;
        return line;
      }),
    );
    const layers = rows.filter(({ kind }) => kind === "conv" || kind === "fc").length;
    totals.say(
      `${name}: ${layers} weight layers, ` +
        `${COSTS.params.write(sum("params"))} parameters; per image ` +
        `${COSTS.macs.write(sum("macs"))} MACs and ` +
        `${COSTS.activation_bytes.write(sum("activation_bytes"))} of activations to keep.`,
    );
    draw();
    mark();
  }

  const controls = h("div", { className: "vgg-controls" }, field("Net", net));
  for (const [trait, [label]] of Object.entries(SETTINGS)) {
    controls.append(field(label, inputs[trait]));
  }
  controls.append(field("Batch norm", batchNorm));
  panel(
    el,
    "Network explorer",
    controls,
    problem,
    totals,
    legend,
    drawing,
    field("Layer", slider),
    detail,
    scroller,
  );
  const ends = [follow(model, TRAITS, update), follow(model, ["layer"], mark)];
  const resized = new ResizeObserver(() => (draw(), mark()));
  resized.observe(drawing);
  return () => {
    resized.disconnect();
    ends.forEach((end) => end());
  };
}

/** Traits of an address whose values no net has. */
function unfit({ configs, net, image_size, width, num_classes, batch_norm, layer, largest }) {
  const settings = { imageSize: image_size, width, numClasses: num_classes, batchNorm: batch_norm };
  const sizes = { image_size, width, num_classes };
  const found = new Set(Object.keys(problems(configs[net], settings)));
  for (const [trait, most] of Object.entries(largest)) if (sizes[trait] > most) found.add(trait);
  const known = () => anatomy(configs[net], settings).some((row) => row.layer === layer);
  if (layer && !found.size && !known()) found.add("layer");
  return [...found];
}

export default { render, unfit };
