"""Images per second of a training: ours, the exercise's, Keras' and PyTorch's, on one network.

The network is the classic one (recipe `mirrored`, batch 64, 28x28). Every way runs in a process of
its own, one after the other, all of them `--repeats` times; ours are timed inside `train` itself, with
all that it does around a step. `exercise`, `in-turn` and `torch` train the networks in turn, `together` and
`keras` both from one forward pass. Prints one JSON line for each way: median and spread of images/s, and
the median of the ratios to the exercise's of the same round.

    python benchmarks/step.py [--channels 3] [--ways exercise together …] [--steps 100] [--repeats 3]

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

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

BATCH, Z_DIM, RATE, BETA1, SMOOTHING = 64, 100, 3e-4, 0.45, 0.1
WARM_UP = 20  # steps that are not timed
OURS = {  # settings beside the recipe `mirrored`
    'together': {'updates': 'together'},
    'together-float32': {'updates': 'together', 'precision': 'float32'},
    'in-turn': {},
    'in-turn-float32': {'precision': 'float32'},
}


def batches(channels):
    """Yield (images in [-1, 1], latents) for ever: what they show does not matter here."""
    rng = np.random.default_rng(0)
    images = 2 * rng.random([10 * BATCH, 28, 28, channels], np.float32) - 1
    while True:
        chosen = images[rng.integers(0, len(images), BATCH)]
        yield chosen, rng.uniform(-1, 1, [BATCH, Z_DIM]).astype(np.float32)


def timed(step, channels, steps):
    """Return the images per second of calling `step(images in [-1, 1], latents)`."""
    rounds = batches(channels)
    for _ in range(WARM_UP):
        step(*next(rounds))
    started = time.perf_counter()
    for _ in range(steps):
        step(*next(rounds))
    return steps * BATCH / (time.perf_counter() - started)


def ours(channels, steps, changes):
    """`train` of the notebook."""
    from facegen import notebook
    from facegen.recipes import CLASSIC

    asked_at = []

    def get_batches(batch_size):
        for images, _ in batches(channels):
            asked_at.append(time.perf_counter())
            yield images / 2

    total = WARM_UP + steps + 1
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        notebook.definitions().train(
            None, BATCH, Z_DIM, RATE, BETA1, get_batches, (60_000, 28, 28, channels),
            {1: 'L', 3: 'RGB'}[channels], recipe=replace(CLASSIC, **changes), max_steps=total,
            show_every=10 * total, run_dir=f'{folder}/run',
        )  # fmt: skip
    return steps * BATCH / (asked_at[WARM_UP + steps] - asked_at[WARM_UP])


def exercise(channels, steps):
    """The schedule of the exercise: D, then G, each in a run of its own, TensorFlow as it comes."""
    from facegen import notebook
    from facegen.session import tf

    functions = notebook.definitions()
    with tf.Graph().as_default():
        input_real, input_z, learning_rate = functions.model_inputs(28, 28, channels, Z_DIM)
        losses = functions.model_loss(input_real, input_z, channels)
        turns = functions.model_opt(*losses, learning_rate, BETA1)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())

            def step(images, z):
                for turn in turns:
                    sess.run(turn, {input_real: images, input_z: z, learning_rate: RATE})

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
    **{name: lambda *args, changes=changes: ours(*args, changes) for name, changes in OURS.items()},
    'keras': keras,
    'torch': torch,
}


def measure(way, options):
    """Run one way in a process of its own; return images/s, or None where it is not installed."""
    python = options.torch_python if way == 'torch' else sys.executable
    if (
        way == 'torch'
        and subprocess.run([python, '-c', 'import torch'], capture_output=True).returncode
    ):
        return None
    command = [python, __file__, '--way', way, '--channels', options.channels]
    command += ['--steps', options.steps]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def main():
    """Measure all ways, or one of them as a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--channels', type=int, default=1, choices=[1, 3])
    parser.add_argument('--steps', type=int, default=100, help='that are timed')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    parser.add_argument('--torch-python', default=sys.executable)
    parser.add_argument('--way', choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(WAYS[options.way](options.channels, options.steps)))
        return
    rounds = [{way: measure(way, options) for way in options.ways} for _ in range(options.repeats)]
    for way in options.ways:
        rates = [rates[way] for rates in rounds]
        if None in rates:
            print(f'{way} is not installed: left out', file=sys.stderr)
            continue
        line = {
            'benchmark': 'step',
            'way': way,
            'channels': options.channels,
            'images_per_second': round(statistics.median(rates), 1),
            'spread': [round(min(rates), 1), round(max(rates), 1)],
        }
        if 'exercise' in options.ways:
            ratios = [rates[way] / rates['exercise'] for rates in rounds]
            line['times_the_exercise'] = round(statistics.median(ratios), 2)
        print(json.dumps(line), flush=True)


if __name__ == '__main__':
    main()
