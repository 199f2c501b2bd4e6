"""What the Python scripts of this folder have in common: their arguments, what
the fake provider was asked, and checks that run as they are defined.

A check that fails because the gateway does not yet do what it should is in its
script's KNOWN_GAPS, with a part of what it then says: it is printed, not counted.
"""

import json
import os
import sys
import time
import traceback
import urllib.request

BASE_URL, UPSTREAM_URL = sys.argv[1:3]
passed = []


def message(about):
    """Messages of which no other run has the like."""
    return [{"role": "user", "content": f"{about} {os.getpid()}-{time.monotonic_ns()}"}]


def asked(messages):
    """What the provider was asked for these messages."""
    with urllib.request.urlopen(f"{UPSTREAM_URL}/_asked", timeout=5) as response:
        return [one for one in json.load(response) if one["last"] == messages[-1]["content"]]


def wait_until(what, condition, seconds=1.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def raises(kind, call):
    try:
        result = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {result!r}")


def run(name, function, gaps):
    try:
        function()
    except Exception as error:
        if name in gaps and gaps[name] in str(error):
            print(f"KNOWN GAP {name}: {str(error)[:120]}")
            return
        traceback.print_exc()
        sys.exit(f"FAILED {name}: {type(error).__name__}: {str(error)[:300]}")
    if name in gaps:
        print(f"no longer a gap, take it out of KNOWN_GAPS: {name}")
    passed.append(name)


def report(client):
    print(f"{len(passed)} passed, 0 failed: {client}: {', '.join(passed)}")
