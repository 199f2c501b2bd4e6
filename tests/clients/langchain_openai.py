"""langchain-openai, unmodified, against a gateway in front of upstream.py.

Usage: langchain_openai.py BASE_URL UPSTREAM_URL, the gateway serving
policy.yaml. Stops at the first failure; prints how many checks passed.
"""

import importlib.metadata
import sys

import openai
import pydantic

from checks import BASE_URL, asked, message, raises, report, run, wait_until

sys.path.pop(0)  # this folder, where the package's name would find this script
from langchain_openai import ChatOpenAI, OpenAI  # noqa: E402

KNOWN_GAPS = {}
HELLO = "Hello there, friend."


class Place(pydantic.BaseModel):
    """A place."""

    city: str
    people: int


def weather(city: str) -> str:
    """The weather."""
    return f"Fine in {city}."


def chat(model, **more):
    return ChatOpenAI(model=model, base_url=BASE_URL, api_key="unused", **more)


def check(function):
    run(function.__name__, function, KNOWN_GAPS)


@check
def invoke():
    for model in ("good", "held", "escalates"):
        answer = chat(model).invoke(message("invoke"))
        assert answer.text == HELLO
        assert answer.usage_metadata["total_tokens"] == 14
        assert answer.response_metadata["finish_reason"] == "stop"
    answer = chat("escalates", include_response_headers=True).invoke(message("headers"))
    assert answer.response_metadata["headers"]["x-cascade-tier"] == "good"


@check
def stream():
    for model in ("good", "held", "escalates"):
        chunks = list(chat(model).stream(message("stream")))
        assert "".join(chunk.text for chunk in chunks) == HELLO
        assert sum(chunk.response_metadata.get("finish_reason") == "stop" for chunk in chunks) == 1
        with_usage = list(chat(model, stream_usage=True).stream(message("stream")))
        usage = [chunk.usage_metadata["total_tokens"] for chunk in with_usage if chunk.usage_metadata]
        assert usage == [14], usage


@check
def bind_tools():
    for model in ("good", "held"):
        bound = chat(model).bind_tools([weather])
        whole = bound.invoke(message("tools"))
        chunks = list(bound.stream(message("tools")))
        streamed = sum(chunks[1:], chunks[0])
        for answer in (whole, streamed):
            assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("weather", {"city": "Canberra"})]


@check
def with_structured_output():
    wanted = Place(city="Canberra", people=7)
    for model in ("good", "held", "escalates"):
        for method in ("json_schema", "function_calling"):
            assert chat(model).with_structured_output(Place, method=method).invoke(message(method)) == wanted


@check
def legacy_completions():
    for model in ("good", "held", "escalates"):
        legacy = OpenAI(model=model, base_url=BASE_URL, api_key="unused")
        assert legacy.invoke("Say hello.") == HELLO
        assert "".join(legacy.stream("Say hello.")) == HELLO


@check
def errors():
    messages = message("errors")
    error = raises(openai.InternalServerError, lambda: chat("fail-500").invoke(messages))
    assert "The model broke down." in error.message and len(asked(messages)) == 1
    raises(openai.APIError, lambda: list(chat("sse-cut").stream(message("cut"))))
    raises(openai.APIError, lambda: list(chat("sse-error").stream(message("error"))))


@check
def a_stream_given_up_cancels_upstream():
    messages = message("given up")
    frames = chat("sse-slow").stream(messages)
    next(frames)
    frames.close()
    wait_until("upstream sees the disconnect", lambda: [one["disconnected"] for one in asked(messages)] == [True])


report(f"langchain-openai {importlib.metadata.version('langchain-openai')}")
