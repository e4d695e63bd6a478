"""What a recipe may put into a network besides the layers that the notebook shows."""

from facegen import replicas
from facegen.session import tf

# The share of a running average of batch normalisation that a step keeps. With the 0.99 of `tf.layers`,
# what the averages began with still counted 13 % after 200 steps, and images that were drawn with them
# were pale; they also were 100 steps older than the weights, which harms a deep generator.
MOMENTUM = 0.9


def initializer(recipe):
    """Return the initialiser of all kernels: Glorot's uniform one ('xavier'), or N(0, 0.02).

    Xavier draws from +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010); it is also the default
    of `tf.layers`. N(0, 0.02) is the DCGAN's (Radford et al. 2016, arXiv:1511.06434, section 4).
    """
    if recipe.initializer == 'normal':
        return tf.random_normal_initializer(0.0, 0.02)
    return tf.glorot_uniform_initializer()


CATEGORY_WEIGHT = 3.0  # beside latents whose standard deviation is 0.58


def with_category(z, recipe):
    """Append a category to each latent z [batch, z_dim]: 3 for the one it is in, 0 for the others.

    The category is the place of the largest of the latent's first `z_categories` numbers. A
    generator that is continuous in z must also draw what lies between two digits; from one category
    to the next it may jump.
    (Latents with a discrete part: Chen et al. 2016, arXiv:1606.03657; why a connected latent space
    cannot fit separate classes: Khayatkhoei et al. 2018, arXiv:1806.00880.)

    Raises ValueError for latents that are shorter than that.
    """
    if not recipe.z_categories:
        return z
    if z.shape[1] < recipe.z_categories:
        raise ValueError(
            f'latents have {z.shape[1]} numbers; expected at least the {recipe.z_categories} that '
            'z_categories of the recipe asks for'
        )
    category = tf.argmax(z[:, : recipe.z_categories], axis=1)
    return tf.concat([z, CATEGORY_WEIGHT * tf.one_hot(category, recipe.z_categories)], axis=1)


def dropout(x, recipe):
    """Zero a share `recipe.dropout` of x at random, and scale the rest up to keep its mean.

    Which ones depends on the seed of `seed_of_step` only, so that a continued training drops what an
    uninterrupted one would have dropped. Each replica drops others.
    """
    if not recipe.dropout:
        return x
    seed = seed_of_step()
    if replicas.count() > 1:
        seed = tf.random.experimental.stateless_fold_in(seed, replicas.number())
    return tf.nn.experimental.stateless_dropout(x, recipe.dropout, seed)


def seed_of_step():
    """Return the seed [2] of a stateless random operation, another one for each call and each step.

    It depends on the graph's seed, on how many operations the graph has, and on its global step.
    """
    graph_and_call = [seed or 0 for seed in replicas.seeds()]  # None without tf.set_random_seed
    step = tf.train.get_or_create_global_step()
    return tf.random.experimental.stateless_fold_in(graph_and_call, step)


def doublings(recipe):
    """Return [(side in pixels, filters)] of G's layers but the last: [(7, 256), (14, 128)] for 28x28.

    Each side is half of the next, rounded up. A recipe with `g_last_filters` has a layer at full size.
    """
    filters = [*recipe.g_filters, recipe.g_last_filters]
    sides = [recipe.image_size]
    for _ in recipe.g_filters:
        sides.insert(0, -(-sides[0] // 2))
    return [pair for pair in zip(sides, filters, strict=True) if pair[1]]
