"""What a run is measured with: versions, device, and the state of the code."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ('moca', 'torch', 'torchvision', 'timm', 'numpy', 'mmengine', 'mmsegmentation', 'mmdet')
"""Distributions whose version a result may depend on; some are installed under another name."""

_OTHER_NAMES = {'mmengine': 'onedl-mmengine', 'mmsegmentation': 'onedl-mmsegmentation',
                'mmdet': 'onedl-mmdetection'}  # fmt: skip


def environment() -> dict[str, str]:
    """Return versions by name, the device, and the commit of moca where it runs from a clone."""
    found = {'python': platform.python_version()}
    for name in PACKAGES:
        version = _version(_OTHER_NAMES.get(name, name)) or _version(name)
        if version is not None:
            found[name] = version
    found['device'] = 'CPU'
    if torch.cuda.is_available():
        found['device'] = torch.cuda.get_device_name()
        found['cuda'] = str(torch.version.cuda)
    commit = _commit()
    return found if commit is None else {**found, 'commit': commit}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that is checked out, with ``-dirty`` if files were changed since."""
    folder = Path(__file__).parents[2]
    if not (folder / '.git').exists():
        return None
    command = ['git', '-C', str(folder), 'describe', '--always', '--dirty', '--abbrev=12']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
