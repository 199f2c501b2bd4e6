#!/usr/bin/env python3
"""What sharing state through Redis costs a request, as a ratio to not sharing it.

The policy and the arguments are compare.py's: each step looks for its answer in a cache,
takes from a rate and a place in flight. Debian's redis-server, nginx and wrk must be there.

    python3 benches/replicas.py --mock PATH/TO/mock-upstream [--repeat 3] [--seconds 4]
"""

import socket
import subprocess

import compare
from compare import CASCADE, median

PORT = 9103


def commands():
    """Commands that the server has carried out, those in scripts among them."""
    info = subprocess.run(["redis-cli", "-p", str(PORT), "info", "stats"], capture_output=True, text=True, check=True)
    return int(next(line for line in info.stdout.split() if line.startswith("total_commands_processed:")).split(":")[1])


def main():
    args = compare.arguments()
    servers = compare.Servers(args)
    redis = ["taskset", "-c", "0", "redis-server", "--port", str(PORT), "--save", "", "--appendonly", "no", "--maxmemory", "512mb", "--maxmemory-policy", "volatile-lru"]
    redis = subprocess.Popen(redis, stdout=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", PORT)):
            pass
        found = {}
        for _ in range(args.repeat):
            for shared in [[], ["--redis", f"redis://127.0.0.1:{PORT}"]]:
                servers.serve(arguments=shared)
                servers.load("step", CASCADE, seconds=1)
                before = commands()
                cost, requests, *_ = servers.load("step", CASCADE)
                asked = (commands() - before) / requests
                _, _, p50, p99 = servers.load("step", CASCADE, connections=1)
                found.setdefault(bool(shared), []).append((cost, p50, p99, asked))
        for name, at in [("CPU of the gateway", 0), ("p50 alone", 1), ("p99 alone", 2)]:
            alone, shared = (median([each[at] for each in found[which]]) for which in [False, True])
            print(f"{name:20} {alone:7.0f} us alone, {shared:7.0f} us shared: {shared / alone:.2f}")
        print(f"{median([each[3] for each in found[True]]):.1f} commands a request")
    finally:
        redis.terminate()
        servers.stop()


main()
