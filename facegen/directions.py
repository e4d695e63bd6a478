"""Directions among latents along which a generator's images change most."""

import numpy as np

from facegen.session import tf


def principal_directions(kernel, count, *, kept=0):
    """Return the unit vectors v [z_dim, count] that a layer `kernel` [z_dim, units] stretches most.

    They are the eigenvectors of A^T A, with A = kernel^T, of the largest eigenvalues |A v|^2, the
    largest first: the directions that change the layer's output most (SeFa: Shen and Zhou 2021,
    arXiv:2007.06600, equation 5). Of v and -v it is the one whose number of largest magnitude
    is positive. The first `kept` numbers of each v are 0, for latents whose first numbers choose a
    category.
    """
    _, vectors = np.linalg.eigh((kernel @ kernel.T)[kept:, kept:])
    strongest = vectors[:, ::-1][:, :count]
    largest = np.take_along_axis(strongest, np.abs(strongest).argmax(0)[None], axis=0)
    return np.pad(strongest * np.sign(largest), [(kept, 0), (0, 0)])


def directions_of(trained, count, *, kept=0):
    """Return `principal_directions` of the first layer of a `sampling.Sampler` generator.

    The layer is dense, or a transposed convolution of one pixel. What it sees besides the latent,
    such as a category, is left out.

    Raises ValueError for a generator that begins with something else.
    """
    weights = trained.sess.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    first = next(variable for variable in weights if variable.shape.ndims > 1)
    kernel = trained.sess.run(first)
    if kernel.ndim == 4:  # [height, width, filters, inputs]
        kernel = np.moveaxis(kernel, -1, 0)
    if len(kernel) < trained.z_dim:
        raise ValueError(
            f'the first weights of the generator, {first.op.name}, are {first.shape.as_list()}; '
            f'expected a dense layer of its latents, [{trained.z_dim}, units]'
        )
    kernel = kernel[: trained.z_dim].reshape(trained.z_dim, -1)
    return principal_directions(kernel, count, kept=kept)
