"""An adapted model on the terminal."""

from typing import TYPE_CHECKING

from rich.console import Console

from flames_cli.cli.render_models import describe_model
from flames_cli.cli.text import count

if TYPE_CHECKING:
    from flames_cli.stages.adapt.stage import Adapted


def print_adapted(console: Console, made: "Adapted") -> None:
    """Print which weights were chosen and why, the test of both models, and how the model is used."""
    console.print(f"model {made.info.name}: written", style="bold", soft_wrap=True)
    for line in describe_model(made.info):
        console.print(f"  {line}", soft_wrap=True)
    base = made.info.training.base
    if base is not None:
        console.print(f"  chosen: {made.chosen} ({base.why})", soft_wrap=True)
    if made.validation_patients:
        listed = ", ".join(f"{one.name} {one.dice:.3f}" for one in made.candidates if one.dice is not None)
        of = f"{count(made.validation_images, 'image')} of {count(made.validation_patients, 'patient')}"
        console.print(f"  validation Dice on {of}: {listed}", soft_wrap=True)
    for one in made.tests:
        cases = count(one.n, one.protocol.removesuffix("s"))
        limits = f" ({one.gain_low:+.3f} to {one.gain_high:+.3f})" if one.gain_low == one.gain_low else ""
        console.print(
            f"  test Dice on {cases} of {count(one.patients, 'patient')}: model as it is "
            f"{one.dice_as_it_is:.3f}, adapted {one.dice_adapted:.3f}, gain {one.gain:+.3f}{limits}",
            style="bold",
            soft_wrap=True,
        )
    for note in made.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    console.print(f"  {made.folder}", style="dim", soft_wrap=True)
    console.print(f"next: flames predict --model {made.info.name} FILE…", style="bold", soft_wrap=True)
