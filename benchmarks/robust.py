"""How often a training fails: the recipes with many seeds, in float32 and in bfloat16.

A training that works for one seed on one processor may end in noise for another. So every case of
`CASES` is trained with many seeds, each training in a process of its own. Prints one JSON line per
training, and appends it to the log; what the log has of this machine, in the same settings, is left
out, so an interrupted run goes on where it was.

    python benchmarks/robust.py --data-dir data --jobs 2
    python benchmarks/robust.py --cases digits-start faces-end --log robust.jsonl
    python benchmarks/robust.py --table

`--jobs 2` runs two trainings at a time, on Linux each on a share of the cores, which makes more of them
an hour than one by one on all. `--table` turns the log into the tables of RESULTS.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple
from unittest.mock import patch

from measuring import ROOT, machine

sys.path.insert(0, str(ROOT))

from facegen.data.sources import DATASETS
from facegen.files import append_line, keep_lines, parsed_lines, to_json
from facegen.recipes import CLASSIC, PUBLISHED, RECIPES

LOG = Path(__file__).with_suffix('.jsonl')
PRECISIONS = ('float32', 'auto')
KEPT = ('frechet_distance', 'confident_share', 'precision', 'recall', 'class_kl', 'diversity')


class Case(NamedTuple):
    """Trainings that differ in seed and precision only."""

    recipe: str
    dataset: str  # 'mnist' or 'celeba'
    seeds: int  # how many, from 0 on
    data: str = 'sample'  # or 'full'
    looked_at: int | None = None  # step at which its quick evaluation counts; None: the end
    changes: tuple = ()  # settings of the recipe that are replaced, as (name, value)
    times_rate: float = 1.0  # by which its learning rate is multiplied
    limits: tuple = ()  # of `train`, in place of the epochs, as (name, value)
    precisions: tuple = PRECISIONS


CASES = {
    'digits-start': Case('digits', 'mnist', 20, looked_at=500),
    'digits-start-full': Case('digits', 'mnist', 20, 'full', looked_at=500),
    'digits-end': Case('digits', 'mnist', 8),
    'digits-end-full': Case('digits', 'mnist', 8, 'full'),
    'digits-rate-double': Case('digits', 'mnist', 4, looked_at=500, times_rate=2),
    'digits-rate-half': Case('digits', 'mnist', 4, looked_at=500, times_rate=0.5),
    'digits-300-steps': Case('digits', 'mnist', 4, limits=(('max_steps', 300),)),
    'digits-1-minute': Case('digits', 'mnist', 4, limits=(('minutes', 1),)),
    'digits-batch-16': Case('digits', 'mnist', 4, looked_at=1000, changes=(('batch_size', 16),)),
    'digits-batch-64': Case('digits', 'mnist', 4, looked_at=250, changes=(('batch_size', 64),)),
    'faces-start': Case('faces', 'celeba', 20, looked_at=500),
    'faces-end': Case('faces', 'celeba', 8),
    'faces-rate-double': Case('faces', 'celeba', 4, looked_at=500, times_rate=2),
    'faces-rate-half': Case('faces', 'celeba', 4, looked_at=500, times_rate=0.5),
    **{name: Case(name, 'mnist', 4, looked_at=500, precisions=('auto',)) for name in PUBLISHED},
}


class SeenError(Exception):
    """Ends a training at the evaluation that counts."""


def settings_of(case, precision):
    """Return the recipe of a case."""
    recipe = RECIPES[case.recipe]
    rate = recipe.learning_rate * case.times_rate
    return replace(recipe, **{'precision': precision, 'learning_rate': rate} | dict(case.changes))


def trained(case, seed, precision, data_dir):
    """Train once, in this process; return what there is to log of it."""
    import helper
    from facegen import notebook, training
    from facegen.evaluation import QuickEvaluation, evaluate, has_collapsed
    from facegen.run import RunFolder
    from facegen.sampling import generate
    from facegen.stopping import Stop

    recipe = settings_of(case, precision)
    files = helper.download_extract(case.dataset, data_dir, data=case.data)
    dataset = helper.Dataset(case.dataset, files, seed=seed)
    quick, seen = QuickEvaluation(case.dataset, dataset.pixels), []

    def look(images):
        seen.append(quick(images))
        if case.looked_at and len(seen) == 2:  # the first is that of step 0
            raise SeenError
        return seen[-1]

    started = time.monotonic()
    functions = notebook.definitions()
    limits = {'epoch_count': None, **dict(case.limits or [('epoch_count', epochs_of(case))])}
    unstoppable = patch.object(training, 'stop_signals', lambda: nullcontext(Stop()))
    with unstoppable, tempfile.TemporaryDirectory() as folder:  # a stopped training is no result
        run, is_over, diverged = RunFolder(Path(folder, 'run')), False, False
        try:
            functions.train(
                batch_size=recipe.batch_size, z_dim=recipe.z_dim, beta1=recipe.beta1,
                learning_rate=recipe.learning_rate, get_batches=dataset.get_batches,
                data_shape=dataset.shape, data_image_mode=dataset.image_mode, recipe=recipe,
                seed=seed, run_dir=run.path, evaluation=look,
                show_every=case.looked_at or 500, **limits,
            )  # fmt: skip
            is_over = True
        except SeenError:
            pass
        except FloatingPointError:  # NaN or infinity, again and again
            diverged = True
        seconds, scores, step = time.monotonic() - started, seen[-1], run.logged_steps()
        if is_over:
            images = generate(run, DATASETS[case.dataset].images_scored, seed + 1000)
            scores = evaluate(images, case.dataset, dataset.pixels, seed=seed + 1000)
    return {
        **task(case, seed, precision),
        'step': step,
        'seconds': round(seconds),
        'collapsed': diverged or has_collapsed(scores, seen[0]),
        'scores': {score: round(scores[score], 4) for score in KEPT if score in scores},
    }


def epochs_of(case):
    """Return the epochs of a case: those of the notebook for a sample, of the recipe for a full set."""
    from facegen import notebook

    name = f'{case.dataset}_epochs'
    return (
        getattr(RECIPES[case.recipe], name) if case.data == 'full' else notebook.parameters()[name]
    )


def task(case, seed, precision):
    """Return what decides the numbers of a training, but for the machine, as JSON has it.

    Of the recipe, that is what differs from the textbook's.
    """
    recipe = asdict(settings_of(case, precision))
    settings = {
        'data': case.data,
        'looked_at': case.looked_at,
        'limits': case.limits or [['epoch_count', epochs_of(case)]],
        'recipe': {name: recipe[name] for name in recipe if recipe[name] != getattr(CLASSIC, name)},
    }
    return json.loads(json.dumps({'seed': seed, 'precision': precision, 'settings': settings}))


def identity(line):
    """Return what tells a training from others: all that decides its numbers."""
    names = 'case', 'seed', 'precision', 'settings', 'machine', 'cores'
    return json.dumps([line[name] for name in names], sort_keys=True)


def planned(cases, log, about, most_seeds=None, *, has_bfloat16=True):
    """Return the lines to make, as far as they are known before: those that the log lacks.

    `about` is what is common to all: the machine, and the cores of a training. Without bfloat16,
    'auto' is left out where there is 'float32', which it then is.
    """
    done = {identity(line) for line in parsed_lines(log, ())}
    plan = [
        {'benchmark': 'robust', 'case': name, **task(CASES[name], seed, precision), **about}
        for name in cases
        for seed in range(CASES[name].seeds)[:most_seeds]
        for precision in CASES[name].precisions[: None if has_bfloat16 else 1]
    ]
    return [line for line in plan if identity(line) not in done]


class Trainings:
    """Trains in processes, some at a time, each on its share of the cores, and logs what comes out."""

    def __init__(self, options, cores):
        """Share out the cores; `cores` is empty where a process cannot be bound to some."""
        self.options, self.lock, self.children = options, threading.Lock(), set()
        self.shares = SimpleQueue()
        for number in range(options.jobs):
            self.shares.put(cores[number :: options.jobs])

    def train(self, line):
        """Train, and log the whole of a planned line; return whether that worked."""
        cores = self.shares.get()
        job = [line['case'], line['seed'], line['precision']]
        command = [sys.executable, __file__, '--train', json.dumps(job)]
        command += ['--cores', *map(str, cores), '--data-dir', str(self.options.data_dir)]
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        self.children.add(child)
        output, errors = child.communicate()
        self.children.remove(child)
        self.shares.put(cores)
        if child.returncode:
            print(f'{job} ended with {child.returncode}:\n{errors[-2000:]}', file=sys.stderr)
            return False
        line |= json.loads(output.splitlines()[-1])
        with self.lock:
            append_line(self.options.log, line)
            print(to_json(line), flush=True)
        return True

    def run(self, plan):
        """Train all of a plan; return whether all of it worked."""
        with ThreadPoolExecutor(self.options.jobs) as pool:
            try:
                return all(list(pool.map(self.train, plan)))
            finally:  # also after Ctrl-C
                pool.shutdown(wait=False, cancel_futures=True)
                for child in list(self.children):
                    child.terminate()


def measure(options):
    """Train what the log lacks, and log it; return the exit status."""
    from facegen import session

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
    num_cores = session.cpu_count()
    if not 1 <= options.jobs <= num_cores:
        raise SystemExit(f'--jobs is {options.jobs}; expected 1 to {num_cores}, one a core')
    has_bfloat16 = session.uses_bfloat16('auto')
    if not has_bfloat16:
        print("precision 'auto' is float32 on this machine, and not trained twice", file=sys.stderr)
    about = {'machine': machine(), 'cores': num_cores // options.jobs}
    if options.log.exists():  # what was cut is gone
        keep_lines(options.log, parsed_lines(options.log, ()))
    plan = planned(options.cases, options.log, about, options.seeds, has_bfloat16=has_bfloat16)
    return 0 if Trainings(options, cores).run(plan) else 1


def report(lines):
    """Return, for each machine, its name and its table."""
    names = dict.fromkeys((line['machine'], line['cores']) for line in lines)
    return '\n\n'.join(
        f'{name}; {cores} core{"s" if cores > 1 else ""} a training:\n\n'
        + table([line for line in lines if (line['machine'], line['cores']) == (name, cores)])
        for name, cores in names
    )


def table(lines):
    """Return a Markdown table of what was trained in today's settings: medians, and the worst."""
    rows = [
        ['case', 'arithmetic', 'trainings', 'collapsed', 'Fréchet distance: median', 'worst',
         'confident: median', 'worst', 'precision', 'recall'],
    ]  # fmt: skip
    rows.append(['---'] * len(rows[0]))
    columns = (
        ('frechet_distance', 2, statistics.median),
        ('frechet_distance', 2, max),
        ('confident_share', 3, statistics.median),
        ('confident_share', 3, min),
        ('precision', 2, statistics.median),
        ('recall', 2, statistics.median),
    )
    for name, case in CASES.items():
        for precision in case.precisions:
            settings = task(case, 0, precision)['settings']
            chosen = [
                line
                for line in lines
                if (line['case'], line['precision'], line['settings'])
                == (name, precision, settings)
            ]
            if not chosen:
                continue
            is_bfloat16 = precision == 'auto' and 'bfloat16' in chosen[0]['machine']
            words = 'bfloat16' if is_bfloat16 else 'float32'
            failed = sum(line['collapsed'] for line in chosen)
            cells = [summary(chosen, *column) for column in columns]
            rows.append([f'`{name}`', words, str(len(chosen)), str(failed), *cells])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def summary(lines, score, digits, statistic):
    """Return a statistic of a score; nothing where no training has that score."""
    values = [line['scores'][score] for line in lines if score in line['scores']]
    return f'{statistic(values):.{digits}f}' if values else ''


def main():
    """Measure, or make a table of the log."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument(
        '--seeds', type=int, choices=range(1, 21), metavar='1…20', help='so many, or all there are'
    )
    parser.add_argument('--data-dir', default=ROOT / 'data')
    parser.add_argument('--log', type=Path, default=LOG)
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument('--table', action='store_true')
    parser.add_argument('--train', type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument('--cores', type=int, nargs='*', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(report(list(parsed_lines(options.log, ()))))
        return 0
    if options.train:
        if options.cores:
            os.sched_setaffinity(0, options.cores)
        name, seed, precision = options.train
        print(json.dumps(trained(CASES[name], seed, precision, options.data_dir)))
        return 0
    return measure(options)


if __name__ == '__main__':
    sys.exit(main())
