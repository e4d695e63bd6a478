"""Which part of every batch this copy of the networks has, where `tf.distribute` makes several of them.

Each copy, a replica, has a device of its own and an equal part of the batch. Without a strategy there is
one, nothing is added to the graph, and all of these functions return what they would without this module.
"""

from facegen.session import tf

CALLS = 'random_calls'  # collections that hold the seeds of the graph that the first replica here has used


def count():
    """Return how many replicas there are, on all machines."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def number():
    """Return which replica is being built, from 0, counted over all machines."""
    if count() == 1:
        return 0
    return int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))


def number_here():
    """Return which of the replicas of this process is being built, from 0."""
    return number() % len(tf.distribute.get_strategy().extended.worker_devices)


def own_rows(of_whole_batch, batch_size):
    """Return the rows of this replica, whose part of the batch has `batch_size` (a tensor) rows.

    `of_whole_batch(n)` returns n rows, those of the whole batch.
    """
    if count() == 1:
        return of_whole_batch(batch_size)
    return of_whole_batch(count() * batch_size)[number() * batch_size :][:batch_size]


def seeds():
    """Return (seed of the graph, seed of this call), as `tf.get_seed`; the same in all replicas.

    TensorFlow counts the calls in a graph. Replicas of one process share a graph, so the others take
    what the first was given for the same call. In each process, the first counts for itself.
    """
    if count() == 1:
        return tf.get_seed(None)
    used = tf.get_collection_ref(CALLS)
    if number_here() == 0:
        used.append(tf.get_seed(None))
        return used[-1]
    own = tf.get_collection_ref(f'{CALLS}_{number_here()}')
    own.append(used[len(own)])
    return own[-1]
