"""A real engine with OpenAI's API: llama.cpp's own server from the wheel `xllamacpp`, with the default model
or with an embedding model.

    llamacpp_server.py MODEL.gguf
    llamacpp_server.py MODEL.gguf TEMPLATE.jinja
    llamacpp_server.py EMBEDDING-MODEL.gguf NAME

Listens on a free port, prints its address, and ends when its standard input ends.
"""

import os
import sys
from pathlib import Path

import xllamacpp

# One thread: the model is small, and two threads that spin while they wait for each other are very slow on a
# busy machine.
THREADS = 1


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    second = sys.argv[2] if len(sys.argv) > 2 else None
    has_template = second is not None and second.endswith(".jinja")
    if has_template:
        params.chat_template = Path(second).read_text()
    params.embedding = second is not None and not has_template
    params.model_alias = {second if params.embedding else "smollm2"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    # Ends at once: a normal end may wait for a stream that nobody reads.
    os._exit(0)


if __name__ == "__main__":
    main()
