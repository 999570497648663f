"""A tensor dropped, renamed or added in a file of any family: refused, never loaded "100 %".

The architecture is the one that the damaged file itself says, so that nothing but the reader can
tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import loading
from moca.checkpoints.containers import CONFIG
from moca.checkpoints.fitting import fit_state
from moca.errors import UserError
from tests.checkpoints.published import PUBLISHED, Published
from tests.checkpoints.test_original_libraries import HUGGING_FACE, SMALL, TIMM

PATH = '/nowhere/backbone.pth'
# What acts on no token of an image, wherever it is.
BESIDE = re.compile(r'mask_token$|^proj$|pooler|decoder|head|classifier|logit|text_|bias_mask$')
# How what was dropped from every block, or beside them, is called; of others, the tensor is named.
CALLED = {
    r'pos_?embed|position|rope|periods': 'positions|periods|pos_embed',
    r'cls_token|class_embedding': 'class token|cls_token',
    r'register|reg_token|storage_tokens': 'register tokens|prefix tokens|num_register_tokens',
    r'ls1|ls2|gamma|layer_scale': r'LayerScale|ls[12]\.gamma',
    r'patch|conv1|embedder': r'patch_embed|no plain ViT|patches|vision tower',
    r'ln_pre|pre_layrnorm|norm_pre': r'ln_pre|norm_pre',
}
UNTOLD = {
    # docs/checkpoints.md, what no tensor shows
    ('DINOv2 with registers', 'register_tokens'),
    ('TIPSv2', 'register_tokens'),
    ('DINOv2 in training', 'register_tokens'),
    ('DINOv3 in training', 'storage_tokens'),
}


def of_transformers(name: str, folder: Path) -> Published:
    torch.manual_seed(0)
    cls, config, _, _ = HUGGING_FACE[name]
    cls(config).save_pretrained(folder)
    content = loading.read_file(folder)
    beside = content.pop(CONFIG)
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return Published(state, torch.clone, config=beside)


def of_timm(name: str, folder: Path) -> Published:
    torch.manual_seed(0)
    options = {'dynamic_img_size': True, **SMALL, **TIMM[name]}
    model: Any = timm.create_model(name, num_classes=0, **options)
    config = dict(architecture=name, model_args={**SMALL, 'num_heads': 2})
    return Published(dict(model.state_dict()), torch.clone, config=config)


WHOLE = {
    **{name: lambda _, build=build: build() for name, build in PUBLISHED.items()},
    **{f'{n} of transformers': lambda f, n=n: of_transformers(n, f) for n in HUGGING_FACE},
    **{f'{n} of timm': lambda f, n=n: of_timm(n, f) for n in TIMM},
}


class Reader:
    """Reads a content as if it lay in a file, by the architecture that it says."""

    def __init__(self, file: Published, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.content = file, dict[str, Any]()
        self.models: dict[str, PlainViT] = {}
        monkeypatch.setattr(loading, 'read_file', lambda *_: self.content)

    def refusal(self, state: dict[str, Tensor]) -> str | None:
        """Why a state is refused; None if all of it is loaded."""
        self.content = self.file.nest(state)
        if self.file.config:
            self.content[CONFIG] = dict(self.file.config)
        try:
            encoder, info = loading.open_encoder(PATH, self.file.branch)
            if encoder.refusal is not None or info.arch is None:
                return f'{PATH}: {encoder.refusal}'
            key = repr(info.arch)
            if key not in self.models:
                with torch.device('meta'):
                    self.models[key] = PlainViT(info.arch)
            fit_state(encoder, info, self.models[key], None)
        except UserError as error:
            return str(error)
        return None


def kinds_of(state: dict[str, Tensor]) -> dict[str, list[str]]:
    """Names by kind: those that differ in the number of the block."""
    found: dict[str, list[str]] = {}
    for key in state:
        if not BESIDE.search(key):
            found.setdefault(re.sub(r'(\.|^)\d+\.', r'\1N.', key), []).append(key)
    return found


@cache
def named_before(names: frozenset[str]) -> str:
    """The first published family with the same names."""
    return next((name for name, build in PUBLISHED.items() if build().state.keys() == names), '')


def damaged(
    state: dict[str, Tensor], keys: list[str]
) -> Iterator[tuple[str, list[str], dict[str, Tensor]]]:
    """What was done, to which, and what became of it."""
    for chosen in [keys, keys[-1:]] if len(keys) > 1 else [keys]:
        left = {key: value for key, value in state.items() if key not in chosen}
        yield 'dropped', chosen, left
        strange = {f'{key}_of_others': state[key] for key in chosen}
        yield 'renamed', chosen, left | strange
    yield 'added', keys[:1], state | {f'{keys[0]}_of_others': state[keys[0]]}


@pytest.mark.parametrize('family', WHOLE)
def test_every_kind_of_tensor(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = WHOLE[family](tmp_path)
    reader = Reader(file, monkeypatch)
    assert reader.refusal(file.state) is None
    silent = []
    alike = named_before(frozenset(file.state)) not in ('', family)
    for kind, keys in kinds_of(file.state).items():
        if alike and len(keys) > 1:
            continue  # blocks of the same names have been tried
        for how, chosen, state in damaged(file.state, keys):
            said = reader.refusal(state)
            if said is None:
                if how != 'dropped' or (family, kind) not in UNTOLD:
                    silent.append(f'{how} {len(chosen)} of {len(keys)}: {kind}')
                continue
            assert said.startswith(PATH), said
            if how != 'dropped':
                continue
            called = next((name for part, name in CALLED.items() if re.search(part, kind)), None)
            called = called or r'blocks\.\d+\.|norm|attn\.qkv'
            assert re.search(f'{called}|config.json says', said), (kind, said)
    assert not silent
