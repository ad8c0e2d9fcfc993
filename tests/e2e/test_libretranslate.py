"""LibreTranslate's own client library against our interface."""

from __future__ import annotations

import json
import urllib.error

import pytest
from libretranslatepy import LibreTranslateAPI

from harness import scoring


@pytest.fixture(scope="module")
def client(server) -> LibreTranslateAPI:
    return LibreTranslateAPI(server.libretranslate_url)


def test_the_client_library_translates_in_both_directions(client):
    for text, source, target, reference in (
        ("Where is the train station?", "en", "es", "¿Dónde está la estación de tren?"),
        ("La casa es muy grande.", "es", "en", "The house is very big."),
    ):
        translation = client.translate(text, source, target)
        assert scoring.chrf([reference], [translation], target) > 50, translation
    # What is written without a capital and a full stop comes back so.
    translation = client.translate("good morning", "en", "es")
    assert translation == translation.lower()
    assert not translation.endswith(".")


def test_the_client_library_detects_and_lists_languages(client):
    found = client.detect("La reunión se ha aplazado hasta el jueves por la tarde.")
    assert found[0]["language"] == "es"
    assert 50 < found[0]["confidence"] <= 100
    languages = {language["code"]: language for language in client.languages()}
    assert languages["en"]["name"] == "English"
    assert {"en", "es"} <= set(languages["en"]["targets"])


def test_a_refusal_reaches_the_client_with_its_words(client):
    with pytest.raises(urllib.error.HTTPError) as refused:
        client.translate("good morning", "en", "tlh")
    assert refused.value.code == 400
    assert json.loads(refused.value.read()) == {"error": "tlh is not supported"}
