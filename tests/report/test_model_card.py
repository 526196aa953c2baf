from dataclasses import replace

import pytest

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.report.model_card import write_card
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Seen, TrainedOn, Training

INFO = ModelInfo(
    name="flames-MRI",
    architecture=Architecture("unet", "batch", {"base_channels": 8}),
    input=ModelInput("MRI", ("brain",), 240, intensities=(IntensityRule(), IntensityRule((-160.0, 240.0)))),
    training=Training(
        "client",
        "flames",
        "brats-1",
        "flames",
        round=7,
        rounds=9,
        why="as requested",
        clients=(TrainedOn("brats-1", "MRI", "brain", 3, 75), TrainedOn("b", "MRI", "", 0, 0)),
    ),
    validation={"dice": 0.51234, "images": 9.0, "patients": 2.0},
    versions={"flames": "0.1.0"},
    licence="cc-by-4.0",
    seen=Seen(9, (200.0, 240.0), (200.0, 240.0), (0.1, 0.2), (0.1, 0.3), (0.5, 0.6)),
)


def header_of(card):
    assert card.startswith("---\n")
    return card.split("---\n")[1]


def test_the_header_is_that_of_the_hub():
    header = header_of(write_card(INFO))
    for line in (
        'license: "cc-by-4.0"',
        "library_name: flames-cli",
        "pipeline_tag: image-segmentation",
        '- "MRI"',
        '- "dice"',
        "      value: 0.5123",
    ):
        assert line in header.splitlines()


@pytest.mark.parametrize(
    ("licence", "lines"),
    [
        ("", ['license: "unknown"']),
        ('Only for us: "x"\nno', ['license: "other"', 'license_name: "Only for us: \\"x\\"?no"']),
    ],
)
def test_a_licence_that_the_hub_does_not_know_keeps_its_name(licence, lines):
    found = header_of(write_card(replace(INFO, licence=licence))).splitlines()
    assert [line for line in found if line.startswith("license")] == lines


def test_the_card_says_what_the_model_is_and_how_its_images_are_prepared():
    card = write_card(INFO)
    for text in (
        "not a medical device",
        "flames predict --model flames-MRI",
        "240×240 pixels",
        "0 to the 95th percentile of all voxels or window -160 to 240",
        "| brats-1 | MRI | brain | 3 | 75 |",
        "| b | MRI | not known | not known | not known |",
        "Mean Dice of 9 validation images of 2 patients: 0.512",
        "mean intensity 0.1 to 0.2",
        "| round | 7 of 9 |",
        "@article{flames",
    ):
        assert text in card


def test_without_facts_the_card_says_so():
    bare = replace(INFO, training=Training("server", "flames"), validation={}, seen=None, licence="")
    card = write_card(replace(bare, input=ModelInput("MRI", (), 64)))
    assert "model-index" not in card
    assert "| organs | not stated |" in card
    assert "None: each client validates its own model" in card
    private = write_card(replace(bare, privacy={"epsilon": 4.7312, "delta": 1e-5}))
    assert "epsilon 4.73 at delta 1e-05" in private
    assert private.count("differential privacy does not cover") == 2


NAMES = {
    "a header": "x\n---\nlicense: mit",
    "a row": "a | b",
    "a link": "[x](javascript:alert(1))",
    "a tag": "<script>alert(1)</script>",
    "code": "`rm -rf /`",
    "a terminal": "\x1b[2J",
}


def named(name):
    return replace(
        INFO,
        name=name,
        input=replace(INFO.input, modality=name, organs=(name,), plane=name),
        architecture=Architecture(name, name, {name: name}),
        training=replace(INFO.training, client=name, why=name, strategy=name),
        versions={name: name},
        licence=name,
    )


@pytest.mark.parametrize("kind", NAMES)
def test_names_from_elsewhere_do_not_become_markup(kind):
    card, plain = write_card(named(NAMES[kind])), write_card(named("A name"))
    assert len(card.splitlines()) == len(plain.splitlines())
    body = card.split("---\n", 2)[2]
    for raw in ("<script>", "\x1b", "[x](", "\nlicense: mit", "a | b", " `rm"):
        assert raw not in body
