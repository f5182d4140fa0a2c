// A plain VGG at step 0 in JavaScript (chapter 4): the random weights that
// vgglib.widgets.startup_lab draws in Python, one forward and one backward pass, and what
// vgglib.signal reports of them.
//
// Maps are Float32Arrays ordered (channel, picture, row, column), so that a layer is one product
// of matrices: weights (out, fan-in) times patches (positions, fan-in).

// ---------------------------------------------------------------- random weights

// Chris Wellons' lowbias32: a number of 32 bits in which every bit depends on all bits of x.
function scramble(x) {
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0xd35a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

// `count` numbers of mean 0 and standard deviation 1, the same for the same seed and layer.
export function draw(kind, seed, layer, count) {
  const key = scramble(scramble(seed) + layer);
  const uniform = (i) => (scramble(key + i) + 0.5) / 2 ** 32; // in (0, 1)
  const numbers = new Float32Array(count);
  if (kind === "uniform") {
    for (let i = 0; i < count; i++) numbers[i] = Math.sqrt(12) * (uniform(i) - 0.5);
    return numbers;
  }
  for (let i = 0; i < count; i += 2) {
    // Box and Muller: two uniform numbers become two normal ones.
    const radius = Math.sqrt(-2 * Math.log(uniform(i)));
    const angle = 2 * Math.PI * uniform(i + 1);
    numbers[i] = radius * Math.cos(angle);
    if (i + 1 < count) numbers[i + 1] = radius * Math.sin(angle);
  }
  return numbers;
}

const fanIn = (layer) => layer.inputs * layer.kernel ** 2;
const fanOut = (layer) => layer.outputs * layer.kernel ** 2;

// Standard deviation of a layer's weights.
export function deviation(scheme, sigma, layer) {
  if (scheme === "he") return Math.sqrt(2 / fanIn(layer));
  if (scheme === "xavier") return Math.sqrt(2 / (fanIn(layer) + fanOut(layer)));
  return sigma;
}

// ---------------------------------------------------------------- one layer

// scale · a (rows, depth) · the transpose of b (columns, depth), both Float64Arrays: JavaScript
// computes in 64 bits and would convert a number of 32 bits each time that it is read. Twelve sums
// at a time, for which a processor has registers: each number that is read is used three or four
// times. At the far edges the last row or column is computed again.
function product(scale, a, b, rows, columns, depth) {
  const out = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r += 4) {
    const r1 = Math.min(r + 1, rows - 1);
    const r2 = Math.min(r + 2, rows - 1);
    const r3 = Math.min(r + 3, rows - 1);
    const a0 = r * depth, a1 = r1 * depth, a2 = r2 * depth, a3 = r3 * depth;
    for (let c = 0; c < columns; c += 3) {
      const c1 = Math.min(c + 1, columns - 1);
      const c2 = Math.min(c + 2, columns - 1);
      const b0 = c * depth, b1 = c1 * depth, b2 = c2 * depth;
      let s00 = 0, s01 = 0, s02 = 0, s10 = 0, s11 = 0, s12 = 0;
      let s20 = 0, s21 = 0, s22 = 0, s30 = 0, s31 = 0, s32 = 0;
      for (let k = 0; k < depth; k++) {
        const x0 = a[a0 + k], x1 = a[a1 + k], x2 = a[a2 + k], x3 = a[a3 + k];
        const y0 = b[b0 + k], y1 = b[b1 + k], y2 = b[b2 + k];
        s00 += x0 * y0; s01 += x0 * y1; s02 += x0 * y2;
        s10 += x1 * y0; s11 += x1 * y1; s12 += x1 * y2;
        s20 += x2 * y0; s21 += x2 * y1; s22 += x2 * y2;
        s30 += x3 * y0; s31 += x3 * y1; s32 += x3 * y2;
      }
      const o0 = r * columns, o1 = r1 * columns, o2 = r2 * columns, o3 = r3 * columns;
      out[o0 + c] = scale * s00; out[o0 + c1] = scale * s01; out[o0 + c2] = scale * s02;
      out[o1 + c] = scale * s10; out[o1 + c1] = scale * s11; out[o1 + c2] = scale * s12;
      out[o2 + c] = scale * s20; out[o2 + c1] = scale * s21; out[o2 + c2] = scale * s22;
      out[o3 + c] = scale * s30; out[o3 + c1] = scale * s31; out[o3 + c2] = scale * s32;
    }
  }
  return out;
}

function transpose(matrix, rows, columns) {
  const out = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = matrix[r * columns + c];
  }
  return out;
}

// What each weight of a kernel × kernel convolution with zero padding meets: (fan-in, positions).
function patches(map, channels, count, side, kernel) {
  if (kernel === 1) return new Float64Array(map);
  const positions = count * side * side;
  const out = new Float64Array(channels * kernel * kernel * positions);
  const reach = kernel >> 1;
  let row = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++, row++) {
        const first = Math.max(0, -dx), last = Math.min(side, side - dx);
        for (let picture = 0; picture < count; picture++) {
          for (let y = Math.max(0, -dy); y < Math.min(side, side - dy); y++) {
            const to = row * positions + (picture * side + y) * side;
            const from = ((channel * count + picture) * side + y + dy) * side + dx;
            for (let x = first; x < last; x++) out[to + x] = map[from + x];
          }
        }
      }
    }
  }
  return out;
}

// Weights of the way back: channels change places, kernels are turned by 180 degrees.
function turned(weights, layer) {
  const { inputs, outputs, kernel } = layer;
  const area = kernel * kernel;
  const out = new Float64Array(weights.length);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let k = 0; k < area; k++) {
        out[(i * outputs + o) * area + area - 1 - k] = weights[(o * inputs + i) * area + k];
      }
    }
  }
  return out;
}

// The largest of each 2×2 square, and where in the map it stood (the first, if several are equal).
function pool(map, planes, side) {
  const half = side >> 1;
  const values = new Float32Array(planes * half * half);
  const places = new Int32Array(values.length);
  for (let plane = 0, n = 0; plane < planes; plane++) {
    for (let y = 0; y < half; y++) {
      for (let x = 0; x < half; x++, n++) {
        const corner = (plane * side + 2 * y) * side + 2 * x;
        let best = corner;
        for (const place of [corner + 1, corner + side, corner + side + 1]) {
          if (map[place] > map[best]) best = place;
        }
        values[n] = map[best];
        places[n] = best;
      }
    }
  }
  return { values, places };
}

// Standard deviation with n − 1, as PyTorch counts.
function spread(numbers) {
  const n = numbers.length;
  let sum = 0, squares = 0;
  for (let i = 0; i < n; i++) sum += numbers[i];
  for (let i = 0; i < n; i++) squares += (numbers[i] - sum / n) ** 2;
  return Math.sqrt(squares / (n - 1));
}

// ---------------------------------------------------------------- the whole net

// Mean cross-entropy of scores (classes, pictures), and its gradient.
function crossEntropy(scores, classes, labels) {
  const count = labels.length;
  const gradient = new Float32Array(scores.length);
  let loss = 0;
  for (let n = 0; n < count; n++) {
    let top = -Infinity;
    for (let c = 0; c < classes; c++) top = Math.max(top, scores[c * count + n]);
    let total = 0;
    for (let c = 0; c < classes; c++) total += Math.exp(scores[c * count + n] - top);
    for (let c = 0; c < classes; c++) {
      const probability = Math.exp(scores[c * count + n] - top) / total;
      gradient[c * count + n] = (probability - (c === labels[n] ? 1 : 0)) / count;
    }
    loss += Math.log(total) + top - scores[labels[n] * count + n];
  }
  return { loss: loss / count, gradient };
}

// Random weights of standard deviation 1, (outputs, inputs, kernel, kernel) a layer, and the same
// turned round for the way back. They are drawn once for a net: σ only multiplies them.
export function weigh(layers, kind, seed) {
  return layers.map((layer, index) => {
    const weights = new Float64Array(draw(kind, seed, index, layer.outputs * fanIn(layer)));
    return { weights, turned: turned(weights, layer) };
  });
}

// What vgglib.signal returns: the spread of each layer's output before the ReLU, the spread of the
// gradient with respect to its weights, and the loss.
//
// layers: {inputs, outputs, kernel, side, pooled} each; the fully connected ones are convolutions
// of one position, which they are for pictures that five pools reduce to one pixel.
// net: what weigh returns; sigmas: the standard deviation of each layer's weights.
// pictures: (3, count, side, side).
export function signal(layers, net, sigmas, pictures, labels) {
  const count = labels.length;
  const tape = []; // what the way back needs
  const activation = [];
  let map = pictures;
  layers.forEach((layer, index) => {
    const { inputs, outputs, kernel, side, pooled } = layer;
    const positions = count * side * side;
    const seen = patches(map, inputs, count, side, kernel); // (fan-in, positions)
    const columns = transpose(seen, fanIn(layer), positions);
    const { weights } = net[index];
    const out = product(sigmas[index], weights, columns, outputs, positions, fanIn(layer));
    activation.push(spread(out));
    const rectified = index < layers.length - 1 ? out.map((x) => (x > 0 ? x : 0)) : out;
    const small = pooled ? pool(rectified, outputs * count, side) : null;
    tape.push({ seen, rectified, places: small?.places });
    map = small ? small.values : rectified;
  });

  let { loss, gradient } = crossEntropy(map, layers.at(-1).outputs, labels);
  const gradients = [];
  for (let index = layers.length - 1; index >= 0; index--) {
    const layer = layers[index];
    const { inputs, outputs, kernel, side } = layer;
    const { seen, rectified, places } = tape[index];
    const positions = count * side * side;
    if (places) {
      const unpooled = new Float32Array(rectified.length);
      places.forEach((place, n) => (unpooled[place] = gradient[n]));
      gradient = unpooled;
    }
    if (index < layers.length - 1) gradient = gradient.map((g, n) => (rectified[n] > 0 ? g : 0));
    const wide = new Float64Array(gradient);
    gradients.unshift(spread(product(1, wide, seen, outputs, fanIn(layer), positions)));
    if (index === 0) break;
    const back = patches(gradient, outputs, count, side, kernel);
    const columns = transpose(back, fanOut(layer), positions);
    const flipped = net[index].turned;
    gradient = product(sigmas[index], flipped, columns, inputs, positions, fanOut(layer));
  }
  return { activation, gradient: gradients, loss };
}

// What a worker needs for a pass.
export const SIGNAL_PARTS = [
  scramble, draw, fanIn, fanOut, deviation, product, transpose, patches, turned, pool, spread,
  crossEntropy, weigh, signal,
];
