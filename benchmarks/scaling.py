"""What a training step costs in several processes, and what is to be expected of many.

Measured: each number of workers trains a recipe with each batch (the images of one worker), in processes of
their own that exchange gradients over loopback, one core and so one thread of computation each; all that
`--repeats` times. Prints one JSON line for each: median and spread of the seconds of a step, and of what the
exchange alone takes; the bytes that each worker sends in a step; the share of the exchange in the step; and
the efficiency, the speed of a worker relative to one that works alone. That shows what the exchange costs
where it is computed by the same cores and goes through memory; not what a network costs, nor a GPU.

    python benchmarks/scaling.py [--workers 1 2] [--batches 32 64] [--recipe faces] [--image-size 28]
    python benchmarks/scaling.py --plan [--recipe faces]

`--plan` prints what a stated model expects (`planned`), for numbers of GPUs and sizes of images. Nothing of it
was measured.
"""

import argparse
import itertools
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import step
from measuring import ROOT, summary

sys.path.insert(0, str(ROOT))

from facegen.cluster import WAIT_MINUTES, Cluster, Peers
from facegen.recipes import RECIPES, recipe_named

CHANNELS = 3
WARM_UP = 5  # steps, and exchanges, that are not timed
FLOAT = 4  # bytes
SMALL = 3  # other exchanges of a step: the losses of D, that of G, and what time it is at the chief

# The model, of GPUs that nobody here has: round numbers, by which to judge it
GPU_GFLOPS = 20_000  # that a GPU reaches in a convolution
STEP_OVERHEAD = 0.003  # seconds in which a step starts its operations, whatever the batch
GPUS_OF_A_MACHINE = 8
LINKS = {'in a machine': (100e9, 10e-6), 'between machines': (10e9, 30e-6)}  # bytes/s, seconds


# The model ----------------------------------------------------------------------------------------


def sent(weights, workers):
    """Return the bytes that each worker sends in a step: 2 (n - 1) / n of all gradients.

    So does an all-reduce in a ring (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).
    """
    return 2 * (workers - 1) / workers * FLOAT * weights


def exchange_seconds(weights, small, workers, bandwidth, latency):
    """Return what the exchanges of a step take: 2 log2(n) latencies each, and the bytes that are sent.

    There are two of gradients, D's and G's, and `small` ones whose bytes do not count, one after the other.
    As many latencies, and not more bytes than in a ring, need two trees (Sanders, Speck and Traeff 2009,
    doi:10.1016/j.parco.2009.09.001), which NCCL uses where they are faster.
    """
    latencies = 2 * math.log2(workers)
    return (2 + small) * latencies * latency + sent(weights, workers) / bandwidth


def planned(weights, small, gflop_per_image, batch_size, workers):
    """Return what to expect of so many GPUs, with `batch_size` images each.

    A GPU computes a step in STEP_OVERHEAD + GFLOP / GPU_GFLOPS seconds, and then exchanges, at the speed of
    the slowest link. `efficiency` is the share of that time in which it computes. `speed_up` is that of
    one batch of `batch_size` images that all GPUs share, relative to one GPU; None where there are more GPUs.
    """
    place = 'in a machine' if workers <= GPUS_OF_A_MACHINE else 'between machines'

    def computing(images):
        return STEP_OVERHEAD + images * gflop_per_image / GPU_GFLOPS

    exchange = exchange_seconds(weights, small, workers, *LINKS[place])
    alone, each = computing(batch_size), computing(batch_size / workers)
    return {
        'link': place,
        'megabytes_sent': round(sent(weights, workers) / 1e6, 1),
        'exchange_ms': round(1000 * exchange, 2),
        'step_ms': round(1000 * (alone + exchange), 2),
        'efficiency': round(alone / (alone + exchange), 2),
        'speed_up': round(alone / (each + exchange), 2) if workers <= batch_size else None,
    }


def counts(recipe):
    """Return (weights of both networks, exchanges of a step beside those of their gradients)."""
    from facegen import notebook
    from facegen.session import tf

    functions, side = notebook.definitions(), recipe.image_size
    with tf.Graph().as_default():
        fed = functions.model_inputs(side, side, CHANNELS, recipe.z_dim)
        functions.model_loss(*fed[:2], CHANNELS, recipe=recipe)
        weights = sum(v.shape.num_elements() for v in tf.trainable_variables())
        return weights, SMALL + len(tf.get_collection(tf.GraphKeys.UPDATE_OPS, 'generator'))


def plan(options):
    """Print a line for each size of images, batch and number of GPUs."""
    for side in options.plan_sizes:
        recipe = recipe_named(options.recipe, side)
        weights, small = counts(recipe)
        per_image = step.gflop(recipe, CHANNELS)
        for batch_size, workers in itertools.product(options.plan_batches, options.plan_workers):
            line = planned(weights, small, per_image, batch_size, workers)
            about = {
                'recipe': options.recipe,
                'side': side,
                'batch_size': batch_size,
                'gpus': workers,
            }
            known = {'weights': weights, 'gflop_per_image': round(per_image, 2)}
            print(json.dumps({'benchmark': 'scaling', **about, **known, **line}), flush=True)


# The measurement ----------------------------------------------------------------------------------


def train(recipe, steps):
    """Return the seconds of a step of this process, alone or in the cluster of TF_CONFIG."""
    from facegen import distribution, notebook

    functions = notebook.definitions()
    distribution.distribute(functions, Cluster.named_by(os.environ))
    speed = step.ours(CHANNELS, steps, recipe, warm_up=WARM_UP, functions=functions)
    return recipe.batch_size / speed


def exchange(recipe, steps):
    """Return the seconds of the exchanges of a step alone, 0 without a cluster."""
    from facegen import distribution, session
    from facegen.session import tf

    weights, small = counts(recipe)
    cluster = Cluster.named_by(os.environ)
    if cluster is None:
        return 0.0
    with Peers(cluster, WAIT_MINUTES) as peers, tf.Graph().as_default() as graph:
        peers.meet({})
        strategy = distribution.strategy_of(cluster)
        with strategy.scope():
            sizes = [weights // 2, weights - weights // 2, *[1] * small]
            totals = [
                distribution.total(tf.identity(tf.Variable(tf.zeros([size])))) for size in sizes
            ]
            totals = tf.group(*totals)
            initialize = tf.global_variables_initializer()
        sess, _ = distribution.session_among(peers, strategy, graph, session.config())
        with sess:
            sess.run(initialize)
            for number in range(WARM_UP + steps):
                if number == WARM_UP:
                    started = time.perf_counter()
                sess.run(totals)
            seconds = (time.perf_counter() - started) / steps
        peers.wait_until_all_are_done()
    return seconds


def in_workers(part, workers, batch, options):
    """Return the seconds of a part of a step, as the slowest of so many workers had it."""
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(workers)]
    addresses = [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]
    for each in sockets:
        each.close()
    cores = sorted(os.sched_getaffinity(0))
    processes = []
    for index in range(workers):
        task = {'cluster': {'worker': addresses}, 'task': {'type': 'worker', 'index': index}}
        command = [sys.executable, __file__, '--part', part, '--recipe', options.recipe]
        command += ['--image-size', options.image_size, '--steps', options.steps]
        command += ['--batches', workers * batch, '--core', cores[index % len(cores)]]
        environment = {**os.environ, 'TF_CONFIG': json.dumps(task)}
        processes.append(
            subprocess.Popen(
                list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True
            )
        )
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise ChildProcessError('a worker has failed; see above')
    return max(json.loads(output.splitlines()[-1]) for output in outputs)


def measure(options):
    """Print a line for each number of workers and each batch."""
    weights, _ = counts(recipe_named(options.recipe, options.image_size))
    for batch in options.batches:
        rounds = [
            {
                workers: [
                    in_workers(part, workers, batch, options) for part in ('train', 'exchange')
                ]
                for workers in options.workers
            }
            for _ in range(options.repeats)
        ]
        for workers in options.workers:
            steps, exchanges = zip(*(each[workers] for each in rounds), strict=True)
            line = {
                'benchmark': 'scaling', 'recipe': options.recipe, 'side': options.image_size,
                'workers': workers, 'batch_size': batch,
                **summary('step_seconds', steps, 4), **summary('exchange_seconds', exchanges, 4),
                'megabytes_sent': round(sent(weights, workers) / 1e6, 1),
                'share_of_exchange': median_ratio(exchanges, steps),
            }  # fmt: skip
            if 1 in options.workers:
                line['efficiency'] = median_ratio([each[1][0] for each in rounds], steps)
            print(json.dumps(line), flush=True)


def median_ratio(parts, wholes):
    """Return the median of the ratios of the same round."""
    return round(statistics.median(a / b for a, b in zip(parts, wholes, strict=True)), 2)


def main():
    """Measure or plan, or be one of the workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--batches', type=int, nargs='+', default=[32, 64], help='of one worker')
    parser.add_argument('--recipe', choices=sorted(RECIPES), default='faces')
    parser.add_argument('--image-size', type=int, default=28)
    parser.add_argument('--steps', type=int, default=20, help='that are timed')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--plan', action='store_true', help='print what the model expects')
    parser.add_argument('--plan-sizes', type=int, nargs='+', default=[28, 64, 128])
    parser.add_argument('--plan-batches', type=int, nargs='+', default=[64], help='of one GPU')
    parser.add_argument('--plan-workers', type=int, nargs='+', default=[1, 8, 64, 512])
    parser.add_argument('--part', choices=['train', 'exchange'], help=argparse.SUPPRESS)
    parser.add_argument('--core', type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan:
        plan(options)
    elif options.part:
        os.sched_setaffinity(0, {options.core})
        recipe = recipe_named(options.recipe, options.image_size)
        recipe = replace(recipe, batch_size=options.batches[0])
        print(
            json.dumps({'train': train, 'exchange': exchange}[options.part](recipe, options.steps))
        )
    else:
        measure(options)


if __name__ == '__main__':
    main()
