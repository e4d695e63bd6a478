"""What a training run costs at each size of its images: images per second, GFLOP and memory.

Each recipe is trained at each size, in colour and in batches of its own, for `--steps` steps in a process
of its own, one after the other, all of them `--repeats` times. Prints one JSON line for each: median
and spread of images/s and of the process's memory at its peak, and the GFLOP of a step, which follow from
what TensorFlow counts in one pass through each network (`step.gflop`).

    python benchmarks/sizes.py [--recipes faces dcgan …] [--sizes 28 64 …] [--steps 10] [--repeats 3]
    python benchmarks/sizes.py --recipes faces --sizes 64 128 --network residual
    python benchmarks/sizes.py --table sizes.jsonl
"""

import argparse
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

from measuring import ROOT, in_process, machine, peak_memory_of_children, summary

sys.path.insert(0, str(ROOT))

from facegen.recipes import CHOICES, RECIPES, recipe_named

SIZES = 28, 32, 64, 128
CHANNELS = 3
WARM_UP = 4  # steps that are not timed


def train(name, side, steps, network):
    """Return what a training run of a recipe costs, but for its memory."""
    import step

    recipe = replace(recipe_named(name, side), network=network)
    per_image = step.gflop(recipe, CHANNELS)
    return {
        'images_per_second': step.ours(CHANNELS, steps, recipe, warm_up=WARM_UP),
        'gflop_per_step': per_image * recipe.batch_size,
        'batch_size': recipe.batch_size,
    }


def measure(name, side, steps, network):
    """Return what `train` does in a process of its own, and the megabytes that it needed."""
    with peak_memory_of_children() as peak:
        options = '--train', name, '--sizes', side, '--steps', steps, '--network', network
        result = in_process(__file__, *options)
        return {**result, 'megabytes': peak()}


def table(lines):
    """Return the printed lines as a Markdown table."""
    rows = [['recipe', 'pixels', 'batch', 'images/s', 'GFLOP a step', 'GFLOP/s', 'memory, MB']]
    rows.append(['---'] * len(rows[0]))
    for line in lines:
        speed, batch = line['images_per_second'], line['batch_size']
        gflops = line['gflop_per_step'] * speed / batch
        rows.append(
            [f'`{line["recipe"]}`', str(line['side']), str(batch), f'{speed:.0f}',
             f'{line["gflop_per_step"]:.0f}', f'{gflops:.0f}', f'{line["megabytes"]:,.0f}']
        )  # fmt: skip
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def main():
    """Measure, or make a table of measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--recipes', nargs='+', choices=RECIPES, default=['faces', 'digits', 'classic', 'dcgan']
    )
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES)
    parser.add_argument('--steps', type=int, default=10, help='that are timed')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--network', choices=CHOICES['network'], default='plain')
    parser.add_argument('--table', type=Path, metavar='FILE')
    parser.add_argument('--train', choices=RECIPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(table([json.loads(line) for line in options.table.open()]))
        return
    if options.train:
        print(json.dumps(train(options.train, *options.sizes, options.steps, options.network)))
        return
    cases = list(itertools.product(options.recipes, options.sizes))
    shared = options.steps, options.network
    rounds = [[measure(*case, *shared) for case in cases] for _ in range(options.repeats)]
    for (name, side), *results in zip(cases, *rounds, strict=True):
        line = {'benchmark': 'sizes', 'recipe': name, 'network': options.network, 'side': side}
        line |= {'machine': machine()}
        line |= {key: round(results[0][key], 1) for key in ('batch_size', 'gflop_per_step')}
        for key in 'images_per_second', 'megabytes':
            line |= summary(key, [result[key] for result in results], 1)
        print(json.dumps(line), flush=True)


if __name__ == '__main__':
    main()
