"""Many trainings, each in a process of its own, for the benchmarks robust.py and studies.py.

A benchmark is a table of cases. Each is trained with many seeds, in float32 and with precision 'auto'. When
a training run is over, one JSON line is printed and appended to the log; runs that the log has already, of
this machine and in the same settings, are skipped, so an interrupted benchmark goes on where it was.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from measuring import ROOT, in_process, machine

sys.path.insert(0, str(ROOT))

from facegen.data.sources import DATASETS
from facegen.files import append_line, keep_lines, parsed_lines, to_json
from facegen.recipes import CLASSIC, recipe_named

PRECISIONS = ('float32', 'auto')
KEPT = (
    'frechet_distance', 'kernel_distance', 'confident_share', 'precision', 'recall', 'class_kl',
    'diversity', 'nearest_ratio', 'nearer_than_real',
)  # fmt: skip
JUDGED = 600  # generated images, by a network that is not ours
MORE = 16_000  # faces of the folder of more faces are trained on; the others are held out


class Case(NamedTuple):
    """Trainings that differ in seed and precision only."""

    recipe: str
    dataset: str  # 'mnist', 'celeba', or 'folder': more faces (see `more_faces`)
    seeds: int  # how many, from 0 on
    data: str = 'sample'  # or 'full'
    looked_at: int | None = None  # step at which its quick evaluation counts; None: the end
    changes: tuple = ()  # settings of the recipe that are replaced, as (name, value)
    times_rate: float = 1.0  # by which its learning rate is multiplied
    limits: tuple = ()  # of `train`, in place of the epochs, as (name, value)
    precisions: tuple = PRECISIONS
    image_size: int = 28
    show_every: int = 500  # steps between two evaluations, and two checkpoints
    images: int | None = None  # the first so many of the sample faces are trained on; None: all


class SeenError(Exception):
    """Ends a training run at the evaluation that counts."""


def settings_of(case, precision):
    """Return the recipe of a case."""
    recipe = recipe_named(case.recipe, case.image_size)
    rate = recipe.learning_rate * case.times_rate
    return replace(recipe, **{'precision': precision, 'learning_rate': rate} | dict(case.changes))


def opened(case, seed, data_dir):
    """Return the data set that a case is trained on, and two arrays of real images to compare with.

    The first are all there are of MNIST or of the faces, so that trainings on parts of these and on others can be
    compared; the second are those of `more_faces` that are held out, or None where there are none.
    """
    import helper

    options = {'width': case.image_size, 'height': case.image_size, 'seed': seed}
    name = 'mnist' if case.dataset == 'mnist' else 'celeba'
    files = helper.download_extract(name, data_dir, data=case.data)
    dataset = whole = helper.Dataset(name, files, **options)
    more, held_out = [], None
    if name == 'celeba':
        more = more_faces(data_dir, case.image_size, required=case.dataset == 'folder')
    if more:
        held_out = helper.Dataset('folder', more[MORE:], **options).pixels
    if case.dataset == 'folder':
        dataset = helper.Dataset('folder', more[:MORE], **options)
    elif case.images:
        some = sorted(files.glob('*.jpg'))[: case.images]
        dataset = helper.Dataset(name, some, **options)
    return dataset, whole.pixels, held_out


def more_faces(data_dir, image_size, *, required):
    """Return the files of the folder of more faces that suit a size, in their order.

    The folder is `more_faces_108` in that of the data, or, for images of more than 32 pixels, `more_faces_140`:
    other faces than those of the sample, as PNG files, cut to squares that show what the central 108x108
    or 140x140 pixels of CelebA's aligned images do. Of the full set, in FILES by their numbers, these are
    the test partition's:

        for file in FILES[182_637:]:
            image = Image.open(file).crop((19, 39, 159, 179))  # for 108: (35, 55, 143, 163)
            image.save(folder / f'{file.stem}.png')

    Raises SystemExit where there are too few to hold some out; there may be none, unless they are required.
    """
    from facegen.data.crop import default_crop

    folder = Path(data_dir, f'more_faces_{default_crop(image_size, image_size)}')
    files = sorted(folder.glob('*.png'))
    if len(files) <= MORE and (files or required):
        raise SystemExit(
            f'found {len(files):,} PNG files in {folder}; put more than {MORE:,} faces into it'
        )
    return files


def trained(case, seed, precision, data_dir, *, run_dir=None, judge_python=None):
    """Train once, in this process; return what there is to log of it.

    The run is kept at `run_dir`, and if it lies there already, the training goes on where it was
    stopped. `judge_python` is the interpreter of `judged`, which looks at the images of the end.

    Raises SystemExit where a signal stops the training.
    """
    from facegen import notebook, training
    from facegen.evaluation import QuickEvaluation, evaluate, has_collapsed
    from facegen.metrics import memorising
    from facegen.run import RunFolder
    from facegen.sampling import generate
    from facegen.stopping import stop_signals

    recipe = settings_of(case, precision)
    dataset, reference, held_out = opened(case, seed, data_dir)
    quick = QuickEvaluation(case.dataset, dataset.pixels)

    def look(images):
        seen.append(quick(images))
        if case.looked_at and len(seen) == 2:  # the first is that of step 0
            raise SeenError
        return seen[-1]

    functions = notebook.definitions()
    limits = {'epoch_count': None, **dict(case.limits or [('epoch_count', epochs_of(case))])}
    with ExitStack() as stack:
        run_dir = run_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()), 'run')
        run, is_over, diverged = RunFolder(Path(run_dir)), False, False
        seen, started = run.scores(), time.monotonic() - seconds_of(run)
        stop = stack.enter_context(stop_signals())
        stack.enter_context(patch.object(training, 'stop_signals', lambda: nullcontext(stop)))
        try:
            functions.train(
                batch_size=recipe.batch_size, z_dim=recipe.z_dim, beta1=recipe.beta1,
                learning_rate=recipe.learning_rate, get_batches=dataset.get_batches,
                data_shape=dataset.shape, data_image_mode=dataset.image_mode, recipe=recipe,
                seed=seed, run_dir=run.path, resume=True, evaluation=look,
                show_every=case.looked_at or case.show_every, **limits,
            )  # fmt: skip
            is_over = True
            if stop.requested:
                raise SystemExit(f'stopped after step {run.logged_steps():,}')
        except SeenError:
            pass
        except FloatingPointError:  # NaN or infinity, again and again
            diverged = True
        seconds, scores, step = time.monotonic() - started, seen[-1], run.logged_steps()
        others = {}
        if is_over:
            count, judge_seed = DATASETS[case.dataset].images_scored, seed + 1000
            images = generate(run, count, judge_seed)

            def compared(images, real):
                return evaluate(images, case.dataset, real, seed=judge_seed)

            scores = compared(images, reference)
            if dataset.pixels is not reference:
                is_mirrored = DATASETS[case.dataset].has_mirror_images
                scores |= memorising(images, dataset.pixels, seed=judge_seed, mirrored=is_mirrored)
            if judge_python:
                others['judged'] = judged(images[:JUDGED], reference, data_dir, judge_python)
            if held_out is not None:
                of_trained_on = compared(dataset.pixels[:count], held_out)
                others['held_out'] = kept(compared(images, held_out)) | {
                    'frechet_distance_of_trained_on': round(of_trained_on['frechet_distance'], 4)
                }
                if judge_python:
                    judgement = judged(images[:JUDGED], held_out, data_dir, judge_python)
                    others['held_out']['judged'] = judgement
    return {
        **task(case, seed, precision),
        'step': step,
        'seconds': round(seconds),
        'collapsed': diverged or has_collapsed(scores, seen[0]),
        'scores': kept(scores),
        **others,
    }


def kept(scores):
    """Return those of the scores that are logged, rounded."""
    return {score: round(scores[score], 4) for score in KEPT if score in scores}


def seconds_of(run):
    """Return how long was trained before, up to the checkpoint that the training goes on from."""
    try:
        return run.position(run.saved_step()).seconds
    except FileNotFoundError:
        return 0.0


def judged(images, real, data_dir, python):
    """Return what `judge.py` says of images beside real ones; its interpreter has what it needs.

    It keeps what it has seen in the folder `judged` of that of the data.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, 'images.npy'), Path(folder, 'real.npy')
        for file, pixels in zip(files, (images, real), strict=True):
            np.save(file, pixels)
        judge = Path(__file__).with_name('judge.py')
        cache = Path(data_dir, 'judged').resolve()  # it runs in another folder
        return in_process(judge, *files, cache, python=python)


def epochs_of(case):
    """Return the epochs of a case: those of the notebook for a sample, of the recipe for a full set."""
    from facegen import notebook

    name = f'{case.dataset}_epochs'
    return (
        getattr(recipe_named(case.recipe), name)
        if case.data == 'full'
        else notebook.parameters()[name]
    )


def task(case, seed, precision):
    """Return what decides the numbers of a training run, but for the machine, as JSON has it.

    Of the recipe, that is what differs from the textbook's.
    """
    recipe = asdict(settings_of(case, precision))
    of_part = {'images': case.images} if case.images else {}
    settings = {
        'data': case.data,
        **of_part,
        'looked_at': case.looked_at,
        'limits': case.limits or [['epoch_count', epochs_of(case)]],
        'recipe': {name: recipe[name] for name in recipe if recipe[name] != getattr(CLASSIC, name)},
    }
    return json.loads(json.dumps({'seed': seed, 'precision': precision, 'settings': settings}))


def identity(line):
    """Return what tells a training run from others: all that decides its numbers, but for the code.

    After a change of the code that changes numbers, remove the lines of the log that it concerns.
    """
    names = 'case', 'seed', 'precision', 'settings', 'machine', 'cores'
    return json.dumps([line[name] for name in names], sort_keys=True)


def name_of(line):
    """Return the name of a training run's folder, which differs where `identity` does."""
    digest = hashlib.sha256(identity(line).encode()).hexdigest()[:8]
    return f'{line["case"]}-{line["seed"]}-{line["precision"]}-{digest}'


def planned(benchmark, cases, log, about, most_seeds=None, *, has_bfloat16=True):
    """Return the lines to make, as far as they are known before: those that the log lacks.

    `cases` are {name: Case}; `about` is what is common to all: the machine, and the cores of a training run.
    Without bfloat16, 'auto' is left out where there is 'float32', which it then is.
    """
    done = {identity(line) for line in parsed_lines(log, ())}
    plan = [
        {'benchmark': benchmark, 'case': name, **task(case, seed, precision), **about}
        for name, case in cases.items()
        for seed in range(case.seeds)[:most_seeds]
        for precision in case.precisions[: None if has_bfloat16 else 1]
    ]
    return [line for line in plan if identity(line) not in done]


def of_case(lines, name, case, precision):
    """Return those of logged lines that a case has made in today's settings."""
    settings = task(case, 0, precision)['settings']
    wanted = name, precision, settings
    return [line for line in lines if (line['case'], line['precision'], line['settings']) == wanted]


class Trainings:
    """Trains in processes, some at a time, each on its share of the cores, and logs what comes out."""

    def __init__(self, script, options, cores):
        """Share out the cores; `cores` is empty where a process cannot be bound to some."""
        self.script, self.options = script, options
        self.lock, self.children, self.is_over = threading.Lock(), set(), False
        self.shares = SimpleQueue()
        for number in range(options.jobs):
            self.shares.put(cores[number :: options.jobs])

    def train(self, line):
        """Train, and log the whole of a planned line; return whether that worked."""
        cores = self.shares.get()
        job = [line['case'], line['seed'], line['precision']]
        command = [sys.executable, self.script, '--train', json.dumps(job)]
        command += ['--cores', *map(str, cores), '--data-dir', str(self.options.data_dir)]
        if self.options.runs:
            command += ['--run-dir', str(self.options.runs / name_of(line))]
        if self.options.judge_python:
            command += ['--judge-python', self.options.judge_python]
        pipe = subprocess.PIPE
        with self.lock:
            if self.is_over:
                return False
            child = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
            self.children.add(child)
        output, errors = child.communicate()
        with self.lock:
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
                with self.lock:
                    self.is_over = True
                    for child in self.children:
                        child.terminate()


def measure(script, cases, options):
    """Train what the log lacks of the chosen cases, and log it; return the exit status."""
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
    chosen = {name: cases[name] for name in options.cases}
    plan = planned(
        Path(script).stem, chosen, options.log, about, options.seeds, has_bfloat16=has_bfloat16
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return 0 if Trainings(script, options, cores).run(plan) else 1


def report(lines, table):
    """Return, for each machine, its name and its table, which `table` makes of its lines."""
    names = dict.fromkeys((line['machine'], line['cores']) for line in lines)
    return '\n\n'.join(
        f'{name}; {cores} core{"s" if cores > 1 else ""} a training run:\n\n'
        + table([line for line in lines if (line['machine'], line['cores']) == (name, cores)])
        for name, cores in names
    )


def main(script, about, cases, table, *, default=None):
    """Measure the cases of a benchmark, or make a table of its log; return the exit status.

    Unless some are asked for, those named in `default` are measured, or all.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--cases', nargs='+', choices=cases, default=default or list(cases))
    parser.add_argument(
        '--seeds', type=int, choices=range(1, 21), metavar='1…20', help='so many, or all there are'
    )
    parser.add_argument('--data-dir', default=ROOT / 'data')
    parser.add_argument('--log', type=Path, default=Path(script).with_suffix('.jsonl'))
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time')
    parser.add_argument(
        '--runs',
        type=Path,
        help='keep run folders here, and go on with those that were stopped; '
        'after a change of the code, choose another',
    )
    parser.add_argument(
        '--judge-python',
        help='a Python with dlib, which judges faces too (see judge.py); runs that are in the log '
        'already are not judged later',
    )
    parser.add_argument('--table', action='store_true')
    parser.add_argument('--train', type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument('--run-dir', help=argparse.SUPPRESS)
    parser.add_argument('--cores', type=int, nargs='*', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(report(list(parsed_lines(options.log, ())), table))
        return 0
    if options.train:
        if options.cores:
            os.sched_setaffinity(0, options.cores)
        name, *rest = options.train
        line = trained(
            cases[name], *rest, options.data_dir, run_dir=options.run_dir,
            judge_python=options.judge_python,
        )  # fmt: skip
        print(json.dumps(line))
        return 0
    return measure(script, cases, options)
