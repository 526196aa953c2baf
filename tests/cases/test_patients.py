"""Ids of patients: one person under two spellings, and ids that are none."""

import csv
from pathlib import Path

import pytest

from tests.support.cases import check_manifest, find_manifest, preprocess_manifest
