"""Image quality and training time of the recipes, by the commands that a user types.

Each recipe is trained, in a process of its own, with every seed; its images are evaluated.
Prints one JSON line per training: the seconds that the command took, start-up included, and the
scores. `--table` turns such lines, of one or several files, into the tables of RESULTS.md, and
`--figure` the last grids of run folders into a row for README.

    python benchmarks/recipes.py --dataset mnist --data-dir data --seeds 0 1 2 > mnist.jsonl
    python benchmarks/recipes.py --dataset celeba --data-dir data --seeds 0 1 2 > celeba.jsonl
    python benchmarks/recipes.py --table mnist.jsonl celeba.jsonl
    python benchmarks/recipes.py --figure digits.png runs/mnist-digits-0/run runs/mnist-dcgan-0/run
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import ROOT

sys.path.insert(0, str(ROOT))

from facegen.figures import last_grids
from facegen.images import few_colors
from facegen.recipes import RECIPES
from facegen.run import RunFolder

DEFAULTS = {'mnist': 'digits', 'celeba': 'faces'}
SHARED = {  # heading: (score, factor, digits after the point)
    'Fréchet distance': ('frechet_distance', 1, 2),
    'kernel distance x 1000': ('kernel_distance', 1000, 1),
    'precision': ('precision', 1, 2),
    'recall': ('recall', 1, 2),
}
COLUMNS = {
    'mnist': {
        **SHARED,
        'confident': ('confident_share', 1, 3),
        'KL of classes': ('class_kl', 1, 4),
        'seconds': ('seconds', 1, 0),
    },
    'celeba': {
        **SHARED,
        'diversity': ('diversity', 1, 2),
        'nearest': ('nearest_ratio', 1, 2),
        'seconds': ('seconds', 1, 0),
    },
}


def facegen(*arguments):
    """Run `python -m facegen`; return (its standard output, seconds)."""
    started = time.perf_counter()
    command = [sys.executable, '-m', 'facegen', *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - started


def measure(recipe, seed, options, extra):
    """Train, evaluate, and return the line to print."""
    data = ['--dataset', options.dataset, '--data-dir', options.data_dir.resolve()]
    settings = ['--recipe', recipe, '--seed', seed, *extra]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = options.runs / f'{options.dataset}-{recipe}-{seed}' if options.runs else folder
        run_dir = Path(run_dir, 'run').resolve()
        if run_dir.exists():
            raise ValueError(f'{run_dir} is there already; choose another --runs')
        started = time.time()
        _, seconds = facegen('train', *data, *settings, '--run-dir', run_dir)
        scores, _ = facegen('evaluate', run_dir, *data, '--seed', seed + 1000)
        curve = curve_of(RunFolder(run_dir), started)
    return {
        'benchmark': 'recipes',
        'dataset': options.dataset,
        'recipe': recipe,
        'options': shlex.join(map(str, extra)),
        'seconds': round(seconds, 1),
        **{k: v for k, v in json.loads(scores).items() if k not in ('source', 'dataset', 'seed')},
        'seed': seed,
        'curve': curve,
    }


def curve_of(run, started):
    """Return [(seconds from `started`, Fréchet distance of the images)] of a run's evaluations.

    The time is that at which the grid of the same step was written.
    """
    drawn = {step: file.stat().st_mtime - started for step, file in run.samples()}
    return [(round(drawn[line['step']], 1), line['frechet_distance']) for line in run.scores()]


def seconds_to(distance, line):
    """Return when a training run came to that Fréchet distance of its own evaluations; nan if never."""
    return next((seconds for seconds, reached in line['curve'] if reached <= distance), math.nan)


def table(lines):
    """Return the Markdown tables of printed lines: mean and standard error over seeds."""
    texts = []
    for dataset, columns in COLUMNS.items():
        chosen = [line for line in lines if line['dataset'] == dataset]
        if not chosen:
            continue
        usual = [line['curve'][-1][1] for line in chosen if line['recipe'] == 'classic']
        if usual:
            for line in chosen:
                line['seconds_to_usual'] = seconds_to(statistics.mean(usual), line)
            columns = columns | {'seconds to the quality of `classic`': ('seconds_to_usual', 1, 0)}
        rows = [['recipe', 'seeds', *columns]]
        rows.append(['---'] * len(rows[0]))
        names = dict.fromkeys((line['recipe'], line['options']) for line in chosen)
        for recipe, options in names:
            runs = [li for li in chosen if (li['recipe'], li['options']) == (recipe, options)]
            cells = [
                mean_and_error([run[score] * factor for run in runs], digits)
                for score, factor, digits in columns.values()
            ]
            rows.append([f'`{recipe}` {options}'.strip(), str(len(runs)), *cells])
        real = chosen[0]['real']
        cells = [
            f'{real[score] * factor:.{digits}f}' if score in real else ''
            for score, factor, digits in columns.values()
        ]
        rows.append(['real images', '', *cells])
        texts.append('\n'.join(f'| {" | ".join(row)} |' for row in rows))
    return '\n\n'.join(texts)


def recipe_of(run_dir):
    """Return the name of the recipe in whose folder, as `measure` names it, a run lies."""
    return run_dir.parent.name.split('-', 1)[1].rsplit('-', 1)[0]


def mean_and_error(values, digits):
    """Return a mean, and its standard error where there is more than one value; 'never' for nan."""
    if any(map(math.isnan, values)):
        return 'never'
    mean = f'{statistics.mean(values):.{digits}f}'
    if len(values) < 2:
        return mean
    return f'{mean} ± {statistics.stdev(values) / math.sqrt(len(values)):.{digits}f}'


def main():
    """Measure, or make a table of measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--dataset', choices=sorted(COLUMNS))
    parser.add_argument('--data-dir', type=Path, default=ROOT / 'data')
    parser.add_argument('--recipes', nargs='+', choices=sorted(RECIPES), help='default: all')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--runs', type=Path, help='folder to keep the run folders in')
    parser.add_argument('--table', type=Path, nargs='+', metavar='FILE')
    parser.add_argument('--figure', type=Path, nargs='+', metavar=('FILE', 'RUN'))
    options, extra = parser.parse_known_args()  # what is left goes to train
    if options.table:
        print(table([json.loads(li) for file in options.table for li in file.open()]))
        return
    if options.figure:
        file, *runs = options.figure
        few_colors(last_grids({recipe_of(run): run for run in runs})).save(file)
        return
    if not options.dataset:
        parser.error('give --dataset, --table or --figure')
    others = set(DEFAULTS.values()) - {DEFAULTS[options.dataset]}
    for recipe in options.recipes or [name for name in RECIPES if name not in others]:
        for seed in options.seeds:
            print(json.dumps(measure(recipe, seed, options, extra)), flush=True)


if __name__ == '__main__':
    main()
