"""That the server of the tests is faithful: AWS's own client, boto3, signs for it, reads what it says, and makes of its
errors what it makes of the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.aws import ACCESS_KEY, REGION, SECRET_KEY, error
from tests.services.deployed import POISON
from tests.services.http import Server
from tests.services.sagemaker import SageMaker

boto3: Any = pytest.importorskip("boto3")


@pytest.fixture
def service() -> SageMaker:
    return SageMaker()


@pytest.fixture
def client(service: SageMaker) -> Iterator[Any]:
    from botocore.config import Config

    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    with Server(service) as server:
        config = Config(retries={"total_max_attempts": 1})
        client = session.client("sagemaker-runtime", endpoint_url=server.url, config=config)
        yield client
        client.close()


def test_an_answer_is_read_with_the_variant_that_gave_it(client: Any) -> None:
    answer = client.invoke_endpoint(EndpointName="scores", ContentType="text/csv", Body=b"1,2\n3,4\n", TargetVariant="v2")
    assert len(json.load(answer["Body"])["predictions"]) == 2
    assert answer["InvokedProductionVariant"] == "v2"


def test_errors_are_of_the_kinds_that_the_client_knows(client: Any, service: SageMaker) -> None:
    with pytest.raises(client.exceptions.ModelError) as caught:
        client.invoke_endpoint(EndpointName="scores", ContentType="text/csv", Body=f"{POISON}\n".encode())
    assert caught.value.response["OriginalStatusCode"] == 500
    assert caught.value.response["OriginalMessage"].startswith("ValueError")
    with pytest.raises(client.exceptions.ClientError, match=r"ValidationError.*not found"):
        client.invoke_endpoint(EndpointName="gone", ContentType="text/csv", Body=b"1\n")
    service.scripted = [error(530, "InternalDependencyException", "down")]
    with pytest.raises(client.exceptions.InternalDependencyException):
        client.invoke_endpoint(EndpointName="scores", ContentType="text/csv", Body=b"1\n")
