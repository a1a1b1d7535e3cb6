#!/usr/bin/env bash
# A stream that repeats the name of a function in each piece of a call calls `fff` in LangChain
# and Pydantic AI, and `f` in the OpenAI Agents SDK.
#
# Packages: langchain-openai 1.7.4 with langchain-core 1.8.3, pydantic-ai-slim 2.68.0,
#   openai-agents 0.24.0, openai 3.57.0 (PyPI)
# Input: a streamed call of `f` in three pieces; each has the index, id, type and name of the call
#   beside its part of the arguments.
# Seen: LangChain has a call of `fff` with the right arguments; Pydantic AI does not call `f`, and
#   tells the model that the tool `fff` is unknown; the Agents SDK calls `f`.
# A good guess: all call `f`: the id tells that it is the same call, and the name has not changed.
# Why it matters: an engine that states a call's head with each piece works with one agent and
#   breaks another, which then blames the model for inventing tools. A gateway must send the name
#   once.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  langchain-openai==1.7.4 langchain-core==1.8.3 "pydantic-ai-slim[openai]==2.68.0" openai-agents==0.24.0 openai==3.57.0 >&2
venv/bin/python - <<'PY'
import asyncio, functools, json, operator, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import agents
import openai
import pydantic_ai
from langchain_openai import ChatOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


class Upstream:
    """A scripted server on loopback: answer(handler, body, number of the request) writes each answer."""

    def __init__(self, answer):
        self.requests, self.connections = [], set()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream.requests.append(body)
                upstream.connections.add(self.client_address)
                answer(self, body, len(upstream.requests))

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"


def send(handler, status, body, kind="application/json", **headers):
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def chunk(delta, finish_reason=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more


def event(value):
    return f"data: {json.dumps(value)}\n\n"


def stream(handler, *events):
    send(handler, 200, "".join(events) + "data: [DONE]\n\n", "text/event-stream")


def call_piece(arguments, **more):
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return {"tool_calls": [{"index": 0, "function": function} | more]}


def answer(handler, body, number):
    if number > 1:
        return stream(handler, event(chunk({"role": "assistant", "content": "done"})), event(chunk({}, "stop")))
    head = {"name": "f", "id": "x", "type": "function"}
    pieces = [chunk(call_piece(arguments, **head)) for arguments in ("", '{"a"', ": 1}")]
    stream(handler, *map(event, pieces), event(chunk({}, "tool_calls")))


streamed = functools.reduce(operator.add, ChatOpenAI(base_url=Upstream(answer).url, api_key="x", model="m").stream("x"))
seen = [(call["name"], call["args"]) for call in streamed.tool_calls]
assert seen == [("fff", {"a": 1})], seen

called = []


def f(a: int) -> str:
    "A function."
    called.append(a)
    return "r"


async def pydantic(upstream):
    provider = OpenAIProvider(base_url=upstream.url, api_key="x")
    agent = pydantic_ai.Agent(OpenAIChatModel("m", provider=provider), tools=[f])
    async with agent.run_stream("x") as run:
        await run.get_output()


async def openai_agents(upstream):
    client = openai.AsyncOpenAI(base_url=upstream.url, api_key="x")
    model = agents.OpenAIChatCompletionsModel("m", client)
    agent = agents.Agent(name="n", model=model, tools=[agents.function_tool(f)])
    run = agents.Runner.run_streamed(agent, "x")
    async for _ in run.stream_events():
        pass


upstream = Upstream(answer)
asyncio.run(pydantic(upstream))
told = [message["content"] for message in upstream.requests[1]["messages"] if message["role"] == "tool"]
assert called == [] and len(told) == 1 and "fff" in told[0], (called, told)
agents.set_tracing_disabled(True)
asyncio.run(openai_agents(Upstream(answer)))
assert called == [1], called
print("as described: fff in LangChain and Pydantic AI, f in the Agents SDK")
PY
