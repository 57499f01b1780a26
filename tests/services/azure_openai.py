"""A server that answers as Azure OpenAI does, at both kinds of its addresses: what OpenAI says, with Azure's ways to ask, its
errors, and what its content filter finds.

Bodies follow Azure's REST reference and "Content filtering"; tests/unit/models/remote/test_azure_openai_service.py has
OpenAI's own client read them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.services.http import Asked, Reply
from tests.services.openai import OpenAI

AZURE_KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
AZURE_TOKEN = "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJjb2duaXRpdmUifQ.c2lnbmF0dXJl"
DEPLOYMENTS = ("my-gpt", "my-embeddings")
VERSIONS = ("2024-10-21", "2025-04-01-preview")
SAFE = {"filtered": False, "severity": "safe"}
RESULTS = {"hate": SAFE, "self_harm": SAFE, "sexual": SAFE, "violence": SAFE}
FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your "
    "prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)
_DATED = re.compile(
    r"/openai(?:/deployments/(?P<deployment>[^/]+)(?P<path>/chat/completions|/embeddings)|(?P<responses>/responses))"
)


@dataclass
class AzureOpenAI(OpenAI):
    """The service. A question with `filtered_prompt` in it is refused, one with `filtered_answer` answered in part."""

    filtered_prompt: str = "SOMETHING VIOLENT"
    filtered_answer: str = "TELL ME WORSE"

    def _reply(self, asked: Asked) -> Reply:
        if self.scripted and (scripted := self.scripted.pop(0)) is not None:
            return scripted
        if not _is_allowed(asked.headers):
            said = (
                "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
            )
            said += "active subscription and use a correct regional API endpoint for your resource."
            return azure_error(401, "401", said)
        address = urlsplit(asked.path)
        body = json.loads(asked.body)
        if address.path.startswith("/openai/v1/"):
            path, deployment = address.path.removeprefix("/openai"), body.get("model")
        else:
            found = _DATED.fullmatch(address.path)
            if found is None or parse_qs(address.query).get("api-version", [""])[0] not in VERSIONS:
                return azure_error(404, "404", "Resource not found")
            path = f"/v1{found['path'] or found['responses']}"
            deployment = found["deployment"] or body.get("model")
        if deployment not in DEPLOYMENTS:
            said = (
                "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
            )
            return azure_error(404, "DeploymentNotFound", f"{said}please wait a moment and try again.")
        if self.filtered_prompt in asked.body.decode():
            return prompt_filtered("violence")
        return _in_azures_way(self._answered(path, {**body, "model": deployment}), self.filtered_answer.encode() in asked.body)

    def _answered(self, path: str, body: dict[str, Any]) -> Reply:
        match path:
            case "/v1/chat/completions":
                return self._chat(body)
            case "/v1/responses":
                return self._responses(body)
            case "/v1/embeddings":
                return self._embeddings(body)
            case _:
                return azure_error(404, "404", "Resource not found")


def azure_error(status: int, code: str, message: str, **headers: str) -> Reply:
    """An error as Azure writes it, without OpenAI's type and param."""
    body = {"error": {"code": code, "message": message}}
    return Reply(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def azure_limited(seconds: int, **headers: str) -> Reply:
    said = (
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate "
    )
    said += (
        f"limit of your current AIServices S0 pricing tier. Please retry after {seconds} seconds. Please contact Azure support "
    )
    return azure_error(429, "429", f"{said}service if you would like to further increase the default rate limit.", **headers)


def prompt_filtered(category: str) -> Reply:
    """What Azure says where the prompt itself met the filter."""
    results = {**RESULTS, "jailbreak": {"filtered": False, "detected": False}}
    results[category] = {"filtered": True, "severity": "medium"}
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": results}
    body = {"message": FILTERED, "type": None, "param": "prompt", "code": "content_filter", "status": 400, "innererror": inner}
    return Reply(400, json.dumps({"error": body}).encode())


def _is_allowed(headers: Mapping[str, str]) -> bool:
    return headers.get("api-key") == AZURE_KEY or headers.get("authorization") == f"Bearer {AZURE_TOKEN}"


def _in_azures_way(reply: Reply, is_filtered: bool) -> Reply:
    """With what the filter found in question and answer, and the headers that Azure adds."""
    headers = {"apim-request-id": "3d37de60-f6c3-4ced-a637-92bc9d16d8b5", "x-ms-region": "North Central US"}
    headers |= {"x-ratelimit-remaining-requests": "7", "x-ratelimit-remaining-tokens": "1014"}
    if reply.status != 200:
        return replace(reply, headers={**reply.headers, **headers})
    body: dict[str, Any] = json.loads(reply.body)
    found = {**RESULTS, "sexual": {"filtered": True, "severity": "high"}} if is_filtered else RESULTS
    match body:
        case {"choices": [choice]}:
            body["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": RESULTS}]
            choice["content_filter_results"] = found
            if is_filtered:
                choice |= {"finish_reason": "content_filter", "message": {"role": "assistant", "content": "Well, the"}}
        case {"object": "response"}:
            kinds = [("prompt", False, RESULTS), ("completion", is_filtered, found)]
            body["content_filters"] = [
                {"blocked": blocked, "source_type": kind, "content_filter_results": results} for kind, blocked, results in kinds
            ]
            if is_filtered:
                body |= {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}
        case _:
            pass
    return replace(reply, body=json.dumps(body).encode(), headers={**reply.headers, **headers})
