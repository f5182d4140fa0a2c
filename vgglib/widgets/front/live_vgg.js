// A trained VGG in the page: choose, upload or photograph a picture, look at its maps, cover it.

import { button, change, field, follow, h, liveLine, panel, select } from "./common.js";
import { Net, softmax, strongest } from "./vgg_net.js";

const COVER = 10; // pixels of its side
const YOURS = "your own picture";
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

export default {
  /** Traits of an address that name no layer, or no channel of it. */
  unfit({ weights, layer, channel }) {
    const { layers } = new Net(weights);
    const index = layers.findIndex(({ name }) => name === layer);
    if (index < 0) return ["layer"];
    const channels = layers.slice(0, index + 1).findLast(({ conv }) => conv).conv.outputs;
    return channel < channels ? [] : ["channel"];
  },

  render({ model, el }) {
    const net = new Net(model.get("weights"));
    const side = net.size;
    const samples = model.get("samples").map((sample) => ({
      ...sample,
      rgb: Uint8Array.from(atob(sample.pixels), (letter) => letter.charCodeAt(0)),
    }));
    let yours = null; // bytes of the reader's picture
    let result = null; // of the last run

    // ---- the picture

    const picture = h("canvas", { width: 8 * side, height: 8 * side, className: "vgg-picture" });
    picture.setAttribute("role", "img");
    const credit = h("p", { className: "vgg-note" });
    const problem = h("p", { className: "vgg-error", role: "alert" });

    function sample() {
      return samples.find(({ name }) => name === model.get("sample"));
    }

    /** Bytes of the picture as the net gets it, cover and all. */
    function pixels() {
      const rgb = Uint8Array.from(sample()?.rgb ?? yours ?? new Uint8Array(3 * side * side));
      if (!model.get("covered")) return rgb;
      for (let y = model.get("cover_y"); y < model.get("cover_y") + COVER; y++) {
        for (let x = model.get("cover_x"); x < model.get("cover_x") + COVER; x++) {
          for (let c = 0; c < 3; c++) rgb[3 * (y * side + x) + c] = Math.round(net.mean[c]);
        }
      }
      return rgb;
    }

    // ---- the answer

    const rows = net.classes.map((name) => {
      const bar = h("span", { className: "vgg-bar" });
      const value = h("td", { className: "vgg-value" });
      const cells = [h("th", { scope: "row" }, name), h("td", { className: "vgg-track" }, bar)];
      return { bar, value, row: h("tr", {}, ...cells, value) };
    });
    const table = h(
      "table",
      { className: "vgg-bars" },
      h("caption", {}, "Probability of each class"),
      h("tbody", {}, ...rows.map(({ row }) => row)),
    );
    const live = liveLine();
    const time = h("p", { className: "vgg-note" });

    // ---- maps and the chosen channel

    const maps = h("div", { className: "vgg-maps", role: "group" });
    const chosen = h("div", { className: "vgg-chosen" });
    let shown = ""; // the layer whose buttons stand in `maps`

    function layout(layer) {
      const { channels, size } = result.maps[layer];
      shown = layer;
      maps.ariaLabel = `Feature maps of ${layer}`;
      maps.replaceChildren(
        ...Array.from({ length: channels }, (_, channel) =>
          button("", () => change(model, "channel", channel), { className: "vgg-map" }),
        ),
      );
      for (const map of maps.children) map.append(h("canvas", { width: size, height: size }));
    }

    /** Arrow keys go from map to map, as in a grid. */
    maps.addEventListener("keydown", (event) => {
      const across = Math.max(1, Math.floor(maps.clientWidth / maps.firstElementChild.offsetWidth));
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
      const next = maps.children[model.get("channel") + step];
      if (!next) return;
      event.preventDefault();
      change(model, "channel", model.get("channel") + step);
      next.focus();
    });

    function drawMaps() {
      const layer = model.get("layer");
      if (shown !== layer) layout(layer);
      [...maps.children].forEach((map, channel) => {
        const { value } = strongest(result.maps[layer], channel);
        drawMap(map.firstElementChild, result.maps[layer], channel, value);
        const on = channel === model.get("channel");
        map.ariaPressed = String(on);
        map.tabIndex = on ? 0 : -1;
        map.ariaLabel = value > 0 ? `channel ${channel}, up to ${value.toFixed(1)}` :
          `channel ${channel}, silent`;
        map.title = map.ariaLabel;
      });
    }

    function drawChosen() {
      const layer = model.get("layer");
      const channel = model.get("channel");
      const map = result.maps[layer];
      const { value, x, y } = strongest(map, channel);
      const large = h("canvas", { width: map.size, height: map.size, className: "vgg-large" });
      large.setAttribute("role", "img");
      large.ariaLabel = `Feature map of channel ${channel} of ${layer}`;
      drawMap(large, map, channel, value);
      const about = value > 0
        ? `Up to ${value.toFixed(2)}, at column ${x}, row ${y} of ${map.size} × ${map.size}; ` +
          "what it sees there is framed in the picture."
        : "Silent: nothing in this picture excites it.";
      chosen.replaceChildren(
        part(`Channel ${channel} of ${layer}`, large, h("p", { className: "vgg-note" }, about)),
        filterPart(net, layer, channel),
        excitingPart(layer, channel),
      );
    }

    /** Of each sample, the square in which this channel answers most; the best four. */
    function excitingPart(layer, channel) {
      const best = samples
        .map((one) => {
          one.maps ??= net.run(net.prepare(one.rgb)).maps;
          return { ...one, ...strongest(one.maps[layer], channel) };
        })
        .filter(({ value }) => value > 0)
        .sort((a, b) => b.value - a.value)
        .slice(0, 4);
      const figures = best.map(({ name, rgb, value, x, y }) => {
        const [left, top, width] = square(net, layer, x, y);
        const canvas = h("canvas", { width, height: width });
        canvas.setAttribute("role", "img");
        canvas.ariaLabel = `${width} by ${width} pixels of the ${name}`;
        draw(canvas, (i, j) => at(rgb, side, left + i, top + j));
        return h("figure", {}, canvas, h("figcaption", {}, `${name} ${value.toFixed(1)}`));
      });
      const text = figures.length
        ? "Where the samples excite it most; the numbers are its values."
        : "No sample excites it anywhere.";
      return part("What excites it", h("div", { className: "vgg-strip" }, ...figures),
        h("p", { className: "vgg-note" }, text));
    }

    // ---- computing

    /** Nothing to look at yet: no bars, no maps. */
    function wait() {
      rows.forEach(({ bar, value, row }) => {
        bar.style.width = 0;
        value.textContent = "–";
        row.classList.remove("vgg-best");
      });
      picture.getContext("2d").clearRect(0, 0, picture.width, picture.height);
      picture.ariaLabel = "No picture yet";
      [maps, chosen, credit, time].forEach((part) => part.replaceChildren());
      shown = "";
      result = null;
      live.say("No picture yet: upload one, drop or paste it here, or use the camera.");
    }

    function compute() {
      if (!sample() && !yours) return wait();
      const start = performance.now();
      result = net.run(net.prepare(pixels()));
      const took = performance.now() - start;
      el.dataset.milliseconds = took;
      const probabilities = softmax(result.logits);
      rows.forEach(({ bar, value, row }, i) => {
        bar.style.width = `${100 * probabilities[i]}%`;
        value.textContent = percent(probabilities[i]);
        row.classList.toggle("vgg-best", probabilities[i] === Math.max(...probabilities));
      });
      const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
      const [first, second] = order.map((i) => `${net.classes[i]} ${percent(probabilities[i])}`);
      live.say(`${first}, then ${second}. ${verdict(net.classes[order[0]])}`);
      time.textContent = `Computed here, in ${took.toFixed(0)} ms. On CIFAR-10's test set the net ` +
        `is right in ${(100 * net.accuracy).toFixed(1)} % of cases.`;
      change(model, "probabilities", probabilities);
      drawAll();
    }

    function verdict(answer) {
      const name = model.get("sample");
      if (!sample()) return "";
      if (!sample().right) return `None of the ten classes is right for the ${name}.`;
      return sample().right === answer ? "That is right." : `Right would be ${sample().right}.`;
    }

    function drawAll() {
      drawMaps();
      drawChosen();
      drawPicture();
    }

    function drawPicture() {
      const rgb = pixels();
      const scale = picture.width / side;
      draw(picture, (x, y) => at(rgb, side, Math.floor(x / scale), Math.floor(y / scale)));
      const map = result.maps[model.get("layer")];
      const { value, x, y } = strongest(map, model.get("channel"));
      // Where the channel is not shown (the first page), its frame would be a riddle.
      if (value > 0 && chosen.offsetParent) {
        const [left, top, width] = square(net, model.get("layer"), x, y);
        const context = picture.getContext("2d");
        for (const [colour, line] of [["#000000", 5], ["#f0e442", 2.5]]) {
          context.strokeStyle = colour;
          context.lineWidth = line;
          context.strokeRect(left * scale, top * scale, width * scale, width * scale);
        }
      }
      picture.ariaLabel = `${model.get("sample")} at ${side} by ${side} pixels` +
        (model.get("covered")
          ? `, covered from column ${model.get("cover_x")}, row ${model.get("cover_y")}` : "");
      credit.textContent = sample() ? `Photo: ${sample().credit}.` : "";
    }

    // ---- pictures of the reader's own

    function take(source, width, height) {
      const canvas = h("canvas", { width: side, height: side });
      const context = canvas.getContext("2d");
      const from = Math.min(width, height); // the middle square
      context.imageSmoothingQuality = "high";
      context.drawImage(
        source, (width - from) / 2, (height - from) / 2, from, from, 0, 0, side, side,
      );
      const { data } = context.getImageData(0, 0, side, side);
      yours = Uint8Array.from({ length: 3 * side * side }, (_, i) =>
        data[4 * Math.floor(i / 3) + (i % 3)]);
      if (model.get("sample") === YOURS) schedule();
      else change(model, "sample", YOURS);
    }

    async function read(given) {
      if (!given) return;
      try {
        const image = await createImageBitmap(given);
        problem.textContent = "";
        take(image, image.width, image.height);
      } catch {
        problem.textContent = `${given.name} can't be read as a picture; PNG, JPEG and WebP can. ` +
          (result ? `Shown is still ${sample() ? `the ${sample().name}` : "your picture before"}.` : "");
      }
    }
    const file = h("input", {
      type: "file", accept: "image/*", onchange: () => read(file.files[0]),
    });

    const video = h("video", { muted: true, playsInline: true, ariaLabel: "Camera" });
    const shoot = button("Take the picture", () => {
      take(video, video.videoWidth, video.videoHeight);
      closeCamera();
    });
    const camera = h("div", { className: "vgg-camera", hidden: true }, video,
      h("div", { className: "vgg-controls" }, shoot, button("Cancel", closeCamera)));
    const opener = button("Use the camera", openCamera);
    let stream = null;

    async function openCamera() {
      problem.textContent = "";
      try {
        if (!navigator.mediaDevices) throw new DOMException("", "InsecureContext");
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        video.srcObject = stream;
        await video.play();
        camera.hidden = false;
        shoot.focus();
      } catch ({ name }) {
        closeCamera();
        problem.textContent = {
          NotAllowedError: "The camera was refused. Your browser's settings for this page can " +
            "allow it; or upload a picture.",
          NotFoundError: "No camera was found. Upload a picture instead.",
          NotReadableError: "The camera is in use by another program.",
          InsecureContext: "Browsers give the camera only to https pages. Upload a picture instead.",
        }[name] ?? `The camera could not be started (${name}). Upload a picture instead.`;
      }
    }

    function closeCamera() {
      stream?.getTracks().forEach((track) => track.stop());
      stream = null;
      video.srcObject = null;
      if (!camera.hidden) opener.focus();
      camera.hidden = true;
    }

    // ---- the cover: sliders and checkbox for keys, the picture itself for a pointer

    const covered = h("input", {
      type: "checkbox", onchange: () => change(model, "covered", covered.checked),
    });
    const sliders = ["cover_x", "cover_y"].map((name) => h("input", {
      type: "range", min: 0, max: side - COVER,
      oninput: (event) => {
        model.set(name, Number(event.target.value));
        model.set("covered", true);
        model.save_changes();
      },
    }));

    function drag(event) {
      const box = picture.getBoundingClientRect();
      const edge = (at) => Math.max(0, Math.min(side - COVER, Math.round(at * side - COVER / 2)));
      model.set("covered", true);
      model.set("cover_x", edge((event.clientX - box.left) / box.width));
      model.set("cover_y", edge((event.clientY - box.top) / box.height));
      model.save_changes();
    }
    // A swipe scrolls: a finger lays the cover by a tap, and drags one that lies there sideways.
    const finger = ({ pointerType }) => pointerType === "touch";
    picture.addEventListener("pointerdown", (event) => {
      picture.setPointerCapture(event.pointerId);
      if (!finger(event)) drag(event);
    });
    picture.addEventListener("pointermove", (event) => {
      if (event.buttons && (!finger(event) || model.get("covered"))) drag(event);
    });
    picture.addEventListener("click", drag);

    // ---- all together

    const which = select([...samples.map(({ name }) => name), YOURS], "", (name) =>
      change(model, "sample", name));
    const layers = select(net.layers.map(({ name }) => name), "", (name) => {
      const last = channelsOf(name) - 1;
      model.set("channel", Math.min(model.get("channel"), last));
      change(model, "layer", name);
    });
    const number = h("input", { type: "number", min: 0, onchange: () => {
      const asked = Math.round(Number(number.value)) || 0;
      const value = Math.max(0, Math.min(channelsOf(model.get("layer")) - 1, asked));
      number.value = value;
      change(model, "channel", value);
    } });

    function channelsOf(layer) {
      const index = net.layers.findIndex(({ name }) => name === layer);
      return (net.layers[index].conv ?? net.layers[index - 1].conv).outputs; // a pool keeps them
    }

    const frame = panel(
      el,
      "Live VGG",
      h("div", { className: "vgg-controls" }, field("Picture", which),
        field("Upload a picture", file), opener),
      h("p", { className: "vgg-note" },
        "Or drop a picture here, or paste it. Everything is computed in this page: a picture of " +
          "yours is not sent anywhere."),
      problem,
      camera,
      h("div", { className: "vgg-pair" },
        h("div", {}, picture, credit,
          h("div", { className: "vgg-controls" }, field("Cover a part", covered),
            field("Cover, column", sliders[0]), field("Cover, row", sliders[1]))),
        h("div", {}, table, live, time)),
      h("div", { className: "vgg-controls" }, field("Layer", layers), field("Channel", number)),
      h("p", { className: "vgg-note" },
        "All channels of the layer, each from black (0) to white (its own largest value):"),
      h("div", { className: "vgg-scroll" }, maps),
      chosen,
    );

    frame.addEventListener("dragover", (event) => event.preventDefault());
    for (const [kind, from] of [["drop", "dataTransfer"], ["paste", "clipboardData"]]) {
      frame.addEventListener(kind, (event) => {
        const [given] = event[from].files;
        if (given) event.preventDefault();
        read(given);
      });
    }

    let waiting = 0;
    function schedule() {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(compute);
    }
    function controls() {
      which.value = model.get("sample");
      covered.checked = model.get("covered");
      sliders.forEach((slider, i) => (slider.value = model.get(["cover_x", "cover_y"][i])));
    }
    function view() {
      if (!result) return;
      const last = channelsOf(model.get("layer")) - 1;
      if (model.get("channel") > last) return; // Python sets the layer first, then the channel
      layers.value = model.get("layer");
      number.max = last;
      number.value = model.get("channel");
      drawAll();
    }
    compute();
    const ends = [
      follow(model, ["sample", "covered", "cover_x", "cover_y"], () => {
        controls();
        schedule();
      }),
      follow(model, ["layer", "channel"], view),
    ];
    return () => {
      ends.forEach((end) => end());
      cancelAnimationFrame(waiting);
      closeCamera();
    };
  },
};

/** The square of the picture behind a value of a map, cut at the picture's edge: [x, y, side]. */
function square(net, layer, x, y) {
  const { size, stride, start } = net.sees(layer);
  const width = Math.min(size, net.size);
  const corner = (place) => Math.max(0, Math.min(net.size - width, start + stride * place));
  return [corner(x), corner(y), width];
}

/** The weights of one channel: colours in the first layer, later its strongest inputs. */
function filterPart(net, layer, channel) {
  const index = net.layers.findIndex(({ name }) => name === layer);
  const { conv } = net.layers[index];
  const note = (text) => h("p", { className: "vgg-note" }, text);
  if (!conv) {
    const before = net.layers[index - 1].name;
    return part("Its filter", note(`A pool has none: the largest of 2 × 2 values of ${before}.`));
  }
  const each = conv.inputs * 9;
  const weights = conv.weight.subarray(channel * each, (channel + 1) * each);
  const largest = weights.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1;
  const canvas = (label, colour) => {
    const drawn = h("canvas", { width: 3, height: 3, className: "vgg-filter", ariaLabel: label });
    drawn.setAttribute("role", "img");
    draw(drawn, colour);
    return drawn;
  };
  if (conv.inputs === 3) {
    const grey = (value) => 127.5 * (1 + value / largest);
    return part(
      "Its filter",
      canvas("3 by 3 weights as colours", (x, y) =>
        [0, 1, 2].map((c) => grey(weights[9 * c + 3 * y + x]))),
      note("3 × 3 weights for red, green and blue; grey is zero."),
    );
  }
  const size = (c) => weights.subarray(9 * c, 9 * c + 9).reduce((sum, w) => sum + w * w, 0);
  const inputs = Array.from({ length: conv.inputs }, (_, c) => c)
    .sort((a, b) => size(b) - size(a))
    .slice(0, 6);
  const before = net.layers[index - 1].name;
  const figures = inputs.map((c) => {
    const drawn = canvas(`3 by 3 weights for channel ${c} of ${before}`, (x, y) =>
      diverging(weights[9 * c + 3 * y + x] / largest));
    return h("figure", {}, drawn, h("figcaption", {}, String(c)));
  });
  return part("Its filter", h("div", { className: "vgg-strip" }, ...figures),
    note(`The six of ${conv.inputs} channels of ${before} that weigh most; ` +
      "orange adds, blue subtracts, white is zero."));
}

/** -1 … 0 … 1 as blue, white, orange. */
function diverging(value) {
  const end = value < 0 ? [0, 114, 178] : [213, 94, 0];
  return end.map((channel) => 255 + Math.abs(value) * (channel - 255));
}

function part(title, ...children) {
  return h("div", { className: "vgg-part" }, h("p", { className: "vgg-head" }, title), ...children);
}

function at(rgb, side, x, y) {
  const i = 3 * (y * side + x);
  return [rgb[i], rgb[i + 1], rgb[i + 2]];
}

function drawMap(canvas, { values, size }, channel, largest) {
  const start = channel * size * size;
  draw(canvas, (x, y) => {
    const grey = (255 * values[start + y * size + x]) / (largest || 1);
    return [grey, grey, grey];
  });
}

/** Fill a canvas, pixel by pixel, with what `colour(x, y)` gives: [red, green, blue]. */
function draw(canvas, colour) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let y = 0, i = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, i += 4) image.data.set([...colour(x, y), 255], i);
  }
  context.putImageData(image, 0, 0);
}
