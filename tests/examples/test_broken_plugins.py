"""Plug-ins with faults, installed next to the example package: each costs one line and nothing else."""

import pytest

from tests.support.command_line import fails, flames
from tests.support.plugins import make_package

SMALL = ("--rounds", "1", "--batch-size", "8", "--device", "cpu", "--model", "dilated-net")
SMALL += ("--model-option", "channels=4", "--model-option", "blocks=1")

ENTRIES = {
    "models": {"absent": "no_such_module:Net", "two-channels": "bad_parts:two_channels"},
    "strategies": {"wrong-blend": "bad_parts:STRATEGY", "fair": "bad_parts:STRATEGY"},
    "losses": {"no-scalar": "bad_parts:no_scalar"},
    "augmentations": {"cut": "bad_parts:cut"},
    "metrics": {"a-text": "bad_parts:a_text"},
    "readers": {"grey-masks": "bad_parts:GREY"},
}

CODE = """
from dataclasses import replace
import numpy as np
from torch import nn
from flames_example.readers import ISIC2018
from flames_example.strategies import FAIR, FairBlend

def two_channels(in_channels):
    return nn.Conv2d(in_channels, 2, 1)

def no_scalar(probabilities, masks):
    return probabilities - masks

def cut(image, rng):
    return image[:, 1:]

def a_text(predicted, truth, spacing_mm):
    return "good"

class WrongBlend(FairBlend):
    def server(self):
        return {name: array[None] for name, array in super().server().items()}

STRATEGY = replace(FAIR, blend=WrongBlend)

def read_grey(source, options):
    (case,) = ISIC2018.read_source(source, options)
    return [replace(case, mask=case.mask * 0.5)]

GREY = replace(ISIC2018, name="grey-masks", read_source=read_grey)
"""


@pytest.fixture
def faulty(work, tmp_path, monkeypatch):
    """Another package, whose parts are all wrong, and which takes a name of the first."""
    make_package(tmp_path / "site", "bad-parts", ENTRIES, {"bad_parts": CODE}, version="1.0")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return work


@pytest.mark.federated
def test_each_fault_is_one_line_with_its_package_and_nothing_else_is_affected(faulty, isic):
    for typed, words in {
        ("--model", "absent"): "ModuleNotFoundError",
        ("--model", "two-channels"): "two-channels",
        ("--loss", "no-scalar"): "no-scalar",
        ("--augmentation", "cut"): "cut",
        ("--strategy", "wrong-blend"): "server()",
        ("--strategy", "fair"): "is given by two plug-ins",
    }.items():
        line = fails("federate", *SMALL[:6], *(SMALL[6:] if typed[0] != "--model" else ()), *typed)
        assert "bad-parts 1.0" in line, line
        assert words in line, line
    line = fails("preprocess", "--dataset", "grey-masks", "--raw", isic, "--size", "32", "--skip-bad")
    assert "bad-parts 1.0" in line
    flames("federate", *SMALL, "--loss", "focal-tversky", "--augmentation", "speckle", "--run", "good")
    line = fails("evaluate", "--run", "good", "--metric", "a-text", "--device", "cpu", "--no-overlays")
    assert "bad-parts 1.0" in line
    flames("evaluate", "--run", "good", "--metric", "boundary-iou", "--device", "cpu", "--no-overlays")


def test_the_list_of_plugins_names_every_fault_that_an_import_shows(faulty):
    said = " ".join(flames("info", "--plugins").output.split())
    assert "boundary-iou" in said
    assert "no_such_module" in said
    assert "neither is used" in said
