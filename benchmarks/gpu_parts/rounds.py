"""Section rounds: FedAvg and FLAMES side by side, round for round, and their models on the test sets."""

from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import LastReport, State
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.learn.devices import pick_precision, place
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.entries import describe_entries
from gpu_parts.federation import Arm, Federation
from gpu_parts.inputs import SMALL
from gpu_parts.running import Clock, Run, align
from gpu_parts.shards import Hospitals, draw_hospitals, read_hospitals
from gpu_parts.timing import OUT_OF_MEMORY, clear, peak_gb, reset_peak

COMPARED = {name: ALGORITHMS[name] for name in ("fedavg", "flames")}

BATCH_AND_LR = {"densenet-unet": (64, 1e-4), "unet": (16, 1e-3)}
"""The toolkit's defaults, and what its README says of the small model."""

SLOWER = 1.15
"""The rounds to come are reckoned so much slower than the second one."""

TEST_SHARE = 0.08
"""Share of the section's time that is reserved for the tests at the end."""


def federate(run: Run, clock: Clock) -> list[str]:
    """Run both strategies for as many rounds as there is time for, then test their models."""
    hospitals = _find_hospitals(run)
    with ThreadPoolExecutor(len(COMPARED)) as pool:
        federation = _choose(run, clock, hospitals, pool)
        figures = run.figures.setdefault("rounds", {})
        while federation.arms[0].state.round + 1 < run.rounds and _fits(federation, clock):
            federation.play_round()
            _tell(run, federation)
        federation.settle()
        _note(figures, run, federation)
        for arm in federation.arms:
            figures[arm.name]["test"] = federation.test(arm)
    figures["peak_gb"] = peak_gb(run.device)
    return _summary(figures)


def _find_hospitals(run: Run) -> Hospitals:
    if run.shards:
        hospitals = read_hospitals(run.shards)
    else:
        hospitals = draw_hospitals(6, 16) if run.toy else draw_hospitals(192, 240)
    counts = ", ".join(
        f"{one.name} ({one.modality}) {len(one.train)}/{len(one.val)}/{len(one.test)}"
        for one in hospitals.clients
    )
    run.say(f"{hospitals.size}×{hospitals.size}, train/val/test: {counts}")
    return hospitals


def _choose(run: Run, clock: Clock, hospitals: Hospitals, pool: ThreadPoolExecutor) -> Federation:
    """Return a federation after its first rounds: of the paper's model where half of all rounds fit."""
    names = ("unet",) if run.toy else tuple(BATCH_AND_LR)
    if run.model != "auto":
        names = (run.model,)
    for name in names:
        try:
            federation = _start(name, run, hospitals, pool)
            federation.play_round()
            seconds = federation.play_round()
        except OUT_OF_MEMORY:
            run.say(f"{name}: out of memory")
            if name == names[-1]:
                raise
            clear()
            continue
        fitting = int(clock.left() * (1 - TEST_SHARE) / (SLOWER * seconds)) + 2
        run.say(f"{name}: {seconds:.1f} s for a round of both; about {fitting} rounds fit")
        if 2 * fitting >= run.rounds or name == names[-1]:
            return federation
        federation.settle()
        del federation
        clear()
    raise ValueError("there is no model to try")


def _start(name: str, run: Run, hospitals: Hospitals, pool: ThreadPoolExecutor) -> Federation:
    options: dict[str, Any] = {"in_channels": hospitals.channels, **(SMALL[name] if run.toy else {})}
    batch_size, lr = BATCH_AND_LR.get(name, (16, 1e-3))
    precision = pick_precision("auto", run.device, name)
    model = build_model(name, seed=0, **options)
    initial, entries = to_weights(model), describe_entries(model)
    reset_peak(run.device)
    batch_size, lr = run.batch_size or batch_size, run.lr or lr
    run.figures["rounds"] = {
        "model": name,
        "precision": precision,
        "batch_size": batch_size,
        "lr": lr,
        "size": hospitals.size,
    }
    return Federation(
        hospitals,
        place(model, run.device, precision),
        entries,
        run.device,
        precision,
        batch_size,
        lr,
        pool,
        [Arm(arm, algorithm, _begin(algorithm, hospitals, initial)) for arm, algorithm in COMPARED.items()],
    )


def _begin(algorithm: Algorithm, hospitals: Hospitals, initial: dict[str, Any]) -> State:
    groups = {one.name: algorithm.model_group_of(one.name, one.modality) for one in hospitals.clients}
    clients = {client: LastReport(group) for client, group in groups.items()}
    return State(0, dict.fromkeys(groups.values(), initial), clients=clients)


def _fits(federation: Federation, clock: Clock) -> bool:
    """Return whether another round of both and the tests still fit."""
    last = sum(arm.training_s[-1] for arm in federation.arms)
    blending = max((arm.blending_s[-1] for arm in federation.arms if arm.blending_s), default=0.0)
    tests = sum(len(one.test) for one in federation.hospitals.clients)
    trained = sum(len(one.train) for one in federation.hospitals.clients)
    return clock.left() > SLOWER * (last * (1 + 2 * tests / max(trained, 1)) + 2 * blending)


def _tell(run: Run, federation: Federation) -> None:
    """Print how the arms are doing, now and then; keep the figures in case the section is cut short."""
    done = len(federation.arms[0].training_s)
    if done % max(run.rounds // 10, 1) == 0:
        scores = ", ".join(f"{arm.name} {arm.val_dice[-1]:.3f}" for arm in federation.arms)
        seconds = sum(arm.training_s[-1] for arm in federation.arms)
        run.say(f"round {done}: mean validation Dice {scores} ({seconds:.1f} s training for both)")
        _note(run.figures["rounds"], run, federation)


def _note(figures: dict[str, Any], run: Run, federation: Federation) -> None:
    figures["rounds"] = len(federation.arms[0].training_s)
    figures["rounds_asked"] = run.rounds
    for arm in federation.arms:
        figures[arm.name] = {
            "training_s": fmean(arm.training_s[1:] or arm.training_s),
            "blending_s": fmean(arm.blending_s) if arm.blending_s else None,
            "val_dice": list(arm.val_dice),
        }


def _summary(figures: dict[str, Any]) -> list[str]:
    """Return the table of test Dice, and what a round takes."""
    names = list(COMPARED)
    rows = [["test Dice", *names]]
    for kind, title in (("clients", ""), ("server", "server, ")):
        tests = [figures[name]["test"][kind] for name in names]
        rows += [[title + key, *(f"{test[key]:.3f}" for test in tests)] for key in tests[0]]
    rows.append(["training, s a round", *(f"{figures[name]['training_s']:.2f}" for name in names)])
    rows.append(["blending, s a round", *(f"{figures[name]['blending_s']:.2f}" for name in names)])
    head = (
        f"{figures['model']} {figures['size']}×{figures['size']}, {figures['precision']}, batch "
        f"{figures['batch_size']}, lr {figures['lr']:g}: "
        f"{figures['rounds']} of {figures['rounds_asked']} rounds"
    )
    return [head, *align(rows)]
