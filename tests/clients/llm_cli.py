"""The `llm` command line, unmodified, against a gateway in front of upstream.py.

Usage: llm_cli.py BASE_URL UPSTREAM_URL, by the Python beside which `llm` is
installed, the gateway serving policy.yaml. Stops at the first failure; prints
how many checks passed.
"""

import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tempfile

from checks import BASE_URL, asked, message, report, run

KNOWN_GAPS = {}
HELLO = "Hello there, friend."
MODELS = ["good", "escalates", "fail-500", "sse-cut"]
folder = tempfile.TemporaryDirectory()
program = pathlib.Path(sys.executable).with_name("llm")
pathlib.Path(folder.name, "extra-openai-models.yaml").write_text(
    "".join(f"- {{ model_id: gateway-{model}, model_name: {model}, api_base: '{BASE_URL}' }}\n" for model in MODELS),
    encoding="utf-8",
)


def prompt(model, *options):
    text = message(model)[-1]["content"]
    environment = os.environ | {"LLM_USER_PATH": folder.name, "LLM_LOAD_PLUGINS": ""}
    environment.pop("OPENAI_API_KEY", None)
    command = [program, "prompt", text, "--model", f"gateway-{model}", "--no-log", *options]
    ran = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
    )
    return ran, [one["stream"] for one in asked([{"content": text}])]


def check(function):
    run(function.__name__, function, KNOWN_GAPS)


@check
def whole():
    for model, asks in [("good", 1), ("escalates", 2)]:
        ran, streams = prompt(model, "--no-stream")
        assert ran.returncode == 0 and ran.stdout.strip() == HELLO, ran
        assert streams == [False] * asks, streams


@check
def streamed():
    for model, asks in [("good", 1), ("escalates", 2)]:
        ran, streams = prompt(model)
        assert ran.returncode == 0 and ran.stdout.strip() == HELLO, ran
        assert streams == [True] * asks, streams


@check
def errors():
    ran, streams = prompt("fail-500", "--no-stream")
    assert ran.returncode != 0 and "The model broke down." in ran.stderr, ran
    assert len(streams) == 1
    ran, _ = prompt("sse-cut")
    assert ran.returncode != 0 and "broke off" in ran.stderr, ran


report(f"llm {importlib.metadata.version('llm')}")
