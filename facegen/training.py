"""What surrounds the steps of a training run: checks, run folder, session, progress, stop button."""

import math
import time
from contextlib import ExitStack
from dataclasses import replace
from numbers import Integral, Real

from facegen import session
from facegen.batches import Batches, flipped, random_keys, scheduled_rate, total_steps
from facegen.checkpoint import Checkpoints
from facegen.images import CHANNELS
from facegen.live import training_bar
from facegen.recipes import Recipe
from facegen.run import RunFolder
from facegen.sampling import Sampler, latents, sampling_graph
from facegen.session import tf
from facegen.stopping import stop_signals

EVALUATED = 1000  # images that are drawn for every evaluation of a training run
COUNTS = ('batch_size', 'z_dim', 'print_every', 'show_every', 'show_n_images')
LIMITS = ('epoch_count', 'max_steps')  # may be None, but not all of these and `minutes`


def count_step(d_train_opt):
    """Return an op that trains D and then counts the step, in the graph's global step.

    An optimiser that has been given the global step counts already.
    """
    step = tf.train.get_or_create_global_step()
    if any(op.type.startswith('AssignAdd') for op in step.op.outputs[0].consumers()):
        return d_train_opt
    with tf.control_dependencies([d_train_opt]):
        return step.assign_add(1).op


class Training:
    """All of a training run but its graph and its steps, which the notebook's `train` shows.

    As a context manager, it makes a graph of its own the default one. `start` opens the run folder
    and a session; then `batches` yields what each step is fed with, and `end_step` takes the losses
    of the step: it logs and shows them and, every `show_every` steps, saves the weights, shows a
    grid of samples and evaluates some. Whatever ends the training, everything is closed.
    """

    def __init__(
        self, epoch_count, batch_size, z_dim, learning_rate, beta1, get_batches, data_shape,
        data_image_mode, recipe, seed, show_samples, *, print_every=100, show_every=500,
        show_n_images=25, run_dir='./runs/gan', resume=False, max_steps=None, minutes=None,
        evaluation=None, tensorboard=False,
    ):  # fmt: skip
        """Check the arguments of `train`, of which four override settings of the recipe.

        `get_batches(batch_size)` yields float32 images [batch, h, w, c] in [-0.5, 0.5]: `data_shape`
        and `data_image_mode` say how many there are, and of what kind. `show_samples` is the
        notebook's `show_generator_output`. The options, with defaults:

        print_every, show_every: steps between two lines of losses, and between two grids.
        show_n_images: images in a grid, a square number.
        run_dir: folder to make; a number is added unless it is new or empty. A leading `~` is the
            home folder.
        resume: go on with the newest run of the same settings at `run_dir`, or with the run at the
            path that is given here. On a CPU it ends as if it had never been interrupted.
        max_steps, minutes: limits besides `epoch_count`; of the three, two may be None.
        evaluation: maps uint8 samples [n, h, w, c] to scores with a 'frechet_distance'; the weights
            with the lowest are kept as the best.
        tensorboard: write losses, scores, grids and histograms of the weights for TensorBoard too.

        Raises ValueError for arguments that cannot work, saying which would.
        """
        settings = {
            'epoch_count': epoch_count, 'batch_size': batch_size, 'z_dim': z_dim,
            'learning_rate': learning_rate, 'beta1': beta1, 'data_shape': data_shape,
            'data_image_mode': data_image_mode, 'seed': seed, 'print_every': print_every,
            'show_every': show_every, 'show_n_images': show_n_images, 'run_dir': run_dir,
            'max_steps': max_steps, 'minutes': minutes, 'tensorboard': tensorboard,
        }  # fmt: skip
        self.recipe = check_arguments(recipe=recipe, **settings)
        dataset = getattr(get_batches, '__self__', None)
        data = {'data': getattr(dataset, 'identity', None)}
        self.settings = settings | {'recipe': self.recipe} | data | session.versions()
        self.get_batches, self.evaluation, self.resume = get_batches, evaluation, resume
        self.seed, self.show_every, self.show_samples = seed, show_every, show_samples
        self.clock = time.monotonic
        self.closing = ExitStack()

    def __enter__(self):
        """Make a new graph the default one; return the training itself."""
        self.closing.enter_context(tf.Graph().as_default())
        tf.set_random_seed(self.seed)
        return self

    def __exit__(self, *error):
        """Close all that was opened."""
        return self.closing.__exit__(*error)

    def start(self, input_z, samples):
        """Finalise the graph, open the run folder, and return a session that holds its variables.

        `samples` are what the generator makes of the latents `input_z`. The variables are initialised
        or, where a run is resumed, restored.

        Raises what `RunFolder.open` and `Checkpoints.restore` do.
        """
        settings, opened = self.settings, self.closing.enter_context
        self.checkpoints = self.new_checkpoints(sampling_graph(input_z, samples))
        tf.add_to_collection('samples', samples)  # where `show_generator_output` looks
        graph = tf.get_default_graph()
        graph.finalize()
        config = session.config(self.recipe.precision, xla=self.recipe.xla)
        sess = opened(self.new_session(graph, config))
        self.sampler = Sampler(sess, input_z, samples)
        limits = settings['epoch_count'], settings['max_steps']
        steps = total_steps(settings['data_shape'][0], settings['batch_size'], *limits)
        self.open_run(steps)
        self.stop = opened(stop_signals())
        position = self.checkpoints.restore(sess, self.run, self.show_every)
        self.source = Batches(
            self.get_batches, settings['batch_size'], settings['epoch_count'], steps,
            settings['max_steps'], settings['minutes'], position, clock=self.clock,
        )  # fmt: skip
        return sess

    def new_checkpoints(self, generator):
        """Return what saves the variables of the graph; `generator` is stored beside them."""
        return Checkpoints(generator, tensorboard=self.settings['tensorboard'])

    def new_session(self, graph, config):
        """Return a session of the graph."""
        return tf.Session(graph=graph, config=config)

    def open_run(self, steps):
        """Open the run folder, and what shows how a training run of so many steps goes."""
        run = RunFolder.open(self.settings['run_dir'], self.settings, resume=self.resume)
        self.run = self.closing.enter_context(run)
        self.bar = self.closing.enter_context(training_bar(self.run, self.settings, steps))

    def batches(self):
        """Yield (images, latents, learning rate) for each step, until a limit or a stop.

        The images are mirrored, and the rate rises and falls, as the recipe says. All that is random
        depends on the seed and the step only.
        """
        recipe = self.recipe
        if self.source.position.step % self.show_every == 0:
            self.preview()
        for epoch, step, done, images in self.source.until(self.stop):
            self.epoch = epoch
            images, z = self.randomized(images)
            yield images, z, scheduled_rate(recipe, step, done)
        step = self.source.position.step
        if step % self.show_every:
            self.preview(scored=not self.stop.requested)
        if self.stop.requested:
            print(
                f'stopped after step {step:,}, all is saved; to go on, run again with resume=True '
                f'(on the command line: --resume --run-dir {self.run.path})'
            )

    def randomized(self, images):
        """Return the images of a step, mirrored as the recipe says, and as many latents."""
        z_key, flip_key = random_keys(self.seed, self.source.position)
        z = latents(z_key, len(images), self.recipe.z_dim)
        return flipped(images, self.recipe, flip_key), z

    def end_step(self, **numbers):
        """Log and show the losses and other `numbers` of a step, and do what is due after it.

        Where one of them, or a weight, is NaN or infinite, nothing of the step is kept: the training
        goes back to its last checkpoint. Raises FloatingPointError if that happens again and again.
        """
        numbers = {name: float(number) for name, number in numbers.items()}
        if self.checkpoints.went_back(self.source, numbers):
            return
        step = self.source.position.step
        line = {'step': step, 'epoch': self.epoch, **numbers}
        self.run.log(**line)
        self.bar.note(line)
        if step % self.show_every == 0:
            self.preview()

    def preview(self, scored=True):
        """Show and save samples, always of the same latents; save the weights; evaluate samples."""
        step, settings = self.source.position.step, self.settings
        grid = self.show_samples(
            self.sampler.sess, settings['show_n_images'], self.sampler.input_z,
            settings['data_shape'][-1], settings['data_image_mode'], seed=self.seed,
            show=self.bar.show,
        )  # fmt: skip
        self.run.add_samples(step, grid)
        self.checkpoints.save(self.source.position)
        if scored and self.evaluation and not self.run.has_scores(step):
            images = self.sampler(latents([self.seed, 0, 1], EVALUATED, self.recipe.z_dim))
            self.run.add_scores(step, self.evaluation(images))
            self.bar.note_scores()


def check_arguments(
    *, data_shape, data_image_mode, recipe, seed, learning_rate, beta1, minutes, **counts,
):  # fmt: skip
    """Return the recipe that arguments of `train` make, which override four of its settings.

    Raises ValueError for arguments that cannot work, saying which would.
    """
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe is {recipe!r}; expected a Recipe, such as recipe_named('digits')")
    limits = [name for name in LIMITS if counts[name] is not None]
    for name in (*COUNTS, *limits):
        if not (isinstance(counts[name], Integral) and counts[name] >= 1):
            raise ValueError(f'{name} is {counts[name]!r}; expected a whole number of at least 1')
    if counts['batch_size'] == 1:
        raise ValueError('batch_size is 1; expected 2 or more: one image has no batch statistics')
    if not (isinstance(seed, Integral) and seed >= 0):
        raise ValueError(f'seed is {seed!r}; expected a whole number of at least 0')
    if minutes is not None and not (isinstance(minutes, Real) and 0 < minutes < math.inf):
        raise ValueError(f'minutes is {minutes!r}; expected a number of more than 0')
    if minutes is None and not limits:
        raise ValueError('nothing ends this training; give epoch_count, max_steps or minutes')
    if counts['z_dim'] < recipe.z_categories:
        raise ValueError(
            f'z_dim is {counts["z_dim"]}; expected at least {recipe.z_categories}, the categories of '
            'the recipe'
        )
    side = math.isqrt(counts['show_n_images'])
    if side**2 != counts['show_n_images']:
        raise ValueError(
            f'show_n_images is {counts["show_n_images"]}; '
            f'expected a square number, such as {side**2} or {(side + 1) ** 2}'
        )
    if not (isinstance(learning_rate, Real) and 0 < learning_rate < math.inf):
        raise ValueError(f'learning_rate is {learning_rate!r}; expected more than 0, such as 3e-4')
    if not (isinstance(beta1, Real) and 0 <= beta1 < 1):
        raise ValueError(f'beta1 is {beta1!r}; expected 0 or more, and below 1')
    if len(data_shape) != 4:
        raise ValueError(
            f'data_shape is {tuple(data_shape)}; expected (count, height, width, channels)'
        )
    count, *size, channels = data_shape
    if counts['batch_size'] > count:
        raise ValueError(
            f'batch_size is {counts["batch_size"]}, but the data set holds {count}; '
            f'choose at most {count}'
        )
    if data_image_mode not in CHANNELS:
        raise ValueError(f"data_image_mode is {data_image_mode!r}; expected 'L' or 'RGB'")
    if CHANNELS[data_image_mode] != channels:
        raise ValueError(
            f'images of mode {data_image_mode!r} have {CHANNELS[data_image_mode]} channel(s), '
            f'but data_shape says {channels}'
        )
    if size != [recipe.image_size] * 2:
        raise ValueError(
            f'images are {size[0]}x{size[1]}, but the recipe draws '
            f'{recipe.image_size}x{recipe.image_size}; make both equal'
        )
    return replace(
        recipe,
        batch_size=counts['batch_size'],
        z_dim=counts['z_dim'],
        learning_rate=learning_rate,
        beta1=beta1,
    )
