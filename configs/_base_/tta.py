"""Multi-scale and flip test-time augmentation of segmentation, for `tools/test.py --tta`.

Source: rstrudel/segmenter, segm/data/base.py (set_multiscale_mode), and bytedance/ibot, configs/
upernet/vit_base_512_ade20k_160k_ms.py, the same in BEiT's: six ratios of the test size and flips,
whose class probabilities are averaged. Neither lets the short side of an image fall below the
window (segm/model/utils.py, resize; SETR_Resize): at ADE20K's size of 512 the first three ratios
are one scale, which counts three times. DINOv2's multi-scale figures have other ratios, and
training at 640 px: --cfg-options tta.ratios=[1.0,1.32,1.73,2.28,3.0] gives the ratios.
"""

tta_model = dict(type='AveragingTTAModel')
tta = dict(ratios=[0.5, 0.75, 1.0, 1.25, 1.5, 1.75], flip=True)
