"""All stages in Python: raw images, clients, a federation with progress, scores, and the report.

    python examples/own_loop.py                                  # phantoms, in ./own-loop
    python examples/own_loop.py --raw busi=Dataset_BUSI_with_GT  # your own download

Needs no package besides FLAMES.
"""

import argparse
from pathlib import Path

import flames_cli as flames


def show(event: flames.Event) -> None:
    """Print a line for each round and each note."""
    if event.kind == "round" and event.record:
        loss = event.record.train_loss
        print(
            f"round {event.done} of {event.total}: training loss {loss:.3f}"
            if loss
            else f"round {event.done}"
        )
    if event.kind == "note":
        print(f"note: {event.text}")


def main() -> None:
    """Run all stages in one workspace."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, default=Path("own-loop"))
    parser.add_argument("--raw", action="append", metavar="DATASET=FOLDER", default=[])
    parser.add_argument("--patients", type=int, default=20, help="patients of each phantom data set")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()

    study = flames.Workspace(asked.workspace)
    named = dict(item.split("=", 1) for item in asked.raw)
    raw = named or flames.make_phantoms(study.path / "raw", patients=asked.patients)

    checked = flames.check(raw=raw, size=64, workspace=study)
    for finding in checked.findings:
        print(f"{finding['severity']} in {finding['dataset']}: {finding['what']}")

    flames.preprocess(raw=raw, size=64, overwrite=True, workspace=study)
    divided = flames.partition(overwrite=True, workspace=study)
    for client in divided.clients:
        print(f"{client.name} ({client.modality}, {client.organ}): {client.train_images} training images")

    run = flames.federate(
        strategy="flames",
        model="unet",
        model_options={"base_channels": 8},
        rounds=asked.rounds,
        lr=3e-3,
        batch_size=8,
        workspace=study,
        progress=show,
    )
    print(f"models of round {run.chosen_round}: {run.chosen_why}")
    print(flames.evaluate(run=run.name, workspace=study))
    print("open", flames.write_report(run=run.name, workspace=study).page)


if __name__ == "__main__":
    main()
