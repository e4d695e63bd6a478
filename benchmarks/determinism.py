"""What equal results for equal seeds cost: a step with and without what they need.

That is resource variables, and for simultaneous updates that both gradients are computed before either is
applied. Prints one JSON line: images/s of both ways, one after the other, in processes of their own, and the ratios.

    python benchmarks/determinism.py [--repeats 3]
"""

import argparse
import json
import sys
import time
from dataclasses import replace

import numpy as np

from measuring import ROOT, in_process, summary

sys.path.insert(0, str(ROOT))

WARM_UP, STEPS = 20, 100


def images_per_second(*, ordered):
    """Time steps of the classic network, both updates in one run."""
    from facegen import notebook, session
    from facegen.convolution import fast_kernel_gradients
    from facegen.recipes import CLASSIC
    from facegen.session import tf

    functions = notebook.definitions()
    if not ordered:
        tf.disable_resource_variables()
    recipe = replace(CLASSIC, updates='simultaneous' if ordered else 'alternating')
    size = recipe.batch_size
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        input_real, input_z, rate = functions.model_inputs(28, 28, 1, recipe.z_dim)
        images = functions.to_tanh_range(input_real)
        with fast_kernel_gradients(recipe.precision):
            losses = functions.model_loss(images, input_z, 1, recipe=recipe)
        steps = functions.model_opt(*losses, rate, recipe.beta1, recipe=recipe)
        feed = {
            input_real: rng.uniform(-0.5, 0.5, [size, 28, 28, 1]),
            input_z: rng.uniform(-1, 1, [size, recipe.z_dim]),
            rate: recipe.learning_rate,
        }
        with tf.Session(config=session.config()) as sess:
            sess.run(tf.global_variables_initializer())
            for _ in range(WARM_UP):
                sess.run([*losses, *steps], feed)
            started = time.perf_counter()
            for _ in range(STEPS):
                sess.run([*losses, *steps], feed)
            return STEPS * size / (time.perf_counter() - started)


def main():
    """Measure both ways, or one as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--way', choices=['ordered', 'unordered'], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(images_per_second(ordered=options.way == 'ordered')))
        return
    rounds = [
        [in_process(__file__, '--way', way) for way in ('ordered', 'unordered')]
        for _ in range(options.repeats)
    ]
    ordered, unordered = zip(*rounds, strict=True)
    line = {
        'benchmark': 'determinism',
        **summary('images_per_second', ordered, 1),
        **summary('unordered', unordered, 1),
        **summary('cost', [1 - a / b for a, b in rounds], 3),
    }
    print(json.dumps(line))


if __name__ == '__main__':
    main()
