// What vgglib.anatomy works out in Python, for pages without Python. A test holds the two equal.

const FP32 = 4;
const INT64 = 8;
// Layers that keep their input until the backward pass, because a gradient is computed from it.
const KEEPS_INPUT = ["conv", "bn", "lrn", "pool", "fc"];

/** Python's round(): a half goes to the even neighbour. */
export function roundHalfEven(value) {
  const below = Math.floor(value);
  const half = value - below === 0.5;
  return half ? below + (below % 2) : Math.round(value);
}

export function product(numbers) {
  return numbers.reduce((a, b) => a * b, 1);
}

/** Side of the input's square that one output value of a stack of {kernel, stride} sees (§2.3). */
export function receptiveField(windows) {
  let side = 1;
  let jump = 1; // pixels between neighbouring inputs of the layer
  for (const { kernel, stride } of windows) {
    side += (kernel - 1) * jump;
    jump *= stride;
  }
  return side;
}

/** What is wrong with the settings, by setting, in the words that vgglib has for it. */
export function problems(config, { imageSize, width, numClasses }) {
  const found = {};
  const stages = config.stages.length;
  const smallest = 2 ** stages;
  if (!Number.isInteger(imageSize) || imageSize < smallest) {
    found.image_size =
      `image_size must be an integer of at least ${smallest} (each of the ${stages} stages ` +
      `halves the image), got ${imageSize}`;
  }
  if (!Number.isInteger(numClasses) || numClasses < 1) {
    found.num_classes = `num_classes must be a positive integer, got ${numClasses}`;
  }
  if (!(width > 0 && width < Infinity)) {
    found.width = `width must be a positive number such as 0.25 or 1.0, got ${width}`;
  }
  return found;
}

/** The layers of a net in the order of computation: {name, kind} and what their kind needs. */
function layersOf(config, { width, batchNorm, numClasses }) {
  const scaled = (units) => Math.max(1, roundHalfEven(units * width));
  const layers = [];
  config.stages.forEach((stage, index) => {
    const number = index + 1;
    let place = 0;
    for (const layer of stage) {
      if (layer.channels === undefined) {
        layers.push({ name: `lrn${number}_${place}`, kind: "lrn", size: layer.size });
        continue;
      }
      place += 1;
      const { kernel } = layer;
      const label = `${number}_${place}`;
      layers.push({ name: `conv${label}`, kind: "conv", kernel, out: scaled(layer.channels) });
      if (batchNorm) layers.push({ name: `bn${label}`, kind: "bn" });
      layers.push({ name: `relu${label}`, kind: "relu" });
    }
    layers.push({ name: `pool${number}`, kind: "pool", kernel: 2, stride: 2 });
  });
  let number = config.stages.length;
  for (const units of config.hidden) {
    number += 1;
    layers.push({ name: `fc${number}`, kind: "fc", out: scaled(units) });
    layers.push({ name: `relu${number}`, kind: "relu" });
    layers.push({ name: `dropout${number}`, kind: "dropout" });
  }
  layers.push({ name: `fc${number + 1}`, kind: "fc", out: numClasses });
  return layers;
}

/**
 * Shape, cost and receptive field, a row a layer, in the columns of vgglib.anatomy.
 * config: a column of Table 1; settings: {imageSize, width, batchNorm, numClasses}.
 */
export function anatomy(config, settings) {
  const layers = layersOf(config, settings);
  const windows = [];
  const rows = [];
  let shape = [3, settings.imageSize, settings.imageSize];

  const add = (layer, kind, params, macs, kept, kernel = null) =>
    rows.push({
      layer,
      kind,
      kernel,
      output_shape: shape,
      params,
      macs,
      activation_bytes: kept,
      receptive_field: receptiveField(windows),
      stride: product(windows.map((window) => window.stride)),
    });

  add("input", "input", 0, 0, FP32 * product(shape));
  layers.forEach(({ name, kind, ...layer }, index) => {
    const [channels] = shape;
    let params = 0;
    let weights = 0;
    let extra = 0; // bytes kept besides the output
    if (kind === "conv") {
      windows.push({ kernel: layer.kernel, stride: 1 });
      weights = layer.kernel ** 2 * channels * layer.out;
      params = weights + layer.out;
      shape = [layer.out, ...shape.slice(1)]; // padded: height and width stay
    } else if (kind === "bn") {
      params = 2 * channels;
    } else if (kind === "pool") {
      windows.push(layer);
      shape = [channels, ...shape.slice(1).map((side) => Math.floor(side / layer.stride))];
      extra = INT64 * product(shape); // the position of each maximum
    } else if (kind === "lrn") {
      // The padded squares, the denominator and the base of its power.
      extra = FP32 * (3 * channels + layer.size - 1) * product(shape.slice(1));
    } else if (kind === "fc") {
      if (shape.length === 3) {
        const side = shape[1];
        shape = [product(shape)];
        add("flatten", "flatten", 0, 0, 0);
        windows.push({ kernel: side, stride: 1 });
      }
      weights = shape[0] * layer.out;
      params = weights + layer.out;
      shape = [layer.out];
    } else if (kind === "dropout") {
      extra = FP32 * product(shape); // the mask
    }
    const positions = product(shape.slice(1)); // places where each weight is used
    const keepsOutput = kind === "relu" || KEEPS_INPUT.includes(layers[index + 1]?.kind);
    const kept = (keepsOutput ? FP32 * product(shape) : 0) + extra;
    add(name, kind, params, weights * positions, kept, layer.kernel);
  });
  return rows;
}
