"""Queries and heads of published EoMT files: the authors' and those of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from moca.checkpoints.families import tensors
from moca.checkpoints.reading import read_file
from moca.errors import CheckpointMismatch, UserError

_ORIGINAL = re.compile(
    r'^(?:.*\.)?network\.((?:q|class_head|mask_head|upscale)\..*|attn_mask_probs)$'
)
_TRANSFORMERS = (
    (r'^query\.', 'q.'),
    (r'^class_predictor\.', 'class_head.'),
    (r'^mask_head\.fc1\.', 'mask_head.0.'),
    (r'^mask_head\.fc2\.', 'mask_head.2.'),
    (r'^mask_head\.fc3\.', 'mask_head.4.'),
    (r'^upscale_block\.block\.(\d+)\.layernorm2d\.', r'upscale.\1.norm.'),
    (r'^upscale_block\.block\.', 'upscale.'),
)


def heads_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Everything of a network but its backbone, under the names here; empty in other files.

    Args:
        content: Of a file, as `read_file` returns it.
    """
    for entry in (content, *(v for v in content.values() if isinstance(v, Mapping))):
        state = tensors(entry)
        found = {m[1]: value for key, value in state.items() if (m := _ORIGINAL.match(key))}
        if found:
            return found
        if 'query.weight' in state and 'class_predictor.weight' in state:
            for key, value in state.items():
                name = key
                for pattern, replacement in _TRANSFORMERS:
                    name = re.sub(pattern, replacement, name)
                if (
                    name.startswith(('q.', 'class_head.', 'mask_head.', 'upscale.'))
                    or name == 'attn_mask_probs'
                ):
                    found[name] = value
            return found
    return {}


def load_heads(
    network: nn.Module,
    path: str | Path,
    partly: bool = False,
    content: Mapping[str, Any] | None = None,
) -> None:
    """Load what `heads_of` finds in a file into a network whose backbone is loaded already.

    Args:
        network: A `MaskTransformer` of the same queries, blocks and classes.
        path: The file.
        partly: Start anew what has other shapes, as the classes of other data, and say so; else
            that is an error.
        content: What `read_file` returned, where the file has been read already.

    Raises:
        CheckpointMismatch: Shapes differ, or the file has no such heads.
    """
    found = heads_of(read_file(path) if content is None else content)
    if partly and not found:
        return
    own = {k: v for k, v in network.state_dict().items() if not k.startswith('backbone.')}
    differ = [
        f'{key} ({list(found[key].shape) if key in found else "absent"} in the file, '
        f'{list(own[key].shape) if key in own else "absent"} here)'
        for key in sorted(own.keys() | found.keys())
        if key not in own or key not in found or own[key].shape != found[key].shape
    ]
    if differ and not partly:
        raise CheckpointMismatch(
            f'{path}: of another mask transformer than the config: {", ".join(differ[:3])}'
            f'{", ..." if len(differ) > 3 else ""}. Set num_queries, num_blocks and the numbers of '
            'classes of the head to those of the file.'
        )
    fitting = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape}
    if partly:
        fitting.pop('attn_mask_probs', None)  # a new run has its own annealing
    network.load_state_dict(fitting, strict=False)
    names = sorted({key.split('.')[0] for key in fitting})
    fresh = sorted({key.split('.')[0] for key in own.keys() - fitting.keys()} - {'attn_mask_probs'})
    print_log(
        f'{path}: {", ".join(names) or "no part"} of EoMT taken'
        + (f'; {", ".join(fresh)} start anew.' if fresh else '.'),
        'current',
    )


def set_published(cfg: Config, path: str, backbone: str | None, head: str) -> None:
    """Have a config test a published file, with as many queries and blocks as the file has.

    Args:
        cfg: Of a run of a mask transformer; changed.
        path: The file.
        backbone: Of ``--backbone``, which these files never need.
        head: Field of the model with ``num_queries`` and ``num_blocks``.

    Raises:
        UserError: The file holds no mask transformer.
    """
    if backbone is not None:
        raise UserError(
            '--backbone: files of EoMT hold their own. Leave it out, or give --delta-of if they '
            'hold differences.'
        )
    found = heads_of(read_file(path))
    if 'q.weight' not in found:
        raise UserError(
            f'{path}: neither a checkpoint of a run nor a published mask transformer. '
            'tools/test.py takes what tools/train.py has written, and files of EoMT.'
        )
    cfg.model.head_from = path
    cfg.model[head].num_queries = len(found['q.weight'])
    if 'attn_mask_probs' in found:
        cfg.model[head].num_blocks = len(found['attn_mask_probs'])
