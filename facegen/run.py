"""The folder of one training run: its configuration, log, sample grids and weights."""

import itertools
import json
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
    """One run's files: `config.json`, `log.jsonl`, `samples/step_000000.png`…, `checkpoints/`."""

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
        with (self.path / 'log.jsonl').open('a', encoding='utf-8') as file:
            file.write(to_json(values) + '\n')

    def history(self):
        """Return the logged lines, oldest first, as dictionaries."""
        with (self.path / 'log.jsonl').open(encoding='utf-8') as file:
            return [json.loads(line) for line in file]

    def add_samples(self, step, grid):
        """Save the Pillow image `grid` as the samples of `step`."""
        grid.save(self.path / 'samples' / f'step_{step:06d}.png')

    def samples(self):
        """Return [(step, file of its grid)], oldest first."""
        return by_step((self.path / 'samples').glob('step_*.png'))

    def checkpoint(self):
        """Return the name of the last checkpoint as TensorFlow's Saver wants it.

        Raises FileNotFoundError if the run has saved none.
        """
        return str(self.checkpoints()[-1][1].with_suffix(''))

    def saved_step(self):
        """Return the step of the last checkpoint; raises like `checkpoint`."""
        return self.checkpoints()[-1][0]

    def checkpoints(self):
        """Return [(step, index file)] of the checkpoints, oldest first; raises like `checkpoint`."""
        saved = by_step((self.path / 'checkpoints').glob('step_*.index'))
        if not saved:
            raise FileNotFoundError(f'{self.path} holds no weights yet; let its training finish')
        return saved

    def next_checkpoint(self, step):
        """Return the name under which TensorFlow's Saver shall write the weights of `step`."""
        return str(self.path / 'checkpoints' / f'step_{step:06d}')
