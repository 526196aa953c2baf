import numpy as np
from scipy.stats import chisquare

from flames_cli.secagg import random_words
from flames_cli.secagg.random_words import RandomWords


def test_words_are_uniform_and_never_come_again():
    words = RandomWords()
    first, second = words(20_000), words(20_000)
    assert len(np.union1d(first, second)) == 40_000
    counts = np.bincount(first.view(np.uint8), minlength=256)
    assert chisquare(counts).pvalue > 1e-6


def test_sources_are_independent_and_their_keys_are_of_the_system(monkeypatch):
    assert (RandomWords()(8) != RandomWords()(8)).all()
    asked = []
    monkeypatch.setattr(random_words.os, "urandom", lambda n: asked.append(n) or bytes(n))
    # The stream of AES-256 for the key of zeros begins with the encrypted zero block (NIST's AESAVS).
    assert RandomWords()(2).tobytes().hex() == "dc95c078a2408989ad48a21492842087"
    assert asked == [32]
