"""openai-python, unmodified, against a running `cascade serve` of the demo.

Usage: openai_python.py BASE_URL. Fails with an assertion; prints how many
checks passed.
"""

import json
import pathlib
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused")
QUESTION = [{"role": "user", "content": "What is the capital of Australia?"}]
FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures"
checks = []


def check(function):
    function()
    checks.append(function.__name__)


def first(file):
    return json.loads((FIXTURES / file).read_text(encoding="utf-8").splitlines()[0])["request"]


@check
def chat():
    raw = client.chat.completions.with_raw_response.create(model="cascade", messages=QUESTION)
    answer = raw.parse()
    assert "Canberra" in answer.choices[0].message.content
    assert answer.choices[0].logprobs is None, "logprobs that nobody asked for"
    assert answer.usage.total_tokens > 0
    assert answer._request_id == raw.headers["x-cascade-request-id"]
    assert raw.headers["x-cascade-tier"] in ("ada", "babbage", "curie", "davinci")


@check
def chat_with_logprobs():
    answer = client.chat.completions.create(model="davinci", messages=QUESTION, logprobs=True)
    assert answer.choices[0].logprobs.content[0].logprob <= 0


@check
def chat_streamed():
    whole = client.chat.completions.create(model="cascade", messages=QUESTION)
    with client.chat.completions.create(model="cascade", messages=QUESTION, stream=True) as stream:
        chunks = list(stream)
    assert all(len(chunk.choices) == 1 for chunk in chunks), "no usage frame unless asked for"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert {c.id for c in chunks} == {whole.id}


@check
def chat_streamed_with_usage():
    stream = client.chat.completions.create(
        model="cascade", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    last = list(stream)[-1]
    assert last.choices == [] and last.usage.total_tokens > 0


@check
def chat_with_the_streaming_helper():
    with client.chat.completions.stream(model="cascade", messages=QUESTION) as stream:
        for _event in stream:
            pass
        assert "Canberra" in stream.get_final_completion().choices[0].message.content


@check
def tools():
    request = first("tools.jsonl") | {"model": "davinci"}
    answer = client.chat.completions.create(**request)
    call = answer.choices[0].message.tool_calls[0]
    json.loads(call.function.arguments)
    chunks = list(client.chat.completions.create(**request, stream=True))
    pieces = [c.choices[0].delta.tool_calls for c in chunks if c.choices[0].delta.tool_calls]
    assert pieces[0][0].function.name == call.function.name
    assert "".join(p[0].function.arguments or "" for p in pieces) == call.function.arguments


@check
def completions():
    request = first("few_shot.jsonl") | {"model": "cascade"}
    whole = client.completions.create(**request)
    assert whole.object == "text_completion" and whole.choices[0].text
    chunks = list(client.completions.create(**request, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text


@check
def models():
    names = [model.id for model in client.models.list()]
    assert names == ["cascade", "ada", "babbage", "curie", "davinci"]
    assert client.models.retrieve("ada").id == "ada"


@check
def errors():
    for call, kind, code in [
        (lambda: client.chat.completions.create(model="nope", messages=QUESTION), openai.NotFoundError, "model_not_found"),
        (lambda: client.models.retrieve("nope"), openai.NotFoundError, "model_not_found"),
        (lambda: client.chat.completions.create(model="cascade", messages=[{"role": "user", "content": "?"}]),
         openai.NotFoundError, "not_recorded"),
        (lambda: client.chat.completions.create(model="cascade", messages=QUESTION, temperature="hot"),
         openai.BadRequestError, None),
        (lambda: client.images.generate(prompt="a cat"), openai.NotFoundError, "unknown_url"),
    ]:
        try:
            call()
        except kind as error:
            assert error.code == code, error
            assert error.message, error
        else:
            raise AssertionError(f"no {kind.__name__}")


print(f"{len(checks)} passed, 0 failed: openai-python {openai.__version__}: {', '.join(checks)}")
