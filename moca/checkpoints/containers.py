"""Which kind of file a checkpoint is, told by its content; folders and configs around it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from safetensors import safe_open

from moca.engine.archives import archive_members, is_archive
from moca.engine.checkpoints import latest_checkpoint, run_checkpoints
from moca.errors import UserError

CONFIG = 'config.json'
"""The key under which the content of a file has what lies beside it as its own config."""

# What libraries write beside their weights; later ones win.
_CONFIGS = ('config.json', 'open_clip_config.json', 'preprocessor_config.json')
_WEIGHTS = ('model.safetensors', 'open_clip_model.safetensors', 'pytorch_model.bin')
_INDEX = '.index.json'
_HUB = 'hf-hub:'
# The first bytes of torch's files before version 1.6: the pickle of its magic number.
_LEGACY_TORCH = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19'


def locate(path: str | Path) -> Path:
    """The file of weights that a path means: itself, of a folder, or of a Hugging Face repository.

    Args:
        path: a file; a folder as ``save_pretrained`` writes it; or ``hf-hub:org/name``, which is
            taken from the local cache if it is there.

    Raises:
        UserError: the repository cannot be had.
    """
    text = str(path)
    if text.startswith(_HUB):
        path = _from_hub(text.removeprefix(_HUB))
    path = Path(path)
    if path.is_dir():
        names = [*_WEIGHTS, *(f'{name}{_INDEX}' for name in _WEIGHTS)]
        found = next((path / name for name in names if (path / name).is_file()), None)
        return found or path
    return path


def file_of_run(path: str) -> str:
    """The newest checkpoint where a path is the work dir of a run; else the path as it is.

    Args:
        path: What a tool was given for a checkpoint.

    Raises:
        UserError: All checkpoints of the run are damaged.
    """
    if not Path(path).is_dir() or locate(path).is_file() or not run_checkpoints(path):
        return path
    newest = latest_checkpoint(path)
    if newest is None:
        raise UserError(f'{path}: every checkpoint in this folder is damaged. Name another file.')
    print_log(f'{path}: a folder; its newest checkpoint is {newest.name}', 'current')
    return str(newest)


def _from_hub(name: str) -> Path:
    import huggingface_hub  # only where it is asked for

    patterns = ['*.json', '*.safetensors', 'pytorch_model*.bin']
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # of the network, of rights, of names: its own kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f'{_HUB}{name}: cannot be had from the Hugging Face Hub ({first}). Check the name, log '
            'in with `hf auth login` for gated weights, or download the folder and name it.'
        ) from error


def config_beside(path: Path) -> dict[str, Any]:
    """What the configs in a file's folder say; empty if there are none.

    Only of files with the names that libraries give to weights: a folder of several checkpoints
    may hold a config of another one.

    Raises:
        UserError: one of them is no JSON object.
    """
    if not path.name.startswith(('model', 'open_clip_model', 'pytorch_model')):
        return {}
    content: dict[str, Any] = {}
    for name in _CONFIGS:
        file = path.with_name(name)
        if not file.is_file():
            continue
        try:
            part = json.loads(file.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise UserError(f'{file}: no JSON ({error}). Fetch it again, or remove it.') from error
        if not isinstance(part, dict):
            raise UserError(f'{file}: holds no JSON object. Fetch it again, or remove it.')
        content |= part
    return content


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: a length, and JSON of that length."""
    with path.open('rb') as file:
        head = file.read(9)
    if len(head) < 9 or head[8:9] != b'{':
        return False
    return struct.unpack('<Q', head[:8])[0] <= path.stat().st_size


def odd_container(path: str | Path) -> str:
    """Say what kind of file it is where its name says another; else nothing."""
    path = Path(path)
    if not path.is_file() or path.name.endswith(_INDEX):
        return ''
    named = path.suffix == '.safetensors'
    if is_safetensors(path) == named:
        return ''
    return 'a file of torch, no safetensors' if named else 'a safetensors file by its content'


def refuse_others(path: Path) -> None:
    """Raise a `UserError` that says what a file is, if it is a whole file of another kind."""
    with path.open('rb') as file:
        head = file.read(32)
    if is_archive(path):
        names = archive_members(path)
        if names is None:
            return
        if any(name.endswith('constants.pkl') for name in names):
            raise UserError(
                f'{path}: a TorchScript file, whose network is code. Save the state_dict of the '
                'module that torch.jit.load returns, and name that file.'
            )
        if names and all(name.endswith('.npy') for name in names):
            raise UserError(
                f'{path}: a NumPy .npz file, as JAX projects publish. Convert it with the tool of '
                'its project, or take its PyTorch weights.'
            )
        return
    if head[:1] == b'{' or head[:1] == b'[':
        raise UserError(f'{path}: a JSON file, no weights. Name the file or folder of weights.')
    if head[:1] == b'\x80' and not head.startswith(_LEGACY_TORCH):
        raise UserError(
            f'{path}: a plain pickle and no file of torch.save, as detectron2 and old projects '
            'publish them (.pkl). Load it there and save a dict of its tensors with torch.save.'
        )


def refuse_folder(path: Path) -> None:
    """Raise a `UserError` that says what a folder is, if it is one of another kind."""
    if (path / '.metadata').is_file() or next(path.glob('*.distcp'), None):
        raise UserError(
            f'{path}: a folder of torch.distributed.checkpoint (DCP). Join it with `python -m '
            'torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pth`, and name '
            'that file.'
        )
    if (path / 'adapter_config.json').is_file():
        raise UserError(
            f'{path}: a LoRA adapter alone. Merge it into its base model (merge_and_unload of '
            'peft), save that, and name it.'
        )


def read_shards(index: Path) -> dict[str, Any]:
    """The tensors of a sharded checkpoint, by its index.

    Raises:
        UserError: the index is no index, names files elsewhere, or a shard is missing or cut short.
    """
    try:
        content = json.loads(index.read_text(encoding='utf-8'))
        places: Mapping[str, str] = content['weight_map']
        shards = sorted({str(name) for name in places.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{index}: no index of shards ({error}). Fetch it again.') from error
    elsewhere = next((name for name in shards if Path(name).name != name), None)
    if elsewhere is not None:
        raise UserError(f'{index}: names {elsewhere}, which is no file beside it. Fetch it again.')
    missing = [name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f'{index}: {len(missing)} of {len(shards)} shards are missing beside it, such as '
            f'{missing[0]}. Fetch them too.'
        )
    tensors: dict[str, Any] = {}
    for name in shards:
        try:
            with safe_open(index.parent / name, framework='pt') as file:
                tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise UserError(
                f'{index.parent / name}: a broken shard ({error}). Fetch it again.'
            ) from error
    absent = [key for key in places if key not in tensors]
    if absent:
        raise UserError(
            f'{index}: {absent[0]} is in no shard ({len(absent)} tensors). Fetch again.'
        )
    return tensors
