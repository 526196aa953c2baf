"""Several strategies and seeds on the same patients, in one table with paired differences.

    python examples/compare_strategies.py --workspace own-loop --seeds 3

The workspace needs a partition (see own_loop.py). A stopped script continues where it was: finished runs are
skipped. With pandas the table is printed by it.
"""

import argparse
from pathlib import Path

import flames_cli as flames

STRATEGIES = ("fedavg", "flames")
"""The first one is the reference."""


def main() -> None:
    """Federate with each strategy and seed, and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()

    common = flames.FederateConfig(
        model="unet",
        model_options={"base_channels": 8},
        rounds=asked.rounds,
        lr=3e-3,
        batch_size=8,
        workspace=asked.workspace,
    )
    for strategy in STRATEGIES:
        family = flames.federate_family(
            common, strategy=strategy, run=f"{strategy}-{asked.rounds}", seeds=range(asked.seeds)
        )
        dice = [f"{run.validation_dice:.3f}" for run in family.runs if run.validation_dice is not None]
        print(f"{family.name}: validation Dice by seed {', '.join(dice) or 'none'}")

    names = [f"{strategy}-{asked.rounds}" for strategy in STRATEGIES]
    found = flames.compare(runs=names, metrics=["dice"], overlays=False, workspace=asked.workspace)
    wanted = [line for line in found.differences if line["metric"] == "dice" and line["kind"] == "all"]
    columns = ("table", "run", "reference", "n_patients", "difference", "low", "high", "p_permutation")
    rows = [{column: line[column] for column in columns} for line in wanted]
    try:
        import pandas
    except ImportError:
        for row in rows:
            print("  ".join(f"{name} {value}" for name, value in row.items()))
    else:
        print(pandas.DataFrame(rows).to_string(index=False))
    print("all numbers are in", found.folder)


if __name__ == "__main__":
    main()
