"""Two processes on half the batch each do what one does on the whole, given the same draws."""

import torch

from tests.pretrain.one_step import process, take_steps
from tests.processes import run_processes


def test_two_processes_equal_one(tmp_path):
    run_processes(process, (2, str(tmp_path)))
    first, second = (
        torch.load(tmp_path / f'rank{rank}.pth', weights_only=False) for rank in range(2)
    )
    one = take_steps(rank=0, world_size=1)

    for name, value in one['codebook'].items():
        assert torch.equal(first['codebook'][name], second['codebook'][name]), name
        torch.testing.assert_close(first['codebook'][name], value, rtol=0, atol=1e-6)
    both = (first['losses'] + second['losses']) / 2
    torch.testing.assert_close(both, one['losses'], rtol=1e-5, atol=0)
    for name, value in one['gradients'].items():
        assert torch.equal(first['gradients'][name], second['gradients'][name]), name
        difference = (first['gradients'][name] - value).abs().max()
        # the key's bias has a true gradient of zero: its rounding is measured against the tensor
        assert difference <= 1e-5 * value.abs().max() + 1e-9, name
    assert first['codebook']['pointer'].item() == 8

    # what each process draws by itself: the same words, from the images of both, other masks
    ours, theirs = first['own_draws'], second['own_draws']
    assert ours.word_view == theirs.word_view
    assert torch.equal(ours.word_images, theirs.word_images)
    assert torch.equal(ours.word_tokens, theirs.word_tokens)
    assert set(ours.word_images.tolist()) <= set(range(8))
    assert len(set(ours.word_images.tolist())) == 4
    assert not torch.equal(ours.rounds[0].order, theirs.rounds[0].order)
