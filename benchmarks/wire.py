"""Wire types: time to pack and to read a message, bytes of a round, and Dice of a run.

    python benchmarks/wire.py messages --megabytes 54 125 --entries 136 188
    python benchmarks/wire.py runs --workspace WORKSPACE --rounds 10 --seeds 0 1 2

`messages` compares packed weights with an array of Flower's own for every entry, read without a copy
by numpy's reader of headers, each header once, and counts Flower's objects. `runs` trains the same
federation with each wire type on a workspace that has a partition, and prints the bytes of a round and the
Dice of the final models on the clients' test sets.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from flames_cli.arrays import Weights
from flames_cli.config import EvaluateConfig, FederateConfig
from flames_cli.core.federated.coding import code, decode
from flames_cli.core.federated.wire import WIRE_TYPES, as_received
from flames_cli.core.rng import derive_rng
from flames_cli.fed.messages import ARRAYS
from flames_cli.fed.packed_weights import pack, unpack
from flames_cli.fed.records import pack_weights
from flames_cli.flower.task_identity import send_messages_as
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import federate
from flames_cli.store.evaluations import CASES, read_case_scores


def main() -> None:
    """Print the tables that the options ask for."""
    options = parse_options()
    if options.what == "messages":
        measure_messages(options)
    else:
        compare_runs(options)


def parse_options() -> argparse.Namespace:
    """Return the options: what is measured, and its sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="what", required=True)
    messages = parts.add_parser("messages")
    messages.add_argument("--megabytes", type=float, nargs="+", default=[54.0, 125.0])
    messages.add_argument("--entries", type=int, nargs="+", default=[136, 188])
    messages.add_argument("--repeats", type=int, default=7)
    runs = parts.add_parser("runs")
    runs.add_argument("--workspace", type=Path, required=True)
    runs.add_argument("--strategy", default="flames")
    runs.add_argument("--rounds", type=int, default=10)
    runs.add_argument("--seeds", type=int, nargs="+", default=[0])
    runs.add_argument("--base-channels", type=int, default=8)
    runs.add_argument("--lr", type=float, default=0.001)
    runs.add_argument("--wire", nargs="+", choices=WIRE_TYPES, default=WIRE_TYPES)
    return parser.parse_args()


def measure_messages(options: argparse.Namespace) -> None:
    """Print processor seconds of packing, reading and coding, and the number of Flower's objects."""
    send_messages_as(1, 1)
    print("| weights | step | an array an entry | packed | ratio |\n|---|---|---|---|---|")
    for megabytes, entries in zip(options.megabytes, options.entries, strict=True):
        weights = make_weights(megabytes, entries)
        name = f"{megabytes:g} MB, {entries} entries"
        record, data = plain_record(weights), pack(weights)
        packing = cheapest(options.repeats, lambda w=weights: plain_record(w), lambda w=weights: pack(w))
        reading = cheapest(options.repeats, lambda r=record: read_plain(r), lambda d=data: unpack(d))
        for step, (before, after) in (("pack", packing), ("read", reading)):
            print(
                f"| {name} | {step} | {1e3 * before:.2f} ms | {1e3 * after:.2f} ms | {before / after:.1f} |"
            )
        before, after = count_objects(record), count_objects(pack_weights(weights))
        print(f"| {name} | Flower's objects | {before} | {after} | {before / after:.1f} |")
    print("\n| wire type | code a report | decode it | bytes |\n|---|---|---|---|")
    weights = make_weights(options.megabytes[0], options.entries[0])
    for wire in WIRE_TYPES:
        received = as_received(weights, wire)
        trained = {name: array + np.float32(1e-3) for name, array in received.items()}
        coded = code(trained, received, wire, {})
        coding, decoding = cheapest(
            options.repeats,
            lambda t=trained, r=received, w=wire: code(t, r, w, {}),
            lambda c=coded, w=wire: decode(c.arrays, c.codes, w, weights),
        )
        share = sum(array.nbytes for array in coded.arrays.values()) / sum(a.nbytes for a in weights.values())
        print(f"| {wire} | {1e3 * coding:.1f} ms | {1e3 * decoding:.1f} ms | {share:.3f} |")


def make_weights(megabytes: float, entries: int) -> Weights:
    """Return float32 weights of about that size in that many entries, of which most are small."""
    rng = derive_rng(0, "wire")
    sizes = np.geomspace(64, 64 * 10**4, entries)
    sizes = np.maximum(sizes * megabytes * 1e6 / 4 / sizes.sum(), 1).astype(int)
    return {f"block.{i}.weight": rng.standard_normal(size, np.float32) for i, size in enumerate(sizes)}


def plain_record(weights: Weights) -> ArrayRecord:
    """Return weights as an array of Flower for each entry."""
    return ArrayRecord({name: Array(array) for name, array in weights.items()})


def read_plain(record: ArrayRecord) -> Weights:
    """Return the entries as views of the message's memory."""
    read = {}
    for name, array in record.items():
        end = 10 + int.from_bytes(array.data[8:10], "little")
        shape, dtype = read_header(array.data[8:end])
        read[name] = np.frombuffer(array.data, dtype, offset=end).reshape(shape)
    return read


@lru_cache(maxsize=4096)
def read_header(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an array in numpy's format 1.0."""
    shape, _, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    return shape, dtype


def cheapest(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """Return the fewest processor seconds of each action; the actions take turns."""
    found: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for seconds, action in zip(found, actions, strict=True):
            started = time.process_time()
            action()
            seconds.append(time.process_time() - started)
    return [min(seconds) for seconds in found]


def count_objects(record: ArrayRecord) -> int:
    """Return the number of objects as which Flower sends a message with this record."""
    return len(get_all_nested_objects(Message(RecordDict({ARRAYS: record}), 2, "train")))


def compare_runs(options: argparse.Namespace) -> None:
    """Train and evaluate with each wire type, and print bytes and Dice."""
    print("| wire type | bytes down | bytes up | Dice of the clients' test cases, by seed | mean |")
    print("|---|---|---|---|---|")
    for wire in options.wire:
        dice, down, up = [], 0, 0
        for seed in options.seeds:
            result = federate(run_options(options, wire, seed))
            down, up = (result.records[-1][name] for name in ("bytes_down", "bytes_up"))
            evaluation = evaluate(
                EvaluateConfig(workspace=options.workspace, run=f"wire-{wire}-{seed}", overlays=False)
            )
            dice.append(statistics.fmean(case.dice for case in read_case_scores(evaluation.folder / CASES)))
        listed = ", ".join(f"{one:.4f}" for one in dice)
        print(f"| {wire} | {down:,} | {up:,} | {listed} | {statistics.fmean(dice):.4f} |", flush=True)


def run_options(options: argparse.Namespace, wire: str, seed: int) -> FederateConfig:
    """Return the options of one run."""
    return FederateConfig(
        workspace=options.workspace,
        strategy=options.strategy,
        run=f"wire-{wire}-{seed}",
        wire_dtype=wire,
        rounds=options.rounds,
        seed=seed,
        lr=options.lr,
        model="unet",
        model_options={"base_channels": options.base_channels, "depth": 3},
        device="cpu",
    )


if __name__ == "__main__":
    main()
