"""What the fake provider says on /v1/responses: the text of its chat answers, as
a response and as the typed events of one."""

import time


def response(request, tokens, improbable):
    """The whole response."""
    wants_logprobs = "message.output_text.logprobs" in (request.get("include") or [])
    each = [{"token": t, "logprob": -3.0 if improbable else -0.01, "bytes": [], "top_logprobs": []} for t in tokens]
    part = {"type": "output_text", "text": "".join(tokens), "annotations": [], "logprobs": each if wants_logprobs else []}
    message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "status": "completed",
            "arguments": '{"city": "Canberra"}'}
    return {
        "id": "resp_1", "object": "response", "created_at": int(time.time()), "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": request["model"],
        "output": [call] if request.get("tools") else [message], "parallel_tool_calls": True, "temperature": 1.0,
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "store": request.get("store", True),
        "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": len(tokens),
                  "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 9 + len(tokens)},
    }


def events(whole):
    """The events that tell of it."""
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    item = whole["output"][0]
    place = {"item_id": item["id"], "output_index": 0}
    if item["type"] == "function_call":
        yield {"type": "response.output_item.added", "output_index": 0, "item": item | {"arguments": "", "status": "in_progress"}}
        yield place | {"type": "response.function_call_arguments.delta", "delta": item["arguments"]}
        yield place | {"type": "response.function_call_arguments.done", "arguments": item["arguments"], "name": item["name"]}
    else:
        part = item["content"][0]
        place["content_index"] = 0
        yield {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": [], "status": "in_progress"}}
        yield place | {"type": "response.content_part.added", "part": part | {"text": "", "logprobs": []}}
        for word in part["text"].split(" "):
            text = word if part["text"].startswith(word) else f" {word}"
            yield place | {"type": "response.output_text.delta", "delta": text, "logprobs": part["logprobs"][:1]}
        yield place | {"type": "response.output_text.done", "text": part["text"], "logprobs": part["logprobs"]}
        yield place | {"type": "response.content_part.done", "part": part}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": whole}
