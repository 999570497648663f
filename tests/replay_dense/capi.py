"""CAPI's k-NN and logistic regression from recorded features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from moca.evaluation.dense.capi import (
    KnnSetting,
    PatchSet,
    best_setting,
    confusions,
    held_out_images,
    joined,
    knn_predict,
    logreg_predict,
)
from moca.evaluation.dense.confusion import miou_occurring, pixel_accuracy
from moca.evaluation.dense.patch_labels import most_frequent, pixels_of_patches
from moca.evaluation.dense.patch_logreg import STRENGTHS, LogisticRegression, fit_logreg
from moca.evaluation.dense.standardize import Scaler
from tests.replay_dense.report import Report


class Recording:
    """The recorded patches, split and standardized by our functions."""

    def __init__(self, facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
        self.facts, self.tensors, self.report = facts, tensors, report
        settings = facts['settings']
        self.ignored = tuple(settings['ignore'])
        train = patches(tensors, 'train', settings['patch'])
        test = patches(tensors, 'test', settings['patch'])
        fitted, chosen_on = held_out_images(settings['n_train'])
        order = torch.cat([torch.from_numpy(chosen_on), torch.from_numpy(fitted)])
        report.same('split', order, tensors['permutation'])
        count = settings['grid'] ** 2
        scaler = Scaler.of(train.images(fitted, count).features)
        report.close('scaler', 1e-6, scaler.mean, tensors['scaler.mean'], 'mean')
        report.close('scaler', 1e-6, scaler.scale, tensors['scaler.scale'], 'scale')
        self.train = train.images(fitted, count).scaled(scaler)
        self.val = train.images(chosen_on, count).scaled(scaler)
        self.test = test.scaled(scaler)
        for name, part in (('val', self.val), ('test', self.test)):
            theirs = tensors[f'{name}.features_standardised']
            report.close('standardized', 1e-6, part.features, theirs, name)


def patches(tensors: dict[str, Tensor], name: str, patch: int) -> PatchSet:
    """Recorded features and pixels of all patches."""
    pixels = pixels_of_patches(tensors[f'{name}.labels'], patch).flatten(0, 1)
    return PatchSet(tensors[f'{name}.features'].flatten(0, 2), pixels)


def replay(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """Replay both classifiers."""
    recording = Recording(facts, tensors, report)
    replay_knn(recording)
    replay_logreg(recording)


def replay_knn(r: Recording) -> None:
    """Predictions under every setting, the choice, and the test."""
    settings = [KnnSetting(k, d) for k in r.facts['settings']['k'] for d in ('cosine', 'L2')]
    for setting, part, labels in knn_predict(r.train.kept(r.ignored), r.val.features, settings):
        assert isinstance(setting, KnnSetting)
        theirs = r.tensors[f'knn.val.k{setting.k}_{setting.distance}'][part]
        r.report.same('k-NN predictions', labels, theirs, str(setting))
    chosen, scores = best_setting(confusions(knn_predict, r.train, r.val, settings, r.ignored))
    for setting, score in scores.items():
        assert isinstance(setting, KnnSetting)
        name = f'knn.mIoU_num_neighbors={setting.k}_distance={setting.distance}'
        theirs = r.facts['results'][f'hparam_fitting.{name}']
        r.report.number('scores', 1e-6, score / 100, theirs, str(setting))
    wanted = r.facts['chosen']['knn']
    right = chosen == KnnSetting(int(wanted['num_neighbors']), wanted['distance'])
    r.report.number('chosen', 0.0, float(right), 1.0, f'k-NN: {chosen}')
    whole = joined(r.train, r.val)
    for _, part, labels in knn_predict(whole.kept(r.ignored), r.test.features, [chosen]):
        r.report.same('k-NN predictions', labels, r.tensors['knn.test'][part], 'test')
    tested = confusions(knn_predict, whole, r.test, [chosen], r.ignored)[chosen].counts
    compare_test(r, 'knn', miou_occurring(tested), pixel_accuracy(tested))


def replay_logreg(r: Recording) -> None:
    """Weights and predictions for every C, the choice, and the test."""
    kept = r.train.kept(r.ignored)
    strengths = [c for i, c in enumerate(STRENGTHS) if f'logreg.C{i}.val' in r.tensors]
    for number, strength in enumerate(strengths):
        fitted = fit_logreg(kept.features, most_frequent(kept.pixels), strength)
        compare_weights(r, f'logreg.C{number}', fitted)
        ours = fitted.predict(r.val.features)[:, None].expand_as(r.val.pixels)
        theirs = r.tensors[f'logreg.C{number}.val']
        r.report.same('regression predictions', ours, theirs, f'C{number}')
    found = confusions(logreg_predict, r.train, r.val, strengths, r.ignored)
    chosen, scores = best_setting(found)
    recorded = {
        k: v for k, v in r.facts['results'].items() if k.startswith('hparam_fitting.logreg')
    }
    for (setting, score), theirs in zip(scores.items(), recorded.values(), strict=True):
        r.report.number('scores', 1e-6, score / 100, theirs, f'C {setting:g}')
    assert isinstance(chosen, float)
    wanted = r.facts['chosen']['logreg_C']
    r.report.number('chosen', 1e-9, chosen / wanted, 1.0, f'C {chosen:g}')
    whole = joined(r.train, r.val).kept(r.ignored)
    fitted = fit_logreg(whole.features, most_frequent(whole.pixels), chosen)
    compare_weights(r, 'logreg.refit', fitted)
    ours = fitted.predict(r.test.features)[:, None].expand_as(r.test.pixels)
    r.report.same('regression predictions', ours, r.tensors['logreg.test'], 'test')
    joint = joined(r.train, r.val)
    tested = confusions(logreg_predict, joint, r.test, [chosen], r.ignored)[chosen].counts
    compare_test(r, 'logreg', miou_occurring(tested), pixel_accuracy(tested))


def compare_weights(r: Recording, name: str, fitted: LogisticRegression) -> None:
    """Intercepts up to their mean, which no probability depends on."""
    r.report.same('classes', fitted.classes, r.tensors[f'{name}.classes'], name)
    r.report.close('weights', 1e-3, fitted.weight, r.tensors[f'{name}.coef'], name)
    bias = r.tensors[f'{name}.intercept']
    r.report.close('intercepts', 1e-3, fitted.bias, bias - bias.mean(), name)


def compare_test(r: Recording, name: str, miou: float, accuracy: float) -> None:
    """Scores after the refit."""
    results = r.facts['results']
    r.report.number('scores', 1e-6, miou / 100, results[f'labels_{name}_mIoU'], f'{name} test')
    r.report.number('scores', 1e-6, accuracy / 100, results[f'labels_{name}_acc'], f'{name} test')
