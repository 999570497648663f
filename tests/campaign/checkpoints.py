"""Checkpoints of every family, damaged and hostile: none runs code, none loads in silence."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import integrity, load_checkpoint
from moca.checkpoints import reading as reading_module
from moca.checkpoints.integrity import CHECKSUM, checksum
from moca.checkpoints.loading import arch_of_file, inspect_checkpoint
from moca.errors import UserError
from tests.campaign import hostile
from tests.campaign.campaign import Area, Outcome
from tests.checkpoints.published import PUBLISHED, Published

State = dict[str, Any]
Draw = random.Random


@cache
def _published(family: str) -> Published:
    return PUBLISHED[family]()


# what is done to the content, before it is written: keys and values of one encoder


def _renamed(state: State, key: str, draw: Draw) -> None:
    place = draw.randrange(len(key))
    state[key[:place] + draw.choice('xyz_') + key[place + 1 :]] = state.pop(key)


def _doubled(state: State, key: str, draw: Draw) -> None:
    state[draw.choice(('module.', 'backbone.', 'encoder.')) + key] = state[key] + 1


def _expanded(state: State, key: str, draw: Draw) -> None:
    state[key] = torch.zeros(1, 1).expand(10 ** draw.randint(5, 7), 10**6)


def _value(change: Callable[[Tensor], Any]) -> Callable[[State, str, Draw], None]:
    def apply(state: State, key: str, draw: Draw) -> None:
        state[key] = change(state[key].clone())

    return apply


def _one_number(number: float) -> Callable[[State, str, Draw], None]:
    def apply(state: State, key: str, draw: Draw) -> None:
        value = state[key].clone()
        value.view(-1)[draw.randrange(value.numel())] = number
        state[key] = value

    return apply


CONTENT: dict[str, Callable[[State, str, Draw], None]] = {
    'a key renamed': _renamed,
    'a key dropped': lambda state, key, draw: state.pop(key),
    'a key doubled': _doubled,
    'not a number': _one_number(float('nan')),
    'infinity': _one_number(float('-inf')),
    'integers': _value(lambda value: (value * 100).long()),
    'booleans': _value(lambda value: value > 0),
    'complex numbers': _value(lambda value: value.to(torch.complex64)),
    'a sparse tensor': _value(lambda value: value.to_sparse()),
    'one dimension': _value(lambda value: value.flatten()),
    'one dimension more': _value(lambda value: value[None]),
    'half of a tensor': _value(lambda value: value[: max(1, len(value) // 2)]),
    'an empty tensor': _value(lambda value: value[:0]),
    'a huge shape': _expanded,
    'no tensor': _value(lambda value: 'weights'),
    'a list': _value(lambda value: value.tolist()),
}

# what is done to the bytes of a written file


def _flip(data: bytearray, start: int, end: int, draw: Draw) -> None:
    data[draw.randrange(start, end)] ^= 1 << draw.randrange(8)


def _flip_head(data: bytearray, draw: Draw) -> None:
    _flip(data, 0, min(2000, len(data)), draw)


def _flip_tail(data: bytearray, draw: Draw) -> None:
    _flip(data, max(0, len(data) - 2000), len(data), draw)


def _zeros(data: bytearray, draw: Draw) -> None:
    start, size = draw.randrange(len(data)), draw.choice((64, 512, 4096))
    data[start : start + size] = bytes(len(data[start : start + size]))


def _swap(data: bytearray, draw: Draw) -> None:
    one, two = (draw.randrange(len(data) - 256) for _ in range(2))
    data[one : one + 256], data[two : two + 256] = data[two : two + 256], data[one : one + 256]


def _cut(data: bytearray, draw: Draw) -> None:
    del data[draw.randrange(len(data)) :]


def _append(data: bytearray, draw: Draw) -> None:
    data += draw.randbytes(draw.choice((1, 100, 5000)))


BYTES: dict[str, Callable[[bytearray, Draw], None]] = {
    'truncated': _cut,
    'a bit of the head': _flip_head,
    'a bit of the tail': _flip_tail,
    'a bit anywhere': lambda data, draw: _flip(data, 0, len(data), draw),
    'zeros': _zeros,
    'bytes swapped': _swap,
    'bytes appended': _append,
}
CONTAINERS = ('torch', 'ours', 'safetensors', 'legacy')
UNCHECKED = ('safetensors', 'legacy')
"""Containers without checksums: a changed weight in them cannot be told."""


# files that were made to harm, without a pickle


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', bytes(400 << 20))
        archive.writestr('a/version', b'3\n')


def _names_that_leave(path: Path) -> None:
    torch.save({'x': torch.ones(2)}, path)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('../../canary', b'')


def _header(length: int | None, content: dict[str, Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        text = json.dumps(content).encode()
        size = len(text) if length is None else length
        path.write_bytes(struct.pack('<Q', size) + text + bytes(64))

    return write


def _entry(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {'dtype': 'F32', 'shape': shape, 'data_offsets': [start, end]}


def _index(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.unlink(missing_ok=True)
        content = {'weight_map': {'patch_embed.proj.weight': name}}
        path.with_name('model.safetensors.index.json').write_text(json.dumps(content))

    return write


ARCHIVES: dict[str, Callable[[Path], None]] = {
    'a zip bomb': _bomb,
    'names that leave an archive': _names_that_leave,
    'a header of exabytes': _header(2**62, {'x': _entry([4], 0, 16)}),
    'a tensor of exabytes': _header(None, {'x': _entry([2**40, 2**20], 0, 16)}),
    'tensors that overlap': _header(None, {'x': _entry([4], 0, 16), 'y': _entry([4], 8, 24)}),
    'data behind the end': _header(None, {'x': _entry([400], 0, 1600)}),
    'a negative shape': _header(None, {'x': _entry([-4], 0, 16)}),
    'a shard elsewhere': _index('../outside.safetensors'),
    'a shard at the root': _index('/etc/passwd'),
}


class Checkpoints(Area):
    """Damage and attacks, over all families and containers."""

    name = 'checkpoints'
    title = 'Checkpoints'
    proofs = (('.*, torch', 'silent'), ('.*, ours', 'silent'))

    def count(self, quick: bool) -> int:
        """One in twenty of them with ``quick``."""
        return 50 if quick else 1000

    def run(self, number: int, folder: Path) -> Outcome:
        """Draw a mutation by seed and number."""
        draw = random.Random(f'{self.seed} {number}')
        if number % 4 == 0:
            return _hostile(number // 4, folder)
        if number % 20 == 1:
            return _made_to_harm(number // 20, folder)
        return _damaged(draw, folder)

    def inject(self) -> None:
        """No checksums are compared."""
        reading_module.verify_archive = lambda path: None  # type: ignore[assignment]
        integrity.CHECKSUM = reading_module.CHECKSUM = 'none'  # type: ignore[assignment]


def _loaded(path: Path, arch: Any, branch: str | None) -> tuple[State, tuple[Any, ...]]:
    """The weights of a backbone, and what else of a file its features depend on."""
    model = PlainViT(arch or arch_of_file(path, branch), img_size=32)
    info = load_checkpoint(model, path, branch)
    return model.state_dict(), (info.mean, info.std, model.norm_eps, model.interpolation)


def _same(one: tuple[State, Any], two: tuple[State, Any]) -> bool:
    return one[1] == two[1] and all(torch.equal(v, two[0][k]) for k, v in one[0].items())


def _write(state: State, file: Published, container: str, path: Path) -> None:
    if container == 'safetensors':
        save_file({key: value.clone().contiguous() for key, value in state.items()}, path)
    elif container == 'ours':
        flat = {key: value.clone().contiguous() for key, value in state.items()}
        path.write_bytes(save(flat, metadata={'format': 'pt', CHECKSUM: checksum(flat)}))
    else:
        torch.save(file.nest(state), path, _use_new_zipfile_serialization=container != 'legacy')


def _damaged(draw: Draw, folder: Path) -> Outcome:
    family = draw.choice(sorted(PUBLISHED))
    file = _published(family)
    in_content = draw.random() < 0.5
    container = draw.choice(('torch', 'legacy') if in_content else CONTAINERS)
    # configs beside a file are read of files with a library's name alone
    stem = 'open_clip_model' if file.config else 'a'
    if file.config:
        (folder / 'config.json').write_text(json.dumps(file.config))
    suffix = '.safetensors' if container in ('safetensors', 'ours') else '.pth'
    whole, path = folder / f'{stem}_whole{suffix}', folder / f'{stem}{suffix}'
    _write(dict(file.state), file, container, whole)
    branch = file.branch if suffix == '.pth' else None
    found_arch = arch_of_file(whole, branch)
    truth = _loaded(whole, found_arch, branch)
    arch = draw.choice((None, found_arch))
    if in_content:
        kind = draw.choice(sorted(CONTENT))
        state = dict(file.state)
        CONTENT[kind](state, draw.choice(sorted(state)), draw)
        try:
            _write(state, file, container, path)
        except (TypeError, RuntimeError):  # the layout of this family adds numbers to its tensors
            return _damaged(draw, folder)
    else:
        kind = draw.choice(sorted(BYTES))
        data = bytearray(whole.read_bytes())
        BYTES[kind](data, draw)
        path.write_bytes(data)
        kind = f'{kind}, {container}'
    try:
        found = _loaded(path, arch, branch)
    except UserError as error:
        return _named(kind, error, path)
    if _same(found, truth):
        return Outcome(kind, 'equal')
    if not in_content and container in UNCHECKED and found[0].keys() == truth[0].keys():
        return Outcome(kind, 'beyond telling', family)
    return Outcome(kind, 'silent', f'{family}, {container}, arch {arch}')


def _named(kind: str, error: UserError, path: Path) -> Outcome:
    named = str(path.parent) in str(error)
    return Outcome(kind, 'refused' if named else 'unnamed', str(error))


def _hostile(number: int, folder: Path) -> Outcome:
    canary = folder / 'canary'
    attacks = hostile.attacks(canary)
    names = sorted(attacks)
    name = names[number % len(names)]
    form = hostile.FORMS[number // len(names) % len(hostile.FORMS)]
    path = folder / 'a.pth'
    hostile.write(attacks[name], form, path)
    return _read_harm(f'hostile pickle, {form}', name, path, canary)


def _made_to_harm(number: int, folder: Path) -> Outcome:
    name = sorted(ARCHIVES)[number % len(ARCHIVES)]
    inner = folder / 'inner'
    inner.mkdir()
    save_file({'patch_embed.proj.weight': torch.ones(2)}, folder / 'outside.safetensors')
    path = inner / ('a.safetensors' if 'header' in name or 'tensor' in name else 'a.pth')
    ARCHIVES[name](path)
    return _read_harm(name, name, path if path.exists() else inner, folder / 'canary')


def _read_harm(kind: str, name: str, path: Path, canary: Path) -> Outcome:
    outcome = Outcome(kind, 'silent', f'{name}: was read')
    with contextlib.suppress(SystemExit):
        try:
            inspect_checkpoint(path)
        except UserError as error:
            outcome = _named(kind, error, path)
    if hostile.has_run(canary):
        return Outcome(kind, 'ran code', name)
    return outcome
