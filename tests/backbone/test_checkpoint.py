"""Reading checkpoints: the loaded backbone must compute what the file's own model computes."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from safetensors.torch import save_file
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer

from moca.backbone import PlainViT, check_checkpoint, inspect_checkpoint, load_checkpoint
from moca.backbone.checkpoint import export_encoder
from moca.errors import CheckpointMismatch, UserError
from tests.backbone import families
from tests.backbone.helpers import TINY, as_map, random_images, timm_vit


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def assert_same_model(model: PlainViT, reference: VisionTransformer) -> None:
    images = random_images(2, 3, 32, 32)
    model.eval()
    with torch.no_grad():
        (ours,) = model(images)
        expected = reference.forward_features(images)
    torch.testing.assert_close(
        ours, as_map(expected, (4, 4), reference.num_prefix_tokens), rtol=1e-4, atol=1e-5
    )


class TestFamilies:
    @pytest.mark.parametrize('family', families.TWO_BRANCHES)
    @pytest.mark.parametrize('branch', ['teacher', 'student'])
    def test_two_branches(self, family: str, branch: str, tmp_path: Path) -> None:
        models = {'teacher': timm_vit(TINY, seed=1), 'student': timm_vit(TINY, seed=2)}
        content = families.TWO_BRANCHES[family](models['teacher'], models['student'])
        path = save(content, tmp_path / 'checkpoint.pth')
        model = PlainViT(TINY)
        info = load_checkpoint(model, path, branch)
        assert family in info.family
        assert info.branch == branch
        assert set(info.branches) == {'teacher', 'student'}
        assert_same_model(model, models[branch])
        assert check_checkpoint(path, TINY, branch) == info

    @pytest.mark.parametrize(
        ('family', 'default'),
        [
            ('MOCA', 'teacher'),  # what the authors evaluate
            ('moca run', 'teacher'),
            ('DINO', 'teacher'),
            ('iBOT', 'teacher'),
            ('MoCo-v3', 'student'),  # its authors evaluate the base encoder
        ],
    )
    def test_default_branch(self, family: str, default: str, tmp_path: Path) -> None:
        models = {'teacher': timm_vit(TINY, seed=1), 'student': timm_vit(TINY, seed=2)}
        content = families.TWO_BRANCHES[family](models['teacher'], models['student'])
        model = PlainViT(TINY)
        load_checkpoint(model, save(content, tmp_path / 'checkpoint.pth'))
        assert_same_model(model, models[default])

    @pytest.mark.parametrize('family', families.ONE_ENCODER)
    @pytest.mark.parametrize('branch', [None, 'teacher'])
    def test_one_encoder(self, family: str, branch: str | None, tmp_path: Path) -> None:
        reference = timm_vit(TINY, seed=1)
        path = save(families.ONE_ENCODER[family](reference), tmp_path / 'checkpoint.pth')
        model = PlainViT(TINY)
        load_checkpoint(model, path, branch)
        assert_same_model(model, reference)
        info = inspect_checkpoint(path)
        assert (info.embed_dim, info.depth, info.patch_size) == (32, 3, 8)

    @pytest.mark.parametrize('family', ['DINOv2', 'timm'])
    def test_safetensors(self, family: str, tmp_path: Path) -> None:
        reference = timm_vit(TINY, seed=1)
        path = tmp_path / 'model.safetensors'
        save_file(families.ONE_ENCODER[family](reference), path)
        model = PlainViT(TINY)
        assert load_checkpoint(model, path).family == family
        assert_same_model(model, reference)

    def test_dinov2_with_registers(self, tmp_path: Path) -> None:
        arch = dict(TINY, reg_tokens=4, no_embed_class=True, init_values=1e-5)
        reference = timm_vit(arch, seed=1)
        path = save(families.dinov2_registers(reference), tmp_path / 'dinov2_reg4.pth')
        model = PlainViT(arch)
        info = load_checkpoint(model, path)
        assert (info.family, info.num_registers, info.layer_scale) == ('DINOv2', 4, True)
        assert_same_model(model, reference)

    @pytest.mark.parametrize('others', [{}, {'mask_token': torch.zeros(1, 32)}])
    def test_dinov2_with_swiglu(self, others: dict[str, Any], tmp_path: Path) -> None:
        # ViT-g/14: w12 and w3 are timm's fc1 and fc2.
        arch = dict(TINY, mlp_layer=SwiGLUPacked)
        reference = timm_vit(arch, seed=1)
        state = {
            key.replace('mlp.fc1', 'mlp.w12').replace('mlp.fc2', 'mlp.w3'): value
            for key, value in reference.state_dict().items()
        }
        model = PlainViT(arch)
        load_checkpoint(model, save({**state, **others}, tmp_path / 'dinov2_giant.pth'))
        assert_same_model(model, reference)

    def test_norm_of_the_pooled_vector(self, tmp_path: Path) -> None:
        # Fine-tuned MAE: `fc_norm` norms the mean of the tokens, and there is no `norm`.
        reference = timm_vit(TINY, seed=1)
        state = {
            key.replace('norm.', 'fc_norm.') if key.startswith('norm.') else key: value
            for key, value in reference.state_dict().items()
        }
        model = PlainViT(TINY)
        load_checkpoint(model, save({'model': state}, tmp_path / 'finetuned.pth'))
        assert_same_model(model, reference)

    def test_flat_patch_embedding(self, tmp_path: Path) -> None:
        # Early timm files: a linear layer on flattened patches.
        reference = timm_vit(TINY, seed=1)
        state = families.trunk(reference)
        state['patch_embed.proj.weight'] = state['patch_embed.proj.weight'].flatten(1)
        model = PlainViT(TINY)
        info = load_checkpoint(model, save(state, tmp_path / 'old.pth'))
        assert info.patch_size == 8
        assert_same_model(model, reference)


class TestPositions:
    @pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
    @pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
    def test_resampled_once_in_fp32(
        self, interpolation: str, dtype: torch.dtype, tmp_path: Path
    ) -> None:
        state = {k: v.to(dtype) for k, v in families.trunk(timm_vit(TINY, seed=1)).items()}
        path = save(state, tmp_path / 'checkpoint.pth')
        model = PlainViT(TINY, img_size=(24, 56), interpolation=interpolation)
        load_checkpoint(model, path)
        stored = state['pos_embed'].float()
        grid = stored[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (3, 7), mode=interpolation, antialias=True)
        expected = torch.cat((stored[:, :1], grid.flatten(2).transpose(1, 2)), 1)
        assert model.pos_embed.dtype == torch.float32
        torch.testing.assert_close(model.pos_embed.detach(), expected, rtol=1e-6, atol=1e-6)

    def test_file_with_a_grid_that_is_not_square(self, tmp_path: Path) -> None:
        arch = dict(TINY, img_size=(16, 48))
        reference = timm_vit(arch, seed=1)
        path = save(reference.state_dict(), tmp_path / 'checkpoint.pth')
        same = PlainViT(arch)
        load_checkpoint(same, path)
        assert torch.equal(same.pos_embed, reference.pos_embed)
        # 2 x 6 rows could be any rectangle: into another grid only if the user says which
        square = PlainViT(TINY)
        with pytest.raises(CheckpointMismatch, match=r'13 rows.*grid=\(rows, columns\)'):
            load_checkpoint(square, path)
        load_checkpoint(square, path, grid=(2, 6))
        images = random_images(1, 3, 16, 48)
        with torch.no_grad():
            first = same.eval()(images)[0]
        assert first.shape == (1, 32, 2, 6)


class TestMismatch:
    @pytest.mark.parametrize(
        ('arch', 'message'),
        [
            # named both ways: what the backbone lacks, and what the file lacks
            (
                dict(TINY, depth=4),
                r'backbone but not in the file: blocks\.3\.norm1\.weight.*more\)',
            ),
            (
                dict(TINY, depth=2),
                r'file but not in the backbone: blocks\.2\.norm1\.weight.*more\)',
            ),
            (dict(TINY, init_values=1.0), r'backbone but not in the file: blocks\.0\.ls1\.gamma'),
            (dict(TINY, embed_dim=64), r'cls_token \[1, 1, 32\] in the file, \[1, 1, 64\]'),
            (dict(TINY, patch_size=16), r'proj\.weight \[32, 3, 8, 8\].*\[32, 3, 16, 16\]'),
            (dict(TINY, reg_tokens=3), 'not in the file: reg_token'),
        ],
    )
    def test_other_architecture(self, arch: dict[str, Any], message: str, tmp_path: Path) -> None:
        path = save(timm_vit(TINY).state_dict(), tmp_path / 'tiny.pth')
        model = PlainViT(arch)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(CheckpointMismatch, match=message) as caught:
            load_checkpoint(model, path)
        assert str(path) in str(caught.value)
        for key, value in model.state_dict().items():  # every parameter or none
            assert torch.equal(value, before[key]), key
        with pytest.raises(CheckpointMismatch, match=message):
            check_checkpoint(path, arch)

    def test_both_ways_at_once(self, tmp_path: Path) -> None:
        path = save(timm_vit(dict(TINY, init_values=1.0)).state_dict(), tmp_path / 'a.pth')
        with pytest.raises(CheckpointMismatch) as caught:
            check_checkpoint(path, dict(TINY, reg_tokens=1))
        assert 'not in the file: reg_token' in str(caught.value)
        assert 'not in the backbone: blocks.0.ls1.gamma' in str(caught.value)

    def test_one_parameter_missing(self, tmp_path: Path) -> None:
        state = timm_vit(TINY).state_dict()
        del state['blocks.1.attn.qkv.bias']
        path = save(state, tmp_path / 'tiny.pth')
        with pytest.raises(CheckpointMismatch, match=r'blocks\.1\.attn\.qkv\.bias'):
            load_checkpoint(PlainViT(TINY), path)

    def test_no_vit_in_the_file(self, tmp_path: Path) -> None:
        path = save({'state_dict': {'layer1.0.conv1.weight': torch.ones(2)}}, tmp_path / 'r.pth')
        with pytest.raises(UserError, match=r'no plain ViT.*state_dict\.layer1\.0\.conv1\.weight'):
            inspect_checkpoint(path)

    def test_no_such_branch(self, tmp_path: Path) -> None:
        model = timm_vit(TINY)
        content = families.moca(model, model)
        path = save(content, tmp_path / 'moca.pth')
        with pytest.raises(UserError, match=r"branch 'momentum'.*teacher, student"):
            inspect_checkpoint(path, 'momentum')
        content['model'] = {k: v for k, v in content['model'].items() if 'teacher' not in k}
        path = save(content, tmp_path / 'student.pth')
        with pytest.raises(UserError, match=r"branch 'teacher'.*it has: student"):
            inspect_checkpoint(path, 'teacher')


class Code:
    """Pickles as a call of its choice: what a malicious file does."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class TestBadFiles:
    def test_code_is_refused(self, tmp_path: Path) -> None:
        victim = tmp_path / 'victim'
        content = {**timm_vit(TINY).state_dict(), 'args': Code(os.system, f'touch {victim}')}
        path = save(content, tmp_path / 'malicious.pth')
        with pytest.raises(UserError, match=r'refused.*system.*--trust'):
            inspect_checkpoint(path)
        assert not victim.exists()
        assert inspect_checkpoint(path, trust=True).depth == 3
        assert victim.exists()  # the file does what it threatens

    def test_getattr_reaches_no_other_function(self, tmp_path: Path) -> None:
        # mmengine's log history pickles a getattr call; only its own four are let through.
        from mmengine.logging import HistoryBuffer

        for owner, name in ((HistoryBuffer, '__init__'), (Path, 'touch'), (dict, 'max')):
            content = {**timm_vit(TINY).state_dict(), 'x': Code(getattr, owner, name)}
            with pytest.raises(UserError, match='refused'):
                inspect_checkpoint(save(content, tmp_path / 'getattr.pth'))

    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    @pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.99])
    def test_truncated(self, share: float, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f'model{suffix}'
        state = timm_vit(TINY).state_dict()
        torch.save(state, path) if suffix == '.pth' else save_file(state, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=str(path)):
            inspect_checkpoint(path)

    @pytest.mark.parametrize(
        'content',
        [
            b'<html>404 not found</html>',
            b'\x00' * 100,
            bytes(range(256)),
            pickle.dumps('x', protocol=2),
        ],
        ids=['html', 'zeros', 'bytes', 'string'],
    )
    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    def test_not_a_checkpoint(self, content: bytes, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f'model{suffix}'
        path.write_bytes(content)
        with pytest.raises(UserError, match=str(path)):
            inspect_checkpoint(path)

    @pytest.mark.parametrize('content', [torch.ones(3), [torch.ones(3)], {}, {'epoch': 3}])
    def test_other_content(self, content: Any, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r'odd\.pth'):
            inspect_checkpoint(save(content, tmp_path / 'odd.pth'))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r'nowhere\.pth: no such checkpoint file'):
            inspect_checkpoint(tmp_path / 'nowhere.pth')
        with pytest.raises(UserError, match='no such checkpoint file'):
            inspect_checkpoint(tmp_path)


class TestUse:
    def test_init_cfg(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        logged: list[str] = []
        monkeypatch.setattr(
            'moca.backbone.checkpoint.print_log', lambda text, **_: logged.append(text)
        )
        teacher, student = timm_vit(TINY, seed=1), timm_vit(TINY, seed=2)
        path = save(families.moca(teacher, student), tmp_path / 'moca.pth')
        init_cfg = dict(type='ViTCheckpoint', checkpoint=str(path), branch='student')
        model = MODELS.build(dict(type='PlainViT', arch=TINY, img_size=48, init_cfg=init_cfg))
        model.init_weights()
        assert torch.equal(model.blocks[2].mlp.fc2.weight, student.blocks[2].mlp.fc2.weight)
        (text,) = logged
        for fact in ('MOCA', 'student', '100%', 'resampled from 4 x 4 to 6 x 6', 'bicubic'):
            assert fact in text

    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    def test_export(self, suffix: str, tmp_path: Path) -> None:
        teacher, student = timm_vit(TINY, seed=1), timm_vit(TINY, seed=2)
        source = save(families.moca(teacher, student), tmp_path / 'moca.pth')
        target = tmp_path / 'exported' / f'teacher{suffix}'
        export_encoder(source, target, 'teacher')
        assert [path.name for path in target.parent.iterdir()] == [target.name]
        model = PlainViT(TINY)
        load_checkpoint(model, target)
        assert_same_model(model, teacher)

    def test_exported_registers_are_timm_s(self, tmp_path: Path) -> None:
        arch = dict(TINY, reg_tokens=4, no_embed_class=True)
        reference = timm_vit(arch, seed=1)
        source = save(families.dinov2_registers(reference), tmp_path / 'dinov2.pth')
        export_encoder(source, tmp_path / 'timm.pth')
        state = torch.load(tmp_path / 'timm.pth', weights_only=True)['model']
        other = timm_vit(arch, seed=2)
        other.load_state_dict(state)  # timm's own model, strictly
        for key, value in reference.state_dict().items():
            torch.testing.assert_close(other.state_dict()[key], value)

    def test_export_to_another_format(self, tmp_path: Path) -> None:
        source = save(timm_vit(TINY).state_dict(), tmp_path / 'a.pth')
        with pytest.raises(UserError, match=r'b\.onnx.*\.safetensors or \.pth'):
            export_encoder(source, tmp_path / 'b.onnx')
