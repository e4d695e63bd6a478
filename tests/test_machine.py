"""How many CPUs a process may use."""

import pytest

from facegen import machine


@pytest.mark.parametrize(
    ('quota', 'count'),
    [('max 100000\n', 3), ('150000 100000\n', 2), ('20000 100000\n', 1), ('900000 100000\n', 3)],
)
def test_cpus_are_those_of_the_affinity_and_of_the_quota(tmp_path, monkeypatch, quota, count):
    monkeypatch.setattr(machine.os, 'sched_getaffinity', lambda pid: {1, 4, 5}, raising=False)
    monkeypatch.setattr(machine.os, 'cpu_count', lambda: 64)
    (tmp_path / 'cpu.max').write_text(quota)
    assert machine.cpu_count(tmp_path / 'cpu.max') == count
    assert machine.cpu_count(tmp_path / 'none') == 3
