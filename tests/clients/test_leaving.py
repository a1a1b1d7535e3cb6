"""A client that leaves: its work must stop."""

import json
import socket
import time
from urllib.parse import urlsplit

import questions
from targets import fetch


def test_ollamas_connection_is_closed_when_the_client_leaves_a_stream(standin, standin_client):
    fetch(f"{standin.upstream}/standin/next", {"hold_after": 2})
    stream = standin_client.chat.completions.create(model=standin.model, stream=True, **questions.CAPITAL)
    next(iter(stream))
    stream.close()
    assert fetch(f"{standin.upstream}/standin/left") == {"left": True}


def test_ollamas_connection_is_closed_when_the_client_leaves_before_the_first_word(standin):
    already = len(served(standin))
    fetch(f"{standin.upstream}/standin/next", {"hold_after": 0})
    request = json.dumps({"model": standin.model, "stream": True} | questions.CAPITAL).encode()
    with socket.create_connection(urlsplit(standin.url).netloc.split(":"), timeout=30) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\ncontent-type: application/json\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n%s" % (len(request), request))
        while len(served(standin)) == already:
            time.sleep(0.01)
    assert fetch(f"{standin.upstream}/standin/left") == {"left": True}


def test_an_engine_is_free_for_others_once_its_clients_have_left(client, target):
    alone = seconds_for_three_tokens(client, target)
    # As long as the context allows. The stand-in has only recorded answers.
    story = questions.DRAGON if target.kind == "ollama" else questions.DRAGON | {"max_tokens": 1500}
    streams = [client.chat.completions.create(model=target.model, stream=True, **story) for _ in range(2 if target.kind == "embedded" else 1)]
    for stream in streams:
        next(iter(stream))
        stream.close()
    # If the work of the others continued, this request would wait for hundreds of tokens.
    assert seconds_for_three_tokens(client, target) < 5 * alone + 5


def seconds_for_three_tokens(client, target) -> float:
    begun = time.monotonic()
    assert client.chat.completions.create(model=target.model, max_tokens=3, **questions.STORY).usage.completion_tokens == 3
    return time.monotonic() - begun


def served(standin) -> list[str]:
    """Returns the recordings that the stand-in has used so far."""
    return fetch(f"{standin.upstream}/standin/report")["served"]
