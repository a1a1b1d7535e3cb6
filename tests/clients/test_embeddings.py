"""Embeddings through the official Python client and LangChain, for every kind of backend, each with the same
model."""

import json
import math

import openai
import pytest
from langchain_openai import OpenAIEmbeddings

import raw
from targets import EMBEDDING_TARGETS, REPOSITORY

TEXTS = ["a cat", "a dog"]
RECORDINGS = REPOSITORY / "fixtures/ollama/embed"
REFERENCES = {one["text"]: one for one in json.loads((REPOSITORY / "fixtures/embeddings/all-minilm-l6-v2.json").read_text())}


@pytest.fixture(scope="module", params=list(EMBEDDING_TARGETS))
def target(request):
    with EMBEDDING_TARGETS[request.param]() as running:
        yield running


def cosine(one: list[float], other: list[float]) -> float:
    def product(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    return product(one, other) / math.sqrt(product(one, one) * product(other, other))


def test_vectors_are_those_of_the_models_makers_in_the_order_of_the_texts(client, target):
    made = client.embeddings.create(model=target.model, input=TEXTS, encoding_format="float")
    assert (made.object, made.model) == ("list", target.model)
    assert [(item.object, item.index) for item in made.data] == [("embedding", 0), ("embedding", 1)]
    for text, item in zip(TEXTS, made.data, strict=True):
        assert cosine(item.embedding, REFERENCES[text]["embedding"]) > 0.999
    assert made.usage.prompt_tokens == made.usage.total_tokens == 8


def test_what_the_package_asks_for_by_itself_is_base64_and_the_same_numbers(target):
    # Without strict validation: its type of a vector does not include base64.
    with openai.OpenAI(base_url=f"{target.url}/v1", api_key="unused", max_retries=0) as client:
        usual = client.embeddings.create(model=target.model, input="a cat")
        plain = client.embeddings.create(model=target.model, input="a cat", encoding_format="float")
    assert cosine(usual.data[0].embedding, plain.data[0].embedding) > 0.999_999
    answer = raw.ask(target.url, "POST", "/v1/embeddings", json.dumps({"model": target.model, "input": "a cat", "encoding_format": "base64"}).encode())
    assert isinstance(answer.json()["data"][0]["embedding"], str)


def test_fewer_dimensions_are_the_first_ones_scaled_and_more_are_refused(client, target):
    whole = client.embeddings.create(model=target.model, input="a cat", encoding_format="float").data[0].embedding
    short = client.embeddings.create(model=target.model, input="a cat", encoding_format="float", dimensions=16).data[0].embedding
    assert len(short) == 16 and cosine(short, whole[:16]) > 0.9999 and abs(cosine(short, short) - 1) < 1e-5
    assert abs(sum(number * number for number in short) - 1) < 1e-4
    with pytest.raises(openai.BadRequestError) as refusal:
        client.embeddings.create(model=target.model, input="a cat", encoding_format="float", dimensions=4096)
    assert (refusal.value.param, refusal.value.code) == ("dimensions", "integer_above_max_value")


def test_tokens_are_taken_or_refused_by_name(client, target):
    inputs = [REFERENCES[text]["tokens"] for text in TEXTS]
    if target.kind == "ollama":
        with pytest.raises(openai.BadRequestError) as refusal:
            client.embeddings.create(model=target.model, input=inputs, encoding_format="float")
        assert refusal.value.param == "input"
        return
    made = client.embeddings.create(model=target.model, input=inputs, encoding_format="float")
    for text, item in zip(TEXTS, made.data, strict=True):
        assert cosine(item.embedding, REFERENCES[text]["embedding"]) > 0.999


def test_an_input_that_is_too_long_is_a_400_that_says_which(client, target):
    long = "cat " * 5000
    if target.kind == "ollama":
        long = json.loads((RECORDINGS / "too-long-truncate-false.request.json").read_text())["body"]["input"]
    with pytest.raises(openai.BadRequestError) as refusal:
        client.embeddings.create(model=target.model, input=long, encoding_format="float")
    assert (refusal.value.param, refusal.value.code) == ("input[0]", "context_length_exceeded")


def test_a_chat_with_a_model_that_makes_embeddings_alone_is_a_404(client, target):
    with pytest.raises(openai.NotFoundError) as refusal:
        client.chat.completions.create(model=target.model, messages=[{"role": "user", "content": "Hi"}])
    assert refusal.value.param == "model"


def test_langchain_embeds_documents_and_queries(target):
    # Otherwise it tokenizes with OpenAI's vocabulary and sends tokens, which mean other words to any other
    # model.
    embeddings = OpenAIEmbeddings(
        base_url=f"{target.url}/v1", api_key="unused", model=target.model, max_retries=0, check_embedding_ctx_length=False
    )
    for text, vector in zip(TEXTS, embeddings.embed_documents(TEXTS), strict=True):
        assert cosine(vector, REFERENCES[text]["embedding"]) > 0.999
    assert cosine(embeddings.embed_query("a cat"), REFERENCES["a cat"]["embedding"]) > 0.999
