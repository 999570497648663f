"""The figure of the method is drawn by a command of the project."""

from __future__ import annotations

from pathlib import Path

import cv2

from tools.draw_method import main


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / 'method.png'
    assert not main([str(out)])
    drawn = cv2.imread(str(out))
    assert drawn.shape[1] > 2 * drawn.shape[0] > 800
    # boxes and tokens, and paper between them
    assert 0.2 < (drawn < 250).any(-1).mean() < 0.6
