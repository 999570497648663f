"""What pyproject.toml cannot say: an installed package takes the configs along."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """Copies ``configs`` into the package; `moca.engine.config_files` finds it there."""

    def run(self) -> None:
        """Build, and copy unless the repository itself is installed."""
        super().run()
        if not self.editable_mode:
            there = Path(self.build_lib, 'moca/configs')
            shutil.rmtree(there, ignore_errors=True)
            shutil.copytree('configs', there, ignore=shutil.ignore_patterns('__pycache__'))


setup(cmdclass={'build_py': WithConfigs})
