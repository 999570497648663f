"""Reading classifiers that others have trained: a head, perhaps with its norm, beside a ViT.

A fine-tuned classifier's file must not be read through the reader of backbones alone: that takes
``fc_norm``, which acts on the mean of the patch tokens, for a norm of every token, and leaves
``head`` out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor

from moca.checkpoints.families import tensors
from moca.checkpoints.finding import find_encoder
from moca.checkpoints.reading import read_file
from moca.errors import UserError
from moca.evaluation.classification.class_lists import imagenet_synsets

# What heads are called: of timm, MAE and MoCo-v3; of DINO's and iBOT's LinearClassifier.
_HEADS = ('head', 'linear')


@dataclass(frozen=True)
class PublishedHead:
    """The head of a file.

    Attributes:
        weight: ``[K, F]``, its columns in the order of our features.
        bias: ``[K]``.
        norm: ``weight`` and ``bias`` of the norm of the pooled vector, each ``[F]``, if it has one.
        feature: What it stands on, a kind of feature of an `ImageClassifier`.
        with_backbone: Whether the file holds the ViT as well.
        about: A line for the log.
    """

    weight: Tensor
    bias: Tensor
    norm: Mapping[str, Tensor] | None
    feature: str
    with_backbone: bool
    about: str

    def state(self) -> dict[str, Tensor]:
        """Its tensors under the names of a `ClassHead`."""
        state = {'linear.weight': self.weight, 'linear.bias': self.bias}
        return state | {f'norm.{name}': value for name, value in (self.norm or {}).items()}


def read_head(path: str | Path, width: int, interleaved: bool = True) -> PublishedHead:
    """Find the head of a published classifier.

    - ``head.*`` with ``fc_norm.*``: fine-tuned by MAE's or MOCA's script, or timm's average pool;
    - ``head.*`` with ``norm.*``: a class token after the final norm (timm, DeiT, MoCo-v3);
    - ``linear.*`` without a ViT: DINO's and iBOT's linear probes, on class tokens of the last F / C
      blocks, or on class token and mean of patches if F is 2 C.

    Of a file with several ViTs, as of raw and averaged weights, the head is taken that belongs to
    the one that :func:`moca.checkpoints.finding.find_encoder` chooses.

    Args:
        path: The file.
        width: C, of the backbone.
        interleaved: Whether channels 2j and 2j + 1 of a head of ``linear.*`` on 2 C are the j-th of
            class token and mean, as in DINO's files (eval_linear.py:166-170, which stacks them and
            then reshapes); False for one after the other.

    Raises:
        UserError: The file has no head, or one on another feature.
    """
    content = read_file(path)
    for state in _states(content, path):
        for name in _HEADS:
            if f'{name}.weight' in state:
                return _head(path, state, name, width, interleaved)
    raise UserError(
        f'{path}: no head in it ({", ".join(f"{name}.weight" for name in _HEADS)}), so there is '
        'nothing to test. Train one with tools/train.py.'
    )


def _states(content: Mapping[str, Any], path: str | Path) -> list[dict[str, Tensor]]:
    """Where a head may be: beside the ViT that is read, or anywhere if there is none."""
    inner = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    states = {name: tensors(entry, path) for name, entry in {'': content, **inner}.items()}
    try:
        entry, prefix = find_encoder(content, path, None).place
    except UserError:  # a head alone
        return [*states.values()]
    beside = states[entry].items()
    return [{key.removeprefix(prefix): v for key, v in beside if key.startswith(prefix)}]


def _head(
    path: str | Path, state: Mapping[str, Tensor], name: str, width: int, interleaved: bool
) -> PublishedHead:
    weight = state[f'{name}.weight'].float()
    if weight.ndim != 2 or 'head_dist.weight' in state:
        raise UserError(f'{path}: its head is not one linear layer, and no other is read.')
    bias = state.get(f'{name}.bias', torch.zeros(len(weight))).float()
    blocks, rest = divmod(weight.shape[1], width)
    if rest or not blocks:
        raise UserError(
            f'{path}: its head stands on {weight.shape[1]} channels, no multiple of the '
            f"backbone's {width}. Give the --arch that it was trained on."
        )
    with_backbone = any(key.startswith('blocks.') for key in state)
    norm = None
    order = ''
    if 'fc_norm.weight' in state:
        feature, norm = 'avg_prenorm', _part(state, 'fc_norm.')
    elif blocks == 1:
        feature = 'cls'
    elif blocks == 2:
        feature, order = 'cls+avg', ', one after the other'
        if interleaved and name == 'linear':
            order = ', interleaved as in DINO (model.interleaved=False otherwise)'
            weight = torch.cat([weight[:, 0::2], weight[:, 1::2]], dim=1)
    else:
        feature = f'cls*{blocks}'
    about = (
        f'{path}: a head of {len(weight)} classes on {feature}{order}'
        f'{", with a norm of its own" if norm else ""}'
    )
    return PublishedHead(weight, bias, norm, feature, with_backbone, about)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): v.float() for key, v in state.items() if key.startswith(prefix)
    }


def set_published(
    cfg: Config, path: str | Path, width: int, backbone: str | None = None
) -> tuple[str, ...] | None:
    """Have a config test a published classifier.

    Args:
        cfg: Of a run of an `ImageClassifier`; its head, feature and backbone are changed.
        path: The file with the head.
        width: C, of the config's backbone.
        backbone: The ViT's file, where the head's does not hold it.

    Returns:
        The classes that it was trained on, if they are ImageNet's 1000.

    Raises:
        UserError: No head fits; the ViT is missing or there twice; the head is of another number
            of classes than the config's.
    """
    head = read_head(path, width, cfg.model.get('interleaved', True))
    if not head.with_backbone and backbone is None:
        raise UserError(f'{path}: a head without its ViT. Give the file of that with --backbone.')
    if head.with_backbone and backbone is not None:
        raise UserError(f'{path}: it holds its own ViT. Leave --backbone out.')
    asked = cfg.model.head.get('num_classes')
    if asked is not None and asked != len(head.weight):
        raise UserError(
            f'{path}: its head is of {len(head.weight)} classes, and the config asks for {asked}. '
            f'Give images of its classes and --cfg-options model.head.num_classes='
            f'{len(head.weight)}.'
        )
    print_log(head.about, 'current')
    norm = None if head.norm is None else 'layer'
    cfg.model.head = dict(type='ClassHead', num_classes=len(head.weight), norm=norm)
    cfg.model.feature = head.feature
    cfg.model.backbone.frozen = head.feature != 'avg_prenorm'
    cfg.model.head_from = str(path)
    # a head that is trained already chooses nothing on training images
    cfg.test_dataloader.dataset.held_out = 0
    return imagenet_synsets() if len(head.weight) == 1000 else None
