#!/usr/bin/env python3
"""What a request costs the gateway, as a ratio to nginx in the same run.

Debian's nginx and wrk must be there, and the mock upstream, which is not part of this
project:

    cargo build --release
    python3 benches/compare.py --mock PATH/TO/mock-upstream [--loadgen PATH/TO/loadgen]
                               [--repeat 3] [--seconds 4] [--json FILE]

Upstream and load run on core 0, the gateway on core 1. Cost is user and system time
of the gateway's process by /proc/PID/stat, over the requests that wrk counts; other
work on the machine hardly moves it. Repetitions are interleaved; medians are shown.
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOCK, NGINX, CASCADE = 9100, 9101, 9102
TICK = os.sysconf("SC_CLK_TCK")

NGINX_CONF = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  keepalive_requests 1000000000;
  upstream mock {{ server 127.0.0.1:%d; keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:%d backlog=4096;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
""" % (MOCK, NGINX)

POLICY = """
name: ladder
keys: keys.json
upstreams: {{ mock: {{ base_url: "http://127.0.0.1:{mock}/v1", breaker: {{ failures: 1000000 }} }} }}
passthrough: {{ upstream: mock }}
tiers:
  - {{ name: sure, model: sure, upstream: mock, price: {{ input: 1, output: 1 }}, cache: {{ capacity: {cache}, ttl: 1h }}, limits: {{ concurrent: 10000, requests_per_minute: 100000000 }}, accept: {{ gates: [not_empty], score: confidence, at_least: 0.7 }} }}
  - {{ name: unsure, model: unsure, upstream: mock, price: {{ input: 1, output: 1 }}, cache: {{ capacity: {cache}, ttl: 1h }}, accept: {{ gates: [not_empty], score: confidence, at_least: 0.7 }} }}
{more}  - {{ name: large, model: large, upstream: mock, price: {{ input: 10, output: 10 }} }}
routes:
  - {{ when: {{ model: one }}, tiers: [sure, large] }}
  - {{ when: {{ model: both }}, tiers: [unsure, large] }}
{routes}
"""

# A body a request; `N` is a number that is new each time, so that no cache has it.
CHAT = '{"model":"%s","temperature":0%s,"messages":[{"role":"system","content":"You are brief."},{"role":"user","content":"%s"}]}'
QUESTION = "Say something of about a kilobyte on the subject of number N, and no more."
LOADS = {
    # name: (path, body, whether N changes)
    "step": ("/v1/chat/completions", CHAT % ("one", "", QUESTION), True),
    "two tiers": ("/v1/chat/completions", CHAT % ("both", "", QUESTION), True),
    "cache hit": ("/v1/chat/completions", CHAT % ("one", "", QUESTION), False),
    "pass": ("/v1/embeddings", '{"model":"sure","input":"some text to be embedded N"}', True),
    "stream": ("/v1/chat/completions", CHAT % ("large", ',"stream":true', QUESTION), True),
}
# What nginx is asked for beside it: the same answer by the same path.
MODELS_BEHIND = {"one": "sure", "both": "sure", "large": "large"}


# Each run's numbers begin where no other's are: what an earlier one asked is remembered.
NUMBERS = itertools.count()


def lua(path, body, changes, key):
    count = 'n = n + 1; b = prefix .. string.format("%010d", n) .. suffix' if changes else "b = prefix .. '0' .. suffix"
    prefix, suffix = body.split("N", 1) if "N" in body else (body, "")
    return f"""
local prefix, suffix, n = [==[{prefix}]==], [==[{suffix}]==], {next(NUMBERS) * 10**7}
local h = {{ ["Content-Type"] = "application/json", ["Authorization"] = "Bearer {key}" }}
request = function()
  local b
  {count}
  return wrk.format("POST", "{path}", h, b)
end
local worst = 0
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.status + e.read + e.write + e.timeout + e.connect))
end
"""


def cpu(pid):
    """Seconds of user and system time of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024


def wait_for(port):
    for _ in range(2000):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.005)
    sys.exit(f"nothing listens on port {port}")


class Servers:
    """The processes that are measured, and what they are measured with."""

    def __init__(self, args):
        self.args = args
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="compare-"))
        self.all = []
        mock = [args.mock, "--port", str(MOCK), "--default", "size=1024,chunks=50,dims=64"]
        for model, logprob in [("sure", -0.01), ("unsure", -3.0)]:
            mock += ["--model", f"{model}:logprobs=50,logprob={logprob}"]
        self.start(0, mock)
        wait_for(MOCK)
        (self.folder / "nginx.conf").write_text(NGINX_CONF.format(folder=self.folder))
        self.start(1, ["nginx", "-c", str(self.folder / "nginx.conf"), "-e", str(self.folder / "error.log")])
        wait_for(NGINX)
        # The master does nothing; its one worker does.
        master = int((self.folder / "nginx.pid").read_text())
        children = pathlib.Path(f"/proc/{master}/task/{master}/children")
        for _ in range(100):
            if children.read_text().split():
                break
            time.sleep(0.05)
        self.nginx = int(children.read_text().split()[0])
        self.key = self.make_keys(1)
        self.cascade = None

    def start(self, core, command, **more):
        process = subprocess.Popen(["taskset", "-c", str(core)] + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
        self.all.append(process)
        return process

    def make_keys(self, count):
        """A key, and in the file as many others as make it `count`, which nobody holds."""
        path = self.folder / "keys.json"
        path.unlink(missing_ok=True)
        made = subprocess.run([self.args.cascade, "keys", "create", "bench", "--file", str(path)], capture_output=True, text=True, check=True)
        file = json.loads(path.read_text())
        file["keys"] += [{"id": f"{n:012x}", "name": f"k{n}", "hash": f"{n:064x}"} for n in range(1, count)]
        path.write_text(json.dumps(file))
        return made.stdout.strip()

    def serve(self, more="", routes="", cache="64MiB", arguments=()):
        """Starts the gateway; says how long it took to its first answer."""
        if self.cascade:
            self.cascade.terminate()
            self.cascade.wait()
        path = self.folder / "policy.yaml"
        path.write_text(POLICY.format(mock=MOCK, more=more, routes=routes, cache=cache))
        began = time.perf_counter()
        command = [self.args.cascade, "serve", "--quiet", "--policy", str(path), "--listen", f"127.0.0.1:{CASCADE}", *arguments]
        self.cascade = self.start(1, command)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{CASCADE}/healthz").read()
                return time.perf_counter() - began
            except OSError:
                if self.cascade.poll() is not None:
                    sys.exit("the gateway did not start: " + " ".join(command))
                time.sleep(0.0005)

    def stop(self):
        for process in self.all:
            process.terminate()
        for process in self.all:
            process.wait()
        shutil.rmtree(self.folder)

    def load(self, name, port, connections=64, seconds=None):
        """Microseconds of CPU a request, and requests, p50 and p99 in microseconds."""
        path, body, changes = LOADS[name]
        if port == NGINX:
            for ours, behind in MODELS_BEHIND.items():
                body = body.replace(f'"model":"{ours}"', f'"model":"{behind}"')
        script = self.folder / "load.lua"
        script.write_text(lua(path, body, changes, self.key))
        pid = self.nginx if port == NGINX else self.cascade.pid
        command = ["taskset", "-c", "0", "wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds or self.args.seconds}s", "--latency", "-s", str(script), f"http://127.0.0.1:{port}"]
        before = cpu(pid)
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        spent = cpu(pid) - before
        found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", out)
        requests, _, p50, p99, errors = map(int, found.groups())
        if errors:
            print(f"  {name} at {port}: {errors} errors of {requests}", file=sys.stderr)
        return spent / requests * 1e6, requests, p50, p99


def median(values):
    return statistics.median(values)


def table(servers, args):
    costs = {}
    for round_ in range(args.repeat):
        for name in LOADS:
            for who, port in [("nginx", NGINX), ("cascade", CASCADE)]:
                costs.setdefault((name, who), []).append(servers.load(name, port)[0])
    print(f"\n{'':12} {'nginx us':>9} {'ours us':>9} {'ratio':>7}   spread of the ratio")
    report = {}
    for name in LOADS:
        theirs, ours = costs[name, "nginx"], costs[name, "cascade"]
        # A hit asks nobody; it is compared with a request that nginx sends on.
        ratios = sorted(b / a for a, b in zip(theirs, ours))
        report[name] = {"nginx_us": median(theirs), "ours_us": median(ours), "ratio": median(ratios)}
        print(f"{name:12} {median(theirs):9.1f} {median(ours):9.1f} {median(ratios):7.2f}   {ratios[0]:.2f} to {ratios[-1]:.2f}")
    one, two = report["step"], report["two tiers"]
    print(f"two tiers asked cost {two['ours_us'] / one['ours_us']:.2f} times one")
    return report


def latency(servers, args):
    """p99 at 1,000 requests a second, less the upstream's own, by the load generator."""
    if not args.loadgen:
        return {}
    body = servers.folder / "body.json"
    report = {}
    for who, port in [("upstream", MOCK), ("nginx", NGINX), ("cascade", CASCADE)]:
        model = "one" if who == "cascade" else "sure"
        # Drawn by chance, so that no cache answers.
        body.write_text((CHAT % (model, "", QUESTION)).replace('"temperature":0', '"temperature":1'))
        rounds = []
        for _ in range(args.repeat):
            command = ["taskset", "-c", "0", args.loadgen, "--url", f"http://127.0.0.1:{port}/v1/chat/completions", "--body", str(body), "--header", f"Authorization: Bearer {servers.key}", "-c", "32", "-d", str(args.seconds), "--rate", "1000"]
            rounds.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        report[who] = {p: median([r["latency"][p] for r in rounds]) for p in ["p50_us", "p99_us"]}
    for who in ["nginx", "cascade"]:
        added = {p: report[who][p] - report["upstream"][p] for p in ["p50_us", "p99_us"]}
        report[who]["added"] = added
        print(f"{who}: adds {added['p50_us']:.0f} us at p50 and {added['p99_us']:.0f} us at p99, at 1,000 requests a second")
    return report


def memory(servers):
    """Resident MiB: idle, after load, and with 10,000 idle connections."""
    started = servers.serve()
    time.sleep(0.5)
    idle = resident(servers.cascade.pid)
    servers.load("step", CASCADE, seconds=3)
    loaded = resident(servers.cascade.pid)
    sockets = [socket.create_connection(("127.0.0.1", CASCADE)) for _ in range(10_000)]
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for s in sockets:
        s.sendall(request)
    for s in sockets:
        s.recv(4096)
    crowded = resident(servers.cascade.pid)
    for s in sockets:
        s.close()
    size = os.path.getsize(servers.args.cascade) / 2**20
    print(f"resident: idle {idle:.1f} MiB, after load {loaded:.1f}, with 10,000 idle connections {crowded:.1f}; start to first answer {started * 1000:.0f} ms; binary {size:.1f} MiB")
    return {"idle_mib": idle, "loaded_mib": loaded, "crowded_mib": crowded, "start_ms": started * 1000, "binary_mib": size}


def curve(servers, args):
    """What a step costs by connections, tiers and routes, keys, and a full cache."""
    report = {}

    def point(what, **load):
        cost = median([servers.load("step", CASCADE, **load)[0] for _ in range(args.repeat)])
        report[what] = cost
        print(f"{what:36} {cost:7.1f} us")

    servers.serve()
    for connections in [1, 16, 64, 256, 1024, 4096]:
        point(f"{connections} connections", connections=connections)
    name = "100 tiers and routes"
    more = "".join(f"  - {{ name: t{n}, model: t{n}, upstream: mock, price: {{ input: 2, output: 2 }}, accept: {{ gates: [not_empty] }} }}\n" for n in range(97))
    routes = "".join(f"  - {{ when: {{ model: r{n} }}, tiers: [t{n % 97}, large] }}\n" for n in range(98))
    servers.serve(more=more, routes=routes)
    point(name)
    if args.keys:
        servers.key = servers.make_keys(args.keys)
        servers.serve()
        point(f"{args.keys} keys")
    servers.serve(cache="256MiB")
    while resident(servers.cascade.pid) < 256:
        servers.load("step", CASCADE, seconds=10)
    point("a full cache of 256 MiB")
    return report


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cascade", default=str(ROOT / "target/release/cascade"))
    parser.add_argument("--mock", required=True)
    parser.add_argument("--loadgen")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--curve", action="store_true", help="print how the cost of a step grows, too")
    parser.add_argument("--keys", type=int, default=0, help="a point of the curve with so many keys")
    parser.add_argument("--json")
    return parser.parse_args()


def main():
    args = arguments()
    servers = Servers(args)
    try:
        servers.serve()
        report = {"commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()}
        report["table"] = table(servers, args)
        report["latency"] = latency(servers, args)
        report["memory"] = memory(servers)
        if args.curve:
            report["curve"] = curve(servers, args)
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(report, indent=1))
    finally:
        servers.stop()


if __name__ == "__main__":
    main()
