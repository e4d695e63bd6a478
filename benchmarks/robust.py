"""How often a training run fails: the recipes with many seeds, in float32 and in bfloat16.

A training run that works for one seed on one processor may end in noise for another. So every case of
`CASES` is trained with many seeds, each run in a process of its own. Prints one JSON line per
run, and appends it to the log; what the log has of this machine, in the same settings, is left
out, so an interrupted benchmark goes on where it was.

    python benchmarks/robust.py --data-dir data --jobs 2
    python benchmarks/robust.py --cases digits-start faces-end --log robust.jsonl
    python benchmarks/robust.py --table

`--jobs 2` trains two at a time, on Linux each on a share of the cores, which makes more of them
an hour than one by one on all. `--table` turns the log into the tables of RESULTS.md.
"""

import statistics
import sys

from trainings import Case, main, of_case  # isort: skip  # it finds facegen
from facegen.recipes import PUBLISHED  # isort: skip

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


def table(lines):
    """Return a Markdown table of what was trained in today's settings: medians, and the worst."""
    rows = [
        ['case', 'arithmetic', 'runs', 'collapsed', 'Fréchet distance: median', 'worst',
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
            chosen = of_case(lines, name, case, precision)
            if not chosen:
                continue
            is_bfloat16 = precision == 'auto' and 'bfloat16' in chosen[0]['machine']
            words = 'bfloat16' if is_bfloat16 else 'float32'
            failed = sum(line['collapsed'] for line in chosen)
            cells = [summary(chosen, *column) for column in columns]
            rows.append([f'`{name}`', words, str(len(chosen)), str(failed), *cells])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def summary(lines, score, digits, statistic):
    """Return a statistic of a score; nothing where no training run has that score."""
    values = [line['scores'][score] for line in lines if score in line['scores']]
    return f'{statistic(values):.{digits}f}' if values else ''


if __name__ == '__main__':
    sys.exit(main(__file__, __doc__, CASES, table))
