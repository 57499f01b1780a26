"""A server that answers as Google does: the Gemini API, Vertex AI, and the endpoint that gives tokens to service accounts.

Bodies follow Google's references; tests/unit/models/remote/test_google_service.py has its own clients read them.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.services.answers import value_of, vector_of
from tests.services.google_tokens import METADATA, refusal_of
from tests.services.http import Asked, Reply

KEY = "AIzaTest-5e0c7d19ab"
TOKEN = "ya29.test-0d4b8f"
FIELDS = {"contents", "systemInstruction", "generationConfig", "safetySettings", "tools", "toolConfig"}
CONFIG = {"temperature", "topP", "topK", "maxOutputTokens", "presencePenalty", "frequencyPenalty", "seed", "stopSequences"}
CONFIG |= {"responseMimeType", "responseSchema", "thinkingConfig", "candidateCount"}
SCHEMA = {"type", "nullable", "properties", "required", "propertyOrdering", "items", "format", "enum", "description", "title"}
TYPES = {"OBJECT", "ARRAY", "STRING", "INTEGER", "NUMBER", "BOOLEAN"}
MOST_BATCH = 100
MOST_INSTANCES = 250
CONTEXT_WORDS = 1_000

_PATH = re.compile(
    r"/(?P<version>v1|v1beta|v1beta1)/(?P<place>projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/)?"
    r"(?P<kind>models|publishers/google/models|endpoints)/(?P<model>[^/:]+):(?P<method>\w+)"
)


@dataclass
class Google:
    """The services. `scripted` are replies for the next requests of a model, None for one that is answered, and
    `scripted_tokens` for those of tokens. `predictions`, where given, is what a deployed endpoint makes of an instance.
    """

    latency: float = 0.0
    thinks: bool = False
    width: int = 4
    token_seconds: int = 3599
    url: str = ""
    predictions: Any = None
    scripted: list[Reply | None] = field(default_factory=list)
    scripted_tokens: list[Reply | None] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    tokens: list[str] = field(default_factory=lambda: [TOKEN])
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/token" or asked.path == METADATA:
            return self._token(asked)
        if self.scripted and (scripted := self.scripted.pop(0)) is not None:
            return scripted
        found = _PATH.fullmatch(asked.path)
        if found is None or "?" in asked.path:
            return error(404, "NOT_FOUND", f"Requested entity was not found: {asked.path}")
        if refusal := self._stranger(asked, is_vertex=bool(found["place"])):
            return refusal
        if found["model"].endswith("-none"):
            return error(404, "NOT_FOUND", f"models/{found['model']} is not found for API version {found['version']}")
        return self._called(found, json.loads(asked.body))

    def _stranger(self, asked: Asked, *, is_vertex: bool) -> Reply | None:
        if is_vertex:
            token = asked.headers.get("authorization", "").removeprefix("Bearer ")
            if token in self.tokens:
                return None
            said = "Request had invalid authentication credentials. Expected OAuth 2 access token."
            return error(401, "UNAUTHENTICATED", said, info("ACCESS_TOKEN_EXPIRED"))
        if asked.headers.get("x-goog-api-key") == KEY:
            return None
        said = "API key not valid. Please pass a valid API key."
        return error(400, "INVALID_ARGUMENT", said, info("API_KEY_INVALID"))

    def _called(self, found: re.Match[str], body: dict[str, Any]) -> Reply:
        is_vertex = bool(found["place"])
        match found["method"]:
            case "generateContent":
                return self._generate(body, found["model"])
            case "batchEmbedContents":
                return self._embed_batch(body, found["model"], is_vertex=is_vertex)
            case "embedContent" if is_vertex:
                return self._embed_one(body)
            case "predict" if is_vertex and found["kind"] == "endpoints":
                return self._predict(body)
            case "predict" if is_vertex:
                return self._predict_texts(body)
            case method:
                return error(404, "NOT_FOUND", f"Method not found: {method}")

    def _generate(self, body: dict[str, Any], model: str) -> Reply:
        if wrong := _checked(body):
            return error(400, "INVALID_ARGUMENT", wrong)
        text = "".join(part["text"] for part in body["contents"][-1]["parts"])
        if len(text.split()) > CONTEXT_WORDS:
            said = (
                f"The input token count ({len(text.split())}) exceeds the maximum number of tokens allowed ({CONTEXT_WORDS})."
            )
            return error(400, "INVALID_ARGUMENT", said)
        words = len(text.split()) + 5
        if "REFUSE ME" in text:
            blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": words}}
            return self._done({**blocked, "modelVersion": model})
        self.answered[text] += 1
        said = _content(text, body.get("generationConfig", {}))
        parts = [{"text": "Let me see.", "thought": True}] if self.thinks else []
        usage = {"promptTokenCount": words, "candidatesTokenCount": max(1, len(said) // 4)}
        thoughts = {"thoughtsTokenCount": 11} if self.thinks else {}
        total = sum(usage.values()) + sum(thoughts.values())
        return self._done(generated([*parts, {"text": said}], usage={**usage, **thoughts, "totalTokenCount": total}))

    def _embed_batch(self, body: dict[str, Any], model: str, *, is_vertex: bool) -> Reply:
        requests = body.get("requests", [])
        known = (
            {"content", "embedContentConfig"}
            if is_vertex
            else {"model", "content", "taskType", "outputDimensionality", "title"}
        )
        if unknown := sorted({name for one in requests for name in one} - known):
            return error(400, "INVALID_ARGUMENT", _unknown(unknown[0], "requests[0]"))
        if len(requests) > MOST_BATCH:
            said = f"* BatchEmbedContentsRequest.requests: at most {MOST_BATCH} requests can be in one batch\n"
            return error(400, "INVALID_ARGUMENT", said)
        if not is_vertex and any(one.get("model") != f"models/{model}" for one in requests):
            return error(
                400, "INVALID_ARGUMENT", "* BatchEmbedContentsRequest.requests[0].model: unexpected model name format\n"
            )
        texts = ["".join(part["text"] for part in one["content"]["parts"]) for one in requests]
        if refused := _refused(texts):
            return refused
        self.answered.update(texts)
        wide = requests[0].get("embedContentConfig", requests[0]).get("outputDimensionality", self.width)
        counted = {"usageMetadata": {"promptTokenCount": _words(texts), "totalTokenCount": _words(texts)}}
        return self._done({"embeddings": [{"values": vector_of(text, wide)} for text in texts], **counted})

    def _embed_one(self, body: dict[str, Any]) -> Reply:
        if unknown := sorted(set(body) - {"content", "embedContentConfig"}):
            return error(400, "INVALID_ARGUMENT", _unknown(unknown[0], "embed_content_request"))
        texts = ["".join(part["text"] for part in body["content"]["parts"])]
        if refused := _refused(texts):
            return refused
        self.answered.update(texts)
        wide = body.get("embedContentConfig", {}).get("outputDimensionality", self.width)
        counted = {"usageMetadata": {"promptTokenCount": _words(texts), "totalTokenCount": _words(texts)}}
        return self._done({"embedding": {"values": vector_of(texts[0], wide)}, "truncated": False, **counted})

    def _predict_texts(self, body: dict[str, Any]) -> Reply:
        instances, parameters = body.get("instances", []), body.get("parameters", {})
        unknown = sorted({name for one in instances for name in one} - {"content", "task_type", "title"})
        unknown += sorted(set(body) - {"instances", "parameters"})
        unknown += sorted(set(parameters) - {"autoTruncate", "outputDimensionality"})
        if unknown:
            return error(400, "INVALID_ARGUMENT", _unknown(unknown[0], "instances"))
        if len(instances) > MOST_INSTANCES:
            said = f"{MOST_INSTANCES} instance(s) is allowed per prediction. Actual: {len(instances)}"
            return error(400, "INVALID_ARGUMENT", said)
        texts = [one["content"] for one in instances]
        if refused := _refused(texts):
            return refused
        self.answered.update(texts)
        wide = parameters.get("outputDimensionality", self.width)
        found = [{"embeddings": {"values": vector_of(text, wide), "statistics": _statistics(text)}} for text in texts]
        return self._done({"predictions": found, "metadata": {"billableCharacterCount": sum(map(len, texts))}})

    def _predict(self, body: dict[str, Any]) -> Reply:
        if set(body) - {"instances", "parameters"} or not isinstance(body.get("instances"), list):
            return error(400, "INVALID_ARGUMENT", 'Invalid JSON payload received. Unknown name "instance": Cannot find field.')
        for instance in body["instances"]:
            self.answered[json.dumps(instance)] += 1
        made = [self.predictions(one) if self.predictions else {"score": _score(one)} for one in body["instances"]]
        resource = "projects/1029384756/locations/us-central1/models/4567"
        return self._done({"predictions": made, "deployedModelId": "123", "model": resource, "modelVersionId": "1"})

    def _token(self, asked: Asked) -> Reply:
        if self.scripted_tokens and (scripted := self.scripted_tokens.pop(0)) is not None:
            return scripted
        if refusal := refusal_of(asked, self.url):
            return refusal
        self.tokens.append(f"ya29.test-{next(self._numbers)}")
        body = {"access_token": self.tokens[-1], "expires_in": self.token_seconds, "token_type": "Bearer"}
        return Reply(200, json.dumps(body).encode())

    def _done(self, body: object) -> Reply:
        return Reply(200, json.dumps(body).encode(), {"server-timing": "gfet4t7; dur=120"}, seconds=self.latency)


def generated(parts: list[dict[str, Any]], reason: str = "STOP", **other: Any) -> dict[str, Any]:
    """An answer of generateContent as Google writes it."""
    usage = other.get("usage", {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10})
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0}],
        "usageMetadata": usage,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "fo4waaOaE8W_vdIP0v7m8AI",
    }


def error(status: int, name: str, said: str, *details: Mapping[str, Any], **headers: str) -> Reply:
    """An error as Google writes it."""
    body: dict[str, Any] = {"error": {"code": status, "message": said, "status": name}}
    if details:
        body["error"]["details"] = list(details)
    return Reply(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def info(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def retry_info(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota_failure(quota: str, value: str = "20") -> dict[str, Any]:
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    violation = {"quotaMetric": metric, "quotaId": quota, "quotaDimensions": {"location": "global"}, "quotaValue": value}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def limited(*details: Mapping[str, Any], **headers: str) -> Reply:
    said = "You exceeded your current quota, please check your plan and billing details."
    return error(429, "RESOURCE_EXHAUSTED", said, *details, **headers)


def _checked(body: Mapping[str, Any]) -> str | None:
    """What the service refuses of a request, in its words."""
    if unknown := sorted(set(body) - FIELDS):
        return f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.'
    config = body.get("generationConfig", {})
    if unknown := sorted(set(config) - CONFIG):
        return _unknown(unknown[0], "generation_config")
    if config.get("maxOutputTokens", 1) > 65_536:
        return "Unable to submit request because it has a maxOutputTokens value out of the supported range from 1 to 65536"
    if any(not part.get("text") for one in body["contents"] for part in one["parts"]):
        return (
            "* GenerateContentRequest.contents[0].parts[0].data: required oneof field 'data' must have one initialized field\n"
        )
    if "responseSchema" in config:
        if config.get("responseMimeType") != "application/json":
            return "* GenerateContentRequest.generation_config.response_schema: only allowed with response_mime_type of JSON\n"
        return _checked_schema(config["responseSchema"], "generation_config.response_schema")
    return None


def _camel(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Names may have underscores, too, as protobuf's JSON allows."""
    return {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in schema.items()}


def _checked_schema(schema: Mapping[str, Any], place: str) -> str | None:
    schema = _camel(schema)
    if unknown := sorted(set(schema) - SCHEMA):
        return _unknown(unknown[0], place)
    if schema.get("type") not in TYPES:
        return f"Invalid value at '{place}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type)"
    if schema["type"] == "STRING" and schema.get("format") not in (None, "enum", "date-time"):
        return f"* GenerateContentRequest.{place}.format: only 'enum' and 'date-time' are supported for STRING type\n"
    if "enum" in schema and any(not isinstance(one, str) or not one for one in schema["enum"]):
        return f"* GenerateContentRequest.{place}.enum[0]: cannot be empty\n"
    inner = {f"{place}.properties[{name}]": one for name, one in schema.get("properties", {}).items()}
    if "items" in schema:
        inner[f"{place}.items"] = schema["items"]
    return next((wrong for where, one in inner.items() if (wrong := _checked_schema(one, where))), None)


def _content(text: str, config: Mapping[str, Any]) -> str:
    draw = random.Random(text)
    if schema := config.get("responseSchema"):
        return json.dumps(value_of(_as_json_schema(schema), draw))
    if config.get("responseMimeType") == "application/json":
        return json.dumps({"label": draw.choice(["good", "bad"]), "score": round(draw.random(), 6)})
    return text.upper()


def _as_json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Google's subset as a JSON schema, its properties in the order that it answers in. Dates are told in words alone."""
    schema = _camel(schema)
    told = schema.get("description", "")
    as_json: dict[str, Any] = {"type": schema["type"].lower()}
    as_json["format"] = schema.get("format") or ("date" if "date" in told else "time" if "time" in told else "")
    if "enum" in schema:
        as_json["enum"] = schema["enum"]
    if "properties" in schema:
        as_json["properties"] = {name: _as_json_schema(schema["properties"][name]) for name in schema["propertyOrdering"]}
    if "items" in schema:
        as_json["items"] = _as_json_schema(schema["items"])
    return as_json


def _refused(texts: list[str]) -> Reply | None:
    if any(not text for text in texts):
        return error(400, "INVALID_ARGUMENT", "* EmbedContentRequest.content: contents is not specified\n")
    if any("REFUSE ME" in text for text in texts):
        return error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
    return None


def _unknown(name: str, place: str) -> str:
    return f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."


def _words(texts: list[str]) -> int:
    return sum(len(text.split()) for text in texts)


def _statistics(text: str) -> dict[str, Any]:
    return {"token_count": float(len(text.split())), "truncated": False}


def _score(instance: object) -> float:
    return round(random.Random(json.dumps(instance, sort_keys=True)).random(), 6)
