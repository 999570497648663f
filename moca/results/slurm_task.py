"""What a job of a SLURM cluster does: one run of a tool, which goes on where it was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from moca.engine.processes import start

STOP = 60.0
"""Seconds that a run has to end in; submitit tells a job 90 s before its time is over."""


class ToolRun:
    """A run of a tool, as submitit calls it in each task of a job.

    Args:
        command: The whole of it.
        log: File for what it prints. Of several tasks the first one has it; what the others print
            is in submitit's folder.
    """

    def __init__(self, command: tuple[str, ...], log: str) -> None:
        self.command = command
        self.log = log
        self._process: Any = None

    def __call__(self) -> None:
        """Run the tool to its end.

        Raises:
            RuntimeError: It has failed; SLURM then calls the job failed, and lets none start that
                waits for it.
        """
        # several jobs may share a machine
        port = str(20_000 + int(os.environ.get('SLURM_JOB_ID', 0)) % 10_000)
        environment = {'MASTER_PORT': os.environ.get('MASTER_PORT', port)}
        # SLURM sends the signal before the end to all processes; the one here acts on it
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        try:
            if int(os.environ.get('SLURM_PROCID', 0)) == 0:
                self._process = start(self.command, Path(self.log), **environment)
            else:
                self._process = subprocess.Popen(self.command, env={**os.environ, **environment})
        finally:
            signal.signal(signal.SIGUSR2, before)
        # no wait(): its lock would be held while `checkpoint` is called, in a handler of a signal
        while (code := self._process.poll()) is None:
            time.sleep(0.5)
        self._process = None
        if code:
            raise RuntimeError(f'exit code {code}, see {self.log}')

    def checkpoint(self) -> Any:
        """End the run before its job is; submitit then has the job do this again.

        Returns:
            submitit's ``DelayedSubmission`` of the same run.
        """
        from submitit.helpers import DelayedSubmission  # an extra

        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process = None
        return DelayedSubmission(self)
