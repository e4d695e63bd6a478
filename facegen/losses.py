"""Losses other than the notebook's, and a penalty that may be added to any of them.

Each loss maps logits [batch, 1] to the scalars (d_loss, g_loss).
"""

import math

from facegen.session import tf

mean = tf.reduce_mean


def least_squares(real_logits, fake_logits, recipe):
    """Return the losses of the LSGAN (Mao et al. 2017, arXiv:1611.04076, equation 9).

    d_loss = E[(D(x) - (1 - smoothing))^2] / 2 + E[D(G(z))^2] / 2
    g_loss = E[(D(G(z)) - 1)^2] / 2
    with D the logits. The paper's label of real images is 1; smoothing lowers it.
    """
    real_label = 1.0 - recipe.smoothing
    d_loss = mean((real_logits - real_label) ** 2) / 2 + mean(fake_logits**2) / 2
    return d_loss, mean((fake_logits - 1.0) ** 2) / 2


def hinge(real_logits, fake_logits, recipe):
    """Return the hinge losses (Lim and Ye 2017, arXiv:1705.02894; Miyato et al. 2018).

    d_loss = E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]
    g_loss = -E[D(G(z))]
    with D the logits.
    """
    d_loss = mean(tf.nn.relu(1.0 - real_logits)) + mean(tf.nn.relu(1.0 + fake_logits))
    return d_loss, -mean(fake_logits)


def relativistic(real_logits, fake_logits, recipe):
    """Return the losses of relativistic pairing (Jolicoeur-Martineau 2018, arXiv:1807.00734).

    d_loss = E[softplus(-(D(x) - D(G(z))))]
    g_loss = E[softplus(-(D(G(z)) - D(x)))]
    with D the logits and each generated image beside one real one. (As in R3GAN, Huang et al. 2024,
    arXiv:2501.05441.)
    """
    lead = real_logits - fake_logits
    return mean(tf.nn.softplus(-lead)), mean(tf.nn.softplus(lead))


LOSSES = {'least-squares': least_squares, 'hinge': hinge, 'relativistic': relativistic}


R1_EVERY = 4  # steps from one penalty to the next


def r1_penalty(real_logits, images, recipe):
    """Return a scalar that keeps D flat around real `images`, whose logits are `real_logits`.

    gamma / 2 E[|dD(x)/dx|^2], with D the logits and x in [-1, 1] (R1: Mescheder et al. 2018,
    arXiv:1801.04406, equation 9). A D that knows its images by heart is steep around them. The
    penalty costs a second derivative, so only one step in R1_EVERY has it, R1_EVERY times as heavy,
    and the others have 0 (lazy regularisation: Karras et al. 2020, arXiv:1912.04958, appendix B).
    The steps are those of the graph's global step, which `training.count_step` counts.
    """

    def penalty():
        (slopes,) = tf.gradients(real_logits, images)
        squares = tf.reduce_sum(slopes**2, axis=[1, 2, 3])
        return R1_EVERY * recipe.gamma / 2 * mean(squares)

    step = tf.train.get_or_create_global_step()
    return tf.cond(tf.equal(step % R1_EVERY, 0), penalty, lambda: tf.zeros([], real_logits.dtype))


D_OUTPUTS = ('d_real', 'd_fake')


def note_d_outputs(real_logits, fake_logits):
    """Put into the graph, to be logged, the mean probabilities of real and of generated images.

    They go to the collections 'd_real' and 'd_fake'.
    """
    for name, logits in zip(D_OUTPUTS, (real_logits, fake_logits), strict=True):
        # In float64, which no rewrite to a lower precision touches.
        tf.add_to_collection(name, mean(tf.sigmoid(tf.cast(logits, tf.float64))))


def noted_d_outputs():
    """Return {name: scalar} of `note_d_outputs`; nothing if it was not called in this graph."""
    return {name: scalar for name in D_OUTPUTS for scalar in tf.get_collection(name)}


def undecided_losses(recipe):
    """Return the recipe's (d_loss, g_loss) if D answers every image as half real, half generated.

    That is D = 1/2, a logit of 0, or for least squares the middle of the two labels.
    """
    real_label = 1.0 - recipe.smoothing
    return {
        'non-saturating': (2 * math.log(2), math.log(2)),  # whatever the smoothing
        'least-squares': (real_label**2 / 4, (1 - real_label / 2) ** 2 / 2),
        'hinge': (2.0, 0.0),
        'relativistic': (math.log(2), math.log(2)),
    }[recipe.loss]
