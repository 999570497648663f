"""EoMT: a plain ViT whose last blocks see learned queries, which become masks with classes.

Paper: Your ViT is Secretly an Image Segmentation Model (arXiv 2503.19108); code: tue-mps/eomt. Read
`network.py` first, then `annealing.py`. Segmentation and detection share this room.
"""

from moca.eomt.annealing import MaskAnnealing
from moca.eomt.crops import RedrawEmpty
from moca.eomt.network import MaskTransformer
from moca.eomt.optim import MaskTransformerOptimWrapperConstructor, TwoPartPolyLR

__all__ = [
    'MaskAnnealing',
    'MaskTransformer',
    'MaskTransformerOptimWrapperConstructor',
    'RedrawEmpty',
    'TwoPartPolyLR',
]
