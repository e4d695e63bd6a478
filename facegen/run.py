"""The folder of one training run: its configuration, log, scores, sample grids and weights.

Whatever is written here appears under its name when it is complete, or is appended in lines of which
the last may be cut (facegen/files.py).
"""

import itertools
import json
import math
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from facegen.data.crop import FACE_SIZE
from facegen.files import (
    LOCK,
    PARTIAL,
    SOFT_LOCK,
    acquired,
    append_line,
    complete,
    expanded,
    flush_to_disk,
    keep_lines,
    parsed_lines,
    to_json,
    undamaged_lines,
    write_complete,
    writing,
)
from facegen.recipes import Recipe, renamed

KEPT = 2  # last checkpoints: an older one helps where the newest is damaged
GENERATOR = 'generator.meta'
WRITING = '.writing'  # a checkpoint that is being written
LIMITS = ('epoch_count', 'max_steps', 'minutes')  # when a training run ends
# Settings that do not change the results, including those of earlier versions
DECIDE_NOTHING = ('run_dir', 'print_every', 'tensorboard', 'steps_per_call', 'data_on_device')
VERSIONS = ('tensorflow', 'python', 'device')
LOGGED = ('step', 'd_loss', 'g_loss')  # numbers in every line of log.jsonl
SCORED = ('step', 'frechet_distance')  # likewise of scores.jsonl


@dataclass(frozen=True)
class Position:
    """How far a training run has got: with its variables, all that it needs to go on."""

    step: int = 0  # updates of both networks
    epoch: int = 0  # from which batches are taken, counted from 0
    batch: int = 0  # how many of that epoch's batches were taken
    seconds: float = 0.0  # that the training took
    divergences: int = 0  # each goes on with other random numbers


START = Position()


def by_step(files):
    """Return [(step, file)] of those files that are named `step_NUMBER.*`, lowest step first."""
    named = ((re.fullmatch(r'step_(\d{6,18})', file.stem), file) for file in files)
    return sorted((int(match[1]), file) for match, file in named if match)


def flattened(config):
    """Return a configuration with its settings of recipe and data as 'recipe.NAME', 'data.NAME'."""
    # Of settings that were added after that training
    defaults = {'recipe': json.loads(to_json(Recipe())), 'data': {'crop': FACE_SIZE}}
    flat = {}
    for group, value in config.items():
        if group in defaults and isinstance(value, dict):
            settings = defaults[group] | value
            flat |= {f'{group}.{name}': setting for name, setting in settings.items()}
        else:
            flat[group] = value
    return flat


def differences(stored, wanted, names=None):
    """Return lines 'NAME is A, was B' of settings in which two configurations differ."""
    stored, wanted = flattened(stored), flattened(wanted)
    names = sorted(stored.keys() | wanted.keys()) if names is None else names
    absent = 'not given'
    return [
        f'{name} is {wanted.get(name, absent)!r}, was {stored.get(name, absent)!r}'
        for name in names
        if wanted.get(name, absent) != stored.get(name, absent)
    ]


def hindrances(stored, wanted):
    """Return the `differences` that keep a run from being continued.

    A run may end sooner or later than planned, unless its learning rate falls towards its end.
    """
    names = set(flattened(stored) | flattened(wanted)) - {*DECIDE_NOTHING, *VERSIONS}
    if not flattened(stored).get('recipe.rate_decay'):
        names -= {*LIMITS}
    return differences(stored, wanted, sorted(names))


def named(path):
    """Return a path with a name to put a number after, which '.' lacks."""
    path = expanded(path)
    return path if path.name else path.resolve()


def is_empty(folder):
    """Tell whether a folder holds nothing, but for what a killed process may leave at its start."""
    leftovers = LOCK, SOFT_LOCK
    return all(file.name in leftovers or file.name.endswith(PARTIAL) for file in folder.iterdir())


class RunFolder:
    """The files of one run.

    `config.json`; `generator.meta`, the graph that draws its samples; `log.jsonl`, the losses of each
    step; `scores.jsonl`, how good the images were; `samples/step_000000.png`…; `checkpoints/`, the
    last weights; `best/`, those with the best score; `figures/`, what `figures.save_figures` has drawn;
    `events.out.tfevents.…`, the same for TensorBoard, where a training run was told to write it. As a
    context manager, it is released to other processes at the end.
    """

    def __init__(self, path):
        """Name the folder at `path`; nothing is read or written yet."""
        self.path = Path(path)
        self.lock = None
        self.events = None  # `tensorboard.Events`, if they are to be written too

    # Opening ------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path, config, *, resume=False):
        """Return a run folder that no other process writes to: a new one, or one to go on with.

        Without `resume` it is `create`d. `resume=True` takes the newest of `path`, `path-2`… that was
        made with the same settings; a path instead takes that folder. Where there is no run yet, a
        new one is made. Limits of the training may differ, unless the learning rate depends on them.

        Raises ValueError, with the differences, if there are only runs with other settings;
        BlockingIOError while another process trains there; FileNotFoundError for a folder that holds
        something else; OSError where nothing can be written.
        """
        if not resume:
            return cls.create(path, config)
        wanted = json.loads(to_json(config))
        if resume is True:
            runs = cls.family(path)
        else:
            path = expanded(resume)
            runs = [cls(path)] if path.is_dir() and not is_empty(path) else []
        if not runs:
            return cls.create(path, config)
        fitting = (run for run in runs if not hindrances(run.config(), wanted))
        run = next(fitting, None)
        if run is None:
            text = '; '.join(hindrances(runs[0].config(), wanted))
            raise ValueError(
                f'{runs[0].path} cannot be continued with other settings: {text}; use the same, or '
                'leave resume out to start a new run'
            )
        return run.continued(wanted)

    @classmethod
    def create(cls, path, config):
        """Make a new run folder at `path`, or at `path-2`, `path-3`… where something lies already.

        Raises OSError where it cannot be written.
        """
        path = named(path)
        numbered = (path.with_name(f'{path.name}-{number}') for number in itertools.count(2))
        run = next(run for run in map(cls, itertools.chain([path], numbered)) if run.claim())
        run.write_config(config)
        run.make_folders()
        return run

    @classmethod
    def family(cls, path):
        """Return the runs at `path`, `path-2`, `path-3`…, the newest first."""
        path = named(path)
        pattern = re.compile(re.escape(path.name) + r'(?:-(\d{1,9}))?')
        found = []
        for folder in path.parent.iterdir() if path.parent.is_dir() else ():
            match, config = pattern.fullmatch(folder.name), folder / 'config.json'
            if match and config.is_file():
                try:
                    cls(folder).config()
                except ValueError as error:
                    print(f'{folder} is left out: {error}')
                    continue
                found.append((config.stat().st_mtime, int(match[1] or 1), folder))
        return [cls(folder) for *_, folder in sorted(found, reverse=True)]

    def claim(self):
        """Lock the folder, which is made if need be; tell whether it is empty and now ours."""
        try:
            str(self.path.absolute()).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f'{str(self.path)!a} has bytes that are no text; choose another run folder'
            ) from error
        if self.path.is_file():
            raise NotADirectoryError(f'{self.path} is a file; choose another run folder')
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if is_empty(self.path) and self.acquire():
                if is_empty(self.path):
                    return True
                self.release()
        return False

    def continued(self, config):
        """Lock this run and return it; record changed limits, say which versions differ."""
        with writing(self.path):
            free = self.acquire()
        if not free:
            raise BlockingIOError(f'{self.path} is in use: another process trains there; end it')
        stored = self.config()
        if text := '; '.join(differences(stored, config, VERSIONS)):
            print(f'{self.path}: results may differ from those of an uninterrupted run: {text}')
        if text := '; '.join(differences(stored, config, LIMITS)):
            print(f'{self.path}: {text}')
            self.write_config(stored | {name: config[name] for name in LIMITS if name in config})
        self.make_folders()
        return self

    def acquire(self):
        """Lock the folder against other processes until `release`; False if one has locked it."""
        self.lock = acquired(self.path)
        return self.lock is not None

    def release(self):
        """Let other processes write to the folder."""
        if self.lock:
            self.lock.release()

    def __enter__(self):
        """Return the run itself."""
        return self

    def __exit__(self, *_):
        """Release the folder."""
        try:
            if self.events:
                self.events.close()
        finally:
            self.release()

    def make_folders(self):
        """Make the folders inside."""
        with writing(self.path):
            for name in 'samples', 'checkpoints':
                (self.path / name).mkdir(exist_ok=True)

    def write(self, name, content):
        """Make the bytes `content` all that a file of the run holds, at once."""
        file = self.path / name
        with writing(file):
            write_complete(file, content)

    # Configuration ------------------------------------------------------------------------------

    def write_config(self, config):
        """Write `config.json`, complete or not at all."""
        self.write('config.json', (to_json(config, indent=2) + '\n').encode())

    def config(self):
        """Return what `create` was given.

        Raises FileNotFoundError where there is no run, ValueError where its file is damaged.
        """
        file = self.path / 'config.json'
        try:
            config = json.loads(file.read_text(encoding='utf-8'))
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f'{self.path} is no run folder: it has no config.json; '
                'give the folder that a training run printed or returned'
            ) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{file} is damaged ({error}); train again') from error
        if not isinstance(config, dict):
            raise ValueError(f'{file} is damaged (it holds no settings); train again')
        if isinstance(recipe := config.get('recipe'), dict):
            config['recipe'] = {renamed(name): renamed(value) for name, value in recipe.items()}
        return config

    def recipe(self):
        """Return the recipe of the configuration; raises like `config`."""
        try:
            return Recipe(**self.config()['recipe'])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{self.path} has a damaged config.json ({error!r})') from error

    def keep_generator(self, meta_graph):
        """Store what draws the samples of this run, a `sampling.sampling_graph`, unless it is stored."""
        stored = meta_graph.SerializeToString(deterministic=True)
        if stored != self.generator():
            self.write(GENERATOR, stored)

    def generator(self):
        """Return the bytes of `keep_generator`, None where a run made before that has none."""
        file = self.path / GENERATOR
        return file.read_bytes() if file.exists() else None

    # Log and scores -----------------------------------------------------------------------------

    def log(self, **values):
        """Append one line of JSON to the log."""
        append_line(self.path / 'log.jsonl', values)
        if self.events:
            self.events.add_numbers('training', values['step'], values)

    def history(self):
        """Return the logged lines, oldest first, as dictionaries; raise ValueError if damaged."""
        return list(parsed_lines(self.path / 'log.jsonl', LOGGED))

    def logged_steps(self):
        """Return the number n such that the log begins with the steps 1 to n, undamaged."""
        lines = undamaged_lines(self.path / 'log.jsonl', LOGGED)
        steps = itertools.takewhile(
            lambda pair: pair[0] == pair[1]['step'], enumerate(lines, start=1)
        )
        return sum(1 for _ in steps)

    def has_scores(self, step):
        """Tell whether the scores of `step` are noted already."""
        return any(line['step'] == step for line in self.scores())

    def add_scores(self, step, scores):
        """Note the scores of the images at `step`, and keep its checkpoint if it is the best yet.

        The best has the lowest 'frechet_distance'.
        """
        kept = {step for step, _ in self.index_files('best')}
        earlier = (line['frechet_distance'] for line in self.scores() if line['step'] in kept)
        best = min(filter(math.isfinite, earlier), default=math.inf)
        if scores['frechet_distance'] < best:
            self.keep_as_best(step)  # first, so that no score promises weights that are not there
        if self.events:
            self.events.add_numbers('scores', step, scores)
            self.events.flush()
        append_line(self.path / 'scores.jsonl', {'step': step, **scores})

    def scores(self):
        """Return the lines of `add_scores`, oldest first; none if nothing was evaluated.

        Raises ValueError if they are damaged.
        """
        return list(parsed_lines(self.path / 'scores.jsonl', SCORED))

    def cut_back(self, step, show_every):
        """Forget what lies beyond `step`, so that a training run can go on from there.

        Grids of steps that are not a multiple of `show_every` go too: a stop has left them. Prints
        a message where the log does not reach that far.
        """
        for name, numbers in (
            ('log.jsonl', LOGGED),
            ('scores.jsonl', SCORED),
        ):
            file = self.path / name
            if file.exists():
                lines = undamaged_lines(file, numbers)
                keep_lines(file, [line for line in lines if line['step'] <= step])
        if (logged := self.logged_steps()) < step:
            print(
                f'{self.path / "log.jsonl"} is damaged: it lacks steps {logged + 1:,} to {step:,}'
            )
        for at, file in self.samples():
            if at > step or at % show_every:
                file.unlink()
        best = [f'step_{at:06d}' for at, _ in self.index_files('best') if at <= step]
        delete_checkpoints(self.path / 'best', best)
        self.keep_newest_checkpoints(up_to=step)
        for folder in 'checkpoints', 'best':  # of a killed process
            shutil.rmtree(self.path / folder / WRITING, ignore_errors=True)

    # Samples ------------------------------------------------------------------------------------

    def add_samples(self, step, grid):
        """Save the Pillow image `grid` as the samples of `step`."""
        path = self.path / 'samples' / f'step_{step:06d}.png'
        with writing(path), complete(path) as partial:
            grid.save(partial, 'PNG')
        if self.events:
            self.events.add_grid(step, path)

    def samples(self):
        """Return [(step, file of its grid)], oldest first."""
        return by_step((self.path / 'samples').glob('step_*.png'))

    # Checkpoints --------------------------------------------------------------------------------

    def checkpoint(self, weights='last'):
        """Return the name of the last or the best checkpoint as TensorFlow's Saver wants it.

        Raises FileNotFoundError if the run has saved none.
        """
        return str(self.checkpoints(weights)[-1][1].with_suffix(''))

    def saved_step(self, weights='last'):
        """Return the step of the last or the best checkpoint; raises like `checkpoint`."""
        return self.checkpoints(weights)[-1][0]

    def checkpoints(self, weights='last'):
        """Return [(step, index file)], oldest first, of `weights`: 'last' or 'best'.

        Raises like `checkpoint`.
        """
        saved = self.index_files({'last': 'checkpoints', 'best': 'best'}[weights])
        if not saved and weights == 'best':
            raise FileNotFoundError(
                f'{self.path} holds no best weights: its images were not evaluated; use the last'
            )
        if not saved:
            raise FileNotFoundError(f'{self.path} holds no weights yet; let its training finish')
        return saved

    def index_files(self, folder):
        """Return [(step, index file)] of the complete checkpoints in `folder`, oldest first."""
        return by_step((self.path / folder).glob('step_*.index'))

    @contextmanager
    def new_checkpoint(self, position):
        """Yield the name under which TensorFlow's Saver is to write the weights of a position.

        They appear in `checkpoints/` when they are complete, the index file last; then all but the
        newest of the older ones are deleted.
        """
        folder = self.path / 'checkpoints'
        name = f'step_{position.step:06d}'
        with writing(folder), emptied(folder / WRITING) as unfinished:
            yield str(unfinished / name)
            (unfinished / f'{name}.json').write_text(to_json(position) + '\n', encoding='utf-8')
            move_checkpoint(unfinished, folder)
        self.keep_newest_checkpoints()

    def keep_newest_checkpoints(self, up_to=math.inf):
        """Delete all checkpoints but the last ones of the steps up to `up_to`."""
        folder = self.path / 'checkpoints'
        steps = [step for step, _ in self.index_files('checkpoints') if step <= up_to]
        kept = [f'step_{step:06d}' for step in steps[-KEPT:]]
        state = folder / 'checkpoint'  # where tf.train.latest_checkpoint looks
        text = ''.join(f'model_checkpoint_path: "{name}"\n' for name in kept[-1:]).encode()
        if not state.exists() or state.read_bytes() != text:
            self.write('checkpoints/checkpoint', text)
        delete_checkpoints(folder, kept)

    def position(self, step):
        """Return the position that the checkpoint of `step` was saved at.

        Raises ValueError if it is missing or damaged.
        """
        file = self.path / 'checkpoints' / f'step_{step:06d}.json'
        try:
            position = Position(**json.loads(file.read_text(encoding='utf-8')))
            values = [(getattr(position, field.name), field.type) for field in fields(Position)]
            right = all(type(value) in (int, kind) and 0 <= value < 2**53 for value, kind in values)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ValueError(f'{file} is damaged ({error!r})') from error
        if not right or position.step != step:
            raise ValueError(f'{file} is damaged ({position})')
        return position

    def keep_as_best(self, step):
        """Copy the checkpoint of `step` to `best/`; what was there goes when the copy is complete."""
        best, name = self.path / 'best', f'step_{step:06d}'
        with writing(best), emptied(best / WRITING) as unfinished:
            for file in (self.path / 'checkpoints').glob(f'{name}.*'):
                shutil.copyfile(file, unfinished / file.name)
            move_checkpoint(unfinished, best)
        delete_checkpoints(best, [name])


@contextmanager
def emptied(folder):
    """Yield a new folder in place of what a killed process has left; it is gone at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_checkpoint(source, target):
    """Move the files of a checkpoint from one folder to another, the index last: it is looked for."""
    for file in sorted(source.iterdir(), key=lambda file: file.suffix == '.index'):
        flush_to_disk(file)
        file.replace(target / file.name)


def delete_checkpoints(folder, kept):
    """Delete the checkpoints in `folder` but those with the names `kept`, the index files first."""
    others = [file for file in folder.glob('step_*.*') if file.name.split('.')[0] not in kept]
    for file in sorted(others, key=lambda file: file.suffix != '.index'):
        file.unlink()
