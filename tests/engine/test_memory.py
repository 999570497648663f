"""Freed memory is kept: using it again faults no pages in."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from moca.engine.memory import keep_freed_memory
if sys.argv[1] == 'keep' and not keep_freed_memory():
    sys.exit(3)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use_64_megabytes():
    torch.empty(64 * 2**20 // 4).fill_(1)
for _ in range(20):  # until small blocks no longer land between large ones
    use_64_megabytes()
before = faults()
for _ in range(4):
    use_64_megabytes()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc only')
def test_pages_are_not_cleared_again():
    def run(mode: str) -> int:
        done = subprocess.run(
            [sys.executable, '-c', PROGRAM, mode], capture_output=True, text=True, check=False
        )
        if done.returncode == 3:
            pytest.skip('the C library is not glibc')
        return int(done.stdout)

    assert run('keep') < 100 < run('plain')
