"""openai-python, unmodified, against a gateway in front of upstream.py: all
that the client can be made to do wrong by what a gateway sends.

Usage: openai_python_wire.py BASE_URL UPSTREAM_URL, the gateway serving
policy.yaml. Stops at the first failure; prints how many checks passed.
"""

import asyncio
import json
import time

import openai
import pydantic

from checks import BASE_URL, asked, message, raises, report, run, wait_until

KNOWN_GAPS = {}
HELLO = "Hello there, friend."
ROWS = ["comment", "ping", "retry", "no-choices", "usage", "cut", "error", "crlf"]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
client = openai.OpenAI(base_url=BASE_URL, api_key="unused", timeout=30)
once = client.with_options(max_retries=0)
chat = client.chat.completions


class Place(pydantic.BaseModel):
    city: str
    people: int
    rivers: list[str]


def check(function):
    run(function.__name__, function, KNOWN_GAPS)


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def raw_stream(**request):
    """The bytes of a stream, as the client gets them, and the headers."""
    with chat.with_streaming_response.create(**request, stream=True) as response:
        return b"".join(response.iter_bytes()).decode(), response.headers


def frames_of(raw):
    """The data of a stream's events; nothing else but comments may be there."""
    assert "\r" not in raw, f"CR in {raw!r}"
    lines = [line for line in raw.split("\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines), f"lines other than data: {raw!r}"
    return [line.removeprefix("data: ") for line in lines]


@check
def whole():
    raw = chat.with_raw_response.create(model="good", messages=message("whole"))
    answer = raw.parse()
    assert answer.choices[0].message.content == HELLO
    assert answer.model == "good" and answer.usage.total_tokens == 14
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["x-cascade-tier"] == "good"
    assert answer._request_id == raw.headers["x-request-id"]


@check
def streamed():
    for model in ("good", "held", "escalates"):
        chunks = list(chat.create(model=model, messages=message("streamed"), stream=True))
        assert text_of(chunks) == HELLO
        assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
        assert [c.choices[0].delta.role for c in chunks if c.choices[0].delta.role] == ["assistant"]
        assert len({c.id for c in chunks}) == 1
        assert all(c.choices[0].logprobs is None for c in chunks), "logprobs that nobody asked for"
        raw, headers = raw_stream(model=model, messages=message("streamed"))
        assert headers["content-type"].startswith("text/event-stream")
        assert frames_of(raw)[-1] == "[DONE]"


@check
def streamed_async():
    async def collect(model):
        async with openai.AsyncOpenAI(base_url=BASE_URL, api_key="unused") as client:
            stream = await client.chat.completions.create(model=model, messages=message("async"), stream=True)
            return [chunk async for chunk in stream]

    assert text_of(asyncio.run(collect("good"))) == HELLO
    assert text_of(asyncio.run(collect("escalates"))) == HELLO


@check
def no_usage_that_nobody_asked_for():
    for model in ("good", "held"):
        frames = frames_of(raw_stream(model=model, messages=message("usage"))[0])
        assert not any("usage" in json.loads(frame) for frame in frames[:-1]), f"usage in {frames[0]}"


@check
def tools():
    for model, stream in [("good", False), ("good", True), ("held", False), ("held", True)]:
        request = {"model": model, "messages": message("tools"), "tools": [TOOL]}
        if stream:
            with chat.stream(**request) as events:
                choice = events.until_done().get_final_completion().choices[0]
        else:
            choice = chat.create(**request).choices[0]
        assert choice.finish_reason == "tool_calls" and len(choice.message.tool_calls) == 1
        call = choice.message.tool_calls[0]
        assert call.id == "call_1" and call.function.name == "weather"
        assert json.loads(call.function.arguments) == {"city": "Canberra"}


@check
def json_schema():
    for model in ("good", "held", "escalates"):
        answer = chat.parse(model=model, messages=message("schema"), response_format=Place)
        assert answer.choices[0].message.parsed == Place(city="Canberra", people=7, rivers=["Canberra"])
        with chat.stream(model=model, messages=message("schema"), response_format=Place) as events:
            assert events.until_done().get_final_completion().choices[0].message.parsed.city == "Canberra"
    answer = chat.create(model="good", messages=message("object"), response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content) == {"city": "Canberra"}


@check
def completions():
    for model in ("good", "held", "escalates"):
        answer = client.completions.create(model=model, prompt="Say hello.")
        assert answer.object == "text_completion" and answer.choices[0].text == HELLO
        chunks = list(client.completions.create(model=model, prompt="Say hello.", stream=True))
        assert "".join(c.choices[0].text for c in chunks) == HELLO and chunks[-1].choices[0].finish_reason == "stop"


@check
def escalation():
    for stream in (False, True):
        messages = message("escalation")
        raw = chat.with_raw_response.create(model="escalates", messages=messages, stream=stream)
        assert raw.headers["x-cascade-tier"] == "good"
        assert raw.headers["x-cascade-attempts"].startswith("unsure:rejected("), raw.headers["x-cascade-attempts"]
        answer = raw.parse()
        assert (text_of(answer) if stream else answer.choices[0].message.content) == HELLO
        assert [one["model"] for one in asked(messages)] == ["unsure", "good"]
    messages = message("held")
    raw = chat.with_raw_response.create(model="held", messages=messages)
    assert raw.headers["x-cascade-tier"] == "sure" and len(asked(messages)) == 1
    assert chat.create(model="falls", messages=message("falls")).choices[0].message.content == HELLO


@check
def errors():
    for model, kind, said in [
        ("fail-500", openai.InternalServerError, "The model broke down."),
        ("fail-429", openai.RateLimitError, "The model broke down."),
        ("nope", openai.NotFoundError, "nope"),
    ]:
        for stream in (False, True):
            call = lambda: once.chat.completions.create(model=model, messages=message("errors"), stream=stream)
            error = raises(kind, call)
            assert said in error.message, error.message
            assert {"message", "type", "param", "code"} <= error.body.keys(), error.body
            assert error.request_id.startswith("req_") and error.response.headers["content-type"] == "application/json"


@check
def no_retry_of_what_cannot_help():
    for model, models in [("fail-500", ["fail-500"]), ("all-fail", ["fail-429", "fail-500"])]:
        messages = message("exhausted")
        error = raises(openai.InternalServerError, lambda: chat.create(model=model, messages=messages))
        assert error.response.headers["x-should-retry"] == "false"
        assert [one["model"] for one in asked(messages)] == models


@check
def retry_of_what_can_help():
    for stream in (False, True):
        messages = message("flaky")
        answer = chat.create(model="flaky", messages=messages, stream=stream)
        assert (text_of(answer) if stream else answer.choices[0].message.content) == HELLO
        assert [one["headers"]["x-stainless-retry-count"] for one in asked(messages)] == ["0", "1"]
        assert all("OpenAI/Python" in one["headers"]["user-agent"] for one in asked(messages))
    call = lambda: once.chat.completions.create(model="flaky", messages=message("flaky"))
    headers = raises(openai.RateLimitError, call).response.headers
    assert (headers["x-should-retry"], headers["retry-after-ms"], headers["retry-after"]) == ("true", "10", "1")


@check
def closing_a_stream_cancels_upstream():
    messages, start = message("closed"), time.monotonic()
    with chat.create(model="sse-slow", messages=messages, stream=True) as stream:
        for _, chunk in zip(range(3), stream):
            assert chunk.choices
        assert time.monotonic() - start < 5, "the last tier's frames do not come as they are made"
    wait_until("upstream sees the disconnect", lambda: [one["disconnected"] for one in asked(messages)] == [True])


@check
def cancelling_a_held_answer_cancels_upstream():
    async def give_up(model, messages, stream):
        async with openai.AsyncOpenAI(base_url=BASE_URL, api_key="unused", max_retries=0) as client:
            answer = await client.chat.completions.create(model=model, messages=messages, stream=stream)
            return [chunk async for chunk in answer]

    for model, stream in [("held-sse-slow", True), ("held-slow-whole", False), ("held-slow-whole", True)]:
        messages = message("held")
        raises(TimeoutError, lambda: asyncio.run(asyncio.wait_for(give_up(model, messages, stream), 1)))
        wait_until(f"{model} sees the disconnect", lambda: [one["disconnected"] for one in asked(messages)] == [True])
        time.sleep(0.1)
        assert len(asked(messages)) == 1, "the next tier was asked for a client that is gone"


@check
def a_timeout_cancels_upstream():
    messages = message("timeout")
    impatient = client.with_options(timeout=1, max_retries=0)
    raises(openai.APITimeoutError, lambda: impatient.chat.completions.create(model="slow-whole", messages=messages))
    wait_until("upstream sees the disconnect", lambda: [one["disconnected"] for one in asked(messages)] == [True])


def row(kind, held):
    """One kind of stream: what the client makes of it, and its bytes."""
    request = {"model": f"held-sse-{kind}" if held else f"sse-{kind}", "messages": message(kind)}
    if kind in ("cut", "error") and not held:
        error = raises(openai.APIError, lambda: list(chat.create(**request, stream=True)))
        assert error.message and error.code, repr(error)
        frames = frames_of(raw_stream(**request)[0])
        assert "[DONE]" not in frames and json.loads(frames[-1])["error"].keys() >= {"message", "type", "param", "code"}
        return
    with_usage = request | {"stream_options": {"include_usage": True}}
    for options in (request, with_usage):
        chunks = list(chat.create(**options, stream=True))
        assert text_of(chunks) == HELLO
        raw, headers = raw_stream(**options)
        frames = frames_of(raw)
        assert frames.pop() == "[DONE]"
        frames = [json.loads(frame) for frame in frames]
        assert all("choices" in frame for frame in frames), f"a frame without choices: {raw!r}"
        usage = [frame for frame in frames if frame["choices"] == []]
        assert usage == (frames[-1:] if options is with_usage else []), f"usage frames: {raw!r}"
        assert headers["x-cascade-tier"] == ("good" if kind in ("cut", "error") else f"sse-{kind}")


for kind in ROWS:
    run(f"sse_{kind.replace('-', '_')}_live", lambda: row(kind, held=False), KNOWN_GAPS)
    run(f"sse_{kind.replace('-', '_')}_held", lambda: row(kind, held=True), KNOWN_GAPS)
report(f"openai-python {openai.__version__}")
