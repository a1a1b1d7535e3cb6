"""Text of one JSON object a line."""

import json


def objects(text: str) -> list[dict]:
    """What each line holds, but for empty ones. Only a line feed ends a line: `str.splitlines` would also end one at
    characters such as U+2028, which JSON has unescaped within strings."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]
