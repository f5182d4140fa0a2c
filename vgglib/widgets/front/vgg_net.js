// A small VGG with batch norm, run by hand: a safetensors file in, feature maps and logits out.
// Plain loops over typed arrays; 39 million multiplications an image, some 40 ms on a laptop.

/** Tensors { name: { shape, values } } and metadata of a safetensors file (a DataView), fp16. */
export function readSafetensors(view) {
  const length = Number(view.getBigUint64(0, true));
  const text = new Uint8Array(view.buffer, view.byteOffset + 8, length);
  const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(text));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(entries)) {
    if (dtype !== "F16") throw new Error(`${name} is ${dtype}; this reader takes F16`);
    const values = new Float32Array((end - start) / 2);
    for (let i = 0; i < values.length; i++) {
      values[i] = half(view.getUint16(8 + length + start + 2 * i, true));
    }
    tensors[name] = { shape, values };
  }
  return { tensors, metadata };
}

/** The number that 16 bits stand for: sign, 5 bits of exponent, 10 of fraction. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

export class Net {
  /** From a file of vgglib: "features.N" are convolutions, each with its batch norm after it. */
  constructor(view) {
    const { tensors, metadata } = readSafetensors(view);
    const data = JSON.parse(metadata.training_data);
    this.mean = data.mean;
    this.std = data.std;
    this.classes = data.classes;
    this.accuracy = data.test_accuracy;
    this.size = 32; // pixels of an image's side
    this.layers = []; // { name, conv } or { name, pool: true }
    const convs = Object.entries(tensors)
      .filter(([name, { shape }]) => name.endsWith(".weight") && shape.length === 4)
      .map(([name, weight]) => ({ index: Number(name.split(".")[1]), weight }))
      .sort((a, b) => a.index - b.index);
    let stage = 1;
    let position = 0;
    convs.forEach(({ index, weight }, i) => {
      position += 1;
      this.layers.push({ name: `conv${stage}_${position}`, conv: folded(tensors, index, weight) });
      // Convolution, batch norm and ReLU take three numbers; one more between them is a pool.
      if (i + 1 === convs.length || convs[i + 1].index > index + 3) {
        this.layers.push({ name: `pool${stage}`, pool: true });
        stage += 1;
        position = 0;
      }
    });
    this.last = { weight: tensors["classifier.0.weight"], bias: tensors["classifier.0.bias"] };
  }

  /** Bytes (side × side × 3, as in a picture) → normalised planes, channel by channel. */
  prepare(rgb) {
    const pixels = rgb.length / 3;
    const planes = new Float32Array(3 * pixels);
    for (let i = 0; i < pixels; i++) {
      for (let c = 0; c < 3; c++) {
        planes[c * pixels + i] = (rgb[3 * i + c] - this.mean[c]) / this.std[c];
      }
    }
    return planes;
  }

  /**
   * { maps: { layer: { values, channels, size } } after each ReLU or pool, scores, logits }. The
   * image's side is a multiple of what the pools divide by, and at least the net's own. A larger
   * one gives a map of class scores (channels: classes), whose mean the logits are.
   */
  run(planes) {
    const maps = {};
    let now = { values: planes, channels: 3, size: Math.sqrt(planes.length / 3) };
    for (const { name, conv } of this.layers) {
      now = conv ? convolve(now, conv) : pool(now);
      maps[name] = now;
    }
    const scores = this.head(now);
    const places = scores.size ** 2;
    const logits = this.classes.map((_, unit) => {
      const own = scores.values.subarray(unit * places, (unit + 1) * places);
      return own.reduce((sum, value) => sum + value, 0) / places;
    });
    return { maps, scores, logits };
  }

  /** The fully connected layer as a convolution, at each place where it fits (§3.2). */
  head({ values, channels, size }) {
    const { weight, bias } = this.last;
    const side = Math.sqrt(weight.shape[1] / channels); // of the map that it covers
    const places = size - side + 1;
    const result = new Float64Array(bias.values.length * places ** 2);
    let at = 0;
    let row = 0; // where the unit's weights begin
    for (const start of bias.values) {
      for (let y = 0; y < places; y++) {
        for (let x = 0; x < places; x++) {
          let sum = start;
          let k = row;
          for (let c = 0; c < channels; c++) {
            for (let dy = 0; dy < side; dy++) {
              const from = (c * size + y + dy) * size + x;
              for (let dx = 0; dx < side; dx++) sum += weight.values[k++] * values[from + dx];
            }
          }
          result[at++] = sum;
        }
      }
      row += weight.shape[1];
    }
    return { values: result, channels: bias.values.length, size: places };
  }

  /** The square of the image that a value of a layer depends on: { size, stride, start }. */
  sees(layer) {
    let [size, stride, start] = [1, 1, 0];
    for (const { name, pool } of this.layers) {
      size += (pool ? 1 : 2) * stride;
      if (!pool) start -= stride;
      else stride *= 2;
      if (name === layer) break;
    }
    return { size, stride, start };
  }
}

/** A convolution with the batch norm behind it as one: scaled weights and another bias. */
function folded(tensors, index, { shape, values }) {
  const norm = (part) => tensors[`features.${index + 1}.${part}`].values;
  const [gamma, beta] = [norm("weight"), norm("bias")];
  const [mean, variance] = [norm("running_mean"), norm("running_var")];
  const before = tensors[`features.${index}.bias`].values;
  const [outputs, inputs] = shape;
  const each = inputs * 9;
  const epsilon = 1e-5; // PyTorch's for batch norm
  const weight = new Float32Array(values.length);
  const bias = new Float32Array(outputs);
  for (let o = 0; o < outputs; o++) {
    const scale = gamma[o] / Math.sqrt(variance[o] + epsilon);
    for (let i = 0; i < each; i++) weight[o * each + i] = scale * values[o * each + i];
    bias[o] = beta[o] + scale * (before[o] - mean[o]);
  }
  return { weight, bias, inputs, outputs };
}

/** A 3×3 convolution, padding 1, and ReLU. */
function convolve({ values, size }, { weight, bias, inputs, outputs }) {
  // A border of zeros around each plane, so that the inner loop asks no questions.
  const wide = size + 2;
  const padded = new Float32Array(inputs * wide * wide);
  for (let c = 0; c < inputs; c++) {
    for (let y = 0; y < size; y++) {
      const from = (c * size + y) * size;
      padded.set(values.subarray(from, from + size), (c * wide + y + 1) * wide + 1);
    }
  }
  const result = new Float32Array(outputs * size * size);
  for (let o = 0; o < outputs; o++) {
    const out = result.subarray(o * size * size, (o + 1) * size * size).fill(bias[o]);
    for (let c = 0; c < inputs; c++) {
      const k = (o * inputs + c) * 9;
      const [a, b, d] = [weight[k], weight[k + 1], weight[k + 2]];
      const [e, f, g] = [weight[k + 3], weight[k + 4], weight[k + 5]];
      const [h, i, j] = [weight[k + 6], weight[k + 7], weight[k + 8]];
      for (let y = 0; y < size; y++) {
        let top = (c * wide + y) * wide; // upper left corner of the window
        let middle = top + wide;
        let low = middle + wide;
        for (let at = y * size; at < (y + 1) * size; at++, top++, middle++, low++) {
          out[at] +=
            a * padded[top] + b * padded[top + 1] + d * padded[top + 2] +
            e * padded[middle] + f * padded[middle + 1] + g * padded[middle + 2] +
            h * padded[low] + i * padded[low + 1] + j * padded[low + 2];
        }
      }
    }
    for (let at = 0; at < out.length; at++) if (out[at] < 0) out[at] = 0;
  }
  return { values: result, channels: outputs, size };
}

/** The largest of each 2×2 values. */
function pool({ values, channels, size }) {
  const smaller = size / 2;
  const result = new Float32Array(channels * smaller * smaller);
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < smaller; y++) {
      for (let x = 0; x < smaller; x++) {
        const from = (c * size + 2 * y) * size + 2 * x;
        result[at++] = Math.max(
          values[from], values[from + 1], values[from + size], values[from + size + 1],
        );
      }
    }
  }
  return { values: result, channels, size: smaller };
}

export function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / sum);
}

/** What a worker needs to run a net. */
export const NET_PARTS = [readSafetensors, half, folded, convolve, pool, Net];

/** Where a channel answers most: { value, x, y } in the map. */
export function strongest({ values, size }, channel) {
  let best = channel * size * size;
  for (let i = best; i < (channel + 1) * size * size; i++) if (values[i] > values[best]) best = i;
  const place = best - channel * size * size;
  return { value: values[best], x: place % size, y: Math.floor(place / size) };
}
