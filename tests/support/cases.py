"""Small inputs that were once accepted, or refused without a reason: `check` and `preprocess` on each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli.config import CheckConfig, PreprocessConfig
from flames_cli.errors import FlamesError
from flames_cli.stages.check.stage import check
from flames_cli.stages.preprocess.stage import preprocess
from tests.support.datasets import find_shared


@dataclass(frozen=True)
class Checked:
    """Report of `flames check`, or the error that ended it."""

    report: dict[str, Any]
    error: str = ""

    @property
    def codes(self) -> dict[str, str]:
        """Severity of each finding, by its code."""
        return {finding["code"]: finding["severity"] for finding in self.report.get("findings", [])}

    def text_of(self, code: str) -> str:
        """Return everything that the finding called `code` says."""
        found = next(finding for finding in self.report["findings"] if finding["code"] == code)
        return " ".join([found["what"], found["fix"], *(place["text"] for place in found["where"])])


def find_manifest(name: str) -> Path:
    """Return the manifest of case `name`; skip the test if the case does not exist."""
    return find_shared(f"cases/{name}/data/manifest.csv")


def check_manifest(manifest: Path, workspace: Path, size: int = 80, **options: Any) -> Checked:
    """Run `flames check` on a manifest."""
    named = {"datasets": ("manifest",), "raw": {"manifest": manifest}, "name": "case"}
    try:
        (report,) = check(CheckConfig(workspace=workspace, size=size, **{**named, **options}))
    except FlamesError as error:
        return Checked({}, str(error))
    return Checked(report)


def preprocess_manifest(manifest: Path, workspace: Path, size: int = 80, **options: Any) -> Checked:
    """Run `flames preprocess` on a manifest of one modality and organ."""
    shares = {"server_test": 0.2, "test_fraction": 0.2}
    named = {"raw": {"manifest": manifest}, "name": "case", **shares}
    try:
        (report,) = preprocess(
            PreprocessConfig(workspace=workspace, size=size, **{**named, **options}), "manifest"
        )
    except FlamesError as error:
        return Checked({}, str(error))
    return Checked(report)
