"""Replay a recorded run of MOCA's released pre-training code: ``python -m tests.replay FILE.json``.

The recording holds settings, random draws and results of a few optimizer steps (fp32, CPU). The
same classes and the same ``train_step`` as in ``tools/pretrain.py`` must reproduce it. Exits with
status 1 beyond tolerance.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from safetensors.torch import load_file
from torch import Tensor

import moca.pretrain  # noqa: F401  (registers the components)
from moca.backbone.compile import compile_blocks
from moca.errors import UserError
from moca.pretrain.moca.draws import Draws
from moca.pretrain.moca.method import MOCAPretrain
from moca.pretrain.moca.released import from_released
from moca.pretrain.parts.ema import ema_update
from moca.pretrain.parts.masking import MaskRound
from moca.pretrain.training.optim import PretrainOptimWrapperConstructor

# Expected agreement in fp32; what each is a maximum of is said where it is measured.
TOLERANCES = {
    'losses': 1e-5,
    'targets': 1e-5,
    'logits': 1e-5,
    'gradients': 1e-5,
    'codebook and buffers': 1e-6,
    'final weights': 1e-3,
}

# Of a bfloat16 run beside the fp32 recording [ours: two to four times what a CPU shows]. A number
# has eight bits, 2**-8 = 4e-3; gradients are sums of rounded ones, and Adam divides by their size.
BFLOAT16_TOLERANCES = {
    'losses': 1e-2,
    'targets': 3e-2,
    'logits': 3e-2,
    'gradients': 0.25,
    'codebook and buffers': 1e-2,
    'final weights': 0.4,
}


@dataclass
class Report:
    """Largest error of each kind and where it was."""

    tolerances: Mapping[str, float] = field(default_factory=lambda: TOLERANCES)
    worst: dict[str, tuple[float, str]] = field(default_factory=dict)

    def add(self, kind: str, error: float, where: str) -> None:
        """Keep an error if it is the largest of its kind so far; NaN counts as largest."""
        known = self.worst.get(kind, (-1.0, ''))[0]
        if not error <= known:
            self.worst[kind] = (error, where)

    @property
    def passed(self) -> bool:
        """Whether every kind was measured and is within tolerance."""
        return all(
            kind in self.worst and self.worst[kind][0] <= limit
            for kind, limit in self.tolerances.items()
        )

    def __str__(self) -> str:
        rows = []
        for kind, limit in self.tolerances.items():
            error, where = self.worst.get(kind, (float('nan'), 'not measured'))
            verdict = 'ok' if error <= limit else 'FAILED'
            rows.append(f'{kind:22} {error:9.2e}  (limit {limit:.0e})  {verdict:6}  {where}')
        return '\n'.join(rows)


def replay(
    path: str | Path, compiled: bool = False, device: str = 'cpu', amp: bool = False
) -> Report:
    """Replay the recording at ``path`` (its tensors lie beside it, as ``.safetensors``).

    Args:
        path: The ``.json`` file.
        compiled: Run the transformer blocks and the losses through torch.compile.
        device: Where to run.
        amp: Under bfloat16's autocast, as with ``--amp``; the tolerances are wider.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such recording.')
    record = json.loads(path.read_text())
    tensors = load_file(path.with_suffix('.safetensors'), device=device)
    model = build_model(record['model']).to(device)
    initial = from_released(_under(tensors, 'state.'))
    model.load_state_dict(initial)
    if compiled:
        compile_blocks(model)
    optim_wrapper = build_optimizer(model, record['optim'], amp)
    gradients: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(
                lambda p, name=name: gradients.__setitem__(name, p.grad.clone())
            )

    report = Report(BFLOAT16_TOLERANCES if amp else TOLERANCES)
    model.train()
    model.momentum = record['momentum']
    for step in range(record['steps']):
        views = [tensors[f'step{step}.view{number}'] for number in (1, 2)]
        draws = recorded_draws(model, tensors, step, record['log'][step])
        if step == 0:
            with optim_wrapper.optim_context(model):
                compare_outputs(report, model, torch.cat(views), draws, tensors)
        batch = dict(view1=views[0], view2=views[1], draws=draws)
        logged = model.train_step(batch, optim_wrapper)
        norm = torch.stack([grad.norm() for grad in gradients.values()]).norm()
        compare_log(report, model, {**logged, 'grad_norm': norm}, record['log'][step], step)
        if step == 0:
            for name, expected in from_released(_under(tensors, 'step0.grad.')).items():
                error = _relative(gradients.get(name, torch.tensor(torch.nan)), expected)
                report.add('gradients', error, f'step 0, {name}')
    compare_final(report, model, initial, from_released(_under(tensors, 'final.')))
    return report


def build_model(settings: dict[str, Any]) -> MOCAPretrain:
    """The method with the settings of a recording, every one of which must be known."""
    s = dict(settings)
    arch = {key: s.pop(key) for key in ('patch_size', 'embed_dim', 'depth', 'num_heads')}
    model = MOCAPretrain(
        backbone=dict(type='PlainViT', arch=arch, img_size=s.pop('img_size')),
        decoder=dict(
            dim=s.pop('decoder_embed_dim'),
            depth=s.pop('decoder_depth'),
            num_heads=s.pop('decoder_num_heads'),
        ),
        num_words=s.pop('num_words'),
        words_per_step=s.pop('num_new_words'),
        inv_delta=s.pop('inv_delta'),
        kappa=s.pop('kappa'),
        generator_mlp_ratio=s.pop('pred_mlp_ratio'),
        image_weight=s.pop('img_weight'),
        dense_weight=s.pop('loc_weight'),
        mask_ratio=s.pop('mask_ratio'),
        decoder_mask_ratio=s.pop('dec_mask_ratio'),
        early_layer=s.pop('early_layer'),
        skip_offset=s.pop('skip_offset'),
    )
    if s:
        raise UserError(f'model: settings that this replay does not know: {", ".join(s)}.')
    return model


def build_optimizer(
    model: MOCAPretrain, settings: dict[str, Any], amp: bool = False
) -> OptimWrapper:
    """The optimizer of ``tools/pretrain.py``, with the recording's constants."""
    s = dict(settings)
    rate = s.pop('lr_wgen')
    clip = s.pop('clip_grad')
    constructor = PretrainOptimWrapperConstructor(
        dict(
            type='AutocastOptimWrapper' if amp else 'OptimWrapper',
            optimizer=dict(type='AdamW', **{**s, 'betas': tuple(s['betas'])}),
            clip_grad=dict(max_norm=clip) if clip else None,
        ),
        dict(constant_lr=dict(image_prototypes=rate, dense_prototypes=rate)),
    )
    return constructor(model)


def recorded_draws(
    model: MOCAPretrain, tensors: dict[str, Tensor], step: int, log: dict[str, Any]
) -> Draws:
    """The random choices of a recorded step."""
    first, second = (
        MaskRound(tensors[f'step{step}.ids_shuffle{number}'], visible, decoded)
        for number, (visible, decoded) in enumerate(model.round_sizes)
    )
    return Draws(
        rounds=(first, second),
        word_view=log['word_view'] - 1,
        word_images=tensors[f'step{step}.word_image'],
        word_tokens=tensors[f'step{step}.word_token'],
    )


def compare_outputs(
    report: Report,
    model: MOCAPretrain,
    images: Tensor,
    draws: Draws,
    tensors: dict[str, Tensor],
) -> None:
    """Assignments and logits of step 0, on a copy whose teacher has made its step."""
    model = copy.deepcopy(model)
    ema_update(model.teacher.parameters(), model.student.parameters(), model.momentum)
    ours = model.outputs(images, draws)
    codes, bags = ours['codes'].chunk(2), ours['image_target'].chunk(2)
    pairs = [
        ('targets', 'codes1', codes[0]),
        ('targets', 'codes2', codes[1]),
        ('targets', 'bow2', bags[0]),  # the target for view 1 is the bag of view 2
        ('targets', 'bow1', bags[1]),
    ]
    for number in range(len(draws.rounds)):
        pairs.append(('logits', f'img_logits{number}', ours[f'image_logits{number}']))
        pairs.append(('logits', f'loc_logits{number}', ours[f'dense_logits{number}'].flatten(0, 1)))
    for kind, name, value in pairs:
        report.add(kind, _relative(value, tensors[f'step0.{name}']), f'step 0, {name}')


def compare_log(
    report: Report, model: MOCAPretrain, ours: dict[str, Tensor], log: dict[str, Any], step: int
) -> None:
    """Relative errors of the losses; absolute ones of normalizer and queue pointer."""
    names = dict(loss='loss', kl_image='loss_img', kl_dense='loss_loc', grad_norm='grad_norm')
    for mine, theirs in names.items():
        error = abs(float(ours[mine].detach()) - log[theirs]) / (abs(log[theirs]) or 1.0)
        report.add('losses', error, f'step {step}, {theirs}')
    for value, name in (
        (model.codebook.normalizer, 'dist_norm'),
        (model.codebook.pointer, 'embedding_ptr'),
    ):
        error = abs(float(value) - log[name])
        report.add('codebook and buffers', error, f'step {step}, {name}')


def compare_final(
    report: Report, model: MOCAPretrain, initial: dict[str, Tensor], final: dict[str, Tensor]
) -> None:
    """State after the last step: absolute errors of buffers, relative ones of weight changes."""
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    state = model.state_dict()
    for name, expected in final.items():
        where = f'final {name}'
        if name in trained:
            ours, reference, start = (
                _without_keys(name, value) for value in (state[name], expected, initial[name])
            )
            change = float((reference - start).norm()) or 1.0  # a tensor that did not move
            report.add('final weights', float((ours - reference).norm()) / change, where)
        else:
            # BatchNorm statistics, the teacher and the codebook
            error = (state[name].double() - expected.double()).abs().max()
            report.add('codebook and buffers', float(error), where)


def _without_keys(name: str, value: Tensor) -> Tensor:
    """Leave out the key third of ``qkv.bias``: its gradient is zero, Adam amplifies rounding."""
    if not name.endswith('qkv.bias'):
        return value
    third = len(value) // 3
    return torch.cat([value[:third], value[2 * third :]])


def _relative(ours: Tensor, expected: Tensor) -> float:
    scale = float(expected.abs().max()) or 1.0  # a tensor that is all zero
    return float((ours.detach() - expected).abs().max()) / scale


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def main(arguments: list[str] | None = None) -> int:
    """Replay one recording from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('recording', help='REFERENCE.json, with REFERENCE.safetensors beside it')
    parser.add_argument('--compile', action='store_true', help='with torch.compile')
    parser.add_argument('--amp', action='store_true', help='in bfloat16, with its own tolerances')
    parser.add_argument('--device', default='cpu', help='[cpu]')
    args = parser.parse_args(arguments)
    try:
        report = replay(args.recording, args.compile, args.device, args.amp)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(report)
    return 0 if report.passed else 1


if __name__ == '__main__':
    sys.exit(main())
