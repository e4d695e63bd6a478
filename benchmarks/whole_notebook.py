"""Time and memory of the notebook, run from kernel start to its last cell on the samples.

Prints one JSON line: wall seconds of the whole, most megabytes of all its processes together at any
moment, medians and spreads of the repeats, and what it ran on. Works on a copy, so that the project's
notebook and images stay as they are; the samples are fetched before the clock starts. Linux only.

    python benchmarks/whole_notebook.py [--repeats 3]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

from measuring import ROOT, peak_memory_of_children, summary

sys.path.insert(0, str(ROOT))

import helper
from facegen import notebook


def measured(data):
    """Run the notebook once, in processes of its own; return (seconds, most megabytes)."""
    with tempfile.TemporaryDirectory() as folder, peak_memory_of_children() as peak:
        overrides = {
            'data_dir': str(data),
            'images_dir': f'{folder}/images',
            'runs_dir': f'{folder}/runs',
        }
        code = (
            'from facegen import notebook; '
            f'notebook.execute(out={f"{folder}/out.ipynb"!r}, **{overrides!r})'
        )
        started = time.perf_counter()
        subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
        return time.perf_counter() - started, peak()


def main():
    """Run the notebook again and again, and print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--data-dir', type=Path, default=ROOT / 'data')
    options = parser.parse_args()
    with redirect_stdout(sys.stderr):
        for name in 'mnist', 'celeba':
            helper.download_extract(name, options.data_dir, data='sample')
    data = options.data_dir.resolve()
    seconds, megabytes = zip(*(measured(data) for _ in range(options.repeats)), strict=True)
    knobs = notebook.parameters()

    from facegen import session

    print(
        json.dumps(
            {
                'benchmark': 'whole_notebook',
                **summary('seconds', seconds, 1),
                **summary('peak_megabytes', megabytes),
                'epochs': [knobs['mnist_epochs'], knobs['celeba_epochs']],
                **session.versions(),
            }
        )
    )


if __name__ == '__main__':
    main()
