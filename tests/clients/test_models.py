"""The model list and single models through the official Python client."""

from urllib.parse import quote

import openai
import pytest

import raw


def test_the_list_has_the_model_and_every_entry_is_one(client, target):
    models = client.models.list().data
    assert target.model in [model.id for model in models]
    assert {model.object for model in models} == {"model"}
    assert all(model.created >= 0 and model.owned_by for model in models)


def test_one_model_can_be_asked_for_by_its_id(client, target):
    assert client.models.retrieve(target.model).id == target.model


def test_an_id_may_come_encoded_or_not(target):
    plain = raw.ask(target.url, "GET", f"/v1/models/{target.model}")
    encoded = raw.ask(target.url, "GET", f"/v1/models/{quote(target.model, safe='')}")
    assert plain.status == encoded.status == 200
    assert plain.json()["id"] == encoded.json()["id"] == target.model


def test_a_model_behind_a_named_backend_answers_to_both_names(client, target):
    if target.kind != "openai":
        pytest.skip("only --openai names its backend")
    assert client.models.retrieve("llamacpp/smollm2").id == "llamacpp/smollm2"


def test_a_model_that_is_not_there_is_not_found(client, target):
    with pytest.raises(openai.NotFoundError) as failure:
        client.models.retrieve("nope")
    assert failure.value.code == "model_not_found"


def test_health_and_readiness_are_told(target):
    assert raw.ask(target.url, "GET", "/healthz").status == 200
    assert raw.ask(target.url, "GET", "/readyz").status == 200
