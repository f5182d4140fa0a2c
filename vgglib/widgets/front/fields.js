// Where on the image a unit behind a stack of layers looks. A layer is [kind, kernel, stride];
// convolutions are padded by (kernel - 1) / 2 zeros, pools are not. Everything is along one axis.

import { receptiveField } from "./anatomy.js";

const paddingOf = ([kind, kernel]) => (kind === "conv" ? (kernel - 1) / 2 : 0);

/** Sides of the image and of the map after each layer. */
export function sidesOf(layers, side) {
  const sides = [side];
  for (const layer of layers) {
    const [, kernel, stride] = layer;
    sides.push(Math.floor((sides.at(-1) + 2 * paddingOf(layer) - kernel) / stride) + 1);
  }
  return sides;
}

/** {field, jump, start}: a unit's side and distance to the next, and where unit 0 begins. */
export function geometry(layers) {
  let jump = 1;
  let start = 0; // negative: in the padding
  for (const layer of layers) {
    start -= paddingOf(layer) * jump;
    jump *= layer[2];
  }
  const windows = layers.map(([, kernel, stride]) => ({ kernel, stride }));
  return { field: receptiveField(windows), jump, start };
}

/** The unit whose middle is nearest to a pixel. */
export function unitAt(layers, side, pixel) {
  const { field, jump, start } = geometry(layers);
  const nearest = Math.round((pixel - start - (field - 1) / 2) / jump);
  return Math.min(Math.max(nearest, 0), sidesOf(layers, side).at(-1) - 1);
}

/** The pixel that stands for a unit: unitAt gives the unit back. */
export function pixelOf(layers, side, unit) {
  const { field, jump, start } = geometry(layers);
  const middle = Math.floor(start + unit * jump + (field - 1) / 2);
  return Math.min(Math.max(middle, 0), side - 1);
}

/** [first, last] pixel of the image that the unit depends on: the field without the padding. */
export function seenBy(layers, side, unit) {
  const sides = sidesOf(layers, side);
  let [first, last] = [unit, unit];
  for (let index = layers.length - 1; index >= 0; index -= 1) {
    const [, kernel, stride] = layers[index];
    const padding = paddingOf(layers[index]);
    // Positions beyond the map's edge are zeros, whatever the layers below might see from there.
    first = Math.max(first * stride - padding, 0);
    last = Math.min(last * stride - padding + kernel - 1, sides[index] - 1);
  }
  return [first, last];
}

/** What is wrong with a stack, or "". */
export function problem(layers, side) {
  const sides = sidesOf(layers, side);
  for (const [index, layer] of layers.entries()) {
    const [kind, kernel] = layer;
    if (kernel > sides[index] + 2 * paddingOf(layer)) {
      return (
        `layer ${index + 1}: a ${kernel}×${kernel} ${kind} does not fit into a map of ` +
        `${sides[index]}×${sides[index]}`
      );
    }
  }
  return "";
}

/** Weights, without biases, in units of C²: of the stack's convolutions, of one with its field. */
export function weights(layers) {
  const convolutions = layers.filter(([kind]) => kind === "conv");
  return {
    stack: convolutions.reduce((total, [, kernel]) => total + kernel ** 2, 0),
    single: geometry(layers).field ** 2,
  };
}
