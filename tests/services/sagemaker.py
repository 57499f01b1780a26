"""A server that answers as Amazon SageMaker Runtime does: InvokeEndpoint, its signatures, its errors.

tests/unit/models/remote/test_sagemaker_service.py has boto3 read the answers.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from tests.services.aws import error, refusal
from tests.services.deployed import ModelFailed, answer_of
from tests.services.http import Asked, Reply

ACCOUNT = "123456789012"
MOST_BYTES = 6_291_456
KNOWN_HEADERS = {"target-variant", "target-model", "inference-component", "custom-attributes", "inference-id"}


@dataclass
class SageMaker:
    """The service; an endpoint is a model of deployed.py. `scripted` are replies for the next requests, None for one that
    is answered."""

    latency: float = 0.0
    most_bytes: int = MOST_BYTES
    scripted: list[Reply | None] = field(default_factory=list)
    statuses: Counter[int | None] = field(default_factory=Counter)

    async def __call__(self, asked: Asked) -> Reply:
        reply = self._reply(asked)
        self.statuses[reply.status] += 1
        return reply

    def _reply(self, asked: Asked) -> Reply:
        if self.scripted and (scripted := self.scripted.pop(0)) is not None:
            return scripted
        if refused := refusal(asked, "sagemaker"):
            return refused
        match asked.path.split("/"):
            case ["", "endpoints", name, "invocations"]:
                return self._invoke(name, asked)
            case _:
                return error(404, "UnknownOperationException", "")

    def _invoke(self, name: str, asked: Asked) -> Reply:
        own = {header.removeprefix("x-amzn-sagemaker-") for header in asked.headers if header.startswith("x-amzn-sagemaker-")}
        if own - KNOWN_HEADERS:
            return error(400, "ValidationError", f"unknown header {sorted(own)}")
        if len(asked.body) > self.most_bytes:
            said = (
                f"Value at 'body' failed to satisfy constraint: Member must have length less than or equal to {self.most_bytes}"
            )
            return error(400, "ValidationError", said)
        variant = asked.headers.get("x-amzn-sagemaker-target-variant", "AllTraffic")
        try:
            answer = answer_of(name, asked.headers["content-type"], asked.body)
        except ModelFailed as failed:
            if failed.status == 404:
                return error(400, "ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
            return model_error(failed.status, failed.message)
        headers = {"x-amzn-invoked-production-variant": variant}
        return Reply(200, json.dumps(answer).encode(), headers, seconds=self.latency)


def model_error(status: int, message: str) -> Reply:
    """A ModelError: what the container said, and its status."""
    said = (
        f'Received server error ({status}) from primary with message "{message}". See https://eu-central-1.console.aws.amazon.com/'
        f"cloudwatch/home in account {ACCOUNT} for more information."
    )
    arn = f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group:/aws/sagemaker/Endpoints/scores"
    fields = {"ErrorCode": "CLIENT_ERROR_FROM_MODEL" if status < 500 else "SERVER_ERROR_FROM_MODEL", "LogStreamArn": arn}
    body = {**fields, "Message": said, "OriginalMessage": message, "OriginalStatusCode": status}
    return Reply(424, json.dumps(body).encode(), {"x-amzn-errortype": "ModelError"})
