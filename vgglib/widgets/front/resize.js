// Rescaling as Pillow does it, to the last bit: the canvas of a browser would not, since each has
// a filter of its own. A triangle as wide as the output pixel is in the input ("bilinear,
// antialiased"), columns first, then rows, in integers of 22 fractional bits.

const BITS = 22;

// For each output pixel the first input pixel that it sees, and the weights from there on.
function taps(input, output) {
  const scale = input / output;
  const support = Math.max(scale, 1);
  return Array.from({ length: output }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(input, Math.trunc(centre + support + 0.5));
    const shares = [];
    for (let x = first; x < last; x++) {
      shares.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) / support)));
    }
    const total = shares.reduce((sum, share) => sum + share, 0);
    const weights = Int32Array.from(shares, (s) => Math.trunc(0.5 + (s / total) * 2 ** BITS));
    return { first, weights };
  });
}

// One direction: `lines` lines of pixels, which lie `step` apart in a line and `stride` between lines.
function along(pixels, out, input, output, lines, step, stride, outStride) {
  taps(input, output).forEach(({ first, weights }, place) => {
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < 4; channel++) {
        let sum = 1 << (BITS - 1);
        let from = line * stride + first * step + channel;
        for (let k = 0; k < weights.length; k++, from += step) sum += pixels[from] * weights[k];
        out[line * outStride + place * step + channel] = sum >> BITS; // clamps to 0–255
      }
    }
  });
}

/** RGBA pixels (height, width, 4) at another size. */
export function resize(pixels, width, height, newWidth, newHeight) {
  const wide = new Uint8ClampedArray(height * newWidth * 4);
  along(pixels, wide, width, newWidth, height, 4, 4 * width, 4 * newWidth);
  const out = new Uint8ClampedArray(newHeight * newWidth * 4);
  along(wide, out, height, newHeight, newWidth, 4 * newWidth, 4, 4);
  return out;
}
