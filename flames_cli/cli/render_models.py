"""Model folders on the terminal."""

from typing import TYPE_CHECKING

from rich.console import Console

from flames_cli.cli.text import count, epsilon_spent

if TYPE_CHECKING:
    from flames_cli.stages.export.stage import Exported
    from flames_cli.store.models import ModelInfo


def print_exported(console: Console, made: "Exported") -> None:
    """Print where the model is, what it is, and how it is used."""
    state = "written" if made.is_new else "there already, with the same content"
    console.print(f"model {made.info.name}: {state}", style="bold", soft_wrap=True)
    if made.aside:
        console.print(f"  the earlier model of this name is now {made.aside}", soft_wrap=True)
    for line in describe_model(made.info):
        console.print(f"  {line}", soft_wrap=True)
    for note in made.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    console.print(f"  {made.folder}", style="dim", soft_wrap=True)
    for one in made.formats:
        images = f"{count(one.random_images, 'random image')}"
        images += f" and {count(one.real_images, 'real one')}" if one.real_images else ""
        console.print(
            f"  {one.path}: differs from torch by at most {one.largest_difference:.1e} in probability, on "
            f"{images}",
            soft_wrap=True,
        )
    if made.archive:
        console.print(f"  {made.archive}", style="dim", soft_wrap=True)
    console.print(f"next: flames predict --model {made.info.name} FILE…", style="bold", soft_wrap=True)


def describe_model(info: "ModelInfo") -> list[str]:
    """Return the lines that say what a model is."""
    image, training = info.input, info.training
    organs = f" of {', '.join(image.organs)}" if image.organs else ""
    colours = "grey" if image.channels == 1 else "colour"
    lines = [
        f"{image.modality} images{organs}, {colours}, {image.size}×{image.size} pixels, "
        f"{info.architecture.model}"
    ]
    if training.kind != "file":
        of = f"client {training.client}" if training.kind == "client" else "the server"
        lines.append(
            f"model of {of}, run {training.run} ({training.strategy}), round {training.round} of "
            f"{training.rounds}: {training.why}"
        )
    if "dice" in info.validation:
        people = int(info.validation.get("patients", 0))
        by = f" of {count(people, 'validation patient')}" if people else ""
        lines.append(f"mean Dice of the images{by}: {info.validation['dice']:.3f}")
    if "epsilon" in info.privacy:
        lines.append(f"differential privacy: {epsilon_spent(info.privacy)}")
    lines.append(f"threshold {info.threshold:g}, licence {info.licence or 'not stated'}")
    return lines
