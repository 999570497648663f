"""mmengine reads checkpoints as safely as we do: runs that are resumed, tested or loaded from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier as wait_for_all
from mmengine.dist import get_rank
from mmengine.runner import checkpoint as mmengines
from torch.hub import download_url_to_file, get_dir

from moca.checkpoints.reading import ALLOWED
from moca.errors import UserError


def read_without_code() -> None:
    """Put reading that runs no code in the place of mmengine's.

    mmengine asks torch for weights alone, and where that is refused it reads the file again with
    plain pickle, which runs whatever code is in it; what comes by http it reads that way at once.
    Among the names that it allows is ``getattr``, by which any function can be reached.
    """
    mmengines._safe_torch_load = _load
    mmengines.CheckpointLoader.register_scheme(('http://', 'https://'), _fetch, force=True)


def _load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    """Stand in for mmengine's function of these arguments; the last is not asked."""
    try:
        with torch.serialization.safe_globals([*ALLOWED, slice]):
            return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        name = file if isinstance(file, str | Path) else 'the checkpoint'
        culprit = str(error).partition('WeightsUnpickler error: ')[2].partition('\n')[0]
        raise UserError(
            f'{name}: refused, because reading it would run code ({culprit or "no weights"}). If '
            'you trust its source, read it in Python by torch.load(FILE, weights_only=False) and '
            'save the tensors that you need.'
        ) from error


def _fetch(filename: str, map_location: Any = None, model_dir: str | None = None) -> Any:
    """Download a file once for each cache, the first process before others, and read it."""
    folder = Path(model_dir or Path(get_dir()) / 'checkpoints')
    path = folder / Path(filename.split('?')[0]).name
    if get_rank() == 0:
        _download(filename, path)
    wait_for_all()
    _download(filename, path)  # where a machine has a cache of its own
    return _load(str(path), map_location)


def _download(url: str, path: Path) -> None:
    """Download a file unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), progress=False)
