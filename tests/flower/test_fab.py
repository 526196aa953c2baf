"""Flower App Bundles, compared with Flower's own."""

import io
import warnings
import zipfile

from flames_cli.fed.engines.submitted import _write_app
from flames_cli.flower.app_guard import check_fab
from flames_cli.flower.fab import build_fab


def test_a_bundle_has_the_files_of_flowers_own_and_the_guard_accepts_it(tmp_path):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        from flwr.cli.build import build_fab_from_disk

        flowers = build_fab_from_disk(_write_app(tmp_path / "app"))
    ours = build_fab(tmp_path / "app")

    assert check_fab(ours) == check_fab(flowers)
    with zipfile.ZipFile(io.BytesIO(ours)) as a, zipfile.ZipFile(io.BytesIO(flowers)) as b:
        assert {name: a.read(name) for name in a.namelist()} == {name: b.read(name) for name in b.namelist()}


def test_the_same_app_has_the_same_bytes(tmp_path):
    assert build_fab(_write_app(tmp_path / "a")) == build_fab(_write_app(tmp_path / "b"))
