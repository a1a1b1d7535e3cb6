"""llama.cpp's own server from the wheel `xllamacpp`, with the flags of llama-server that the benchmark uses."""

import argparse
import signal

import xllamacpp


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--version", action="version", version=f"xllamacpp {xllamacpp.__version__}")
    flags.add_argument("-m", required=True)
    flags.add_argument("--host", default="127.0.0.1")
    flags.add_argument("--port", type=int, default=8080)
    flags.add_argument("-np", type=int, default=1)
    flags.add_argument("-c", type=int, default=4096)
    flags.add_argument("-t", type=int, default=2)
    given = flags.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = given.m
    params.hostnames = [given.host]
    params.port = given.port
    params.n_parallel = given.np
    params.n_ctx = given.c
    params.cpuparams.n_threads = given.t
    params.cpuparams_batch.n_threads = given.t
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
