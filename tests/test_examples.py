"""The launch files in examples/: their syntax, and what they start, with stand-ins for what is not here."""

import json
import shutil
import subprocess

import pytest
import yaml

from conftest import ROOT
from facegen.cli import parser
from facegen.cluster import Cluster

EXAMPLES = ROOT / 'examples'
STAND_INS = {
    'scontrol': '[ "$*" = "show hostnames node[1-2]" ] && printf "node1\\nnode2\\n"',
    # As Slurm does, one task a machine
    'srun': 'shift; for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done',
    '.venv/bin/python': 'echo "${TF_CONFIG-}"; echo "${CUDA_VISIBLE_DEVICES-}"; echo "$*"',
}


@pytest.fixture
def started(tmp_path):
    """Return a function that runs a script where commands are stand-ins, and gives the lines it prints."""
    for name, text in STAND_INS.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/usr/bin/env bash\n{text}\n')
        file.chmod(0o755)

    def started(script, *arguments):
        environment = {
            'PATH': f'{tmp_path}:/usr/bin:/bin', 'SLURM_JOB_ID': '12345678',
            'SLURM_JOB_NODELIST': 'node[1-2]',
        }  # fmt: skip
        done = subprocess.run(
            ['bash', EXAMPLES / script, *arguments], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    return started


@pytest.mark.parametrize('script', sorted(file.name for file in EXAMPLES.glob('*.sh')))
def test_scripts_parse(script):
    subprocess.run(['bash', '-n', EXAMPLES / script], check=True)


def test_one_machine(started):
    _, gpus, arguments = started('one_machine.sh', '3', '--dataset', 'my faces')
    assert gpus == '0,1,2'
    assert arguments == '-m facegen train --dataset my faces'


def test_slurm(started):
    lines = started('slurm.sh', '--dataset', 'celeba')
    for number in 0, 1:
        text, _, arguments = lines[3 * number :][:3]
        cluster = Cluster.named_by({'TF_CONFIG': text})
        assert cluster.spec == {'worker': ['node1:25678', 'node2:25678']}
        assert cluster.number == number
        assert arguments == '-m facegen train --dataset celeba --resume'


def test_kubectl_reads_the_tfjob():
    if not shutil.which('kubectl'):
        pytest.skip('there is no kubectl here')
    done = subprocess.run(
        ['kubectl', 'label', '--local', '-o', 'name', '-f', EXAMPLES / 'tfjob.yaml', 'a=b'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == 'tfjob.kubeflow.org/facegen\n'


def test_tfjob():
    (job,) = yaml.safe_load_all((EXAMPLES / 'tfjob.yaml').read_text())
    assert (job['apiVersion'], job['kind']) == ('kubeflow.org/v1', 'TFJob')
    (kind, worker), *others = job['spec']['tfReplicaSpecs'].items()
    assert (kind, others) == ('Worker', [])
    (container,) = worker['template']['spec']['containers']
    assert container['name'] == 'tensorflow'
    arguments = parser().parse_args([*container['command'][3:], *container['args']])
    assert arguments.resume
    assert arguments.batch_size % worker['replicas'] == 0
    # What the operator sets, as its documentation shows it
    hosts = [f'facegen-worker-{number}.default.svc:2222' for number in range(worker['replicas'])]
    config = {
        'cluster': {'worker': hosts}, 'task': {'type': 'worker', 'index': 3}, 'environment': 'cloud'
    }  # fmt: skip
    assert Cluster.named_by({'TF_CONFIG': json.dumps(config)}).number == 3
