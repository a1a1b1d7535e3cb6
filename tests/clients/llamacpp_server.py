"""A real engine that speaks OpenAI already: llama.cpp's own server, out of the wheel `xllamacpp`, with the default model, or with one that makes embeddings.

    llamacpp_server.py MODEL.gguf
    llamacpp_server.py EMBEDDING-MODEL.gguf NAME

Listens on a free port, prints its address, and ends when its standard input does.
"""

import os
import sys

import xllamacpp

# One thread: two that wait for each other by spinning crawl when something else runs on the machine, and the model is small.
THREADS = 1


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.embedding = len(sys.argv) > 2
    params.model_alias = {sys.argv[2] if params.embedding else "smollm2"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    # Nothing is to be kept, and the server's own end may wait for a stream that nobody reads.
    os._exit(0)


if __name__ == "__main__":
    main()
