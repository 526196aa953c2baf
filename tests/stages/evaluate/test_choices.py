from dataclasses import fields

import numpy as np
import pytest

from flames_cli.config import EvaluateConfig
from flames_cli.core.imaging.components import largest_component
from flames_cli.core.imaging.volumes import Placement
from flames_cli.core.scores.calibration import measure_reliability
from flames_cli.core.scores.froc import match_at_thresholds
from flames_cli.core.scores.metrics import Counts, count_pixels
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.predict import MaskRule
from flames_cli.stages.evaluate import choices
from flames_cli.stages.evaluate.choices import MaskOptions, choose_masks, clean_masks, list_stacks
from flames_cli.stages.evaluate.models_under_test import HeldOutCases
from flames_cli.stages.evaluate.predicting import predict
from tests.support.datasets import draw_discs

SIDE = 32


class Guess:
    """A segmenter whose probabilities are 0.3 in the true mask, 0.2 in a second, smaller square, else 0.05.

    With flips they are higher by 0.4.
    """

    def __init__(self, noise=True):
        self.noise = noise

    def probabilities(self, weights, data, order=None, tta="none"):
        for index in range(len(data)) if order is None else order:
            found = np.full((SIDE, SIDE), 0.05, np.float32)
            if self.noise:
                found[:2, :2] = 0.2
            found[data.mask(index) > 0] = 0.3
            yield found + np.float32(0.4 if tta == "flips" else 0)

    def masks(self, weights, data, order=None, rule=None):
        rule = rule or MaskRule()
        for one in self.probabilities(weights, data, order, rule.tta):
            yield (one > rule.threshold).astype(np.uint8)


def draw(n, **changes):
    return ShardDataset([draw_discs(n, size=SIDE, **changes)])


@pytest.fixture
def many(monkeypatch):
    monkeypatch.setattr(choices, "ENOUGH_PATIENTS", 3)
    return [HeldOutCases(draw(2)), HeldOutCases(draw(2, seed=9), {"busi": "other"})]


def test_nothing_is_chosen_unless_it_is_asked(many):
    made = choose_masks(MaskOptions(), Guess(), {}, many)
    assert made.rule == MaskRule()
    assert (made.threshold, made.cleanup) == (None, None)
    assert choose_masks(MaskOptions(0.3, "flips"), Guess(), {}, []).rule == MaskRule(0.3, "flips")


def test_a_threshold_between_tumour_and_the_rest_is_chosen(many):
    made = choose_masks(MaskOptions("auto"), Guess(), {}, many)
    assert made.rule == MaskRule(0.25)
    assert made.threshold.dice == pytest.approx(1.0)
    assert made.threshold.default_dice == pytest.approx(0.0, abs=1e-6)
    # With flips all probabilities are higher.
    assert choose_masks(MaskOptions("auto", "flips"), Guess(), {}, many).rule.threshold in (0.6, 0.65)


def test_the_clients_patients_are_counted_together(many):
    made = choose_masks(MaskOptions("auto"), Guess(), {}, many)
    assert made.threshold.n_patients == 4
    alone = choose_masks(MaskOptions("auto"), Guess(), {}, many[:1])
    assert (alone.rule.threshold, alone.threshold.enough) == (0.5, False)


def test_the_largest_part_stays_only_if_that_helps(many):
    options = MaskOptions(0.1, postprocess="auto")
    assert choose_masks(options, Guess(), {}, many).rule.largest_only
    assert not choose_masks(options, Guess(noise=False), {}, many).rule.largest_only


def test_the_defaults_of_the_command_are_those_of_the_functions():
    config, options = EvaluateConfig(), MaskOptions()
    for field in fields(MaskOptions):
        assert getattr(config, field.name) == getattr(options, field.name)


def test_options_are_named_in_the_order_in_which_they_take_effect():
    assert MaskOptions().names == []
    assert MaskOptions("auto", "flips", "auto").names == ["tta", "threshold", "postprocess"]
    assert not MaskOptions(0.3, "flips").need_validation


def as_volume(n_slices):
    """Return the cases of a volume in reverse order, and a still image."""
    drawn, still = draw_discs(n_slices, size=SIDE), draw_discs(1, size=SIDE, seed=5)
    for number, case in enumerate(drawn.cases):
        place = Placement("axial", n_slices - 1 - number, (SIDE, SIDE, n_slices), "RAS", (1.0,) * 16)
        object.__setattr__(case, "place", place)
        object.__setattr__(case, "case", f"volume/{number}")
    return ShardDataset([drawn, still])


def test_slices_of_a_volume_are_cleaned_together():
    data = as_volume(3)
    assert list_stacks(data) == [(3,), (2, 1, 0)]
    masks = [np.zeros((SIDE, SIDE), np.uint8) for _ in range(4)]
    masks[2][4, 4] = masks[1][5, 5] = masks[0][6, 6] = 1  # one part, over corners
    masks[0][20:22, 20] = masks[3][1, 1] = masks[3][9:11, 9] = 1
    cleaned = clean_masks(data, masks)
    assert [int(mask.sum()) for mask in cleaned] == [1, 1, 1, 2]
    assert cleaned[0][6, 6] == 1
    np.testing.assert_array_equal(cleaned[3], largest_component(masks[3]))


def test_predictions_have_the_counts_before_each_option():
    data = draw(3)
    rule = MaskRule(0.35, "flips", largest_only=True)
    found = predict(Guess(), {}, data, rule, ["tta", "threshold", "postprocess"])
    # Without flips nothing is above 0.5; with them tumour (0.7) and the square (0.6) are; 0.35 takes all.
    for index in range(3):
        truth = data.mask(index)
        area = int(truth.sum())
        assert found.before["tta"][index] == Counts(0, 0, area, SIDE**2 - area)
        assert found.before["threshold"][index].true_positive == area
        assert found.before["threshold"][index].false_positive <= 4
        assert found.before["postprocess"][index] == count_pixels(np.ones_like(truth), truth)
        assert found.masks[index].all()


def test_details_are_those_of_the_probabilities_of_the_rule():
    data = draw(3)
    found = predict(Guess(), {}, data, MaskRule(0.25))
    every = list(Guess().probabilities({}, data))
    truth = [data.mask(index) for index in range(3)]
    expected = measure_reliability(np.stack(every), np.stack(truth))
    assert found.reliability.counts.tolist() == expected.counts.tolist()
    lesions = [match_at_thresholds(*pair) for pair in zip(every, truth, strict=True)]
    assert found.lesions[0.1] == lesions[0][0.1] + lesions[1][0.1] + lesions[2][0.1]
    assert found.before == {}
