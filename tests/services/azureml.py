"""A server that answers as an online endpoint of Azure Machine Learning does: its gateway's errors and headers, and behind
it a model of deployed.py. The service's own client builds and deploys endpoints; it is not used here."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from tests.services.deployed import ModelFailed, answer_of
from tests.services.http import Asked, Reply

KEY = "azml-endpoint-key-55e1c0"
DEPLOYMENTS = ("blue", "green")


@dataclass
class AzureML:
    """The service; the first part of the path names the model. `scripted` are replies for the next requests, None for one
    that is answered."""

    latency: float = 0.0
    most_rows: int = 1_000_000
    scripted: list[Reply | None] = field(default_factory=list)
    deployments: Counter[str] = field(default_factory=Counter)

    async def __call__(self, asked: Asked) -> Reply:
        if self.scripted and (scripted := self.scripted.pop(0)) is not None:
            return scripted
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            return plain(401, "key_auth_access_denied", **{"www-authenticate": "Bearer"})
        deployment = asked.headers.get("azureml-model-deployment", DEPLOYMENTS[0])
        if deployment not in DEPLOYMENTS:
            return plain(404, "The specified deployment could not be found.")
        match asked.path.split("/"):
            case ["", model, "score"]:
                self.deployments[deployment] += 1
                return self._score(model, asked)
            case _:
                return plain(404, "not found")

    def _score(self, model: str, asked: Asked) -> Reply:
        try:
            answer = answer_of(model, asked.headers["content-type"], asked.body)
        except ModelFailed as failed:
            return model_error(failed.status, failed.message)
        headers = {"x-ms-server-version": "azmlinfsrv/1.4", "azureml-model-deployment": "blue"}
        return Reply(200, json.dumps(answer).encode(), headers, seconds=self.latency)


def plain(status: int, message: str, **headers: str) -> Reply:
    """An error of the gateway."""
    body = {"error": {"code": "UserError", "message": message}}
    return Reply(status, json.dumps(body).encode(), headers)


def model_error(status: int, message: str) -> Reply:
    """What the gateway makes of anything but a 200 of the container."""
    headers = {"ms-azureml-model-error-statuscode": str(status), "ms-azureml-model-error-reason": "model_error"}
    return Reply(424, message.encode(), {**headers, "content-type": "text/plain"})
