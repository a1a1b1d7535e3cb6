"""The questions of all suites. For each there is a recording of Ollama with the same text and settings.

Every kind of backend gets the same questions. Only the answer of the stand-in must equal the recorded one.
"""


def says(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


GREEDY = {"seed": 7, "temperature": 0}

CAPITAL = {"messages": says("What is the capital of France?"), "max_tokens": 24, **GREEDY}
CAPITAL_BEFORE = {"messages": says("What is the capital of France?"), "max_tokens": 40, "stop": "of France is", **GREEDY}
COUNT_TO_FIVE = {"messages": says("Count: 1, 2, 3, 4, 5, 6"), "max_tokens": 40, "stop": ["5", "zzz"], **GREEDY}
STORY = {"messages": says("Tell me a story."), **GREEDY}
DRAGON = {"messages": says("Write a very long story about a dragon."), "max_tokens": 400, "seed": 1}
INVENTED = {"messages": says("Invent a name."), "max_tokens": 16, "seed": 42, "temperature": 1.0}
EMOJI = {"messages": says("Repeat exactly this and nothing more: 🦀 日本語 žluťoučký"), "max_tokens": 40, **GREEDY}
COLOUR = {
    "messages": [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Name a colour."},
    ],
    "max_tokens": 16,
    **GREEDY,
}
