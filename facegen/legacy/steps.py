"""The end of a training loop that is not ours to edit."""

from collections import Counter

EMPTY_EPOCHS = 10_000  # more are a loop that waits for a step which will not come


class TrainingEnded(Exception):
    """A training loop has had its steps; the `with` block of its session ends here."""


class StepLimit:
    """Bounds each training loop of an unmodified notebook to `max_steps` steps.

    A loop begins when a session is opened. A step is a batch of `Dataset.get_batches`: after the
    last one the generator ends, so that the loop, and what follows it, run as they are written.
    A loop that takes its batches elsewhere is counted by its runs of one optimizer and ended by
    `TrainingEnded`, which the `with` block of its session catches.
    """

    def __init__(self):
        """Start without a limit."""
        self.max_steps = None
        self.end()

    def bound(self, max_steps):
        """Set the limit, or None for none; raise ValueError for less than one step."""
        if max_steps is not None and max_steps < 1:
            raise ValueError(f'max_steps is {max_steps}; choose 1 or more, or None for no limit')
        self.max_steps = max_steps

    def begin(self):
        """Count from zero: a session has been opened."""
        self.in_session = True
        self.batches_of, self.runs_of = Counter(), Counter()
        self.empty_epochs = 0
        self.reached = False

    def end(self):
        """Count no more: batches are free outside a session."""
        self.begin()
        self.in_session = False

    def batches(self, dataset, batches):
        """Yield the batches of one epoch of `dataset`, as far as its steps go."""
        for batch in batches:
            if self._is_last(self.batches_of[dataset]):
                return
            self.batches_of[dataset] += 1
            yield batch

    def _is_last(self, count):
        if self.max_steps is None or not self.in_session or count < self.max_steps:
            return False
        if not self.reached:
            print(f'training ends after {self.max_steps} steps (max_steps)')
        self.reached = True
        self.empty_epochs += 1
        if self.empty_epochs > EMPTY_EPOCHS:
            raise TrainingEnded(f'no batch is left after {self.max_steps} steps')
        return True

    def optimize(self, operations):
        """Count a run of `operations`, those of optimizers, in a loop without `get_batches`."""
        if self.batches_of:
            return
        for operation in operations:
            if self._is_last(self.runs_of[operation]):
                raise TrainingEnded(f'{self.max_steps} steps are over')
            self.runs_of[operation] += 1

    def contains(self, error_type):
        """Tell whether an exception is the end of a loop: ours, or that of `next(batches)`."""
        return self.reached and error_type in (TrainingEnded, StopIteration)
