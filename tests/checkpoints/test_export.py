"""Exported encoders: timm itself and every reader of ours must find the same weights in them."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from safetensors import safe_open
from timm.models import load_checkpoint as timm_load_checkpoint
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import CheckpointInfo, inspect_checkpoint, load_checkpoint
from moca.errors import UserError
from moca.pretrain.moca.export import export
from tests.backbone.helpers import TINY, assert_same_model, random_images, randomize, save, timm_vit
from tests.checkpoints import families
from tools import checkpoint

SUFFIXES = pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])


def run_file(path: Path, **model: Any) -> tuple[Path, PlainViT]:
    """A run's checkpoint with a teacher and a student of timm's ViT-Ti/16, and the teacher."""
    teacher, student = (PlainViT('vit_tiny_patch16', img_size=32) for _ in range(2))
    randomize(teacher, 1)
    randomize(student, 2)
    backbone = dict(type='PlainViT', arch='vit_tiny_patch16', img_size=32)
    cfg = Config(dict(model=dict(type='MOCAPretrain', backbone=backbone, **model)))
    meta = dict(cfg=cfg.pretty_text, epoch=3, iter=1200)
    content = families.own_run(teacher, student)  # type: ignore[arg-type]
    path.parent.mkdir(exist_ok=True)
    return save({**content, 'meta': meta}, path), teacher.eval()


def export_encoder(
    source: Path, target: Path, branch: str | None = None, force: bool = False
) -> CheckpointInfo:
    """Export as the tool does; returns what the source says of the encoder that was written."""
    to = None if target.suffix == '.safetensors' else 'timm'
    export(source, source, target, branch=branch, to=to, force=force)
    return inspect_checkpoint(source, branch)


@SUFFIXES
def test_timm_computes_our_teacher_s_features(suffix: str, tmp_path: Path) -> None:
    source, teacher = run_file(tmp_path / 'epoch_3.pth')
    target = tmp_path / f'teacher{suffix}'
    export_encoder(source, target, 'teacher')
    # strict: a key too many or too few is an error
    model = timm.create_model(
        'vit_tiny_patch16_224', img_size=32, num_classes=0, checkpoint_path=str(target)
    ).eval()
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = teacher.tokens(images), model.forward_features(images)
    torch.testing.assert_close(
        torch.cat([ours.prefix, ours.patches], 1), theirs, rtol=1e-4, atol=1e-5
    )


@SUFFIXES
def test_each_branch_is_itself(suffix: str, tmp_path: Path) -> None:
    models = {'teacher': timm_vit(TINY, seed=1), 'student': timm_vit(TINY, seed=2)}
    source = save(families.moca(**models), tmp_path / 'moca.pth')
    for branch, expected in models.items():
        target = tmp_path / 'exported' / f'{branch}{suffix}'
        export_encoder(source, target, branch)
        other = timm_vit(TINY, seed=3)
        timm_load_checkpoint(other, str(target), strict=True)
        for key, value in expected.state_dict().items():
            assert torch.equal(other.state_dict()[key], value), key
    # whole or not at all: nothing half written is left
    names = {path.name for path in (tmp_path / 'exported').iterdir()}
    assert names == {f'teacher{suffix}', f'student{suffix}'}


@SUFFIXES
def test_readers_of_ours(suffix: str, tmp_path: Path) -> None:
    teacher, student = timm_vit(TINY, seed=1), timm_vit(TINY, seed=2)
    source = save(families.moca(teacher, student), tmp_path / 'moca.pth')
    target = tmp_path / f'teacher{suffix}'
    written = export_encoder(source, target, 'teacher')
    read = inspect_checkpoint(target)
    for fact in ('embed_dim', 'depth', 'patch_size', 'num_positions', 'num_parameters'):
        assert getattr(read, fact) == getattr(written, fact)
    assert not read.ignored
    loaded = PlainViT(TINY)
    load_checkpoint(loaded, target)
    assert_same_model(loaded, teacher)
    init_cfg = dict(type='ViTCheckpoint', checkpoint=str(target))
    model = MODELS.build(dict(type='PlainViT', arch=TINY, init_cfg=init_cfg))
    model.init_weights()
    assert_same_model(model, teacher)


def test_registers_are_timm_s(tmp_path: Path) -> None:
    arch = dict(TINY, reg_tokens=4, no_embed_class=True)
    reference = timm_vit(arch, seed=1)
    source = save(families.dinov2_registers(reference), tmp_path / 'dinov2.pth')
    export_encoder(source, tmp_path / 'timm.pth')
    state = torch.load(tmp_path / 'timm.pth', weights_only=True)['model']
    other = timm_vit(arch, seed=2)
    other.load_state_dict(state)  # timm's own model, strictly
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value)


def sha256_of(tensors: dict[str, torch.Tensor]) -> str:
    lines = b''
    for name in sorted(tensors):
        array = tensors[name].numpy()
        lines += f'{name} torch.float32 {list(array.shape)}\n'.encode() + array.tobytes()
    return hashlib.sha256(lines).hexdigest()


class TestNotes:
    def test_origin_in_either_format(self, tmp_path: Path) -> None:
        source, _ = run_file(tmp_path / 'run' / 'epoch_3.pth')
        expected = {
            'notes_version': '1',
            'source': 'run/epoch_3.pth',
            'family': 'pre-training run',
            'branch': 'student',
            'method': 'MOCAPretrain',
            'arch': 'vit_tiny_patch16',
            'step': '1200',
            'epoch': '3',
            'mean': '[0.485, 0.456, 0.406]',
            'std': '[0.229, 0.224, 0.225]',
            'interpolation': 'bicubic',
        }
        pth, safe = tmp_path / 'a.pth', tmp_path / 'a.safetensors'
        export_encoder(source, pth, 'student')
        export_encoder(source, safe, 'student')
        assert torch.load(pth, weights_only=True)['meta'] == expected
        with safe_open(safe, framework='pt') as file:
            said = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert said.pop('tensors_sha256') == sha256_of(tensors)
        assert said == expected
        for path in (pth, safe):
            assert dict(inspect_checkpoint(path).notes) == expected

    def test_they_travel_on(self, tmp_path: Path) -> None:
        source, _ = run_file(tmp_path / 'run' / 'epoch_3.pth')
        export_encoder(source, tmp_path / 'a.safetensors', 'student')
        export_encoder(tmp_path / 'a.safetensors', tmp_path / 'b.pth', 'student')
        notes = [inspect_checkpoint(tmp_path / name).notes for name in ('a.safetensors', 'b.pth')]
        assert notes[0] == notes[1]
        with pytest.raises(UserError, match=r"single encoder, 'student'.*it is the teacher"):
            export_encoder(tmp_path / 'b.pth', tmp_path / 'c.pth', 'teacher')

    def test_released_file(self, tmp_path: Path) -> None:
        model = timm_vit(TINY)
        source = save(families.moca(model, model), tmp_path / 'moca.pth')
        export_encoder(source, tmp_path / 'a.pth')
        notes = inspect_checkpoint(tmp_path / 'a.pth').notes
        assert notes['arch'] == 'moca_vit_base_patch16'
        assert (notes['branch'], notes['epoch']) == ('teacher', '200')  # 0 to 199
        assert 'step' not in notes

    def test_run_without_a_config(self, tmp_path: Path) -> None:
        model = timm_vit(TINY)
        content = {**families.own_run(model, model), 'meta': {'cfg': 'model = os.getcwd('}}
        export_encoder(save(content, tmp_path / 'run.pth'), tmp_path / 'a.pth')
        assert set(inspect_checkpoint(tmp_path / 'a.pth').notes) == {
            *('notes_version', 'source', 'family', 'branch'),
            *('mean', 'std', 'interpolation'),
        }


class TestRefused:
    def test_another_format(self, tmp_path: Path) -> None:
        source = save(timm_vit(TINY).state_dict(), tmp_path / 'a.pth')
        with pytest.raises(UserError, match=r'b\.onnx.*ends in \.pth'):
            export_encoder(source, tmp_path / 'b.onnx')

    def test_target_that_exists(self, tmp_path: Path) -> None:
        source = save(timm_vit(TINY).state_dict(), tmp_path / 'a.pth')
        target = tmp_path / 'b.pth'
        target.write_bytes(b'mine')
        with pytest.raises(UserError, match=r'b\.pth: exists already.*--force'):
            export_encoder(source, target)
        assert target.read_bytes() == b'mine'
        export_encoder(source, target, force=True)
        assert inspect_checkpoint(target).depth == 3

    def test_source_as_target(self, tmp_path: Path) -> None:
        source = save({'state_dict': timm_vit(TINY).state_dict()}, tmp_path / 'a.pth')
        before = source.read_bytes()
        (tmp_path / 'link.pth').symlink_to(source)
        for target in (source, tmp_path / 'link.pth'):
            with pytest.raises(UserError, match='is the checkpoint to export'):
                export_encoder(source, target, force=True)
        assert source.read_bytes() == before

    def test_folder_as_target(self, tmp_path: Path) -> None:
        source = save(timm_vit(TINY).state_dict(), tmp_path / 'a.pth')
        (tmp_path / 'b.pth').mkdir()
        with pytest.raises(UserError, match='is a folder'):
            export_encoder(source, tmp_path / 'b.pth', force=True)
        with pytest.raises(UserError, match='cannot be written'):
            export_encoder(source, source / 'b.pth')

    def test_method_without_a_teacher(self, tmp_path: Path) -> None:
        state: dict[str, Tensor] = families.trunk(timm_vit(TINY), 'student.')
        source = save({'state_dict': state, 'meta': {}}, tmp_path / 'mae.pth')
        with pytest.raises(
            UserError,
            match=r"without branch 'teacher'; it has: student\. Choose --branch student",
        ):
            export_encoder(source, tmp_path / 'b.pth', 'teacher')
        assert export_encoder(source, tmp_path / 'b.pth').branch == 'student'

    @pytest.mark.parametrize('family', ['MAE', 'timm', 'segmentor'])
    def test_single_encoder_of_no_branch(self, family: str, tmp_path: Path) -> None:
        source = save(families.ONE_ENCODER[family](timm_vit(TINY)), tmp_path / 'a.pth')
        with pytest.raises(UserError, match='nothing says that it is the teacher'):
            export_encoder(source, tmp_path / 'b.pth', 'teacher')


def test_the_line_that_export_prints_loads_the_file(tmp_path: Path, capsys: Any) -> None:
    ours = timm.create_model('vit_tiny_patch16_224', num_classes=0, img_size=96).eval()
    randomize(ours)
    torch.save(ours.state_dict(), tmp_path / 'any.pth')
    target = tmp_path / 'for_timm.safetensors'
    assert checkpoint.main(['export', str(tmp_path / 'any.pth'), str(target)]) == 0
    line = capsys.readouterr().out.split('Load it by: ')[1].strip()
    theirs = eval(line, {'timm': timm}).eval()
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(theirs(image), ours(image))
