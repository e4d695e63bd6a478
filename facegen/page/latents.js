'use strict';
// Latents: the same numbers as `facegen.sampling.latents` and `slerp` make of a seed with NumPy.

const M32 = 0xffffffffn, M64 = (1n << 64n) - 1n, M128 = (1n << 128n) - 1n;
const PCG_MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** Return eight 32-bit words of a seed, a BigInt of 0 or more, as NumPy's SeedSequence does.
 *
 * It is M. E. O'Neill's seed_seq_fe; Math.imul multiplies modulo 2^32.
 */
function seedSequence(seed) {
  const entropy = [];
  do entropy.push(Number(seed & M32)); while (seed >>= 32n);
  let factor = 0x43b0d7e5;
  const hash = word => {
    word ^= factor;
    factor = Math.imul(factor, 0x931e8875);
    word = Math.imul(word, factor);
    return word ^ (word >>> 16);
  };
  const mix = (a, b) => {
    const word = Math.imul(a, 0xca01f9dd) - Math.imul(b, 0x4973f715) | 0;
    return word ^ (word >>> 16);
  };
  const pool = [0, 1, 2, 3].map(i => hash(entropy[i] ?? 0));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) {
      if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
    }
  }
  for (const word of entropy.slice(4)) {
    for (let to = 0; to < 4; to++) pool[to] = mix(pool[to], hash(word));
  }
  factor = 0x8b51f9dd;
  return Array.from({length: 8}, (_, i) => {
    let word = pool[i % 4] ^ factor;
    factor = Math.imul(factor, 0x58f38ded);
    word = Math.imul(word, factor);
    return (word ^ (word >>> 16)) >>> 0;
  });
}

/** Return a function whose results are NumPy's default_rng(seed).random(): doubles in [0, 1).
 *
 * It is PCG64 (PCG XSL RR 128/64, O'Neill 2014), of whose 64 bits a double holds the first 53.
 */
function randomNumbers(seed) {
  const words = seedSequence(seed).map(BigInt);
  const [a, b, c, d] = [0, 2, 4, 6].map(i => words[i] | words[i + 1] << 32n);
  const increment = ((c << 64n | d) << 1n | 1n) & M128;
  const next = state => (state * PCG_MULTIPLIER + increment) & M128;
  let state = next((increment + (a << 64n | b)) & M128);
  return () => {
    state = next(state);
    const word = state >> 64n ^ state & M64, turn = state >> 122n;
    return Number((word >> turn | word << (64n - turn) & M64) >> 11n) / 2 ** 53;
  };
}

/** Return the latents of a seed, in [-1, 1], one Float32Array [size] for each of count images. */
function latentsOf(seed, count, size) {
  const random = randomNumbers(seed);
  const latent = () => Float32Array.from({length: size}, () => 2 * random() - 1);
  return Array.from({length: count}, latent);
}

/** Return the latent a share t of the angle from a to b; the first `kept` numbers stay those of a.
 *
 * Between latents of other lengths the length changes evenly (`facegen.sampling.slerp`).
 */
function slerp(a, b, t, kept) {
  const from = a.slice(kept), to = b.slice(kept);
  const length = x => Math.hypot(...x);
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const fromLength = length(from), toLength = length(to);
  const start = Array.from(from, x => x / fromLength), end = Array.from(to, x => x / toLength);
  const cosine = dot(start, end);
  const across = end.map((x, i) => x - cosine * start[i]), sine = length(across);
  const angle = t * Math.atan2(sine, cosine), now = (1 - t) * fromLength + t * toLength;
  const result = Float32Array.from(a);
  start.forEach((x, i) => {
    result[kept + i] = now * (Math.cos(angle) * x + Math.sin(angle) * (sine && across[i] / sine));
  });
  return result;
}

/** Return a latent whose category, the place of the largest of its first numbers, is another one. */
function inCategory(latent, category, categories) {
  const first = latent.subarray(0, categories), result = Float32Array.from(latent);
  const old = first.indexOf(first.reduce((a, b) => Math.max(a, b)));
  [result[old], result[category]] = [result[category], result[old]];
  return result;
}

/** Return psi z + V s, for unit vectors V and as many steps s. */
function moved(latent, truncation, vectors, steps) {
  return latent.map((value, i) => (
    vectors.reduce((sum, vector, k) => sum + vector[i] * steps[k], truncation * value)
  ));
}
