"""The folder of one training run: its configuration, log, sample grids and weights."""

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path


def to_json(value, **options):
    """Return JSON text; a dataclass becomes an object, a path its name."""
    return json.dumps(value, default=lambda v: asdict(v) if is_dataclass(v) else str(v), **options)


def by_step(files):
    """Return [(step, file)] for files named `step_NUMBER.*`, lowest step first."""
    return sorted((int(file.stem.removeprefix('step_')), file) for file in files)


class RunFolder:
    """One run's files: `config.json`, `log.jsonl`, `samples/step_000000.png`…, `checkpoints/`."""

    def __init__(self, path):
        """Name the folder at `path`; nothing is read or written yet."""
        self.path = Path(path)

    @classmethod
    def create(cls, path, config):
        """Make a new run folder at `path`, or at `path-2`, `path-3`… where runs lie already."""
        path = Path(path)
        number, free = 1, path
        while True:
            try:
                free.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
                free = path.with_name(f'{path.name}-{number}')
        run = cls(free)
        (free / 'samples').mkdir()
        (free / 'checkpoints').mkdir()
        (free / 'config.json').write_text(to_json(config, indent=2) + '\n', encoding='utf-8')
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
        saved = by_step((self.path / 'checkpoints').glob('step_*.index'))
        if not saved:
            raise FileNotFoundError(f'{self.path} holds no weights yet; let its training finish')
        return str(saved[-1][1].with_suffix(''))

    def next_checkpoint(self, step):
        """Return the name under which TensorFlow's Saver shall write the weights of `step`."""
        return str(self.path / 'checkpoints' / f'step_{step:06d}')
