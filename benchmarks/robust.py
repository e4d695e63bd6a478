"""How often a training fails: the recipes with many seeds, in float32 and in bfloat16.

A training that works for one seed on one processor may end in noise for another. So every case of
`CASES` is trained with many seeds, each training in a process of its own. Prints one JSON line per
training, and appends it to the log; what the log has of this machine, in the same settings, is left
out, so an interrupted run goes on where it was.

    python benchmarks/robust.py --data-dir data --jobs 2
    python benchmarks/robust.py --cases digits-start faces-end --log robust.jsonl
    python benchmarks/robust.py --table

`--jobs 2` runs two trainings at a time, each on a share of the cores, which makes more
of them an hour than one by one on all. `--table` turns the log into the tables of RESULTS.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from measuring import ROOT, machine

sys.path.insert(0, str(ROOT))

from facegen.recipes import PUBLISHED, RECIPES

LOG = Path(__file__).with_suffix('.jsonl')
PRECISIONS = ('float32', 'auto')
EVALUATED = {'mnist': 10_000, 'celeba': 2000}  # pictures of a training that has ended
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
    'faces-start': Case('faces', 'celeba', 20, looked_at=250),
    'faces-end': Case('faces', 'celeba', 8),
    'faces-rate-double': Case('faces', 'celeba', 4, looked_at=250, times_rate=2),
    'faces-rate-half': Case('faces', 'celeba', 4, looked_at=250, times_rate=0.5),
    **{name: Case(name, 'mnist', 4, looked_at=500) for name in PUBLISHED},
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
    from facegen import notebook
    from facegen.evaluation import QuickEvaluation, evaluate, has_collapsed
    from facegen.run import RunFolder
    from facegen.sampling import generate

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
    epochs = notebook.parameters()[f'{case.dataset}_epochs']
    if case.data == 'full':
        epochs = getattr(recipe, f'{case.dataset}_epochs')
    limits = {'epoch_count': None if case.limits else epochs, **dict(case.limits)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = notebook.definitions().train(
                batch_size=recipe.batch_size, z_dim=recipe.z_dim, beta1=recipe.beta1,
                learning_rate=recipe.learning_rate, get_batches=dataset.get_batches,
                data_shape=dataset.shape, data_image_mode=dataset.image_mode, recipe=recipe,
                seed=seed, run_dir=Path(folder, 'run'), evaluation=look,
                show_every=case.looked_at or 500, **limits,
            )  # fmt: skip
        except (SeenError, FloatingPointError):  # seen enough, or diverged three times
            run = None
        seconds = time.monotonic() - started
        step, scores = case.looked_at, seen[-1]
        if run:
            step = RunFolder(run).saved_step()
            images = generate(RunFolder(run), EVALUATED[case.dataset], seed + 1000)
            scores = evaluate(images, case.dataset, dataset.pixels, seed=seed + 1000)
    return {
        'seed': seed,
        'precision': precision,
        'step': step,
        'seconds': round(seconds),
        'collapsed': has_collapsed(scores, seen[0]),
        'scores': {score: round(scores[score], 4) for score in KEPT if score in scores},
        'recipe': asdict(recipe),
    }


def identity(line):
    """Return what tells a training from others: the recipe in full, and the processor."""
    settings = json.dumps(line['recipe'], sort_keys=True)
    return line['case'], line['seed'], line['precision'], settings, line['machine']


def logged(log):
    """Return the lines of a log; none if there is no such file."""
    return [json.loads(line) for line in log.open()] if log.exists() else []


def planned(cases, log, this_machine, precisions, most_seeds=None):
    """Return (case, seed, precision) of what the log lacks, of at most so many seeds."""
    done = {identity(line) for line in logged(log)}
    plan = []
    for name in cases:
        for seed in range(CASES[name].seeds)[:most_seeds]:
            for precision in precisions:
                recipe = asdict(settings_of(CASES[name], precision))
                line = {'recipe': recipe, 'case': name, 'seed': seed, 'precision': precision}
                if identity(json.loads(json.dumps(line)) | {'machine': this_machine}) not in done:
                    plan.append((name, seed, precision))
    return plan


def in_a_process(job, cores, options):
    """Train in a process of its own, on some cores; return the line."""
    command = [sys.executable, __file__, '--train', json.dumps(job)]
    command += ['--cores', *map(str, cores), '--data-dir', options.data_dir]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{job} failed:\n{done.stderr[-2000:]}')
    line = json.loads(done.stdout.splitlines()[-1])
    return {'benchmark': 'robust', 'case': job[0], **line}


def measure(options):
    """Train what the log lacks, and log it."""
    from facegen import session

    this_machine = machine()
    precisions = PRECISIONS if session.uses_bfloat16('auto') else PRECISIONS[:1]
    if len(precisions) < len(PRECISIONS):
        print("this machine has no bfloat16: precision 'auto' is float32", file=sys.stderr)
    plan = planned(options.cases, options.log, this_machine, precisions, options.seeds)
    all_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
    shares = SimpleQueue()
    for number in range(options.jobs):
        shares.put(all_cores[number :: options.jobs])

    def one(job):
        cores = shares.get()
        try:
            return in_a_process(job, cores, options)
        finally:
            shares.put(cores)

    with ThreadPoolExecutor(options.jobs) as pool, options.log.open('a') as log:
        jobs = [pool.submit(one, job) for job in plan]
        try:
            for job in as_completed(jobs):
                text = json.dumps(job.result() | {'machine': this_machine})
                print(text, flush=True)
                log.write(text + '\n')
                log.flush()
        finally:
            pool.shutdown(cancel_futures=True)


def report(lines):
    """Return, for each machine, its name and its table."""
    machines = dict.fromkeys(line['machine'] for line in lines)
    return '\n\n'.join(
        f'{name}:\n\n{table([line for line in lines if line["machine"] == name])}'
        for name in machines
    )


def table(lines):
    """Return a Markdown table: for each case and precision, medians and the worst training."""
    rows = [
        ['case', 'arithmetic', 'trainings', 'collapsed', 'Fréchet distance: median', 'worst',
         'clear digits: median', 'worst', 'precision', 'recall'],
    ]  # fmt: skip
    rows.append(['---'] * len(rows[0]))
    for name, case in CASES.items():
        for precision in PRECISIONS:
            recipe = json.loads(json.dumps(asdict(settings_of(case, precision))))
            chosen = [
                line
                for line in lines
                if (line['case'], line['precision'], line['recipe']) == (name, precision, recipe)
            ]
            if not chosen:
                continue
            cells = [
                summary(chosen, score, digits, worst)
                for score, digits, worst in (
                    ('frechet_distance', 2, None),
                    ('frechet_distance', 2, max),
                    ('confident_share', 3, None),
                    ('confident_share', 3, min),
                    ('precision', 2, None),
                    ('recall', 2, None),
                )
            ]
            failed = sum(line['collapsed'] for line in chosen)
            rows.append([f'`{name}`', precision, str(len(chosen)), str(failed), *cells])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def summary(lines, score, digits, worst):
    """Return the median of a score, or the `worst`; nothing where a training does not have it."""
    values = [line['scores'][score] for line in lines if score in line['scores']]
    if len(values) < len(lines):
        return ''
    return f'{(worst or statistics.median)(values):.{digits}f}'


def main():
    """Measure, or make a table of the log."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument('--seeds', type=int, help='at most so many, the first (default: all)')
    parser.add_argument('--data-dir', default=ROOT / 'data')
    parser.add_argument('--log', type=Path, default=LOG)
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument('--table', action='store_true')
    parser.add_argument('--train', type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument('--cores', type=int, nargs='*', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(report(logged(options.log)))
        return
    if options.train:
        if options.cores:
            os.sched_setaffinity(0, options.cores)
        name, seed, precision = options.train
        print(json.dumps(trained(CASES[name], seed, precision, options.data_dir)))
        return
    measure(options)


if __name__ == '__main__':
    main()
