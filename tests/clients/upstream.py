"""A fake provider for the client scripts of this folder, on the standard
library alone. What it does is keyed by the request's `model`, see MODELS.

Prints `listening on http://127.0.0.1:PORT/v1` and serves until it is killed.
`GET /v1/_asked` tells what was asked so far, and which asker went away early.
"""

import json
import re
import select
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import upstream_responses

MODELS = {
    "good": "a sure answer: text, a tool call where tools are offered, JSON where it is asked for",
    "unsure": "the same, but one of its tokens is improbable",
    "sse-comment": "comments between the frames",
    "sse-ping": "`event: ping` without data between the frames",
    "sse-retry": "`retry: 1000` alone between the frames",
    "sse-no-choices": "a data frame without `choices` in mid-stream",
    "sse-usage": "as good; a frame of usage alone ends every stream that asks for it",
    "sse-cut": "the stream ends, properly, before finish_reason",
    "sse-error": "an error frame in mid-stream",
    "sse-crlf": "lines end in CRLF",
    "sse-slow": "50 frames, one each 200 ms",
    "slow-whole": "the answer comes after 10 s",
    "fail-500": "always status 500",
    "fail-429": "always status 429; retry-after 0, since a tier that asks for a pause gets one",
    "flaky": "status 429 the first time that a message comes, then good",
}
TOKENS = ["Hello", " there", ",", " friend", "."]
BETWEEN = {"sse-comment": ": hello\n\n", "sse-ping": "event: ping\n\n", "sse-retry": "retry: 1000\n\n"}
NO_CHOICES = {"id": "note-1", "object": "provider.note", "note": "this frame has no choices"}
ERROR = {"message": "The model broke down.", "type": "server_error", "param": None, "code": "broke_down"}
asked = []


def example(schema):
    """A value that is valid by a simple JSON Schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: example(of) for name, of in schema.get("properties", {}).items()}
        case "array":
            return [example(schema["items"])]
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case _:
            return "Canberra"


def said(body):
    """The tokens of the answer's text, and the arguments of its tool call."""
    if body.get("tools"):
        return [], json.dumps(example(body["tools"][0]["function"]["parameters"]))
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return re.findall(r"\S+\s*", json.dumps(example(wanted["json_schema"]["schema"]))), None
    if wanted.get("type") == "json_object":
        return ['{"city": ', '"Canberra"}'], None
    return TOKENS, None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/v1/_asked":
            self.whole(200, asked)
        else:
            self.whole(404, {"error": ERROR})

    def do_POST(self):
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.chat = self.path == "/v1/chat/completions"
        model = self.body["model"]
        if self.path == "/v1/responses":
            last = self.body["input"]
        else:
            last = self.body["messages"][-1]["content"] if self.chat else self.body["prompt"]
        seen_before = any(one["model"] == model and one["last"] == last for one in asked)
        headers = ("idempotency-key", "x-stainless-retry-count", "user-agent")
        self.asked = {
            "model": model,
            "stream": bool(self.body.get("stream")),
            "last": last,
            "headers": {name: self.headers[name] for name in headers if name in self.headers},
            "disconnected": False,
        }
        asked.append(self.asked)
        try:
            if model == "fail-500":
                self.whole(500, {"error": ERROR})
            elif model == "fail-429":
                self.whole(429, {"error": ERROR | {"code": "too_many"}}, {"retry-after": "0"})
            elif model == "flaky" and not seen_before:
                self.whole(429, {"error": ERROR | {"code": "too_many"}}, {"retry-after-ms": "10"})
            elif model not in MODELS:
                self.whole(404, {"error": ERROR | {"message": f"No model {model}.", "code": "model_not_found"}})
            elif model == "slow-whole" and not self.wait(10):
                pass
            elif self.path == "/v1/responses":
                self.respond(upstream_responses.response(self.body, TOKENS, model == "unsure"))
            elif self.asked["stream"]:
                self.streamed(model)
            else:
                self.whole(200, self.answer())
        except OSError:
            self.asked["disconnected"] = self.close_connection = True

    def wait(self, seconds):
        """Whether the asker was still there all the time."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable and self.connection.recv(1, socket.MSG_PEEK) == b"":
            self.asked["disconnected"] = self.close_connection = True
        return not self.asked["disconnected"]

    def whole(self, status, body, headers=()):
        body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in [("content-type", "application/json"), ("content-length", len(body)), *dict(headers).items()]:
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def wrap(self, choices, **more):
        kind = ("chat.completion.chunk" if self.asked["stream"] else "chat.completion") if self.chat else "text_completion"
        head = {"id": "answer-1", "object": kind, "created": int(time.time()), "model": self.body["model"]}
        return head | {"choices": choices} | more

    def logprobs(self, tokens):
        if not self.body.get("logprobs") or not tokens:
            return None
        improbable = self.body["model"] == "unsure"
        each = [-3.0 if improbable and token == tokens[-1] else -0.01 for token in tokens]
        if self.chat:
            pairs = zip(tokens, each)
            return {"content": [{"token": t, "logprob": p, "bytes": None, "top_logprobs": []} for t, p in pairs], "refusal": None}
        return {"tokens": tokens, "token_logprobs": each, "top_logprobs": None, "text_offset": [0] * len(tokens)}

    def usage(self):
        return {"prompt_tokens": 9, "completion_tokens": len(TOKENS), "total_tokens": 9 + len(TOKENS)}

    def answer(self):
        tokens, arguments = said(self.body)
        choice = {"index": 0, "logprobs": self.logprobs(list(tokens)), "finish_reason": "tool_calls" if arguments else "stop"}
        if not self.chat:
            choice["text"] = "".join(tokens)
        else:
            message = choice["message"] = {"role": "assistant", "content": "".join(tokens) or None, "refusal": None}
            if arguments:
                message["tool_calls"] = [{"id": "call_1", "type": "function", "function": self.function(arguments)}]
        return self.wrap([choice], usage=self.usage())

    def function(self, arguments):
        return {"name": self.body["tools"][0]["function"]["name"], "arguments": arguments}

    def frames(self):
        """The frames of the answer; the one with finish_reason is the last."""
        tokens, arguments = said(self.body)
        if self.body["model"] == "sse-slow":
            tokens = [f" {n}" for n in range(48)]
        if not self.chat:
            for token in tokens:
                yield self.wrap([{"index": 0, "text": token, "logprobs": self.logprobs([token]), "finish_reason": None}])
            yield self.wrap([{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}])
            return

        def frame(delta, logprobs=None, finish_reason=None):
            return self.wrap([{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}])

        yield frame({"role": "assistant", "content": None if arguments else "", "refusal": None})
        for token in tokens:
            yield frame({"content": token}, self.logprobs([token]))
        if arguments:
            first = {"index": 0, "id": "call_1", "type": "function", "function": self.function("")}
            yield frame({"tool_calls": [first]})
            for piece in (arguments[:5], arguments[5:]):
                yield frame({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield frame({}, finish_reason="tool_calls" if arguments else "stop")

    def streamed(self, model):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        frames = list(self.frames())
        if model == "sse-no-choices":
            frames.insert(3, NO_CHOICES)
        elif model == "sse-error":
            frames[3:] = [{"error": ERROR}]
        elif model == "sse-cut":
            frames = frames[:-2]
        if (self.body.get("stream_options") or {}).get("include_usage") and model not in ("sse-cut", "sse-error"):
            frames = [frame | {"usage": None} for frame in frames] + [self.wrap([], usage=self.usage())]
        texts = [f"data: {json.dumps(frame)}\n\n" for frame in frames]
        if model not in ("sse-cut", "sse-error"):
            texts.append("data: [DONE]\n\n")
        for text in texts:
            text = BETWEEN.get(model, "") + text
            self.chunk(text.replace("\n", "\r\n") if model == "sse-crlf" else text)
            if model == "sse-slow" and not self.wait(0.2):
                return
        self.wfile.write(b"0\r\n\r\n")

    def respond(self, whole):
        if not self.asked["stream"]:
            self.whole(200, whole)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(upstream_responses.events(whole)):
            self.chunk(f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, text):
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"listening on http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()
