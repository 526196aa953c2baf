"""Model card: README.md of a model folder, in the form of the Hugging Face Hub.

It has no number that is not in `ModelInfo`, and no name of a patient or of a file.
"""

import json
import re
from collections.abc import Iterable

from flames_cli.store.models import Base, ModelInfo, TrainedOn

UNKNOWN = "unknown"
"""Licence, as the Hub writes it, of a model without a stated one."""

_MARKUP = re.compile(r"([\\`*\[\]<>|])")

CITATION = """\
```bibtex
@article{flames,
  title = {FLAMES: Federated Learning for Advanced MEdical Segmentation},
  author = {{The FLAMES authors (MODAL, University of Naples Federico II)}},
  note = {https://github.com/MODAL-UNINA/FLAMES}
}
```"""


def write_card(info: ModelInfo) -> str:
    """Return the text of README.md, in Markdown with a header in YAML.

    Names in `info` come from other machines: in the text they cannot become markup.
    """
    sections = (
        ("", _opening(info)),
        ("Intended use and limits", _use(info)),
        ("How to use", _commands(info)),
        ("Images and their preparation", _preparation(info)),
        ("Training data", _data(info)),
        ("Training", _training(info)),
        ("Validation", _validation(info)),
        ("Privacy", _privacy(info)),
        ("Versions", _versions(info)),
        ("Citation", CITATION),
    )
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections)
    return f"{_header(info)}\n\n# {_plain(info.name)}\n\n{body}\n"


def _header(info: ModelInfo) -> str:
    """Return the YAML between two lines of dashes; texts are quoted as in JSON, which YAML contains."""
    tags = ["medical", "segmentation", "tumour", "federated-learning", "flames", info.architecture.model]
    tags += [info.input.modality, *info.input.organs]
    known = re.fullmatch(r"[a-z0-9.-]+", info.licence)
    lines = [
        "---",
        f"license: {_quoted(info.licence if known else 'other' if info.licence else UNKNOWN)}",
        *([] if known or not info.licence else [f"license_name: {_quoted(info.licence)}"]),
        "library_name: flames-cli",
        "pipeline_tag: image-segmentation",
        "tags:",
        *(f"- {_quoted(tag)}" for tag in dict.fromkeys(tags)),
        "metrics:",
        '- "dice"',
        *(_results(info) if "dice" in info.validation else ()),
        "---",
    ]
    return "\n".join(lines)


def _results(info: ModelInfo) -> Iterable[str]:
    """Yield the entry `model-index`, which the Hub shows as a table of results."""
    return (
        "model-index:",
        f"- name: {_quoted(info.name)}",
        "  results:",
        "  - task:",
        "      type: image-segmentation",
        "    dataset:",
        f"      name: {_quoted(f'validation images of the clients ({info.input.modality})')}",
        "      type: private",
        "    metrics:",
        "    - type: dice",
        f"      value: {info.validation['dice']:.4f}",
    )


def _quoted(text: str) -> str:
    return json.dumps(_printable(text))


def _opening(info: ModelInfo) -> str:
    what = f"tumours in {_plain(info.input.modality)} images"
    if info.input.organs:
        what += f" of {_listed(info.input.organs)}"
    training = info.training
    if training.kind == "file":
        return f"A model that segments {what}. Its weights come from a file of another tool."
    if training.base is not None:
        return (
            f"A model that segments {what}, adapted to the images of client {_plain(training.client)} from "
            f"the model {_plain(training.base.name)} ({_plain(training.base.origin)}) with FLAMES. It "
            "returns the probability of tumour for each pixel of a 2D image; volumes are segmented slice by "
            "slice."
        )
    origin = (
        f"the model of client {_plain(training.client)}"
        if training.kind == "client"
        else "a model of the server"
    )
    return (
        f"A model that segments {what}: {origin} of a federation with FLAMES (strategy "
        f"{_plain(training.strategy)}). It returns the probability of tumour for each pixel of a 2D image; "
        "volumes are segmented slice by slice."
    )


def _use(info: ModelInfo) -> str:
    lines = [
        "Research use only. This is not a medical device: no diagnosis and no treatment may be based on its "
        "masks.",
        f"It is meant for images of the modality {_plain(info.input.modality)} that were acquired like its "
        "training images. For other modalities, organs, scanners or populations, its masks may be wrong "
        "without any sign; test it first on images with known masks (`flames predict --truth`).",
        "The mask says nothing about the kind of a lesion. Small or unusual lesions may be missed.",
    ]
    return "\n\n".join(lines)


def _commands(info: ModelInfo) -> str:
    return "\n".join(
        [
            "The folder has `model.toml` (the description that FLAMES reads), `weights.safetensors`, and "
            "this page. No file of it is executed. With FLAMES installed:",
            "",
            "```",
            f"flames models add {_file_name(info.name)}.zip",
            f"flames predict --model {_file_name(info.name)} image.png volume.nii.gz series/ --out masks",
            "```",
            "",
            "`--model` also accepts the path of this folder.",
        ]
    )


def _preparation(info: ModelInfo) -> str:
    image = info.input
    colours = "grey values" if image.channels == 1 else "red, green and blue"
    rules = " or ".join(str(rule) for rule in image.intensities)
    rows = [
        ("modality", _plain(image.modality)),
        ("organs", _listed(image.organs) if image.organs else "not stated"),
        ("channels", f"{image.channels} ({colours})"),
        (
            "size",
            f"{image.size}×{image.size} pixels, after black was added to make it square",
        ),
        ("plane of the slices of volumes", _plain(image.plane)),
        ("intensities of volumes and of images of more than 8 bits", rules or "not stated"),
        ("intensities of images of 8 bits", "0 to 255 become 0 to 1"),
        ("normalisation", "(x − 0.5) / 0.5, so that the model receives −1 to 1"),
        ("threshold", f"a pixel is tumour above the probability {info.threshold:g}"),
    ]
    if seen := info.seen:
        rows.append(
            (
                "training images, 1st to 99th percentile",
                f"mean intensity {seen.mean[0]:.3g} to {seen.mean[1]:.3g}, standard deviation "
                f"{seen.deviation[0]:.3g} to {seen.deviation[1]:.3g}, black {seen.black[0]:.0%} to "
                f"{seen.black[1]:.0%} of the pixels, {seen.rows[0]:.0f} to {seen.rows[1]:.0f} rows, "
                f"{seen.columns[0]:.0f} to {seen.columns[1]:.0f} columns",
            )
        )
    return "`flames predict` prepares images in this way.\n\n" + _table(("property", "value"), rows)


def _data(info: ModelInfo) -> str:
    if info.privacy and not info.training.clients:
        return "Not stated: differential privacy does not cover facts about single clients."
    if not info.training.clients:
        return "Not stated."
    rows = [_data_row(one) for one in info.training.clients]
    lines = _table(("client", "modality", "organ", "patients", "images"), rows)
    if info.training.token:
        lines += (
            "\n\nThe other clients of the federation trained it as well: a site's own folder does not name "
            "them."
        )
    return f"{lines}\n\nThe images stayed at the clients. No patient is named in this folder."


def _data_row(one: TrainedOn) -> tuple[str, ...]:
    numbers = (str(number) if number else "not known" for number in (one.patients, one.images))
    return _plain(one.client), _plain(one.modality), _plain(one.organ) or "not known", *numbers


def _training(info: ModelInfo) -> str:
    training, model = info.training, info.architecture
    options = ", ".join(f"{_plain(str(key))} {_plain(str(value))}" for key, value in model.options.items())
    rows = [
        ("architecture", _plain(model.model)),
        *([("plug-in of the architecture", _plain(model.plugin))] if model.plugin else []),
        ("options of the architecture", options or "none"),
        ("normalisation layers", _plain(model.norm)),
    ]
    if training.base is not None:
        rows += [*_adaptation(training.base), ("seed", str(training.seed))]
    elif training.kind != "file":
        rows += [
            ("strategy", _plain(training.strategy)),
            *([("started from", _plain(training.start))] if training.start else []),
            *([("plug-ins", _plain(", ".join(training.plugins)))] if training.plugins else []),
            ("round", f"{training.round} of {training.rounds}"),
            ("reason for the round", _plain(training.why) or "not stated"),
            ("seed", str(training.seed)),
        ]
    return _table(("property", "value"), rows)


def _adaptation(base: Base) -> list[tuple[str, str]]:
    """Return the lines of the table that say how the model was made from another one."""
    return [
        ("adapted from", f"{_plain(base.name)} ({_plain(base.origin)})"),
        ("SHA-256 of its weights", base.sha256),
        ("chosen weights", f"{_plain(base.candidate)}: {base.share:.0%} fine-tuned, the rest as it was"),
        ("reason for the choice", _plain(base.why)),
        ("epochs of fine-tuning", str(base.epochs)),
        ("learning rate", f"{base.lr:g}"),
        ("part that was not trained", _plain(base.freeze)),
    ]


def _test(base: Base) -> str:
    """Return the sentence on the client's test patients; "" without any."""
    found = base.test
    if "dice" not in found:
        return ""
    what = next((name for name in ("volumes", "images") if name in found), "images")
    return (
        f"Test: mean Dice of {found.get(what, 0):g} {what} of {found.get('patients', 0):g} patients of the "
        f"client, who chose nothing: {found['dice']:.3f}; of the model from which it was adapted: "
        f"{found.get('dice_as_it_is', 0):.3f}."
    )


def _validation(info: ModelInfo) -> str:
    found, base = info.validation, info.training.base
    if "dice" in found:
        n = f" of {found['images']:g} validation images" if found.get("images") else ""
        people = f" of {found['patients']:g} patients" if found.get("patients") else ""
        return (
            f"Mean Dice{n}{people}: {found['dice']:.3f}. The model was not trained on these patients, but "
            f"they may have chosen the {'weights' if base else 'round'}. "
            + ((_test(base) if base else "") or "Test patients were not used.")
        )
    if base is not None:
        return _test(base) or "None."
    if info.privacy:
        return "Not stated: differential privacy does not cover the validation of single clients."
    if info.training.kind == "server":
        return (
            "None: each client validates its own model, which differs from this one. `flames evaluate` tests "
            "server models on unseen patients."
        )
    return "None."


def _privacy(info: ModelInfo) -> str:
    if "epsilon" in info.privacy:
        return (
            f"Differential privacy at the level of clients: epsilon {info.privacy['epsilon']:.3g} at delta "
            f"{info.privacy['delta']:g}."
            + (
                " It does not cover the patients on whom its start was trained."
                if info.training.start
                else ""
            )
        )
    return (
        "No differential privacy: a person who has the weights may be able to infer whether certain images "
        "were among the training images. Share them only with people whom the clients trust."
    )


def _versions(info: ModelInfo) -> str:
    rows = [(_plain(name), _plain(version)) for name, version in info.versions.items()]
    return _table(("software", "version"), rows) if rows else "Not stated."


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(_plain(name) for name in names)


def _plain(text: str) -> str:
    """Return `text` on one line, with a backslash before every character that Markdown would interpret."""
    return _MARKUP.sub(r"\\\1", _printable(text))


def _file_name(name: str) -> str:
    """Return `name` without characters that end a code block or a word of the shell."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
