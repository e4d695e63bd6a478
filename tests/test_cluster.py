"""`TF_CONFIG`, and how the processes that it names meet and part; without TensorFlow."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from helpers import free_addresses

from conftest import ROOT
from facegen import cluster as cluster_module
from facegen.cluster import Cluster, Peers, ProcessLostError

HOSTS = ['10.0.0.1:2222', '10.0.0.2:2222']


def cluster_of(jobs, job='worker', index=0):
    """Return the cluster that a TF_CONFIG names."""
    config = {'cluster': jobs, 'task': {'type': job, 'index': index}}
    return Cluster.named_by({'TF_CONFIG': json.dumps(config)})


@pytest.mark.parametrize(
    'text',
    ['', '{}', '{"cluster": {}}', '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}'],
)
def test_what_names_no_other_process_is_no_cluster(text):
    assert Cluster.named_by({'TF_CONFIG': text}) is None
    assert Cluster.named_by({}) is None


@pytest.mark.parametrize(
    ('jobs', 'job', 'index', 'number', 'names'),
    [
        ({'worker': HOSTS}, 'worker', 0, 0, ['worker 0', 'worker 1']),
        ({'worker': HOSTS}, 'worker', '1', 1, ['worker 0', 'worker 1']),
        ({'worker': HOSTS[1:], 'chief': HOSTS[:1]}, 'worker', 0, 1, ['the chief', 'worker 0']),
    ],
)
def test_the_chief_is_the_first_process(jobs, job, index, number, names):
    cluster = cluster_of(jobs, job, index)
    assert list(map(str, cluster.processes)) == [
        f'{name} ({address})' for name, address in zip(names, HOSTS, strict=True)
    ]
    assert cluster.number == number
    assert cluster.is_chief is (number == 0)
    assert cluster.spec == jobs
    assert cluster.own.endpoint == (f'10.0.0.{number + 1}', 2222)


def test_an_address_of_version_6():
    assert cluster_of({'worker': ['[::1]:1', '[::1]:2']}).own.endpoint == ('::1', 1)


WORKER = {'type': 'worker', 'index': 0}
WRONG = {
    'is not JSON': '{"cluster"',
    'is not a JSON object': '[1]',
    'no JSON object of types': {'cluster': ['a:1'], 'task': WORKER},
    r"the cluster has \['ps'\]": {'cluster': {'worker': HOSTS, 'ps': ['a:1']}, 'task': WORKER},
    "worker is 'a:1'; expected a list": {'cluster': {'worker': 'a:1'}, 'task': WORKER},
    'expected a list of "host:port"': {'cluster': {'worker': ['a:1', 'a']}, 'task': WORKER},
    r"worker is \['a:1', 'b:0'\]": {'cluster': {'worker': ['a:1', 'b:0']}, 'task': WORKER},
    'there are 2 chiefs': {'cluster': {'chief': HOSTS}, 'task': {'type': 'chief', 'index': 0}},
    'the address of more than one': {'cluster': {'worker': HOSTS[:1] * 2}, 'task': WORKER},
    'has no "task"': {'cluster': {'worker': HOSTS}},
    "type is 'evaluator'": {'cluster': {'worker': HOSTS}, 'task': {'type': 'evaluator', 'index': 0}},
    "type is 'ps'": {'cluster': {'worker': HOSTS}, 'task': {'type': 'ps', 'index': 0}},
    'worker 2, but the cluster has 2': {
        'cluster': {'worker': HOSTS}, 'task': {'type': 'worker', 'index': 2}
    },
    'worker -1, but': {'cluster': {'worker': HOSTS}, 'task': {'type': 'worker', 'index': -1}},
    'chief 0, but the cluster has 0': {
        'cluster': {'worker': HOSTS}, 'task': {'type': 'chief', 'index': 0}
    },
}  # fmt: skip


@pytest.mark.parametrize('reason', WRONG)
def test_a_wrong_tf_config_is_refused_with_the_reason(reason):
    text = WRONG[reason] if isinstance(WRONG[reason], str) else json.dumps(WRONG[reason])
    with pytest.raises(ValueError, match=f'^TF_CONFIG: .*{reason}.*; such as TF_CONFIG='):
        Cluster.named_by({'TF_CONFIG': text})


def test_the_command_line_refuses_it_in_one_line_at_once():
    done = subprocess.run(
        [sys.executable, '-m', 'facegen', 'train', '--dataset', 'mnist'], cwd=ROOT,
        env={**os.environ, 'TF_CONFIG': '{"cluster": '}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ''
    assert done.stderr.startswith('python -m facegen train: TF_CONFIG: ')
    assert done.stderr.count('\n') == 1


# Meeting ------------------------------------------------------------------------------------------


@pytest.fixture
def jobs():
    """Three processes on loopback, with ports that nobody uses."""
    return {'worker': free_addresses(3)}


@pytest.fixture
def start():
    """Call functions in threads of their own; return a function that waits and returns the result."""
    threads = []

    def start(function):
        results = []

        def call():
            try:
                results.append(function())
            except Exception as error:
                results.append(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        threads.append(thread)

        def result():
            thread.join(300)
            return results[0]

        return result

    yield start
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()


def attend(
    jobs, index, settings=(), minutes=5.0, then=lambda peers: peers.wait_until_all_are_done()
):
    """Return a function that takes part in a cluster, then does something and leaves."""

    def call():
        with Peers(cluster_of(jobs, index=index), minutes) as peers:
            peers.meet(dict(settings))
            peers.all_ready()
            return then(peers)

    return call


def test_all_meet_in_any_order_and_leave_together(jobs, start):
    left = []

    def leave(peers):
        if peers.cluster.is_chief:
            time.sleep(0.5)
            left.append('saved')
        peers.wait_until_all_are_done()
        left.append(peers.cluster.number)

    results = []
    for index in 2, 0, 1:
        results.append(start(attend(jobs, index, then=leave)))
        time.sleep(0.3)
    assert [result() for result in results] == [None] * 3
    assert left[0] == 'saved'


def test_the_missing_are_named_and_not_waited_for_longer(jobs, capsys):
    with pytest.raises(TimeoutError, match=r'did not come within 0\.01 minutes') as error:
        attend(jobs, 0, minutes=0.01)()
    names = [f'worker {index} ({jobs["worker"][index]})' for index in (1, 2)]
    assert ', '.join(names) in str(error.value)
    assert f'waiting for {", ".join(names)}, 0.01 minutes at most\n' == capsys.readouterr().out
    with pytest.raises(TimeoutError, match=r'worker 0 .* did not come'):
        attend(jobs, 1, minutes=0.01)()


def test_a_port_in_use_is_refused(jobs):
    host, port = jobs['worker'][1].split(':')
    with (
        socket.create_server((host, int(port))),
        pytest.raises(OSError, match=f'worker 1 .* cannot listen on port {port} .*already in use'),
    ):
        Peers(cluster_of(jobs, index=1), 1.0)


def test_other_settings_are_refused_and_right_ones_are_still_welcome(jobs, start, capsys):
    own = {'seed': 0, 'recipe': {'dropout': 0.5}, 'run_dir': 'a', 'device': 'CPU'}
    chief = start(attend(jobs, 0, own))
    with pytest.raises(ValueError, match='seed is 1, of the chief 0') as error:
        attend(jobs, 1, {**own, 'seed': 1})()
    assert 'worker 1' in str(error.value)
    others = [start(attend(jobs, index, {**own, 'run_dir': 'b'})) for index in (1, 2)]
    assert [result() for result in (chief, *others)] == [None] * 3
    assert 'is refused: seed is 1, of the chief 0' in capsys.readouterr().out


def test_another_cluster_is_refused_and_does_not_disturb(jobs, start):
    results = [start(attend(jobs, index)) for index in (0, 1)]
    theirs = {'worker': [jobs['worker'][0], '127.0.0.1:1', jobs['worker'][2]]}
    with pytest.raises(ValueError, match='belongs to another cluster'):
        attend(theirs, 2)()
    results.append(start(attend(jobs, 2)))
    assert [result() for result in results] == [None] * 3


def test_two_processes_with_one_index(jobs, start):
    """On two machines, so that both have the port."""
    chief, first = start(attend(jobs, 0)), start(attend(jobs, 1))
    time.sleep(0.5)
    second = Peers(cluster_of(jobs, index=2), 5.0)
    second.cluster = cluster_of(jobs, index=1)
    with second, pytest.raises(ValueError, match=r"says it is \['worker', 1\]"):
        second.meet({})
    third = start(attend(jobs, 2))
    assert [result() for result in (chief, first, third)] == [None] * 3


def test_what_is_no_process_of_ours_is_ignored(jobs, start):
    """And one that leaves before all have met may come back."""
    host, port = jobs['worker'][0].split(':')
    chief = start(attend(jobs, 0))
    for text in b'GET / HTTP/1.1\r\n\r\n', b'[]\n', b'{"task": 1}\n', b'':
        for _ in range(100):
            try:
                stranger = socket.create_connection((host, int(port)))
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        stranger.sendall(text)
        stranger.close()

    def come_and_go():
        with Peers(cluster_of(jobs, index=1), 0.005) as peers:
            peers.meet({})

    with pytest.raises(TimeoutError):
        come_and_go()
    others = [start(attend(jobs, index)) for index in (1, 2)]
    assert [result() for result in (chief, *others)] == [None] * 3


def test_a_process_that_cannot_be_reached(jobs, start):
    """As behind a firewall: it has met the chief, but nobody can connect to it."""

    def behind_a_firewall():
        with Peers(cluster_of(jobs, index=2), 5.0) as peers:
            peers.meet({})
            peers.release_port()
            peers.all_ready()
            peers.check(200)

    results = [start(attend(jobs, 0)), start(attend(jobs, 1)), start(behind_a_firewall)]
    errors = [result() for result in results]
    assert any(isinstance(error, ConnectionError) for error in errors[:2])
    assert any(f'worker 2 ({jobs["worker"][2]}) cannot be reached from' in str(e) for e in errors)
    assert all(isinstance(error, (ConnectionError, ProcessLostError)) for error in errors)


# Parting ------------------------------------------------------------------------------------------


def until_lost(peers):
    peers.check(200)


@pytest.mark.parametrize('lost', [0, 1])
def test_all_learn_who_has_ended_and_why(jobs, start, lost):
    def fail(peers):
        time.sleep(0.3)
        raise KeyError('no space')

    results = [
        start(attend(jobs, index, then=fail if index == lost else until_lost)) for index in range(3)
    ]
    errors = [result() for result in results]
    assert isinstance(errors.pop(lost), KeyError)
    for error in errors:
        assert isinstance(error, ProcessLostError)
        assert f"worker {lost} ({jobs['worker'][lost]}) has ended: 'no space'; to go on" in str(
            error
        )


def test_a_process_that_does_not_end_by_itself_is_ended(jobs, start, monkeypatch, capsys):
    """As one that waits in a step for one that is gone."""
    ended = threading.Event()
    monkeypatch.setattr(cluster_module, 'GRACE_SECONDS', 0.3)
    monkeypatch.setattr(cluster_module.os, '_exit', lambda status: ended.set())
    results = [
        start(attend(jobs, 0, then=lambda peers: ended.wait(200))),
        start(attend(jobs, 1, then=lambda peers: ended.wait(200))),
        start(attend(jobs, 2, then=lambda peers: 1 / 0)),
    ]
    assert [result() for result in results[:2]] == [True, True]
    assert isinstance(results[2](), ZeroDivisionError)
    assert 'worker 2' in capsys.readouterr().err
