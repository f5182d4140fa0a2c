// A recorded training, epoch by epoch: curves with a cursor, and the first layer's filters. The curves
// reach as far as the reader has been, so that what comes next can be predicted.

import { button, change, field, follow, h, liveLine, panel, svg } from "./common.js";

const WIDTH = 340;
const HEIGHT = 170;
const LEFT = 46;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 24;
const PAUSE = 600; // milliseconds an epoch, when played

export default {
  /** Traits of an address that name no epoch of the run. */
  unfit: ({ epoch, run }) => (epoch > run.history.lr.length ? ["epoch"] : []),

  render({ model, el }) {
    const { history, filters } = model.get("run");
    const epochs = history.lr.length;
    const drops = history.lr // the epochs that begin with a smaller rate, counted from 1
      .map((lr, i) => (lr < history.lr[i - 1] ? i + 1 : 0))
      .filter(Boolean);
    const pictures = filters.bytes.map(decoded);
    const move = (epoch) => change(model, "epoch", Math.max(0, Math.min(epochs, epoch)));

    const charts = [
      chart("Loss", drops, move, { training: history.train_loss, "held out": history.val_loss }),
      chart("Accuracy", drops, move, {
        training: history.train_accuracy, "held out": history.val_accuracy,
      }, { write: (value) => `${Math.round(100 * value)} %` }),
      chart("Learning rate (logarithmic)", drops, move, { rate: history.lr }, { log: true, write: String, steps: true }),
      chart("Change of the filters (logarithmic)", drops, move,
        { change: filters.change.slice(1) },
        { log: true, write: (value) => `${Number((100 * value).toPrecision(1))} %` }),
    ];

    const [count, , rows, columns] = filters.shape;
    const tiles = Array.from({ length: count }, (_, i) => {
      const canvas = h("canvas", { width: columns, height: rows });
      canvas.setAttribute("role", "img");
      canvas.ariaLabel = `Filter ${i}`;
      return canvas;
    });
    const head = h("p", { className: "vgg-head" });

    const slider = h("input", {
      type: "range", min: 0, max: epochs, oninput: () => {
        stop();
        move(Number(slider.value));
      },
    });
    const number = h("span", { className: "vgg-epoch" });
    const live = liveLine();

    // ---- playing: only when asked for, and silent meanwhile

    let timer = null;
    const play = button("Play", () => (timer ? stop() : start()));

    function start() {
      if (model.get("epoch") === epochs) move(0);
      live.ariaLive = "off";
      play.textContent = "Pause";
      timer = setInterval(() => {
        move(model.get("epoch") + 1);
        if (model.get("epoch") === epochs) stop();
      }, PAUSE);
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      live.ariaLive = "polite";
      play.textContent = "Play";
    }

    function summary(epoch) {
      if (epoch === 0) return "Before the training: random weights, drawn by He's rule.";
      const at = (column) => history[column][epoch - 1];
      const percent = (value) => `${(100 * value).toFixed(1)} %`;
      return `Epoch ${epoch} of ${epochs}: learning rate ${at("lr")}` +
        (drops.includes(epoch) ? `, divided by ${Math.round(history.lr[epoch - 2] / at("lr"))} ` +
          "before this epoch" : "") +
        `. Loss ${at("train_loss").toFixed(2)} in training, ${at("val_loss").toFixed(2)} held out; ` +
        `accuracy ${percent(at("train_accuracy"))} and ${percent(at("val_accuracy"))}. ` +
        `The filters changed by ${percent(filters.change[epoch])} of their length.`;
    }

    function view() {
      const epoch = model.get("epoch");
      slider.value = epoch;
      slider.setAttribute("aria-valuetext", epoch ? `epoch ${epoch}` : "before the training");
      number.textContent = `${epoch} of ${epochs}`;
      charts.forEach(({ cursor }) => cursor(epoch));
      tiles.forEach((canvas, i) => drawFilter(canvas, pictures[epoch], i));
      head.textContent = epoch ? `First-layer filters after epoch ${epoch}`
        : "First-layer filters before the training";
      live.say(summary(epoch));
    }

    panel(
      el,
      "Training replay",
      h("div", { className: "vgg-controls" }, play, field("Epoch", slider), number),
      live,
      h("p", { className: "vgg-note" },
        "Blue: training crops; dashed orange: held-out images; dotted: the rate is divided by ten."),
      h("div", { className: "vgg-charts" }, ...charts.map(({ figure }) => figure)),
      head,
      h("div", { className: "vgg-filters" }, ...tiles),
      h("p", { className: "vgg-note" },
        `${count} filters of 3 × 3 weights for red, green and blue; grey is zero, and the epoch's ` +
          "largest weight sets the scale."),
    );
    const end = follow(model, ["epoch"], view);
    return () => {
      stop();
      end();
    };
  },
};

/** Bytes of a base64 text. */
function decoded(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** A filter of an epoch, [filter][colour][row][column] of bytes, as a picture of its weights. */
function drawFilter(canvas, bytes, filter) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = width * height;
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[(3 * filter + c) * pixels + i];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Lines over the epochs, with a cursor; a press on it goes to the epoch there. */
function chart(title, drops, move, lines, { log = false, write = String, steps = false } = {}) {
  const all = Object.values(lines).flat();
  const epochs = Object.values(lines)[0].length;
  const scale = log ? Math.log10 : (value) => value;
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (epoch) => LEFT + (epoch / epochs) * (WIDTH - LEFT - RIGHT);
  const y = (value) =>
    TOP + ((scale(high) - scale(value)) / (scale(high) - scale(low))) * (HEIGHT - TOP - BOTTOM);
  const label = (at, text, anchor, place) =>
    svg("text", { x: at, y: place, "text-anchor": anchor, "font-size": 12 }, text);
  const upright = (at, name) =>
    svg("line", { x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM, class: name });
  const points = Object.values(lines).map((values) =>
    values.map((value, at) =>
      (steps ? [at, at + 1] : [at + 1]) // a rate holds for its whole epoch
        .map((epoch) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join()));
  const paths = points.map((_, i) => svg("polyline", { class: `vgg-line vgg-line-${i}` }));
  const divisions = drops.map((epoch) => upright(x(epoch - 1), "vgg-drop"));
  let reached = -1;
  const reveal = (epoch) => {
    if (epoch <= reached) return;
    reached = epoch;
    paths.forEach((path, i) => path.setAttribute("points", points[i].slice(0, epoch).join(" ")));
    divisions.forEach((line, i) => {
      line.style.display = drops[i] <= epoch ? "" : "none";
    });
    const now = ([name, values]) => `${name} from ${short(values[0])} to ${short(values[epoch - 1])}`;
    const shown = epoch ? Object.entries(lines).map(now).join(", ") : "no epoch yet";
    drawing.setAttribute("aria-label", `${title}: ${shown}`);
  };
  const cursor = upright(x(0), "vgg-cursor");
  const rounded = (value) => write(short(value));
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" },
    svg("path", { class: "vgg-axes",
      d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
    label(LEFT - 5, rounded(high), "end", TOP + 4),
    label(LEFT - 5, rounded(low), "end", HEIGHT - BOTTOM),
    label(LEFT, "0", "middle", HEIGHT - 8),
    label(x(epochs), `epoch ${epochs}`, "end", HEIGHT - 8),
    ...divisions,
    ...paths,
    cursor,
  );
  const go = (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    move(Math.round(((at - LEFT) / (WIDTH - LEFT - RIGHT)) * epochs));
  };
  drawing.addEventListener("pointerdown", go);
  drawing.addEventListener("pointermove", (event) => event.buttons && go(event));
  return {
    figure: h("figure", {}, h("figcaption", {}, title), drawing),
    cursor: (epoch) => {
      reveal(epoch);
      cursor.setAttribute("x1", x(epoch));
      cursor.setAttribute("x2", x(epoch));
    },
  };
}

/** Three significant digits. */
function short(value) {
  return Number(value.toPrecision(3));
}
