"""Moderations (`POST /v1/moderations`) through the official Python client, on the embedded engine."""

import openai
import pytest


def test_each_text_has_a_score_for_every_category(client, target):
    if target.kind != "embedded":
        pytest.skip("the stand-ins have no recording of this; crates/api/tests/api/moderations.rs asks an Ollama")
    moderation = client.moderations.create(model=target.model, input=["I like your garden.", "I will hurt you."])
    assert moderation.model == target.model and moderation.id.startswith("modr-")
    assert len(moderation.results) == 2
    for result in moderation.results:
        scores = result.category_scores.model_dump()
        assert len(scores) == 13 and all(0 <= score <= 1 for score in scores.values())
        assert result.flagged == any(result.categories.model_dump().values())
        assert result.category_applied_input_types.violence_graphic == ["text"]


def test_without_a_model_for_moderations_the_setting_is_named(client):
    with pytest.raises(openai.NotFoundError) as refusal:
        client.moderations.create(input="Hello")
    assert refusal.value.code == "model_not_found" and "moderation_model" in refusal.value.message
