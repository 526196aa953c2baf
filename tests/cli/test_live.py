import io
import re

import pytest
from rich.console import Console

from flames_cli.cli.live import LONG_SECONDS, FederationView, progress_bars
from flames_cli.fed.events import (
    ClientAsked,
    Estimated,
    FederationStarted,
    FinalModelsExamined,
    LineLogged,
    ModalityDone,
    Noted,
    ReportReceived,
    ReportRejected,
    RoundDone,
    StepDone,
)
from tests.support.grouped import group, grouped_line

CLIENTS = (("brats-1", "MRI", 6223), ("brats-2", "MRI", 6130), ("otu2d", "US", 991))
METRICS = {"train_loss": 0.4567, "received_val_dice": 0.51, "trained_val_dice": 0.625}


def console_of(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None, markup=False)


def show(*events, terminal=False, on_cpu=True):
    """Return what the view writes."""
    console = console_of(terminal)
    with FederationView(console, "flames", on_cpu) as view:
        for event in (FederationStarted(CLIENTS, 1, 50), *events):
            view(event)
    return console.file.getvalue()


def frames(written):
    """The pictures that a terminal showed one after the other, without their control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).split("flames: round ")[1:]


def round_done(number, *dice, rejected=None):
    clients = [
        {"client": name, "received_val_dice": one / 2, "trained_val_dice": one}
        for (name, _, _), one in zip(CLIENTS, dice, strict=False)
    ]
    told = {"clients": clients, "rejected": rejected or {}, "unchanged_groups": []}
    return RoundDone({"round": number, "seconds": 75.0, **told})


def test_a_terminal_shows_clients_steps_losses_and_what_is_left():
    written = show(
        StepDone("brats-1", 1, 3, 98),
        ReportReceived("brats-1", 1, METRICS),
        StepDone("brats-2", 1, 1, 96),
        Estimated(12_000),
        terminal=True,
    )
    shown = frames(written)
    assert shown[0].startswith("1 of 50 (Dice on validation)")
    assert "measuring the first steps" in shown[0]
    assert re.search(r"brats-1 +MRI +6223 +training 3/98", shown[1])
    last = shown[-1]
    assert re.search(r"brats-1 +MRI +6223 +0\.457 +0\.510 +0\.625 +done", last)
    assert re.search(r"brats-2 +MRI +6130 +training 1/96", last)
    assert "about 3 h 20 min left" in last


def test_the_table_keeps_within_80_columns_and_its_height():
    long = "images of 32×32 pixels: this model needs at least 64×64; take larger images"
    written = show(
        *(StepDone(name, 50, 10_000, 10_000) for name, _, _ in CLIENTS),
        ReportReceived("brats-1", 50, METRICS),
        ReportRejected("otu2d", 50, long),
        terminal=True,
    )
    tables = [frame.split(" left")[0].splitlines() for frame in frames(written)]
    assert max(len(line) for table in tables for line in table[1:5]) <= 80
    assert all(table[4].startswith("otu2d") for table in tables)


def test_a_metric_that_was_not_measured_stays_empty():
    last = frames(show(ReportReceived("otu2d", 1, {"train_loss": 0.5}), terminal=True))[-1]
    assert re.search(r"otu2d +US +991 +0\.500 +done", last)


def test_a_client_that_a_round_does_not_ask_waits_and_is_not_called_rejected():
    written = show(ReportReceived("brats-1", 1, METRICS), round_done(1, 0.6), StepDone("otu2d", 2, 1, 9))
    assert "rejected" not in written
    terminal = show(round_done(1, 0.6), StepDone("otu2d", 2, 1, 9), terminal=True)
    assert re.search(r"brats-1 .* waiting", frames(terminal)[-1])
    assert "rejected" not in terminal


def test_a_rejected_report_leaves_no_numbers():
    written = show(
        ReportReceived("otu2d", 3, METRICS), ReportRejected("otu2d", 3, "it is far out"), terminal=True
    )
    shown = frames(written)
    assert any(re.search(r"otu2d +US +991 +0\.457 +0\.510 +0\.625 +done", frame) for frame in shown)
    assert re.search(r"otu2d +US +991 +rejected: it is", shown[-1])


def test_off_a_terminal_a_line_a_round_is_printed():
    written = show(
        StepDone("brats-1", 1, 1, 98),
        ReportReceived("brats-1", 1, METRICS),
        Estimated(60),
        round_done(1, 0.5, 0.75),
        round_done(2),
    )
    assert written == (
        "flames: round 1/50 in 1 min, validation Dice 0.312 as received, 0.625 after local training "
        "(mean of 2 clients)\n"
        "flames: round 2/50 in 1 min\n"
    )


def modality_done(modality, number):
    return ModalityDone(modality, {**round_done(number, 0.5).record})


@pytest.mark.parametrize("terminal", [False, True])
def test_modalities_that_do_their_own_rounds_are_shown_by_name(terminal):
    console = console_of(terminal)
    with FederationView(console, "flames", on_cpu=False) as view:
        for event in (
            FederationStarted(CLIENTS, 1, 50, by_modality=True),
            ClientAsked("brats-1", 1),
            modality_done("US", 1),
            ClientAsked("otu2d", 2),
            modality_done("MRI", 1),
            round_done(1, 0.5),
        ):
            view(event)
    written = console.file.getvalue()
    if terminal:
        assert "flames: rounds MRI 1, US 2 of 50 (Dice on validation)" in written
        last = frames(written.replace("flames: rounds", "flames: round "))[-1]
        assert last.count("training") == 1, "ultrasound trains while the round of MRI has ended"
    else:
        done = "in 1 min, validation Dice 0.250 as received, 0.500 after local training (mean of 1 client)"
        assert written == (
            f"flames: US round 1/50 {done}\nflames: MRI round 1/50 {done}\n"
            "flames: all modalities have done round 1/50\n"
        )


def test_the_final_models_are_scored_in_a_line_of_their_own():
    clients = [{"client": "brats-1", "val_dice": 0.5}, {"client": "brats-2", "val_dice": 0.25}]
    record = {"round": 2, "clients": [*clients, {"client": "otu2d"}], "missing": {"busi": "late"}}
    assert show(FinalModelsExamined(record)) == (
        "flames: final models, validation Dice 0.375 (mean of 2 clients)\n"
        "busi did not report on the final models: late\n"
    )


def test_the_models_of_the_best_round_are_scored_in_a_line_of_their_own():
    clients = [{"client": "brats-1", "val_dice": 0.5}]
    earlier = [{"round": 3, "clients": [{"client": "brats-1", "val_dice": 0.75}], "missing": {}}]
    record = {"round": 5, "clients": clients, "missing": {}, "earlier": earlier}
    assert show(FinalModelsExamined(record)) == (
        "flames: final models, validation Dice 0.500 (mean of 1 client)\n"
        "flames: best earlier round 3, validation Dice 0.750 (mean of 1 client)\n"
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_a_rejected_client_is_named_with_its_reason(terminal):
    written = show(ReportRejected("otu2d", 3, "its weights [head.bias] are not finite"), terminal=terminal)
    assert "round 3: otu2d was rejected: its weights [head.bias] are not finite" in written


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_run_on_a_cpu_earns_one_word_about_the_small_model(terminal):
    written = show(Estimated(LONG_SECONDS), Estimated(3 * 86_400), Estimated(4 * 86_400), terminal=terminal)
    assert written.count("--model unet after") == 1
    assert "about 3 days 0 h left on this CPU" in written
    assert "flames preprocess --size 96" in written


def test_a_long_run_on_a_gpu_earns_none():
    assert show(Estimated(3 * 86_400), on_cpu=False) == ""


def test_the_terminal_is_given_back_when_the_run_ends_badly():
    console = console_of(True)

    def fail():
        with FederationView(console, "flames", on_cpu=True) as view:
            view(FederationStarted(CLIENTS, 1, 2))
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert console.file.getvalue().rindex(shown) > console.file.getvalue().rindex(hidden)
    console.print("after")
    assert console.file.getvalue().endswith("after\n")


def test_bars_show_where_a_person_watches():
    console = console_of(True)
    with progress_bars(console) as progress:
        progress("preprocess busi", 1, 4)
        progress("preprocess busi", 4, 4)
        progress("partition", 1, 2)
    assert "preprocess busi" in console.file.getvalue()
    assert "4/4" in console.file.getvalue()


def test_bars_are_not_drawn_off_a_terminal():
    console = console_of(False)
    with progress_bars(console) as progress:
        progress("preprocess busi", 1, 4)
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(("epsilon", "said"), [(4.7285, "epsilon 4.73"), (None, "epsilon unknown")])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_private_run_reports_its_cost(terminal, epsilon, said):
    done = round_done(1, 0.5)
    done.record.update(epsilon=epsilon, delta=1e-5)
    assert f"{said} (delta 1e-05)" in show(done, terminal=terminal)


@pytest.mark.parametrize("terminal", [False, True])
def test_damage_that_was_found_is_reported_to_the_watcher(terminal):
    note = "the checkpoint of round-00003 is damaged and is set aside"
    assert note in " ".join(show(Noted(note), terminal=terminal).split())


def ticking(*seconds):
    """Return a clock that shows these times one after the other."""
    times = iter(seconds)
    return lambda: next(times)


def test_off_a_terminal_a_long_round_has_a_line_every_half_minute():
    console = console_of(terminal=False)
    with FederationView(console, "flames", on_cpu=False, clock=ticking(0, 20, 31, 31, 50, 65, 65)) as view:
        view(FederationStarted(CLIENTS, 1, 50))
        for step in range(1, 5):
            view(StepDone("brats-1", 1, step, 98))
    assert console.file.getvalue().splitlines() == [
        "flames: round 1/50, brats-1: training 2/98; measuring the first steps",
        "flames: round 1/50, brats-1: training 4/98; measuring the first steps",
    ]


def test_the_lines_of_the_log_take_the_place_of_notes_and_rounds():
    console = console_of(terminal=False)
    with FederationView(console, "flames", on_cpu=False, verbose=True) as view:
        view(FederationStarted(CLIENTS, 1, 50))
        view(Noted("a note"))
        view(LineLogged("2026-01-01T00:00:00Z note: a note"))
        view(round_done(1, 0.5))
        view(LineLogged("2026-01-01T00:00:01Z round 1: 75.0 s"))
    assert console.file.getvalue().splitlines() == [
        "2026-01-01T00:00:00Z note: a note",
        "2026-01-01T00:00:01Z round 1: 75.0 s",
    ]


def test_the_lines_of_the_log_are_hidden_without_verbose():
    assert show(LineLogged("2026-01-01T00:00:00Z note: a note")) == ""


def test_off_a_terminal_a_long_task_has_a_line_every_half_minute():
    console = console_of(terminal=False)
    with progress_bars(console, clock=ticking(0, 20, 31, 31, 50)) as progress:
        for done in (1, 2, 3):
            progress("preprocess busi", done, 780)
    assert console.file.getvalue() == "preprocess busi: 2 of 780\n"


GROUPS = {"MRI": group(2, 0.25, 0.5, 8.0), "US": {"clients": 1, "train_loss": 0.75}}
MODALITIES = {name: modality for name, modality, _ in CLIENTS}


def test_a_run_with_secure_aggregation_shows_rows_of_models():
    written = show(
        ReportReceived("brats-1", 1, {}), RoundDone(grouped_line(1, GROUPS, MODALITIES)), terminal=True
    )
    rows = [re.split(r"  +", row.strip()) for row in frames(written)[-1].splitlines()]
    assert ["model MRI", "0.250", "0.500", "2 clients"] in rows
    assert ["model US", "0.750", "1 client"] in rows
    assert ["brats-1", "MRI", "6223", "waiting"] in rows


def test_off_a_terminal_the_dice_of_models_is_called_that():
    groups = {"MRI": {**GROUPS["MRI"], "trained_val_dice": 0.75}, "US": GROUPS["US"]}
    written = show(RoundDone(grouped_line(1, groups, MODALITIES)))
    assert "validation Dice 0.500 as received, 0.750 after local training (mean of 1 model)" in written
    final = {"round": 1, "clients": [], "groups": {"MRI": group(2, 0.0, 0.625, 8.0, "")}, "missing": {}}
    assert "final models, validation Dice 0.625 (mean of 1 model)" in show(FinalModelsExamined(final))
