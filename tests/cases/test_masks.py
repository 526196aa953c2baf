"""Shared cases of masks whose values are not what they seem, and relatives of them that are drawn here."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from tests.support.cases import check_manifest, find_manifest, preprocess_manifest
from tests.support.raw_cases import draw_manifest_of
