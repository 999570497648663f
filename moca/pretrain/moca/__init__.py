"""MOCA: the student predicts the teacher's masked online codebook assignments.

Paper: arXiv 2307.09361. One step, in its order, with its symbols and where each one lives here:

    x1, x2     two views of an image                               `data/views.py`
    f = T(x)   teacher tokens; alpha is the EMA's momentum         `method.py`, `parts/ema.py`
    E          codebook of K words, a queue of teacher tokens      `Codebook.words`
    q          assignments softmax(cos(f, E) / (delta d)), with    `Codebook.assign`
               delta = 1/10 and d the running mean of
               max cos - mean cos, used one step late              `Codebook.track`
    y_img      mean q over central tokens of the *other* view      `AssignmentTargets.image`
    y_dense    q of the *same* view at the decoded positions       `AssignmentTargets.dense`
    M          two complementary masks, partly decoded             `draws.py`, `parts/masking.py`
    s, g       student's mean token, decoder's tokens under M      `method.py`, `parts/decoder.py`
    W(E)       prototypes, generated from the words                `PrototypeGenerator`
    L_img      KL(y_img || softmax(kappa s W_img(E)^T))            `kl.py`
    L_dense    KL(y_dense || softmax(kappa g W_dense(E)^T))        `kl.py`
    L          sum over the masks of (L_img + L_dense) / 2         `MOCAPretrain.loss`
    E <- E'    4 random teacher tokens replace the oldest words    `Codebook.step`

Start reading in `plain.py`: the same step on full tensors, from top to bottom, which tests and
benchmarks hold `method.py` against. `released.py` and `export.py` are the authors' file format.
"""

from moca.pretrain.moca import released
from moca.pretrain.moca.method import MOCAPretrain

__all__ = ['MOCAPretrain', 'released']
