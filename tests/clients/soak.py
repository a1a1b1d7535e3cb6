"""Keeps an engine at full load for any time, with clients that leave at any moment.

    python soak.py MINUTES [USERS]

It starts `loggia serve` with the default model, and lets USERS (8) send requests, each one after the other.
At the end it reports. It fails if an answer or its usage is wrong, if a stream ends improperly, if a request
is answered by anything but 200 or the queue's 503, if a process grows, if a slot is still in use after all
clients have left, or if the cache on disk was not used or outgrew its limit. The requests are streams and
complete answers, with shared and private prefixes, next turns of a chat, several choices, log-probabilities,
a schema, a forced call, text that repeats its prompt, and prompts that nearly fill the context. The cache in
memory has room for two or three conversations, so conversations move to the disk and back all the time.

It does not measure speed (`make bench` does), and is not part of `make test`.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import targets

# The allowed growth of a process between the second quarter of the time and the last: what an allocator
# keeps.
GROWTH = 16 * 1024 * 1024
PARALLEL = 4
CONTEXT = 2048
CACHE_MEMORY = 64 * 1024 * 1024
CACHE_DISK = 256 * 1024 * 1024
# A shared machine can be slow. A request that takes longer than this is stuck.
STUCK = 300.0

WORDS = "the lamp on the harbour wall turns slowly and the boats that come home late count its beats in the dark".split()
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}


def text(words: int, seed: int) -> str:
    chosen = random.Random(seed)
    return " ".join(chosen.choice(WORDS) for _ in range(words))


def said(*messages: str) -> list[dict]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": message} for i, message in enumerate(messages)]


def listed(count: int, seed: int) -> str:
    return "\n".join(f"{i + 1}. {text(6, seed + i)}" for i in range(count))


SYSTEM = {"role": "system", "content": "You are the keeper of a lighthouse. " + text(500, 1)}
# Name and request. Requests with the same name have the same prompt, and so the same number of tokens.
QUESTIONS: dict[str, dict] = {
    **{f"short {i}": {"messages": said(f"Say something about {word}."), "max_tokens": 60} for i, word in enumerate(WORDS[:8])},
    **{f"shared {i}": {"messages": [SYSTEM, *said(f"What about {word}?")], "max_tokens": 40} for i, word in enumerate(WORDS[:8])},
    "turn 1": {"messages": said(text(300, 2)), "max_tokens": 30},
    "turn 2": {"messages": said(text(300, 2), text(20, 3), "And then?"), "max_tokens": 30},
    "long": {"messages": said(text(1200, 4)), "max_tokens": 20},
    "long too": {"messages": said(text(900, 5)), "max_tokens": 20},
    **{f"private {i}": {"messages": said(text(250, 100 + i)), "max_tokens": 12} for i in range(24)},
    "repeats": {"messages": said(f"Repeat this list exactly.\n{listed(14, 7)}"), "max_tokens": 160},
    "choices": {"messages": said("Name a boat."), "max_tokens": 16, "n": 3},
    "probabilities": {"messages": said("Count to ten."), "max_tokens": 24, "logprobs": True, "top_logprobs": 3},
    "schema": {
        "messages": said("Who keeps the lighthouse?"),
        "max_tokens": 120,
        "response_format": {"type": "json_schema", "json_schema": {"name": "keeper", "strict": True, "schema": SCHEMA}},
    },
    "call": {"messages": said("Look up the keeper."), "max_tokens": 120, "tools": [TOOL], "tool_choice": "required"},
}


@dataclasses.dataclass
class Seen:
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    prompt_tokens: dict = dataclasses.field(default_factory=dict)
    wrong: list = dataclasses.field(default_factory=list)
    completion_tokens: int = 0
    cached_tokens: int = 0

    def must(self, holds: bool, *what) -> None:
        if not holds:
            self.wrong.append(what)
            print("WRONG", *what, flush=True)


async def user(client: httpx.AsyncClient, model: str, chance: random.Random, ends: float, seen: Seen) -> None:
    while time.monotonic() < ends:
        name = chance.choice(list(QUESTIONS))
        body = QUESTIONS[name] | {"model": model, "temperature": chance.choice([0, 0.7, 1]), "stream": chance.random() < 0.7}
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        leaves = None
        if chance.random() < 0.4:
            leaves = chance.choice([lambda: chance.random() * 0.3, lambda: chance.random() * 8])()
        try:
            async with asyncio.timeout(leaves or STUCK):
                await ask(client, name, body, seen)
        except TimeoutError:
            seen.must(leaves is not None, "no end within", STUCK, "seconds:", name)
            seen.counts["left"] += 1
        except httpx.HTTPError as error:
            seen.must(False, "the connection broke:", name, repr(error))


async def ask(client: httpx.AsyncClient, name: str, body: dict, seen: Seen) -> None:
    if not body["stream"]:
        answer = await client.post("/chat/completions", json=body)
        if refused(answer, name, seen):
            return
        whole = answer.json()
        judge(name, body, whole["choices"], whole["usage"], seen)
        return
    async with client.stream("POST", "/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            await answer.aread()
        if refused(answer, name, seen):
            return
        lines = [line async for line in answer.aiter_lines() if line.startswith("data: ")]
    seen.must(lines[-1] == "data: [DONE]", "the stream ends with", name, lines[-1])
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    judge(name, body, joined(chunks, name, body, seen), chunks[-1]["usage"], seen)


def refused(answer: httpx.Response, name: str, seen: Seen) -> bool:
    if answer.status_code == 200:
        return False
    full = answer.status_code == 503 and "retry-after" in answer.headers
    seen.must(full, "answered", answer.status_code, name, answer.text[:300])
    seen.counts["queue full"] += 1
    return True


def joined(chunks: list[dict], name: str, body: dict, seen: Seen) -> list[dict]:
    """Joins the choices of a stream. Each must have one beginning and one end."""
    seen.must(len({chunk.get("id") for chunk in chunks}) == 1, "one id for a stream:", name)
    choices = [
        {"message": {"content": "", "tool_calls": []}, "finish_reason": None, "logprobs": {"content": []}} for _ in range(body.get("n", 1))
    ]
    for chunk in chunks:
        seen.must("error" not in chunk, "an error in a stream:", name, chunk)
        for part in chunk.get("choices", []):
            choice, delta = choices[part["index"]], part["delta"]
            seen.must(choice["finish_reason"] is None, "a delta after the end:", name)
            choice["message"]["content"] += delta.get("content") or ""
            choice["logprobs"]["content"] += (part.get("logprobs") or {}).get("content") or []
            for call in delta.get("tool_calls", []):
                calls = choice["message"]["tool_calls"]
                if call["index"] == len(calls):
                    calls.append({"function": {"arguments": ""}})
                calls[call["index"]]["function"]["arguments"] += call["function"].get("arguments", "")
            choice["finish_reason"] = part["finish_reason"]
    return choices


def judge(name: str, body: dict, choices: list[dict], usage: dict, seen: Seen) -> None:
    seen.counts["answered"] += 1
    asked, most = usage["prompt_tokens"], body["max_tokens"]
    seen.must(seen.prompt_tokens.setdefault(name, asked) == asked, "the same prompt has other tokens:", name, asked)
    seen.must(usage["total_tokens"] == asked + usage["completion_tokens"], "the sum of the usage:", name, usage)
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    seen.must(0 <= cached < asked, "cached tokens:", name, usage)
    seen.cached_tokens += cached
    written = usage["completion_tokens"]
    seen.completion_tokens += written
    seen.must(len(choices) <= written <= most * len(choices), "completion tokens:", name, usage)
    ends = [choice["finish_reason"] for choice in choices]
    seen.must(set(ends) <= {"stop", "length", "tool_calls"}, "finish reasons:", name, ends)
    if set(ends) == {"length"}:
        seen.must(written == most * len(choices), "cut, but not at its length:", name, usage)
    if body.get("logprobs"):
        told = sum(len(choice["logprobs"]["content"]) for choice in choices)
        # The token that ends an answer is counted, but has no text.
        seen.must(written - told in (0, 1), "log-probabilities of each token:", name, usage, told)
    if name in ("schema", "call") and ends[0] != "length":
        message = choices[0]["message"]
        seen.must(fits(message["content"] if name == "schema" else message["tool_calls"][0]["function"]["arguments"]), "held:", name, message)


def fits(written: str) -> bool:
    try:
        value = json.loads(written)
    except ValueError:
        return False
    return set(value) == {"name", "age"} and len(value["name"]) <= 12 and 0 <= value["age"] <= 120


@dataclasses.dataclass
class Process:
    """The memory and threads of a process, as Linux reports them."""

    name: str
    pid: int
    resident: list[int] = dataclasses.field(default_factory=list)

    def look(self) -> None:
        self.resident.append(int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def cpu(self) -> float:
        user_time, system_time = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return (int(user_time) + int(system_time)) / os.sysconf("SC_CLK_TCK")

    def growth(self) -> int:
        quarter = max(1, len(self.resident) // 4)
        return int(statistics.median(self.resident[-quarter:]) - statistics.median(self.resident[quarter : 2 * quarter]))


def children(pid: int) -> list[int]:
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        found += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    return found


def kept_on_disk(data: Path) -> int:
    """The bytes of conversations in the cache on disk."""
    sizes = []
    for path in data.rglob("*.prompt"):
        # A file may be deleted at this moment.
        with contextlib.suppress(FileNotFoundError):
            sizes += [path.stat().st_size]
    return sum(sizes)


async def soak(url: str, program: int, minutes: float, users: int, data: Path) -> Seen:
    seen, begun = Seen(), time.monotonic()
    limits = httpx.Limits(max_connections=users + 2, max_keepalive_connections=users + 2)
    async with httpx.AsyncClient(base_url=url, timeout=STUCK + 10, limits=limits) as client:
        model = (await client.get("/models")).json()["data"][0]["id"]
        await ask(client, "short 0", QUESTIONS["short 0"] | {"model": model, "stream": False}, seen)
        processes = [Process("loggia serve", program), *(Process("loggia engine", child) for child in children(program))]
        before = [(process.files(), process.threads()) for process in processes]
        tasks = [asyncio.create_task(user(client, model, random.Random(i), begun + minutes * 60, seen)) for i in range(users)]
        while not all(task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=10)
            for process in processes:
                process.look()
            if len(processes[0].resident) % 30 == 0:
                tell(processes, seen, begun)
        for task in tasks:
            task.result()
        await idle(processes, seen)
        await nobody_waits(client, model, seen)
    await asyncio.sleep(1)
    tell(processes, seen, begun)
    kept = kept_on_disk(data)
    seen.must(0 < kept <= CACHE_DISK, "bytes of conversations on disk:", kept)
    for process, (files, threads) in zip(processes, before):
        seen.must(process.growth() <= GROWTH, process.name, "grew by", process.growth())
        seen.must(process.files() <= files + 2, process.name, "holds files:", process.files(), "at the beginning", files)
        seen.must(process.threads() <= threads + 2, process.name, "has threads:", process.threads(), "at the beginning", threads)
    return seen


async def idle(processes: list[Process], seen: Seen) -> None:
    """All clients have left, some of them just now: two seconds later the engine must be idle."""
    await asyncio.sleep(2)
    before = [process.cpu() for process in processes]
    await asyncio.sleep(5)
    for process, spent in zip(processes, before):
        seen.must(process.cpu() - spent < 0.1, process.name, "computes for nobody:", process.cpu() - spent, "s in 5 s")


async def nobody_waits(client: httpx.AsyncClient, model: str, seen: Seen) -> None:
    """As many requests as slots must run in parallel: if a client that left still held a slot, the last one
    would wait."""
    started = []

    async def first_word(i: int) -> None:
        body = {"model": model, "stream": True, "max_tokens": 200, "ignore_eos": True, "messages": said(f"Tell story {i}.")}
        async with client.stream("POST", "/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    started.append(i)
                    while len(started) < PARALLEL:
                        await asyncio.sleep(0.01)
                    return

    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(first_word(i) for i in range(PARALLEL)))
    except TimeoutError:
        pass
    seen.must(len(started) == PARALLEL, "slots that are free at the end:", len(started), "of", PARALLEL)


def tell(processes: list[Process], seen: Seen, begun: float) -> None:
    sizes = ", ".join(f"{p.name} {p.resident[-1] / 2**20:.1f} MiB, {p.files()} files, {p.threads()} threads" for p in processes)
    counts = ", ".join(f"{count} {what}" for what, count in seen.counts.items())
    print(
        f"{(time.monotonic() - begun) / 60:.1f} min: {counts}, {seen.completion_tokens} tokens written, {seen.cached_tokens} found in the cache; {sizes}",
        flush=True,
    )


def main() -> None:
    minutes, users = float(sys.argv[1]), int((sys.argv[2:] or [8])[0])
    arguments = ["--model", str(targets.MODEL), "--context", str(CONTEXT), "--parallel", str(PARALLEL), "--threads", "2"]
    arguments += ["--cache-memory", str(CACHE_MEMORY), "--cache-disk", str(CACHE_DISK)]
    with tempfile.TemporaryDirectory(prefix="loggia-soak-") as data, targets.loggia(*arguments, data=Path(data)) as url:
        [program] = children(os.getpid())
        seen = asyncio.run(soak(f"{url}/v1", program, minutes, users, Path(data)))
    print("soak:", "all of it was right" if not seen.wrong else f"{len(seen.wrong)} things were wrong")
    sys.exit(bool(seen.wrong))


if __name__ == "__main__":
    main()
