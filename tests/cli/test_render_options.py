import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from flames_cli.cli.render_options import calibration_tables, option_notes, option_summary, option_tables

GAIN = {
    **{"model": "brats-1", "modality": "MRI", "organ": "brain", "unseen_site": "", "option": "threshold"},
    **{"protocol": "volumes", "n": 12, "patients": 10, "dice_without": 0.5, "dice_with": 0.6},
    **{"gain": 0.1, "gain_low": -0.012, "gain_high": 0.212},
}
CALIBRATION = {
    **{"model": "US", "modality": "US", "unseen_site": "C6", "pixels": 1000, "ece": 0.012},
    **{"relevant_pixels": 50, "relevant_ece": 0.345},
}
CHOICE = {
    **{"model": "brats-1", "option": "threshold", "chosen": 0.35, "enough": True},
    **{"validation_patients": 12},
}


def content(**tables):
    return SimpleNamespace(tables={name.replace("_", "-"): lines for name, lines in tables.items()})


def shown(tables):
    console = Console(width=80, no_color=True)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    return captured.get()


def test_a_gain_is_shown_with_its_interval():
    text = shown(option_tables(content(gains_clients=[GAIN])))
    for part in ("brats-1", "volumes", "10 (12)", "0.500", "0.600", "+0.100", "[-0.012, +0.212]"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("missing", [math.nan, None])
def test_one_patient_has_no_interval(missing):
    line = {**GAIN, "gain_low": missing, "gain_high": missing}
    text = shown(option_tables(content(gains_server=[line])))
    assert "nan" not in text
    assert "[" not in text.splitlines()[-1]


def test_calibration_is_shown_for_all_pixels_and_for_relevant_ones():
    text = shown(calibration_tables(content(calibration_server=[CALIBRATION])))
    assert text.split()[-7:] == ["US", "on", "C6", "(unseen)", "0.012", "0.345", "5.0"]
    none = {**CALIBRATION, "relevant_ece": None, "relevant_pixels": 0}
    assert "none" in shown(calibration_tables(content(calibration_server=[none])))


def test_without_options_nothing_is_said():
    assert not list(option_tables(content()))
    assert not list(option_notes(content()))


def test_choices_are_named_by_model_and_seed():
    lines = [CHOICE, {**CHOICE, "chosen": 0.4}, {**CHOICE, "model": "busi", "enough": False}]
    cleanup = [{**CHOICE, "option": "postprocess", "chosen": "largest part"}]
    assert list(option_notes(content(choices_clients=lines, choices_server=cleanup))) == [
        "threshold by validation patients: brats-1 0.35/0.4",
        "threshold: the default, since validation patients are too few: busi (12 patients)",
        "postprocess by validation patients: brats-1 largest part",
    ]


def test_the_summary_has_one_line_per_option_and_the_choices_that_were_not_made():
    pooled = {**GAIN, "model": "all clients", "protocol": "slices"}
    server = {**pooled, "model": "US", "gain": -0.02, "gain_low": math.nan}
    lines = option_summary(
        content(
            gains_clients=[{**GAIN, "protocol": "slices"}, pooled, {**pooled, "option": "postprocess"}],
            gains_server=[server],
            choices_clients=[CHOICE, {**CHOICE, "enough": False}],
        )
    )
    assert list(lines) == [
        "Dice per image gained by threshold:\n  clients +0.100 [-0.012, +0.212]\n  server -0.020",
        "Dice per image gained by postprocess: clients +0.100 [-0.012, +0.212]",
        "1 of 2 choices are the default: too few validation patients (--detail)",
    ]


def test_two_intervals_are_two_lines_so_that_none_is_divided_at_80_columns():
    lines = [{**GAIN, "protocol": "slices", "model": "all models"}]
    (line,) = option_summary(content(gains_clients=lines, gains_server=lines))
    assert line.splitlines() == [
        "Dice per image gained by threshold:",
        "  clients +0.100 [-0.012, +0.212]",
        "  server +0.100 [-0.012, +0.212]",
    ]


def test_models_that_cannot_be_pooled_are_named():
    lines = [{**GAIN, "protocol": "slices"}, {**GAIN, "protocol": "slices", "model": "MRI by b"}]
    assert list(option_summary(content(gains_clients=[lines[1], lines[0]]))) == [
        "Dice per image gained by threshold: clients, brats-1 +0.100 [-0.012, +0.212]"
    ]
    assert not list(option_summary(content()))
