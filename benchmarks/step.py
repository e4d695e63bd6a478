"""Images per second of a training run: ours, the exercise's, Keras' and PyTorch's, on one network.

The network is the classic one (recipe `classic`, batch 64, 28x28). Every way runs in a process of
its own, one after the other, all of them `--repeats` times; ours are timed inside `train` itself, with
all that it does around a step. `exercise`, `alternating` and `torch` train the networks one after the other, `simultaneous` and
`keras` both from one forward pass. Prints one JSON line for each way: median and spread of images/s, and
the median of the ratios to the exercise's of the same round. For those in TensorFlow 1, also how many
GFLOP/s that is, and which share of what this machine reaches when it multiplies large square matrices,
in float32 or bfloat16 as the training does; this is measured in every round too.

    python benchmarks/step.py [--channels 3] [--ways exercise simultaneous …] [--steps 100] [--repeats 3]

PyTorch is measured where it can be imported (`--torch-python` names another interpreter that has it).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np

from measuring import ROOT, in_process, summary

sys.path.insert(0, str(ROOT))

BATCH, Z_DIM, RATE, BETA1, SMOOTHING = 64, 100, 3e-4, 0.45, 0.1
WARM_UP = 20  # steps that are not timed
MULTIPLICATIONS = 5  # of matrices, that are timed
OURS = {  # settings beside the recipe `classic`
    'simultaneous': {'updates': 'simultaneous'},
    'simultaneous-float32': {'updates': 'simultaneous', 'precision': 'float32'},
    'alternating': {},
    'alternating-float32': {'precision': 'float32'},
}


def batches(channels, side=28, batch_size=BATCH):
    """Yield (images in [-1, 1], latents) forever: what they show does not matter here."""
    rng = np.random.default_rng(0)
    images = rng.random([2 * batch_size, side, side, channels], np.float32)
    images *= 2  # in place, since the memory of this process is measured too
    images -= 1
    while True:
        chosen = images[rng.integers(0, len(images), batch_size)]
        yield chosen, rng.uniform(-1, 1, [batch_size, Z_DIM]).astype(np.float32)


def timed(step, channels, steps):
    """Return the images per second of calling `step(images in [-1, 1], latents)`."""
    rounds = batches(channels)
    for _ in range(WARM_UP):
        step(*next(rounds))
    started = time.perf_counter()
    for _ in range(steps):
        step(*next(rounds))
    return steps * BATCH / (time.perf_counter() - started)


def of_classic(channels, steps, changes):
    """`train` of the notebook, with `changes` of the recipe `classic`."""
    from facegen.recipes import CLASSIC

    return ours(channels, steps, replace(CLASSIC, **changes))


def ours(channels, steps, recipe, *, warm_up=WARM_UP, functions=None):
    """Return the images per second of `train` by a recipe, that of the notebook or of its `functions`."""
    from facegen import notebook

    side, asked_at = recipe.image_size, []

    def get_batches(batch_size, *, rows=slice(None)):
        for images, _ in batches(channels, side, batch_size):
            asked_at.append(time.perf_counter())
            yield images[rows] / 2

    total = warm_up + steps + 1
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        (functions or notebook.definitions()).train(
            None, recipe.batch_size, recipe.z_dim, recipe.learning_rate, recipe.beta1, get_batches,
            (60_000, side, side, channels),
            {1: 'L', 3: 'RGB'}[channels], recipe=recipe, max_steps=total, show_every=10 * total,
            run_dir=f'{folder}/run',
        )  # fmt: skip
    return steps * recipe.batch_size / (asked_at[warm_up + steps] - asked_at[warm_up])


def exercise(channels, steps):
    """The schedule of the exercise: D, then G, each in a run of its own, TensorFlow as it comes."""
    from facegen import notebook
    from facegen.session import tf

    functions = notebook.definitions()
    with tf.Graph().as_default():
        input_real, input_z, learning_rate = functions.model_inputs(28, 28, channels, Z_DIM)
        losses = functions.model_loss(input_real, input_z, channels)
        train_opts = functions.model_opt(*losses, learning_rate, BETA1)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())

            def step(images, z):
                for train_opt in train_opts:
                    sess.run(train_opt, {input_real: images, input_z: z, learning_rate: RATE})

            return timed(step, channels, steps)


def keras(channels, steps):
    """Keras layers, and a compiled step with one gradient tape for each player."""
    import tensorflow as tf
    from tensorflow import keras
    from tensorflow.keras import layers

    def conv(filters, use_bias, kind=layers.Conv2D):
        return kind(filters, 5, 2, 'same', use_bias=use_bias)

    def block():
        return [layers.BatchNormalization(), layers.LeakyReLU(0.2)]

    d = keras.Sequential(
        [
            keras.Input([28, 28, channels]),
            *[conv(64, True), layers.LeakyReLU(0.2)],
            *[conv(128, False), *block(), conv(256, False), *block()],
            *[layers.Flatten(), layers.Dense(1)],
        ]
    )
    g = keras.Sequential(
        [
            keras.Input([Z_DIM]),
            *[layers.Dense(7 * 7 * 256, use_bias=False), layers.Reshape([7, 7, 256]), *block()],
            *[conv(128, False, layers.Conv2DTranspose), *block()],
            *[conv(channels, True, layers.Conv2DTranspose), layers.Activation('tanh')],
        ]
    )
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    optimizers = [keras.optimizers.Adam(RATE, BETA1) for _ in range(2)]

    @tf.function
    def step(images, z):
        with tf.GradientTape() as d_tape, tf.GradientTape() as g_tape:
            fake = g(z, training=True)
            real_logits, fake_logits = d(images, training=True), d(fake, training=True)
            ones = tf.ones_like(fake_logits)
            d_loss = entropy((1 - SMOOTHING) * ones, real_logits) + entropy(0 * ones, fake_logits)
            g_loss = entropy(ones, fake_logits)
        for network, loss, tape, optimizer in zip(
            (d, g), (d_loss, g_loss), (d_tape, g_tape), optimizers, strict=True
        ):
            weights = network.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return d_loss, g_loss

    return timed(lambda *batch: [float(loss) for loss in step(*batch)], channels, steps)


def torch(channels, steps):
    """PyTorch modules, float32 or, where the CPU multiplies it, bfloat16 by autocast."""
    import torch
    from torch import nn

    def block(filters):
        return [nn.BatchNorm2d(filters), nn.LeakyReLU(0.2)]

    d = nn.Sequential(
        *[nn.Conv2d(channels, 64, 5, 2, 2), nn.LeakyReLU(0.2)],
        *[nn.Conv2d(64, 128, 5, 2, 2, bias=False), *block(128)],
        *[nn.Conv2d(128, 256, 5, 2, 2, bias=False), *block(256)],
        *[nn.Flatten(), nn.Linear(4 * 4 * 256, 1)],
    ).to(memory_format=torch.channels_last)
    g = nn.Sequential(
        *[nn.Linear(Z_DIM, 7 * 7 * 256, bias=False), nn.Unflatten(1, (256, 7, 7)), *block(256)],
        *[nn.ConvTranspose2d(256, 128, 5, 2, 2, 1, bias=False), *block(128)],
        *[nn.ConvTranspose2d(128, channels, 5, 2, 2, 1), nn.Tanh()],
    ).to(memory_format=torch.channels_last)
    optimizers = [torch.optim.Adam(n.parameters(), RATE, (BETA1, 0.999)) for n in (d, g)]
    entropy = nn.functional.binary_cross_entropy_with_logits
    cpu = Path('/proc/cpuinfo')
    fast = cpu.exists() and bool({'avx512_bf16', 'amx_bf16'} & set(cpu.read_text().split()))

    def step(images, z):
        real = torch.from_numpy(images).permute(0, 3, 1, 2)
        with torch.autocast('cpu', torch.bfloat16, enabled=fast):
            fake = g(torch.from_numpy(z))
            real_logits, fake_logits = d(real).float(), d(fake.detach()).float()
        ones = torch.ones_like(real_logits)
        d_loss = entropy(real_logits, (1 - SMOOTHING) * ones) + entropy(fake_logits, 0 * ones)
        learn(optimizers[0], d_loss)
        with torch.autocast('cpu', torch.bfloat16, enabled=fast):
            logits = d(fake)
        g_loss = entropy(logits.float(), ones)
        learn(optimizers[1], g_loss)
        return float(d_loss), float(g_loss)

    def learn(optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return timed(step, channels, steps)


WAYS = {
    'exercise': exercise,
    **{
        name: lambda *args, changes=changes: of_classic(*args, changes)
        for name, changes in OURS.items()
    },
    'keras': keras,
    'torch': torch,
}


def multiplication(name, size):
    """Return the GFLOP/s of multiplying two square matrices of `size` numbers of a type by name."""
    from facegen import session
    from facegen.session import tf

    session.use_tf1()
    with tf.Graph().as_default():
        random = tf.cast(tf.random.stateless_normal([size, size], [0, 0]), name)
        product = tf.matmul(tf.Variable(random), tf.Variable(random)).op
        with tf.Session(config=session.config()) as sess:
            sess.run(tf.global_variables_initializer())
            sess.run(product)
            started = time.perf_counter()
            for _ in range(MULTIPLICATIONS):
                sess.run(product)
            seconds = time.perf_counter() - started
    return {'gflops_per_second': MULTIPLICATIONS * 2 * size**3 / seconds / 1e9}


def gflop(recipe, channels):
    """Return the GFLOP of a step of a recipe for each of its images.

    With D and G for one pass forwards, which TensorFlow counts: by its inputs and by its kernels, a
    layer's gradients cost as much again each. Simultaneous updates need G forwards and backwards, 3 G; D
    forwards and backwards on real images, 3 D; on generated ones also backwards to the images for G's
    loss, 4 D. Alternating, G's step draws new images and judges them: G and D more. In one of four steps,
    R1 goes backwards to the real images, D, and that is differentiated by what it read, 2 D.
    """
    from facegen import losses, notebook
    from facegen.session import tf

    functions = notebook.definitions()

    def forwards(network, *shape):
        with tf.Graph().as_default() as graph:
            network(tf.zeros(shape))
            options = tf.profiler.ProfileOptionBuilder(
                tf.profiler.ProfileOptionBuilder.float_operation()
            ).with_empty_output()
            counted = tf.profiler.profile(graph, cmd='op', options=options.build())
        return counted.total_float_ops / BATCH / 1e9

    side = recipe.image_size
    d = forwards(
        lambda images: functions.discriminator(images, recipe=recipe), BATCH, side, side, channels
    )
    g = forwards(lambda z: functions.generator(z, channels, recipe=recipe), BATCH, recipe.z_dim)
    penalty = 3 * d / losses.R1_EVERY if recipe.gamma else 0
    return {'simultaneous': 3 * g + 7 * d, 'alternating': 4 * g + 8 * d}[recipe.updates] + penalty


def one_way(way, channels, steps):
    """Measure one way; return images/s, for those in TensorFlow 1 also GFLOP/s and their type."""
    result = {'images_per_second': WAYS[way](channels, steps)}
    if way in OURS or way == 'exercise':
        from facegen import session
        from facegen.recipes import CLASSIC

        recipe = replace(CLASSIC, **OURS.get(way, {}))
        bfloat16 = way in OURS and session.uses_bfloat16(recipe.precision)
        per_image = gflop(recipe, channels)
        result['gflops_per_second'] = result['images_per_second'] * per_image
        result['type'] = 'bfloat16' if bfloat16 else 'float32'
    return result


def measure(way, options):
    """Run one way in a process of its own; return what it printed, None where it is not installed."""
    python = options.torch_python if way == 'torch' else sys.executable
    if (
        way == 'torch'
        and subprocess.run([python, '-c', 'import torch'], capture_output=True).returncode
    ):
        return None
    arguments = ['--way', way, '--channels', options.channels, '--steps', options.steps]
    return in_process(__file__, *arguments, '--matrix', options.matrix, python=python)


def a_round(options):
    """Measure each way once, and the matrix products of the types that they need."""
    results = {way: measure(way, options) for way in options.ways}
    types = {result['type'] for result in results.values() if result and 'type' in result}
    return results | {
        f'matmul-{name}': measure(f'matmul-{name}', options) for name in sorted(types)
    }


def line_of(way, rounds, options):
    """Return what to print about a way of which there are results in every round."""
    results = [results[way] for results in rounds]
    line = {'benchmark': 'step', 'way': way}
    if way in options.ways:
        line['channels'] = options.channels
    for name in 'images_per_second', 'gflops_per_second':
        if name in results[0]:
            line |= summary(name, [result[name] for result in results], 1)
    if way in options.ways and 'exercise' in options.ways:
        line['times_the_exercise'] = ratio(rounds, way, 'exercise', 'images_per_second')
    if 'type' in results[0]:
        product = f'matmul-{results[0]["type"]}'
        line['share_of_matmul'] = ratio(rounds, way, product, 'gflops_per_second')
    return line


def ratio(rounds, way, other, name):
    """Return the median of how many times as fast as another way of the same round it was."""
    ratios = [results[way][name] / results[other][name] for results in rounds]
    return round(statistics.median(ratios), 2)


def main():
    """Measure all ways, or one of them as a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--channels', type=int, default=1, choices=[1, 3])
    parser.add_argument('--steps', type=int, default=100, help='that are timed')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    parser.add_argument(
        '--matrix', type=int, default=4096, help='side of those that are multiplied'
    )
    parser.add_argument('--torch-python', default=sys.executable)
    parser.add_argument('--way', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        kind, _, name = options.way.partition('-')
        if kind == 'matmul':
            print(json.dumps(multiplication(name, options.matrix)))
        else:
            print(json.dumps(one_way(options.way, options.channels, options.steps)))
        return
    rounds = [a_round(options) for _ in range(options.repeats)]
    for way in rounds[0]:
        if rounds[0][way] is None:
            print(f'{way} is not installed: left out', file=sys.stderr)
        else:
            print(json.dumps(line_of(way, rounds, options)), flush=True)


if __name__ == '__main__':
    main()
