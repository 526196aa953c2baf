"""Model folders on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from flames_cli.cli.text import count, epsilon_spent, size

if TYPE_CHECKING:
    from flames_cli.stages.export.stage import Exported
    from flames_cli.stages.models.adding import Added
    from flames_cli.stages.models.listing import ModelEntry
    from flames_cli.store.models import ModelInfo, TrainedOn


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
        + (f" (plug-in of {info.architecture.plugin})" if info.architecture.plugin else "")
    ]
    if training.base is not None:
        lines.append(
            f"adapted to client {training.client} from {training.base.name} ({training.base.origin}): "
            f"{training.base.candidate}"
        )
    elif training.kind != "file":
        of = f"client {training.client}" if training.kind == "client" else "the server"
        lines.append(
            f"model of {of}, run {training.run} ({training.strategy}), round {training.round} of "
            f"{training.rounds}: {training.why}"
        )
        lines += [f"started from {training.start}"] if training.start else []
    if "dice" in info.validation:
        people = int(info.validation.get("patients", 0))
        by = f" of {count(people, 'validation patient')}" if people else ""
        lines.append(f"mean Dice of the images{by}: {info.validation['dice']:.3f}")
    if "epsilon" in info.privacy:
        lines.append(f"differential privacy: {epsilon_spent(info.privacy)}")
    lines.append(f"threshold {info.threshold:g}, licence {info.licence or 'not stated'}")
    return lines


def print_added(console: Console, added: "Added") -> None:
    """Print where an installed model is, what it is, and how it is used."""
    state = "installed" if added.is_new else "there already, with the same content"
    console.print(f"model {added.info.name}: {state}", style="bold", soft_wrap=True)
    for line in describe_model(added.info):
        console.print(f"  {line}", soft_wrap=True)
    console.print(f"  {added.folder}", style="dim", soft_wrap=True)
    console.print(f"next: flames predict --model {added.info.name} FILE…", style="bold", soft_wrap=True)


def print_models(console: Console, entries: "Sequence[ModelEntry]", workspace: Path) -> None:
    """Print every model in a few lines; without any, the commands that make one."""
    if not entries:
        console.print(f"no model in {workspace / 'models'}", soft_wrap=True)
        console.print("next: flames export, or flames models add FILE", style="bold", soft_wrap=True)
    for entry in entries:
        console.print(f"{entry.name} ({size(entry.size_bytes)})", style="bold", soft_wrap=True)
        for line in describe_model(entry.info) if entry.info else ():
            console.print(f"  {line}", style="dim", soft_wrap=True)
        if entry.damage:
            console.print(f"  damaged: {entry.damage}", style="red", soft_wrap=True)


def print_model(console: Console, entry: "ModelEntry") -> None:
    """Print all that model.toml says of a model that is not damaged."""
    console.print(f"model {entry.name} ({size(entry.size_bytes)})", style="bold", soft_wrap=True)
    if not (info := entry.info):
        return
    lines = [*describe_model(info), f"slices: {info.input.plane}"]
    if rules := " or ".join(map(str, info.input.intensities)):
        lines.append(f"intensities of volumes and 16-bit images: {rules}")
    lines += map(_training_line, info.training.clients)
    lines.append(", ".join(f"{name} {version}" for name, version in info.versions.items()))
    lines.append(f"sha256 {info.sha256}")
    for line in filter(None, lines):
        console.print(f"  {line}", soft_wrap=True)
    console.print(f"  {entry.folder}", style="dim", soft_wrap=True)


def _training_line(client: "TrainedOn") -> str:
    organ = f" of {client.organ}" if client.organ else ""
    images = count(client.images, "image") if client.images else "number of images not known"
    patients = f" of {count(client.patients, 'patient')}" if client.patients else ""
    return f"trained on client {client.client}: {client.modality}{organ}, {images}{patients}"


def print_models_to_remove(console: Console, models: "Sequence[ModelEntry]") -> None:
    """Print the models that are to be removed, before the question."""
    for model in models:
        console.print(f"{model.folder}: {size(model.size_bytes)}", soft_wrap=True)


def print_models_removed(console: Console, models: "Sequence[ModelEntry]") -> None:
    """Print which models were removed."""
    names, freed = ", ".join(model.name for model in models), sum(model.size_bytes for model in models)
    console.print(f"removed {names}: {size(freed)} of the disk are free again", soft_wrap=True)
