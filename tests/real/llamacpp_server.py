"""llama.cpp's own HTTP server out of the xllamacpp wheel, on 127.0.0.1, with /metrics and /slots."""

from __future__ import annotations

import argparse
import signal

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--ctx", type=int, default=16384, help="tokens of all slots together")
    parser.add_argument("--kv-unified", action="store_true")
    parser.add_argument("--no-metrics", action="store_true")
    parser.add_argument("--api-key")
    parser.add_argument("--threads", type=int, default=1, help="ggml spins at barriers: leave a core to the client")
    options = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {"tiny-llama"}
    params.hostnames = ["127.0.0.1"] if isinstance(params.hostnames, list) else "127.0.0.1"
    params.port, params.n_parallel, params.n_ctx = options.port, options.parallel, options.ctx
    params.kv_unified = options.kv_unified
    params.cache_ram_mib = 0
    params.endpoint_metrics, params.endpoint_slots = not options.no_metrics, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    if options.api_key:
        params.api_keys = [options.api_key]
    server = xllamacpp.Server(params)
    print("READY", server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
