"""Reading checkpoints: the loaded backbone must compute what the file's own model computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from safetensors.torch import save_file
from timm.layers import SwiGLUPacked

from moca.backbone import PlainViT
from moca.checkpoints import check_checkpoint, inspect_checkpoint, load_checkpoint
from moca.errors import CheckpointMismatch
from tests.backbone.helpers import TINY, assert_same_model, random_images, save, timm_vit
from tests.checkpoints import families


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
            ('pre-training run', 'teacher'),
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

    @pytest.mark.parametrize(
        ('write', 'arch', 'called'),
        [
            (families.dinov2, dict(TINY, init_values=1.0), 'DINOv2'),
            (families.ONE_ENCODER['timm'], TINY, 'plain ViT (timm names)'),
        ],
    )
    def test_safetensors(self, write: Any, arch: Any, called: str, tmp_path: Path) -> None:
        reference = timm_vit(arch, seed=1)
        path = tmp_path / 'model.safetensors'
        save_file(write(reference), path)
        model = PlainViT(arch)
        assert load_checkpoint(model, path).family == called
        assert_same_model(model, reference)

    def test_a_bare_trunk_is_not_said_to_be_timm_s(self, tmp_path: Path) -> None:
        # MAE's published encoders: {'model': trunk}, as DeiT's
        path = save({'model': families.trunk(timm_vit(TINY))}, tmp_path / 'mae.pth')
        assert inspect_checkpoint(path).family == 'plain ViT (timm names)'

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
        arch = dict(TINY, mlp_layer=SwiGLUPacked, init_values=1e-5)
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
    @pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear', 'bicubic-antialias'])
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
        mode, _, antialias = interpolation.partition('-')
        grid = F.interpolate(grid, (3, 7), mode=mode, antialias=bool(antialias))
        expected = torch.cat((stored[:, :1], grid.flatten(2).transpose(1, 2)), 1)
        assert model.pos_embed.dtype == torch.float32
        torch.testing.assert_close(model.pos_embed.detach(), expected, rtol=1e-6, atol=1e-6)

    def test_resampled_as_the_code_of_its_family(self, tmp_path: Path) -> None:
        """Each way written out as in the family's own code; Segmenter's protocols name theirs."""
        state = families.trunk(timm_vit(TINY, seed=1))
        scaled = families.trunk(timm_vit(dict(TINY, init_values=1.0), seed=1))
        scale = dict(init_values=1.0)
        registers = {**scaled, 'register_tokens': torch.zeros(1, 4, 32)}
        mask = {'mask_token': torch.zeros(1, 32)}
        grid = state['pos_embed'][:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        plain = F.interpolate(grid, (3, 7), mode='bicubic', align_corners=False)
        smooth = F.interpolate(grid, (3, 7), mode='bicubic', antialias=True)
        moved = F.interpolate(grid, scale_factor=(3.1 / 4, 7.1 / 4), mode='bicubic')
        decoder = {'decoder_embed.weight': torch.zeros(8, 32)}
        for content, name, arch, expected in (
            ({'model': {**state, **decoder}}, 'mae.pth', {}, plain),
            ({'state_dict': {**state, 'masked_embed': torch.zeros(1, 32)}}, 'ibot.pth', {}, moved),
            ({'model': state}, 'mae_encoder.pth', {}, plain),
            (state, 'dino.pth', {}, moved),
            ({'state_dict': state}, 'ibot_teacher.pth', {}, moved),
            ({**state, 'head.weight': torch.zeros(2, 32)}, 'timm.pth', {}, smooth),
            ({**scaled, **mask, 'pos_embed': state['pos_embed']}, 'dinov2.pth', scale, moved),
            (
                {**registers, **mask, 'pos_embed': state['pos_embed']},
                'dinov2_registers.pth',
                dict(scale, reg_tokens=4, no_embed_class=True),
                smooth,
            ),
        ):
            model = PlainViT({**TINY, **arch}, img_size=(24, 56))
            load_checkpoint(model, save(content, tmp_path / name))
            skip = model.pos_embed.shape[1] - 21
            ours = model.pos_embed[:, skip:].detach()
            torch.testing.assert_close(ours, expected.flatten(2).transpose(1, 2))
            # an image of another size is resampled in the same way, from there
            images = random_images(1, 3, 32, 32)
            with torch.no_grad():
                patches = model._patches(images)[0] - model.patch_embed(images).flatten(1, 2)
            again = ours.unflatten(1, (3, 7)).permute(0, 3, 1, 2)
            if expected is moved:
                again = F.interpolate(again, scale_factor=(4.1 / 3, 4.1 / 7), mode='bicubic')
            else:
                again = F.interpolate(again, (4, 4), mode='bicubic', antialias=expected is smooth)
            torch.testing.assert_close(
                patches, again.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5
            )
        named = PlainViT(dict(TINY, **scale), img_size=(24, 56), interpolation='bilinear')
        load_checkpoint(named, tmp_path / 'dinov2.pth')
        assert named.interpolation == 'bilinear'

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

    def test_square_number_of_positions_in_a_grid_that_is_not_square(self, tmp_path: Path) -> None:
        # 16 positions: 2 x 8, as in the backbone, or 4 x 4?
        wide = dict(TINY, img_size=(16, 64))
        reference = timm_vit(wide, seed=1)
        path = save(reference.state_dict(), tmp_path / 'wide.pth')
        message = r'16 positions could be a grid of 2 x 8.*or of 4 x 4.*--grid ROWS COLUMNS'
        model = PlainViT(wide)
        with pytest.raises(CheckpointMismatch, match=message):
            load_checkpoint(model, path)
        load_checkpoint(model, path, grid=(2, 8))
        assert torch.equal(model.pos_embed, reference.pos_embed)
        load_checkpoint(model, path, grid=(4, 4))
        assert not torch.equal(model.pos_embed, reference.pos_embed)
        with pytest.raises(CheckpointMismatch, match='a grid of -2 x -8'):
            load_checkpoint(model, path, grid=(-2, -8))


class TestUse:
    def test_init_cfg(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        logged: list[str] = []
        monkeypatch.setattr(
            'moca.checkpoints.loading.print_log', lambda text, **_: logged.append(text)
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
