"""openai-python's Responses API, unmodified, against the gateway: cascaded where
nothing is kept at the provider, its typed events in order.

Usage: openai_python_responses.py BASE_URL UPSTREAM_URL.
"""

import openai

from checks import BASE_URL, asked, message, raises, report, run

client = openai.OpenAI(base_url=BASE_URL, api_key="unused")
HELLO = "Hello there, friend."
TOOL = {"type": "function", "name": "weather", "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}}


def text(about):
    return message(about)[0]["content"]


def check(function):
    run(function.__name__, function, {})


@check
def whole():
    question = text("whole")
    raw = client.responses.with_raw_response.create(model="escalates", input=question, store=False)
    response = raw.parse()
    assert response.output_text == HELLO and response.status == "completed"
    assert response.output[0].content[0].logprobs == [], "logprobs that nobody asked for"
    assert response.usage.total_tokens == 14
    assert raw.headers["x-cascade-attempts"].startswith("unsure:rejected("), raw.headers["x-cascade-attempts"]
    assert [one["model"] for one in asked([{"content": question}])] == ["unsure", "good"]


@check
def kept_at_the_provider():
    question = text("kept")
    client.responses.create(model="escalates", input=question)
    client.responses.create(model="escalates", input=question, store=False, previous_response_id="resp_0")
    assert [one["model"] for one in asked([{"content": question}])] == ["good", "good"], "one tier, no drafts"


@check
def streamed():
    for model in ("good", "held", "escalates"):
        events = list(client.responses.create(model=model, input=text("streamed"), store=False, stream=True))
        kinds = [event.type for event in events]
        assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
        assert [event.sequence_number for event in events] == list(range(len(events)))
        deltas = [event for event in events if event.type == "response.output_text.delta"]
        assert "".join(event.delta for event in deltas) == HELLO
        assert not any(event.logprobs for event in deltas), "logprobs that nobody asked for"
        assert events[-1].response.output_text == HELLO


@check
def streamed_with_the_helper():
    with client.responses.stream(model="held", input=text("helper"), store=False) as stream:
        for _event in stream:
            pass
        assert stream.get_final_response().output_text == HELLO


@check
def logprobs_that_were_asked_for():
    include = ["message.output_text.logprobs"]
    response = client.responses.create(model="held", input=text("logprobs"), store=False, include=include)
    assert response.output[0].content[0].logprobs[0].logprob == -0.01


@check
def tools():
    for stream in (False, True):
        request = {"model": "good", "input": text("tools"), "store": False, "tools": [TOOL]}
        if stream:
            events = list(client.responses.create(**request, stream=True))
            done = [event for event in events if event.type == "response.function_call_arguments.done"]
            assert done[0].arguments == '{"city": "Canberra"}'
        else:
            call = client.responses.create(**request).output[0]
            assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city": "Canberra"}')


@check
def errors():
    error = raises(openai.NotFoundError, lambda: client.responses.create(model="nope", input="x", store=False))
    assert error.code == "model_not_found"
    error = raises(openai.InternalServerError, lambda: client.responses.create(model="fail-500", input=text("500"), store=False))
    assert error.code == "upstream_failed"


report(f"openai-python {openai.__version__}, responses")
