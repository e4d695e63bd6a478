'use strict';
// The engine, which runs in a worker: it unpacks the generator that facegen/page/ has packed, and draws.
//
// Numbers lie as in TensorFlow, [image, row, column, channel], in one Float32Array. Shapes are without
// the images. LAYERS[op](layer, arrays) returns a function (inputs, number of images) => output.

const COLUMNS = 4; // of a product, which are computed together and so lie together in memory
const TOGETHER = 4; // images: a product of four rows takes hardly longer than one of a single row

// Matrices ----------------------------------------------------------------------------------------

/** Return matrix [depth, columns] as `multiply` reads it, each column times its scale. */
function packed(matrix, depth, columns, scale) {
  const result = new Float32Array(Math.ceil(columns / COLUMNS) * COLUMNS * depth);
  for (let column = 0; column < columns; column++) {
    const factor = scale[column % scale.length];
    let to = Math.floor(column / COLUMNS) * COLUMNS * depth + (column % COLUMNS);
    for (let k = 0; k < depth; k++, to += COLUMNS) {
      result[to] = matrix[k * columns + column] * factor;
    }
  }
  return result;
}

/** Return a [rows, depth] times a `packed` matrix, as [rows, columns].
 *
 * Sixteen sums grow at once, in variables, so that each number that is read is used four times. Plain
 * sums of doubles are twice as fast in Chromium as those that Math.fround rounds at every step.
 */
function multiply(a, rows, depth, b, columns) {
  const result = new Float32Array(rows * columns);
  for (let column = 0; column < columns; column += COLUMNS) {
    const start = column * depth, end = start + COLUMNS * depth;
    const width = Math.min(COLUMNS, columns - column);
    for (let row = 0; row < rows; row += 4) {
      const height = Math.min(4, rows - row);
      let a0 = row * depth, a1 = a0, a2 = a0, a3 = a0; // what lies below the last row is dropped
      if (height > 1) a1 += depth;
      if (height > 2) a2 += 2 * depth;
      if (height > 3) a3 += 3 * depth;
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
      for (let at = start; at < end; at += COLUMNS) {
        const b0 = b[at], b1 = b[at + 1], b2 = b[at + 2], b3 = b[at + 3];
        const x0 = a[a0++], x1 = a[a1++], x2 = a[a2++], x3 = a[a3++];
        s00 += x0 * b0; s01 += x0 * b1; s02 += x0 * b2; s03 += x0 * b3;
        s10 += x1 * b0; s11 += x1 * b1; s12 += x1 * b2; s13 += x1 * b3;
        s20 += x2 * b0; s21 += x2 * b1; s22 += x2 * b2; s23 += x2 * b3;
        s30 += x3 * b0; s31 += x3 * b1; s32 += x3 * b2; s33 += x3 * b3;
      }
      const sums = [s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33];
      for (let i = 0; i < height; i++) {
        for (let j = 0; j < width; j++) {
          result[(row + i) * columns + column + j] = sums[4 * i + j];
        }
      }
    }
  }
  return result;
}

// Convolutions ------------------------------------------------------------------------------------

/** Return the phases of a convolution along one axis: [{out, step, stride, taps: [[tap, offset]]}].
 *
 * Output out + m step is a sum over taps of input m stride + offset. A convolution has one phase. A
 * transposed one of stride s has s of them, each an ordinary convolution with every s-th of the taps.
 */
function phases(transposed, taps, stride, padding) {
  const all = [...Array(taps).keys()];
  if (!transposed) {
    return [{out: 0, step: 1, stride, taps: all.map(tap => [tap, tap - padding])}];
  }
  return [...Array(stride).keys()].map(out => ({
    out, step: stride, stride: 1,
    taps: all.filter(tap => (out + padding - tap) % stride === 0)
      .map(tap => [tap, (out + padding - tap) / stride | 0]), // no -0, which is no index
  }));
}

/** Return the layer of a plain or a transposed convolution; its kernel is [h, w, inputs, outputs]. */
function convolution(transposed) {
  return (layer, arrays) => {
    const [kernelHeight, kernelWidth, inputs, outputs] = layer.kernelShape;
    const kernel = arrays[layer.kernel], scale = arrays[layer.scale], shift = arrays[layer.shift];
    const parts = [];
    for (const rows of phases(transposed, kernelHeight, layer.stride[0], layer.padding[0])) {
      for (const columns of phases(transposed, kernelWidth, layer.stride[1], layer.padding[1])) {
        const taps = rows.taps.flatMap(([y]) => columns.taps.map(([x]) => y * kernelWidth + x));
        const matrix = new Float32Array(taps.length * inputs * outputs);
        taps.forEach((tap, i) => matrix.set(
          kernel.subarray(tap * inputs * outputs, (tap + 1) * inputs * outputs),
          i * inputs * outputs,
        ));
        const depth = taps.length * inputs;
        parts.push({rows, columns, depth, matrix: packed(matrix, depth, outputs, scale)});
      }
    }
    const [inHeight, inWidth] = layer.inShape, [height, width] = layer.shape;
    const inSize = inHeight * inWidth * inputs, size = height * width * outputs;
    return ([x], count) => {
      const result = new Float32Array(count * size);
      for (let image = 0; image < count; image++) {
        const input = x.subarray(image * inSize, (image + 1) * inSize);
        const output = result.subarray(image * size, (image + 1) * size);
        for (const {rows, columns, depth, matrix} of parts) {
          const down = Math.ceil((height - rows.out) / rows.step);
          const across = Math.ceil((width - columns.out) / columns.step);
          const seen = patches(input, inHeight, inWidth, inputs, rows, columns, down, across);
          const product = multiply(seen, down * across, depth, matrix, outputs);
          let from = 0;
          for (let i = 0; i < down; i++) {
            for (let j = 0; j < across; j++) {
              const y = rows.out + i * rows.step, x = columns.out + j * columns.step;
              let to = (y * width + x) * outputs;
              for (let c = 0; c < outputs; c++) {
                output[to++] = product[from++] + shift[c % shift.length];
              }
            }
          }
        }
      }
      return result;
    };
  };
}

/** Return what each of down x across outputs sees of an image, [down * across, taps * inputs]. */
function patches(image, height, width, inputs, rows, columns, down, across) {
  const result = new Float32Array(down * across * rows.taps.length * columns.taps.length * inputs);
  let to = 0;
  for (let i = 0; i < down; i++) {
    for (let j = 0; j < across; j++) {
      for (const [, dy] of rows.taps) {
        const y = i * rows.stride + dy;
        for (const [, dx] of columns.taps) {
          const x = j * columns.stride + dx;
          if (y >= 0 && y < height && x >= 0 && x < width) {
            let from = (y * width + x) * inputs;
            for (const end = to + inputs; to < end;) result[to++] = image[from++];
          } else {
            to += inputs; // beyond the edge there are zeros
          }
        }
      }
    }
  }
  return result;
}

// Layers ------------------------------------------------------------------------------------------

const FUNCTIONS = {
  Abs: Math.abs,
  Elu: x => (x < 0 ? Math.expm1(x) : x),
  Exp: Math.exp,
  Neg: x => -x,
  Relu: x => Math.max(x, 0),
  Selu: x => 1.0507009873554805 * (x < 0 ? 1.6732632423543772 * Math.expm1(x) : x),
  Sigmoid: x => 1 / (1 + Math.exp(-x)),
  Sin: Math.sin,
  Softplus: x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  Square: x => x * x,
  Tanh: Math.tanh,
};

const PAIRS = {
  Add: (x, y) => x + y,
  Maximum: Math.max,
  Minimum: Math.min,
  Mul: (x, y) => x * y,
  Sub: (x, y) => x - y,
};

const LAYERS = {
  /** x W, each column times its scale and plus its shift. */
  Dense(layer, arrays) {
    const [inputs, outputs] = layer.kernelShape, shift = arrays[layer.shift];
    const matrix = packed(arrays[layer.kernel], inputs, outputs, arrays[layer.scale]);
    return ([x], count) => {
      const result = multiply(x, count, inputs, matrix, outputs);
      for (let i = 0; i < result.length; i++) result[i] += shift[i % shift.length];
      return result;
    };
  },

  Convolution: convolution(false),
  Transposed: convolution(true),

  /** x times a scale and plus a shift, which repeat. */
  Affine(layer, arrays) {
    const scale = arrays[layer.scale], shift = arrays[layer.shift];
    return ([x]) => x.map((value, i) => value * scale[i % scale.length] + shift[i % shift.length]);
  },

  Constant: (layer, arrays) => (_, count) => {
    const values = arrays[layer.values];
    return Float32Array.from({length: count * values.length}, (_, i) => values[i % values.length]);
  },

  LeakyRelu: ({alpha}) => ([x]) => x.map(value => (value < 0 ? alpha * value : value)),

  /** The numbers at given places among all numbers of the inputs, counted from 1; 0 stands for 0. */
  Moves(layer, arrays) {
    const places = arrays[layer.places];
    return (inputs, count) => {
      const result = new Float32Array(count * places.length);
      const sizes = inputs.map(input => input.length / count);
      const before = new Float32Array(1 + sizes.reduce((sum, size) => sum + size));
      for (let image = 0; image < count; image++) {
        let at = 1;
        inputs.forEach((input, i) => {
          before.set(input.subarray(image * sizes[i], (image + 1) * sizes[i]), at);
          at += sizes[i];
        });
        for (let i = 0, to = image * places.length; i < places.length; i++) {
          result[to++] = before[places[i]];
        }
      }
      return result;
    };
  },

  /** Bilinear interpolation at the given rows and columns of the input, which are fractions. */
  Bilinear(layer) {
    const [height, width, channels] = layer.inShape;
    const beside = (at, length) => {
      const before = Math.floor(at);
      return [before, Math.min(before + 1, length - 1), at - before];
    };
    const rows = layer.rows.map(at => beside(at, height));
    const columns = layer.columns.map(at => beside(at, width));
    return ([x], count) => {
      const result = new Float32Array(count * rows.length * columns.length * channels);
      let to = 0;
      for (let image = 0; image < count; image++) {
        for (const [above, below, down] of rows) {
          const upper = (image * height + above) * width, lower = (image * height + below) * width;
          for (const [left, right, across] of columns) {
            for (let c = 0; c < channels; c++) {
              const a = x[(upper + left) * channels + c], b = x[(upper + right) * channels + c];
              const d = x[(lower + left) * channels + c], e = x[(lower + right) * channels + c];
              const top = a + (b - a) * across, bottom = d + (e - d) * across;
              result[to++] = top + (bottom - top) * down;
            }
          }
        }
      }
      return result;
    };
  },

  /** The place of the first largest of each image's numbers. */
  ArgMax: () => ([x], count) => {
    const size = x.length / count;
    return Float32Array.from({length: count}, (_, image) => {
      const numbers = x.subarray(image * size, (image + 1) * size);
      return numbers.indexOf(numbers.reduce((a, b) => Math.max(a, b)));
    });
  },

  OneHot: ({depth, on, off}) => ([x], count) => {
    const result = new Float32Array(count * depth).fill(off);
    x.forEach((place, image) => { result[image * depth + place] = on; });
    return result;
  },
};
for (const [op, f] of Object.entries(FUNCTIONS)) LAYERS[op] = () => ([x]) => x.map(f);
for (const [op, f] of Object.entries(PAIRS)) {
  LAYERS[op] = () => ([x, y], count) => {
    const xs = x.length / count, ys = y.length / count, size = Math.max(xs, ys);
    const result = new Float32Array(count * size);
    for (let image = 0, to = 0; image < count; image++) {
      for (let i = 0; i < size; i++) {
        result[to++] = f(x[image * xs + (i % xs)], y[image * ys + (i % ys)]);
      }
    }
    return result;
  };
}

/** Return a function that draws Uint8ClampedArrays [count, h, w, c] of latents [count, z_dim]. */
function generator(layers, arrays) {
  const [, ...others] = layers; // the first is the latents
  const steps = others.map(layer => LAYERS[layer.op](layer, arrays));
  const last = layers.map((_, i) => layers.findLastIndex(layer => layer.inputs.includes(i)));
  return (latents, count) => {
    const values = [latents];
    others.forEach((layer, step) => {
      const i = step + 1;
      values[i] = steps[step](layer.inputs.map(j => values[j]), count);
      layer.inputs.forEach(j => { if (last[j] === i) values[j] = null; }); // its memory is free
    });
    // To 8 bits: halves go to the even number, as NumPy rounds them and this array does
    return Uint8ClampedArray.from(values.at(-1), x => (Math.min(Math.max(x, -1), 1) + 1) * 127.5);
  };
}

// Unpacking ---------------------------------------------------------------------------------------

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
  + '!#$%&()*+-;,=>?@^_`{|}~';

/** Return the bytes of a text in base 85: five digits for four bytes (RFC 1924, but with , for <). */
function bytesOf(text) {
  const values = new Uint8Array(256);
  for (let i = 0; i < 85; i++) values[DIGITS.charCodeAt(i)] = i;
  const missing = (5 - text.length % 5) % 5;
  const codes = new TextEncoder().encode(text + DIGITS.at(-1).repeat(missing));
  const bytes = new Uint8Array(codes.length / 5 * 4);
  for (let from = 0, to = 0; to < bytes.length;) {
    let word = values[codes[from++]];
    for (let i = 1; i < 5; i++) word = 85 * word + values[codes[from++]];
    for (let shift = 24; shift >= 0; shift -= 8) bytes[to++] = word >>> shift;
  }
  return bytes.subarray(0, bytes.length - missing);
}

/** Return {layers, arrays} of what facegen/page/pack.py has packed; throw an error if it is damaged. */
async function unpacked(text) {
  // The format has a checksum, which is verified here
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream('deflate'));
  const buffer = await new Response(stream).arrayBuffer();
  const headerLength = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headerLength)));
  let at = 4 + headerLength;
  const take = length => new Uint8Array(buffer.slice(at, at += length));
  const arrays = header.arrays.map(array => KINDS[array.kind](array, take));
  return {layers: header.layers, arrays};
}

const KINDS = {
  floats: ({length}, take) => new Float32Array(take(4 * length).buffer),

  /** Whole numbers, each as its difference to the one before. */
  places({length}, take) {
    const places = new Int32Array(take(4 * length).buffer);
    for (let i = 1; i < length; i++) places[i] += places[i - 1];
    return places;
  },

  /** Multiples of a step: each is a byte, with a sign, and `bits` bits that come after all bytes. */
  kernel({length, step, bits}, take) {
    const bytes = new Int8Array(take(length).buffer), rest = take(Math.ceil(length * bits / 8));
    const kernel = new Float32Array(length), unit = 2 ** bits;
    let read = 0, buffered = 0, at = 0;
    for (let i = 0; i < length; i++) {
      for (; buffered < bits; buffered += 8) read |= rest[at++] << buffered;
      kernel[i] = (bytes[i] * unit + (read & (unit - 1))) * step;
      read >>>= bits;
      buffered -= bits;
    }
    return kernel;
  },
};

// The worker --------------------------------------------------------------------------------------

const jobs = {image: null, grid: null}; // what is still to be drawn, in this order
let draw = null; // once the generator is unpacked
let isWaiting = false; // for the next turn

/** Go on in a turn of its own, so that news are heard first. */
function goOn() {
  if (!draw || isWaiting || !(jobs.image || jobs.grid)) return;
  isWaiting = true;
  setTimeout(work);
}

/** Draw the next few images. */
function work() {
  isWaiting = false;
  const name = jobs.image ? 'image' : 'grid', job = jobs[name];
  const count = Math.min(TOGETHER, job.count - job.drawn), size = job.latents.length / job.count;
  const pixels = draw(job.latents.subarray(job.drawn * size, (job.drawn + count) * size), count);
  const first = job.drawn, done = first + count === job.count;
  postMessage({name, id: job.id, first, count, pixels, done});
  job.drawn += count;
  if (done) jobs[name] = null;
  goOn();
}

/** Take a packed generator, or a job, which takes the place of an older one of that name. */
onmessage = async ({data}) => {
  if ('packed' in data) {
    try {
      const {layers, arrays} = await unpacked(data.packed);
      draw = generator(layers, arrays);
    } catch (error) {
      postMessage({problem: String(error)});
    }
  } else {
    jobs[data.name] = {...data, drawn: 0};
  }
  goOn();
};
