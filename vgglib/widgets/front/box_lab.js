// Box laboratory (chapter 9): the intersection over union of two boxes that one drags; and OverFeat's
// greedy merging of many, pair by pair.

import { button, change, field, follow, h, liveLine, panel, select, svg } from "./common.js";

const TWO = "two boxes";
const RIGHT = 0.5; // an IoU above it counts as right

// ---------------------------------------------------------------- arithmetic

const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);

/** What two boxes share, cover and their IoU; an empty box shares nothing. */
export function overlap(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const intersection = width * height;
  const union = area(a) + area(b) - intersection;
  return { width, height, intersection, union, iou: union > 0 ? intersection / union : 0 };
}

/** { apart, iou, distance }: the centres' distance in mean diagonals, and that plus 1 − IoU. */
export function match(a, b) {
  const [dx, dy] = [0, 1].map((i) => (a[i] + a[i + 2] - b[i] - b[i + 2]) / 2);
  const diagonal = (box) => Math.hypot(box[2] - box[0], box[3] - box[1]);
  const unit = Math.max((diagonal(a) + diagonal(b)) / 2, 1e-9);
  const apart = Math.hypot(dx, dy) / unit;
  const { iou } = overlap(a, b);
  return { apart, iou, distance: apart + 1 - iou };
}

// The closest two of the boxes; of equals, the first.
function closest(all) {
  let best = null;
  for (let i = 0; i < all.length; i++) {
    for (let j = i + 1; j < all.length; j++) {
      const found = match(all[i].box, all[j].box);
      if (!best || found.distance < best.distance) best = { pair: [i, j], ...found };
    }
  }
  return best;
}

/** All states of the merging, first to last: { all: [{ box, score, members }], next }. */
export function merging(boxes, scores, limit) {
  let all = boxes.map((box, i) => ({ box, score: scores[i], members: 1 }));
  const states = [];
  for (;;) {
    const next = closest(all);
    states.push({ all, next });
    if (!next || next.distance > limit) return states;
    const [a, b] = next.pair.map((i) => all[i]);
    const members = a.members + b.members;
    const box = a.box.map((value, i) => (a.members * value + b.members * b.box[i]) / members);
    const one = { box, score: a.score + b.score, members };
    all = all.map((old, i) => (i === next.pair[0] ? one : old)).filter((_, i) => i !== next.pair[1]);
  }
}

/** The best rated first. */
export const ranked = (all) => [...all].sort((a, b) => b.score - a.score);

// ---------------------------------------------------------------- the picture

const rect = ([x1, y1, x2, y2], look) =>
  svg("rect", {
    x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1),
    ...look,
  });

function stageOf(model) {
  const size = model.get("size");
  const photo = svg("image", { width: size, height: size });
  const layer = svg("g");
  const drawing = svg("svg", { viewBox: `0 0 ${size} ${size}`, role: "img" }, photo, layer);
  const stage = h("div", { className: "box-stage" }, drawing);
  const draw = (label, ...shapes) => {
    photo.setAttribute("href", `data:image/png;base64,${scene(model).picture}`);
    drawing.setAttribute("aria-label", label);
    layer.replaceChildren(...shapes);
  };
  return { stage, draw };
}

const scene = (model) => model.get("scenes")[model.get("scene")];

function choice(model) {
  const control = select(Object.keys(model.get("scenes")), model.get("scene"), (name) => {
    const { true: true_box, surest } = model.get("scenes")[name];
    for (const [trait, value] of Object.entries({ scene: name, true_box, guess: surest, merges: 0 })) {
      model.set(trait, value);
    }
    model.save_changes();
  });
  return { label: field("Scene", control), show: () => (control.value = model.get("scene")) };
}

// ---------------------------------------------------------------- two boxes

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Moves a box, or its lower right corner alone, by so much, within the scene. */
export function moved(box, [dx, dy], corner, size, smallest) {
  const next = [...box];
  [dx, dy].forEach((by, i) => {
    const [low, high] = [box[i], box[i + 2]];
    const most = size - high;
    const step = Math.min(most, Math.max(corner ? smallest - (high - low) : -low, by));
    if (!corner) next[i] = low + step;
    next[i + 2] = high + step;
  });
  return next;
}

// A button on the picture, dragged or moved by the arrow keys. Beside it a swipe scrolls the page.
function grip(model, stage, trait, corner, name) {
  const handle = button("", () => {}, {
    className: `box-grip ${corner ? "box-corner" : "box-middle"} box-${trait}`,
  });
  const keys = "the arrow keys, with Shift by a tenth of a pixel";
  handle.ariaLabel = corner ? `Size of the ${name}: ${keys}` : `Place of the ${name}: ${keys}`;
  const by = (step) => {
    const box = moved(model.get(trait), step, corner, model.get("size"), model.get("smallest"));
    change(model, trait, box.map((value) => Number(value.toFixed(4))));
  };
  handle.addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    by(KEYS[event.key].map((direction) => direction * (event.shiftKey ? 0.1 : 1)));
  });
  let last = null;
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    last = [event.clientX, event.clientY];
  });
  handle.addEventListener("pointermove", (event) => {
    if (!last) return;
    const zoom = model.get("size") / stage.clientWidth;
    by([(event.clientX - last[0]) * zoom, (event.clientY - last[1]) * zoom]);
    last = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) {
    handle.addEventListener(end, () => (last = null));
  }
  const show = () => {
    const [x1, y1, x2, y2] = model.get(trait);
    const at = corner ? [x2, y2] : [(x1 + x2) / 2, (y1 + y2) / 2];
    const percent = (value) => `${(100 * value) / model.get("size")}%`;
    Object.assign(handle.style, { left: percent(at[0]), top: percent(at[1]) });
  };
  return { handle, show };
}

function twoBoxes(model) {
  const { stage, draw } = stageOf(model);
  const which = choice(model);
  const names = { true_box: "true box", guess: "predicted box" };
  const grips = Object.entries(names).flatMap(([trait, name]) =>
    [false, true].map((corner) => grip(model, stage, trait, corner, name)),
  );
  stage.append(...grips.map(({ handle }) => handle));
  const cells = ["intersection", "union", "IoU"].map((name) => {
    const [formula, value] = [h("td"), h("td")];
    return { row: h("tr", {}, h("th", { scope: "row" }, name), formula, value), formula, value };
  });
  const words = liveLine();
  const show = () => {
    which.show();
    grips.forEach((one) => one.show());
    const [a, b] = [model.get("true_box"), model.get("guess")];
    const { width, height, intersection, union, iou } = overlap(a, b);
    const corner = [Math.max(a[0], b[0]), Math.max(a[1], b[1])];
    const shared = [...corner, corner[0] + width, corner[1] + height];
    const label = `A scene with a true box and a predicted box, IoU ${iou.toFixed(2)}`;
    draw(label, ...(intersection ? [rect(shared, { class: "box-shared" })] : []),
      rect(a, { class: "box-true" }), rect(b, { class: "box-dark" }), rect(b, { class: "box-guess" }));
    const tenth = (value) => value.toFixed(1);
    [
      [`${tenth(width)} × ${tenth(height)}`, tenth(intersection)],
      [`${tenth(area(a))} + ${tenth(area(b))} − ${tenth(intersection)}`, tenth(union)],
      [`${tenth(intersection)} ÷ ${tenth(union)}`, iou.toFixed(3)],
    ].forEach(([formula, value], i) => {
      cells[i].formula.textContent = formula;
      cells[i].value.textContent = value;
    });
    const verdict = iou > RIGHT ? "above one half: the box counts as right" :
      "not above one half: the box counts as wrong";
    words.say(`IoU ${iou.toFixed(2)}, ${verdict}.`);
  };
  const table = h("table", {}, h("tbody", {}, ...cells.map(({ row }) => row)));
  const note = "Yellow: the true box. White, dashed: the predicted one. Drag a box by its middle, " +
    "change it by its lower right corner; areas are in square pixels.";
  const elements = [
    h("div", { className: "vgg-controls" }, which.label),
    h("div", { className: "box-pair" }, stage,
      h("div", {}, table, words, h("p", { className: "box-note" }, note))),
  ];
  return { elements, show, traits: ["scene", "true_box", "guess"] };
}

// ---------------------------------------------------------------- merging

function manyBoxes(model) {
  const { stage, draw } = stageOf(model);
  const which = choice(model);
  let states = [];
  const range = (attributes, trait, step) => {
    const words = h("span");
    const input = h("input", { type: "range", ...attributes, oninput: () => {
      change(model, trait, input.valueAsNumber);
    } });
    return { input, words, label: h("label", { className: "vgg-field" }, words, input) };
  };
  const limit = range({ min: 0, max: 2, step: 0.05 }, "limit");
  const done = range({ min: 0, step: 1 }, "merges");
  const at = () => Math.min(model.get("merges"), states.length - 1);
  const back = button("Back", () => change(model, "merges", Math.max(0, at() - 1)));
  const ahead = button("Merge the closest two", () => change(model, "merges", at() + 1));
  const end = button("Merge all that may", () => change(model, "merges", states.length - 1));
  const rows = h("tbody");
  const head = ["rank", "windows", "rating", "IoU with the true box"].map((name) =>
    h("th", { scope: "col" }, name),
  );
  const table = h("table", {}, h("caption", {}, "The best rated boxes"),
    h("thead", {}, h("tr", {}, ...head)), rows);
  const words = liveLine({ className: "vgg-live box-steps" });

  const show = () => {
    which.show();
    const { boxes, scores, true: truth } = scene(model);
    states = merging(boxes, scores, model.get("limit"));
    const k = at();
    const { all, next } = states[k];
    const stopped = k === states.length - 1;
    limit.input.value = model.get("limit");
    limit.words.textContent = `largest match distance: ${model.get("limit").toFixed(2)}`;
    Object.assign(done.input, { max: states.length - 1 });
    done.input.value = k;
    done.words.textContent = `merges done: ${k} of ${states.length - 1}`;
    back.disabled = k === 0;
    ahead.disabled = end.disabled = stopped;
    const order = ranked(all);
    const shapes = order.map(({ box, score }) =>
      rect(box, { class: "box-one", "stroke-opacity": 0.12 + (0.88 * score) / order[0].score }),
    );
    const pair = stopped ? [] : next.pair.map((i) => rect(all[i].box, { class: "box-next" }));
    const winner = stopped
      ? [rect(order[0].box, { class: "box-dark" }), rect(order[0].box, { class: "box-best" })] : [];
    draw(`${all.length} boxes on a scene`, ...shapes, rect(truth, { class: "box-true" }), ...pair,
      ...winner);
    const found = order.slice(0, 4).map(({ box, score, members }, i) =>
      h("tr", {}, ...[i + 1, members, score.toFixed(2), overlap(box, truth).iou.toFixed(2)].map((text) =>
        h("td", {}, String(text)))),
    );
    rows.replaceChildren(...found);
    words.say(sentence(all, next, stopped, overlap(order[0].box, truth).iou));
  };

  const sentence = (all, next, stopped, iou) => {
    const count = all.length === 1 ? "1 box is left" : `${all.length} boxes`;
    const sum = next && `${next.distance.toFixed(2)} = ${next.apart.toFixed(2)} between the centres ` +
      `+ ${(1 - next.iou).toFixed(2)} for 1 − IoU`;
    if (!stopped) return `${count}. The closest two have a match distance of ${sum}; they are merged next.`;
    const why = next ? `${count} are left. The closest two have ${sum}, which is too far` : count;
    return `${why}. The best rated box has an IoU of ${iou.toFixed(2)} with the true one: ` +
      (iou > RIGHT ? "right." : "wrong.");
  };

  const note = "White: one box a window, the brighter the surer its window is of the class; orange: " +
    "the two that are merged next, by averaging; blue, at the end: the best rated; yellow: the truth.";
  const elements = [
    h("div", { className: "vgg-controls" }, which.label, limit.label),
    h("div", { className: "vgg-controls" }, done.label, back, ahead, end),
    h("div", { className: "box-pair" }, stage,
      h("div", {}, words, table, h("p", { className: "box-note" }, note))),
  ];
  return { elements, show, traits: ["scene", "limit", "merges"] };
}

// ---------------------------------------------------------------- the widget

function render({ model, el }) {
  const two = model.get("part") === TWO;
  const { elements, show, traits } = two ? twoBoxes(model) : manyBoxes(model);
  panel(el, two ? "Intersection over union" : "Merging of boxes", ...elements);
  return follow(model, traits, show);
}

export default { render };
