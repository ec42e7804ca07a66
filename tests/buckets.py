"""A server of S3's interface, in a thread, with one bucket."""

import contextlib
from collections.abc import Iterator

import boto3  # type: ignore[import-untyped]
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
RUNS = "s3://bucket/of/runs"


@contextlib.contextmanager
def served(address: str) -> Iterator[dict[str, str]]:
    """The environment of those who may use the bucket of `RUNS`, at an address of this machine."""
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    try:
        url = f"http://{address}:{server.get_host_and_port()[1]}"
        region, (key, secret) = KEYS["AWS_DEFAULT_REGION"], list(KEYS.values())[:2]
        client = boto3.client(
            "s3", endpoint_url=url, region_name=region, aws_access_key_id=key, aws_secret_access_key=secret
        )
        client.create_bucket(Bucket="bucket")
        yield {**KEYS, "AWS_ENDPOINT_URL": url}
    finally:
        server.stop()
