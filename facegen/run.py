"""The folder of one training run: its configuration, log, scores, sample grids and weights."""

import itertools
import json
import math
import shutil
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np


def to_json(value, **options):
    """Return JSON text, also of what `plain` knows."""
    return json.dumps(value, default=plain, **options)


def plain(value):
    """Return a dataclass as a dictionary, a number of numpy as Python's, a path as its name."""
    if is_dataclass(value):
        return asdict(value)
    return value.item() if isinstance(value, np.generic) else str(value)


def by_step(files):
    """Return [(step, file)] for files named `step_NUMBER.*`, lowest step first."""
    return sorted((int(file.stem.removeprefix('step_')), file) for file in files)


def append_line(file, values):
    """Append the dictionary `values` to a file as one line of JSON."""
    with file.open('a', encoding='utf-8') as lines:
        lines.write(to_json(values) + '\n')


def read_lines(file):
    """Return the dictionaries that `append_line` wrote, oldest first; none where there is no file."""
    if not file.exists():
        return []
    with file.open(encoding='utf-8') as lines:
        return [json.loads(line) for line in lines]


def claim(folder):
    """Make `folder` unless it is there, and tell whether it was empty and is now this process's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            return False
        (folder / 'checkpoints').mkdir()  # fails if another process was faster
    except FileExistsError:
        if folder.is_file():
            raise NotADirectoryError(f'{folder} is a file; choose another run folder') from None
        return False
    return True


class RunFolder:
    """The files of one run.

    `config.json`; `log.jsonl`, the losses of each step; `scores.jsonl`, how good the pictures were;
    `samples/step_000000.png`…; `checkpoints/`, the last weights; `best/`, those with the best score.
    """

    def __init__(self, path):
        """Name the folder at `path`; nothing is read or written yet."""
        self.path = Path(path)

    @classmethod
    def create(cls, path, config):
        """Make a new run folder at `path`, or at `path-2`, `path-3`… where something lies already."""
        path = Path(path)
        path = path if path.name else path.resolve()  # '.' has no name to put a number behind
        numbered = (path.with_name(f'{path.name}-{number}') for number in itertools.count(2))
        run = cls(next(free for free in itertools.chain([path], numbered) if claim(free)))
        (run.path / 'samples').mkdir()
        (run.path / 'config.json').write_text(to_json(config, indent=2) + '\n', encoding='utf-8')
        return run

    def config(self):
        """Return what `create` was given.

        Raises FileNotFoundError where no run lies, ValueError where its file is damaged.
        """
        file = self.path / 'config.json'
        try:
            return json.loads(file.read_text(encoding='utf-8'))
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f'{self.path} is no run folder: it has no config.json; '
                'give the folder that a training printed or returned'
            ) from None
        except ValueError as error:
            raise ValueError(f'{file} is damaged ({error}); train again') from error

    def log(self, **values):
        """Append one line of JSON to the log."""
        append_line(self.path / 'log.jsonl', values)

    def history(self):
        """Return the logged lines, oldest first, as dictionaries."""
        return read_lines(self.path / 'log.jsonl')

    def add_scores(self, step, scores):
        """Note the scores of the pictures at `step`, and keep its checkpoint if it is the best yet.

        The best has the lowest 'frechet_distance'.
        """
        earlier = (line['frechet_distance'] for line in self.scores())
        best = min(filter(math.isfinite, earlier), default=math.inf)
        if scores['frechet_distance'] < best:
            self.keep_as_best(step)  # first, so that no score promises weights that are not there
        append_line(self.path / 'scores.jsonl', {'step': step, **scores})

    def scores(self):
        """Return the lines of `add_scores`, oldest first; none if nothing was evaluated."""
        return read_lines(self.path / 'scores.jsonl')

    def keep_as_best(self, step):
        """Copy the checkpoint of `step` to `best/`; what was there goes when the copy is complete."""
        best = self.path / 'best'
        best.mkdir(exist_ok=True)
        earlier = list(best.iterdir())
        saved = (self.path / 'checkpoints').glob(f'step_{step:06d}.*')
        for file in sorted(saved, key=lambda file: file.suffix == '.index'):  # which is looked for
            partial = best / f'{file.name}.partial'
            shutil.copyfile(file, partial)
            partial.replace(best / file.name)
        for file in earlier:
            if not file.name.startswith(f'step_{step:06d}.'):
                file.unlink()

    def add_samples(self, step, grid):
        """Save the Pillow image `grid` as the samples of `step`."""
        grid.save(self.path / 'samples' / f'step_{step:06d}.png')

    def samples(self):
        """Return [(step, file of its grid)], oldest first."""
        return by_step((self.path / 'samples').glob('step_*.png'))

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
        folder = {'last': 'checkpoints', 'best': 'best'}[weights]
        saved = by_step((self.path / folder).glob('step_*.index'))
        if not saved and weights == 'best':
            raise FileNotFoundError(
                f'{self.path} holds no best weights: its pictures were not evaluated; use the last'
            )
        if not saved:
            raise FileNotFoundError(f'{self.path} holds no weights yet; let its training finish')
        return saved

    def next_checkpoint(self, step):
        """Return the name under which TensorFlow's Saver shall write the weights of `step`."""
        return str(self.path / 'checkpoints' / f'step_{step:06d}')
