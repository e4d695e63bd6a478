"""How the notebook feels: how soon its images come, and what a preview costs.

Every measurement runs in a process of its own, those of images and previews in a kernel of
Jupyter, `--repeats` times. Prints one JSON line each, with median and spread:

    import     seconds of `import helper` in a fresh interpreter
    images   seconds from the start of a kernel that runs the notebook's cells to its first digits,
               its first faces, the first grid of the digits' training, drawn before the first step,
               and the next one, drawn after 500 steps or `--grid-every`; both where an earlier run
               has decoded the samples and where none has
    previews   milliseconds that a preview adds to a step, beside those of its checkpoint and of its
               evaluation, in the recipes `digits` and `faces`

    python benchmarks/feel.py [--measures import images previews] [--repeats 3] [--grid-every 500]
        [--data-dir data]

How long the whole notebook takes, and its memory, is measured by whole_notebook.py.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

from jupyter_client.manager import run_kernel

from measuring import ROOT, in_process, summary

sys.path.insert(0, str(ROOT))

import helper
from facegen import notebook
from facegen.run import RunFolder

FIRST = {  # of which cell the first image counts
    'digits': 'first digits',
    'faces': 'first faces',
    'mnist-run': 'first grid of the training',
}
TRAINED = 'first grid of trained networks'
STEPS_PER_EPOCH = 156  # of that training run
IMPORT = 'import time; t = time.perf_counter(); import helper; print(time.perf_counter() - t)'
WARM_UP, EVERY = 20, 5  # steps: that are not timed; from one preview to the next


def pictures_of(client, source):
    """Run code in a kernel; yield whenever it shows an image; raise RuntimeError where it fails."""
    request = client.execute(source)
    while True:
        message = client.get_iopub_msg(timeout=600)
        content = message['content']
        if message['parent_header'].get('msg_id') != request:
            continue
        if message['msg_type'] == 'error':
            raise RuntimeError('\n'.join(content['traceback']))
        if 'image/png' in content.get('data', {}):
            yield
        if content.get('execution_state') == 'idle':
            break
    # A kernel that gets the next request before it has replied to this one may overlook it.
    while client.get_shell_msg(timeout=600)['parent_header'].get('msg_id') != request:
        pass


def seconds_to_pictures(data_dir, grid_every):
    """Run the notebook up to its second grid or longer; return {picture: seconds from kernel start}."""
    seconds, started = {}, time.time()
    with tempfile.TemporaryDirectory() as folder, run_kernel(cwd=ROOT) as client:
        changes = {'data_dir': str(data_dir), 'runs_dir': folder, 'show_every': grid_every}
        changes['mnist_epochs'] = grid_every // STEPS_PER_EPOCH + 1
        for identifier, source in code_cells(changes):
            for _ in pictures_of(client, source):
                seconds.setdefault(identifier, time.time() - started)
            if identifier == list(FIRST)[-1]:
                break
        _, (_, trained), *_ = RunFolder(f'{folder}/mnist').samples()
        at_trained = trained.stat().st_mtime - started
    return {name: seconds[cell] for cell, name in FIRST.items()} | {TRAINED: at_trained}


def code_cells(changes):
    """Yield (identifier, source) of the notebook's code cells, with changed parameters."""
    for cell in json.loads(notebook.NOTEBOOK.read_text(encoding='utf-8'))['cells']:
        if cell['cell_type'] == 'code':
            yield cell['id'], ''.join(cell['source'])
        if cell['id'] == 'parameters':
            yield 'changes', '\n'.join(f'{name} = {value!r}' for name, value in changes.items())


def first_and_later_pictures(data_dir, grid_every):
    """Return {(run, name): seconds} of a run without decoded samples, and of one with them."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(Path(data_dir, 'celeba_sample'), Path(folder, 'celeba_sample'))
        runs = {run: seconds_to_pictures(folder, grid_every) for run in ('first', 'later')}
    return {(run, name): value for run, seconds in runs.items() for name, value in seconds.items()}


def previews_in_kernel(dataset_name, data_dir, count):
    """Return {part: milliseconds} that a kernel measures: only there, a preview is shown."""
    with tempfile.TemporaryDirectory() as folder, run_kernel(cwd=ROOT) as client:
        out = Path(folder, 'out.json')
        arguments = dataset_name, str(data_dir), folder, count
        shown = pictures_of(
            client,
            f'import json, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import feel\n'
            f'json.dump(feel.cost_of_previews(*{arguments!r}), open({str(out)!r}, "w"))',
        )
        if not list(shown):
            raise RuntimeError('the training runs showed no image')
        return json.loads(out.read_text())


def cost_of_previews(dataset_name, data_dir, folder, count):
    """Train three times, with one part more each time; return what each adds, in milliseconds."""
    from facegen.checkpoint import Checkpoints

    def added_by(*parts):
        return 1000 * seconds_of_preview(dataset_name, data_dir, f'{folder}/run', count, *parts)

    save, Checkpoints.save = Checkpoints.save, lambda *_: None
    preview = added_by()
    Checkpoints.save = save
    saved = added_by()
    evaluated = added_by('evaluation')
    return {'preview': preview, 'checkpoint': saved - preview, 'evaluation': evaluated - saved}


def seconds_of_preview(dataset_name, data_dir, run_dir, count, *parts):
    """Train with a preview every 5 steps; return by how much longer a step with one takes."""
    from facegen.evaluation import QuickEvaluation
    from facegen.recipes import RECIPES

    recipe = RECIPES[{'mnist': 'digits', 'celeba': 'faces'}[dataset_name]]
    dataset = helper.Dataset(dataset_name, data_path=data_dir, data='sample')
    asked_at = []

    def get_batches(batch_size):
        for images in dataset.get_batches(batch_size):
            asked_at.append(time.perf_counter())
            yield images

    notebook.definitions().train(
        None, recipe.batch_size, recipe.z_dim, recipe.learning_rate, recipe.beta1, get_batches,
        dataset.shape, dataset.image_mode, recipe=recipe, max_steps=WARM_UP + EVERY * count + 1,
        show_every=EVERY, run_dir=run_dir,
        evaluation=QuickEvaluation(dataset_name, dataset.pixels) if parts else None,
    )  # fmt: skip
    plain, with_preview = [], []
    for step in range(WARM_UP + 1, len(asked_at)):
        seconds = asked_at[step] - asked_at[step - 1]
        (plain if step % EVERY else with_preview).append(seconds)
    return statistics.median(with_preview) - statistics.median(plain)


def report(results, digits, unit, keys=('measure',)):
    """Print one line for each name of repeated results [{name: value}]; a name may be a tuple."""
    for name in results[0]:
        names = name if isinstance(name, tuple) else (name,)
        line = {'benchmark': 'feel', **dict(zip(keys, names, strict=True))}
        print(json.dumps(line | summary(unit, [r[name] for r in results], digits)), flush=True)


def main():
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ['import', 'images', 'previews']
    parser.add_argument('--measures', nargs='+', choices=known, default=known)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--grid-every', type=int, default=500, help='steps')
    parser.add_argument('--previews', type=int, default=20, help='in a training run')
    parser.add_argument('--data-dir', type=Path, default=ROOT / 'data')
    options = parser.parse_args()
    data_dir, repeats = options.data_dir.resolve(), range(options.repeats)
    if 'import' in options.measures:
        seconds = [{'import helper': in_process('-c', IMPORT)} for _ in repeats]
        report(seconds, 3, 'seconds')
    if options.measures != ['import']:
        with redirect_stdout(sys.stderr):
            helper.download_extract('celeba', data_dir, data='sample')
    if 'images' in options.measures:
        runs = [first_and_later_pictures(data_dir, options.grid_every) for _ in repeats]
        report(runs, 1, 'seconds', ('run', 'measure'))
    if 'previews' in options.measures:
        for name in 'mnist', 'celeba':
            costs = [previews_in_kernel(name, data_dir, options.previews) for _ in repeats]
            named = [{(name, part): value for part, value in cost.items()} for cost in costs]
            report(named, 1, 'milliseconds', ('dataset', 'measure'))


if __name__ == '__main__':
    main()
