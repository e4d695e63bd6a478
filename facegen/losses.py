"""Other losses than the notebook's: each maps logits [batch, 1] to the scalars (d_loss, g_loss)."""

import math

from facegen.session import tf

mean = tf.reduce_mean


def least_squares(real_logits, fake_logits, recipe):
    """Return the losses of the LSGAN (Mao et al. 2017, arXiv:1611.04076, equation 9).

    d_loss = E[(D(x) - (1 - smoothing))^2] / 2 + E[D(G(z))^2] / 2
    g_loss = E[(D(G(z)) - 1)^2] / 2
    with D the logits. The paper's label of real pictures is 1; smoothing lowers it.
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
    with D the logits and each drawn picture beside one real one. (As in R3GAN, Huang et al. 2024,
    arXiv:2501.05441.)
    """
    lead = real_logits - fake_logits
    return mean(tf.nn.softplus(-lead)), mean(tf.nn.softplus(lead))


LOSSES = {'least-squares': least_squares, 'hinge': hinge, 'relativistic': relativistic}


def undecided_losses(recipe):
    """Return the recipe's (d_loss, g_loss) if D answers every picture as half real, half drawn.

    That is D = 1/2, a logit of 0, or for least squares the middle of the two labels.
    """
    real_label = 1.0 - recipe.smoothing
    return {
        'non-saturating': (2 * math.log(2), math.log(2)),  # whatever the smoothing
        'least-squares': (real_label**2 / 4, (1 - real_label / 2) ** 2 / 2),
        'hinge': (2.0, 0.0),
        'relativistic': (math.log(2), math.log(2)),
    }[recipe.loss]
