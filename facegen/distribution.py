"""The notebook's functions on several devices or machines, by `tf.distribute`.

Each device has a copy of the networks, a replica, and an equal part of every batch. In a step the gradients
of all replicas are averaged, so that all copies stay equal: n replicas learn from a batch what one learns
from it (synchronous data parallelism: Goyal et al. 2017, arXiv:1706.02677, section 2.3), since all losses
are means over the batch.

Batch normalisation is the exception: each replica normalises its own part of the batch by itself, as is
usual, and the moving averages, which draw samples, are those of the mean statistics of all replicas.

The notebook's `train` runs unchanged. It finds other functions under some of the names that it calls, and
a `Training` that knows the other processes of a `cluster.Cluster`. All of these take the same steps with
the same numbers; the first, the chief, writes the run folder, and its clock and its checkpoints count.
"""

import json
import os
import time
from dataclasses import astuple
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from facegen import replicas, session
from facegen.batches import flipped, random_keys
from facegen.checkpoint import UNREAD, Checkpoints
from facegen.cluster import WAIT_MINUTES, Peers
from facegen.files import to_json
from facegen.losses import D_OUTPUTS
from facegen.run import START, Position
from facegen.sampling import latents
from facegen.session import tf
from facegen.training import Training

SECONDS_TO_KNOW = 10  # who has ended, after a step has failed because of that
SHARED = len(astuple(START))  # numbers at most that `ClusterCheckpoints.sums` adds up


def distribute(functions, cluster=None, *, wait_minutes=WAIT_MINUTES, devices=None):
    """Let `train` of the notebook's `functions` use all devices here, and those of a `Cluster`.

    With one device they stay as they are. `devices` are TensorFlow's names (default: all GPUs). The
    processes of a cluster wait for each other for so many minutes.
    """
    if devices is None:
        devices = [f'/gpu:{number}' for number in range(len(session.GPUS))]
    if cluster is None and len(devices) < 2:
        return
    for gpu in session.GPUS:  # `tf.distribute` would take all memory before there is a session
        tf.config.experimental.set_memory_growth(gpu, True)
    if cluster is None:
        functions.Training = partial(ReplicaTraining, devices)
    else:
        functions.Training = partial(ClusterTraining, cluster, wait_minutes)
    functions.model_loss, functions.model_opt = replicated(
        functions.model_loss, functions.model_opt
    )
    functions.count_step = replicated_op(functions.count_step)


# The functions -----------------------------------------------------------------------------------


def replicated(model_loss, model_opt):
    """Return `model_loss` and `model_opt` that build all replicas.

    The losses, and what the discriminator says, are means over the replicas.
    """
    own_losses = {}  # name of a mean: the losses of the replicas, whose gradients are averaged

    def replicated_loss(input_real, input_z, out_channel_dim, *, recipe):
        def build():
            parts = own_part(input_real), own_part(input_z)
            d_loss, g_loss = model_loss(*parts, out_channel_dim, recipe=recipe)
            d_outputs = [tf.get_collection_ref(name).pop() for name in D_OUTPUTS if noted(name)]
            share = 1 / replicas.count()  # since `tf.distribute` adds gradients up
            return [d_loss * share, g_loss * share], vector(d_loss, *d_outputs), vector(g_loss)

        tf.train.get_or_create_global_step()  # first, since all replicas have the same
        own, of_d, of_g = run(build)
        d_loss, *d_outputs = means(of_d)
        (g_loss,) = means(of_g)
        for name, output in zip(D_OUTPUTS, d_outputs, strict=False):
            tf.add_to_collection(name, output)
        own_losses.update(zip((d_loss.name, g_loss.name), own, strict=True))
        return d_loss, g_loss

    def replicated_opt(d_loss, g_loss, learning_rate, beta1, *, recipe):
        def build(*own):
            return model_opt(*own, learning_rate, beta1, recipe=recipe)

        return map(grouped, run(build, own_losses[d_loss.name], own_losses[g_loss.name]))

    return replicated_loss, replicated_opt


def replicated_op(build):
    """Return a function like `build`, from an op to an op, that does this in all replicas."""
    return lambda op: grouped(run(lambda: build(op)))


def run(build, *args):
    """Return what `build` returns in each replica; of arguments, each gets its own."""
    results = tf.distribute.get_strategy().run(
        tf.autograph.experimental.do_not_convert(build), args
    )
    for name in 'discriminator', 'generator':
        # Variables are created in this thread, so that `tf.layers` here counts on from the last layer.
        # To enter and leave a scope makes it count from the first again.
        with tf.variable_scope(name, auxiliary_name_scope=False):
            pass
    return results


def noted(name):
    """Tell whether the replica that is being built has noted an output of D."""
    return len(tf.get_collection(name)) > 0


def own_part(fed):
    """Return the part of a tensor that is fed to this process, [batch, ...], which this replica has."""
    here = len(tf.distribute.get_strategy().extended.worker_devices)
    if here == 1:
        return fed
    size = tf.shape(fed)[0] // here
    return fed[replicas.number_here() * size :][:size]


def vector(*scalars):
    """Return scalars as one tensor, so that they are averaged together."""
    return tf.stack([tf.cast(scalar, tf.float64) for scalar in scalars])


def means(vectors):
    """Return the means over all replicas of their `vector`, as scalars."""
    strategy = tf.distribute.get_strategy()
    return tf.unstack(strategy.reduce(tf.distribute.ReduceOp.MEAN, vectors, axis=None))


def grouped(ops):
    """Return one op of those of all replicas of this process."""
    return tf.group(*tf.distribute.get_strategy().experimental_local_results(ops))


def total(value):
    """Return the sum of a tensor over all processes, of which each may have another.

    -0.0 is what changes no other number when it is added, +0.0 and -0.0 included.
    """

    def of_first_replica():
        return value if replicas.number_here() == 0 else nothing_like(value)

    strategy = tf.distribute.get_strategy()
    return strategy.reduce(tf.distribute.ReduceOp.SUM, run(of_first_replica), axis=None)


def nothing_like(value):
    """Return a tensor like `value`, of -0.0 everywhere."""
    return tf.fill(tf.shape(value), tf.constant(-0.0, value.dtype))


def moving_averages_on_write(next_creator, **options):
    """Create a variable; the moving averages of batch normalisation equal in all replicas at all times.

    `tf.layers` would have each replica keep its own and average them when they are read, for which all
    processes have to read at once: the chief could not draw alone. As the averages move by sums, the
    means are the same either way. Those that nobody reads are not averaged at all.
    """
    if options.get('synchronization') == tf.VariableSynchronization.ON_READ:
        options['synchronization'] = tf.VariableSynchronization.ON_WRITE
        if UNREAD.fullmatch(options['name']):
            options['aggregation'] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return next_creator(**options)


# The training -------------------------------------------------------------------------------------


class ReplicaTraining(Training):
    """A training run on several devices of this machine."""

    def __init__(self, devices, *args, **options):
        """Take what `Training` takes; raises ValueError for a batch that has no equal parts, too."""
        super().__init__(*args, **options)
        check_batch_size(self.settings['batch_size'], len(devices), 'here')
        self.devices = devices

    def __enter__(self):
        """Make a new graph the default one, with replicas on all devices; return the training itself."""
        super().__enter__()
        with self.closing as opening:
            enter_strategy(opening, tf.distribute.MirroredStrategy(self.devices))
            self.closing = opening.pop_all()
        return self


class ClusterTraining(Training):
    """A training run on several machines, in one of its processes.

    All take the same steps. Only the chief has a run folder, draws and evaluates; the others wait for it at
    the next step.
    """

    def __init__(self, cluster, wait_minutes, *args, **options):
        """Take a `Cluster`, and what `Training` takes; raises what `ReplicaTraining` does."""
        super().__init__(*args, **options)
        self.cluster, self.wait_minutes = cluster, wait_minutes
        batch_size, processes = self.settings['batch_size'], len(cluster.processes)
        check_batch_size(batch_size, processes * max(1, len(session.GPUS)), 'of all workers')
        size = batch_size // processes
        self.first = size * cluster.number  # row of each batch that is read here
        self.get_batches = partial(self.get_batches, rows=slice(self.first, self.first + size))
        self.clock = lambda: self.now

    def __enter__(self):
        """Wait for the others; make a new graph the default one; return the training itself.

        Raises what `Peers` does.
        """
        super().__enter__()
        with self.closing as opening:
            self.peers = opening.enter_context(Peers(self.cluster, self.wait_minutes))
            own = {**self.settings, 'gpus': len(session.GPUS)}  # equal everywhere, or parts are not
            self.peers.meet(json.loads(to_json(own)))
            self.strategy = strategy_of(self.cluster)
            enter_strategy(opening, self.strategy)
            self.closing = opening.pop_all()
        return self

    def __exit__(self, kind, error, traceback):
        """Close all that was opened.

        Raises ProcessLostError where the training has failed because another process has ended.
        """
        if isinstance(error, tf.errors.OpError):
            with self.closing:
                self.peers.check(SECONDS_TO_KNOW)
                raise error
        return super().__exit__(kind, error, traceback)

    def new_checkpoints(self, generator):
        """Return what saves the variables at the chief, and gives them to all."""
        return ClusterCheckpoints(
            self.cluster.is_chief, generator, tensorboard=self.settings['tensorboard']
        )

    def new_session(self, graph, config):
        """Return a session of the graph at this process's server, when the others have theirs too."""
        sess, self.server = session_among(self.peers, self.strategy, graph, config)
        return sess

    def open_run(self, steps):
        """Open the run folder, and what shows how the training goes, at the chief."""
        if self.cluster.is_chief:
            super().open_run(steps)
        else:
            self.run = self.bar = Elsewhere(self.settings['run_dir'])

    def start(self, input_z, samples):
        """Do what `Training.start` does, in all processes together."""
        sess = super().start(input_z, samples)
        self.signals, self.stop = self.stop, SimpleNamespace(requested=False)
        self.agree()
        return sess

    def agree(self):
        """Learn what time it is at the chief, and whether one of all processes was asked to stop."""
        self.peers.check()
        own = [self.signals.requested, time.monotonic() if self.cluster.is_chief else 0.0]
        stops, self.now = self.checkpoints.sums(own)
        self.stop.requested = stops > 0

    def randomized(self, images):
        """Return what `Training.randomized` does, the part of this process."""
        z_key, flip_key = random_keys(self.seed, self.source.position)
        z = latents(z_key, self.first + len(images), self.recipe.z_dim)[self.first :]
        return flipped(images, self.recipe, flip_key, self.first), z

    def batches(self):
        """Yield what `Training.batches` does; wait until all processes are done."""
        yield from super().batches()
        self.peers.wait_until_all_are_done()

    def end_step(self, **numbers):
        """Do what `Training.end_step` does; all processes have the same numbers."""
        self.agree()
        super().end_step(**numbers)

    def preview(self, scored=True):
        """Show and save, at the chief."""
        if self.cluster.is_chief:
            super().preview(scored)


class ClusterCheckpoints(Checkpoints):
    """Checkpoints that the chief writes and reads, for all processes of a cluster."""

    def __init__(self, is_chief, generator, *, tensorboard):
        """Add the operations, before the graph is finalised."""
        super().__init__(generator, tensorboard=tensorboard)
        self.is_chief = is_chief
        self.numbers = tf.placeholder(tf.float64, [SHARED])
        self.total = total(self.numbers)
        self.take_over = [self.taken_over(variable) for variable in self.variables.values()]

    def taken_over(self, variable):
        """Return an op that gives a variable the value that it has at the chief."""
        value = tf.convert_to_tensor(variable)
        if not value.dtype.is_floating:
            value = tf.cast(value, tf.float64)
        value = tf.cast(total(value if self.is_chief else nothing_like(value)), variable.dtype)
        update = tf.distribute.get_strategy().extended.update
        return update(variable, lambda copy, value: copy.assign(value), (value,))

    def sums(self, numbers):
        """Return the sums over all processes of some `numbers`, as a list of floats."""
        numbers = [*map(float, numbers)]
        padded = numbers + [0.0] * (SHARED - len(numbers))
        return self.sess.run(self.total, {self.numbers: padded}).tolist()[: len(numbers)]

    def restore(self, sess, run, show_every):
        """Do what `Checkpoints.restore` does at the chief, whose variables and position all take over."""
        position = START
        if self.is_chief:
            position = super().restore(sess, run, show_every)
        else:
            self.sess, self.run, self.show_every = sess, run, show_every
            sess.run(self.initialize)
        numbers = self.sums(astuple(position))
        kinds = map(type, astuple(START))
        sess.run(self.take_over)
        position = Position(*(kind(number) for kind, number in zip(kinds, numbers, strict=True)))
        sess.run(self.set_step, {self.step: position.step})
        return position


class Elsewhere:
    """What takes the place of the run folder, and of what shows a training run, where the chief has them."""

    def __init__(self, path):
        """Name the folder that the chief was told."""
        self.path = Path(path)

    def log(self, **numbers):
        """Do nothing."""

    def note(self, line):
        """Do nothing."""


def enter_strategy(opened, strategy):
    """Let all that is built from now on, until an ExitStack is closed, be built for a strategy."""
    opened.enter_context(strategy.scope())
    opened.enter_context(tf.variable_creator_scope(moving_averages_on_write))


def strategy_of(cluster):
    """Return the strategy whose replicas are on the devices of all processes of a `Cluster`."""
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.spec),
        task_type=cluster.own.job,
        task_id=cluster.own.index,
        num_accelerators={'GPU': len(session.GPUS)},
        rpc_layer='grpc',
    )
    return tf.distribute.experimental.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def session_among(peers, strategy, graph, config):
    """Return (session of a graph, its server) when all `Peers` have come as far as this."""
    config, own = strategy.update_config_proto(config), peers.cluster.own
    # Or gRPC, which spells it so, would ask the proxy of a company for the others
    hosts = ','.join(process.endpoint[0] for process in peers.cluster.processes)
    os.environ['no_grpc_proxy'] = hosts  # noqa: SIM112
    peers.release_port()
    server = tf.train.Server(peers.cluster.spec, own.job, own.index, 'grpc', config)
    peers.all_ready()
    return tf.Session(server.target, graph=graph, config=config), server


def check_batch_size(batch_size, devices, which):
    """Raise ValueError if a batch cannot be divided into equal parts for so many `which` devices."""
    if batch_size % devices:
        below = batch_size // devices * devices
        choices = [str(size) for size in (below, below + devices) if size]
        raise ValueError(
            f'batch_size is {batch_size}, of which the {devices} devices {which} cannot have equal '
            f'parts; choose {" or ".join(choices)}, or fewer devices (of GPUs: CUDA_VISIBLE_DEVICES)'
        )
