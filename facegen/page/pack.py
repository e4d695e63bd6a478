"""Layers and arrays of a generator in as few bytes as its images allow; engine.js unpacks them.

Kernels are whole multiples of a step, one for each kernel. With 16 bits a weight a file would be nearly twice
as large, while 11 bits of the large kernels are enough for images to change by less than a level. Each number
is divided into a byte, whose values are far from equally frequent, and the remaining bits; and what is
written is compressed (deflate), which stores the bytes in about as many bits as they have information.
"""

import itertools
import math
import zlib

import numpy as np

from facegen.files import to_json
from facegen.sampling import DRAWN_AT_ONCE, latents

LEVELS = 127.5  # of 8 bits in a unit of the generator's range [-1, 1]
# Levels, before they are rounded; below 1, none changes by more than 1. That of 5,000 to 10,000 images was up
# to 1.6 times as large as that of those compared.
LARGEST_ERROR = 0.5
COMPARED = 200  # images
COARSEST = 0.5  # step, relative to the weights: with it, images are always wrong
MOST_BITS = 16  # beside the byte: 24 in all, as many as float32 has


def fitting_steps(translation):
    """Return {number of a kernel: step}, the coarsest with which images stay as they are.

    They stay if none of the images that `generate` draws for seed 0 has an error of more than
    LARGEST_ERROR. The error of a kernel is proportional to its step, and grows with the layers of a network
    in its square. The fewest bits are needed if each kernel has a share of the squared error that is
    proportional to its size; so steps are proportional to the kernel's root mean square and the root of
    its size.

    Raises ValueError if images do not stay even with as many bits as are kept.
    """
    generator = translation.generator
    z = latents(0, COMPARED, generator.z_dim)
    expected = drawn(generator, z, {})
    kernels = {
        number: (tensor, translation.values[tensor.name].astype(float))
        for number, (_, tensor) in enumerate(translation.arrays)
        if tensor is not None
    }
    total = sum(kernel.size for _, kernel in kernels.values())
    units = {
        number: math.sqrt(np.square(kernel).mean() * kernel.size / total) or 1.0
        for number, (_, kernel) in kernels.items()
    }
    relative = COARSEST
    while True:
        steps = {number: relative * unit for number, unit in units.items()}
        rounded = {
            tensor: multiples(kernel, steps[number]) * steps[number]
            for number, (tensor, kernel) in kernels.items()
        }
        error = np.abs(drawn(generator, z, rounded) - expected).max() * LEVELS
        if error <= LARGEST_ERROR:
            return steps
        finest = max(
            bits_beside_a_byte(multiples(kernel, steps[number]))
            for number, (_, kernel) in kernels.items()
        )
        if not finest < MOST_BITS:
            raise ValueError(
                f'the generator cannot be a page: with weights of {8 + finest} bits its images change by '
                f'{error:.1f} of 255 levels; export a SavedModel'
            )
        relative *= min(0.95 * LARGEST_ERROR / error, 0.95)


def drawn(generator, z, fed):
    """Return the images of latents, float32 [n, h, w, c], where some tensors have the values `fed`."""
    return np.concatenate(
        [
            generator.sess.run(
                generator.samples, {generator.input_z: z[at : at + DRAWN_AT_ONCE], **fed}
            )
            for at in range(0, len(z), DRAWN_AT_ONCE)
        ]
    )


def multiples(kernel, step):
    """Return the whole numbers of steps that are next to the weights of a kernel."""
    return np.rint(kernel / step).astype(np.int64)


def bits_beside_a_byte(numbers):
    """Return how many of the last bits of whole numbers do not fit into a byte with a sign."""
    return next(bits for bits in itertools.count() if fits_a_byte(numbers >> bits))


def fits_a_byte(numbers):
    """Tell whether all numbers lie in -128 to 127."""
    return numbers.min(initial=0) >= -128 and numbers.max(initial=0) <= 127


def packed(translation):
    """Return the bytes of a translated generator; raises like `fitting_steps`.

    They are a zlib stream, which has a checksum. Unpacked, it is the length of a JSON text (4 bytes, the
    lowest first), the text, and the arrays that it lists.
    """
    steps = fitting_steps(translation)
    entries, parts = [], []
    for number, (array, _) in enumerate(translation.arrays):
        entry, content = packed_array(array, steps.get(number))
        entries.append({'length': array.size, **entry})
        parts.append(content)
    text = to_json({'layers': translation.layers, 'arrays': entries}).encode()
    return zlib.compress(b''.join([len(text).to_bytes(4, 'little'), text, *parts]), 9)


def packed_array(array, step):
    """Return (entry, bytes) of an array; `step` is that of a kernel, None of others."""
    if step is not None:
        numbers = multiples(array, step).ravel()
        bits = bits_beside_a_byte(numbers)
        rest = numbers[:, None] >> np.arange(bits) & 1
        content = (numbers >> bits).astype('i1').tobytes()
        content += np.packbits(rest.astype(np.uint8), bitorder='little').tobytes()
        return {'kind': 'kernel', 'step': step, 'bits': bits}, content
    if np.issubdtype(array.dtype, np.integer):  # as differences, which are small and often equal
        return {'kind': 'places'}, np.diff(array, prepend=0).astype('<i4').tobytes()
    return {'kind': 'floats'}, array.astype('<f4').tobytes()
