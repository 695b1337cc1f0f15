"""Credentials for S3 from a block on the Prefect server, by name; the package is prefect-aws.

    VISIONFLOWS_S3_BLOCK=lab visionflows score s3://inbox/2020 --model pets --output s3://results/1

`lab` is a block of the type AWS Credentials; `minio-credentials/lab` is one of MinIO's. Region and
endpoint in the block win over those of the environment. The secret stays in the process that asked.
"""

import functools
from typing import Any

from visionflows.errors import SettingsError


@functools.lru_cache
def session_of(name: str) -> tuple[Any, str | None]:
    """A boto3 session with the block's credentials, and the endpoint it names or None.

    Raises SettingsError without prefect-aws, without such a block, and without its server.
    """
    said = f"VISIONFLOWS_S3_BLOCK={name}"
    try:
        import prefect_aws  # noqa: F401 (its block types are known from now on)
    except ImportError as error:
        raise SettingsError(
            f"{said}: needs prefect-aws; pip install 'visionflows[aws]', or unset it"
        ) from error
    import httpx
    from prefect.blocks.core import Block

    slug = name if "/" in name else f"aws-credentials/{name}"
    try:
        # Prefect takes _sync and does not say so; the blocks of prefect-aws have no types.
        block: Any = Block.load(slug, _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        raise SettingsError(
            f"{said}: no block {slug} on the Prefect server; `prefect block ls` names those there"
        ) from error
    except (httpx.HTTPError, RuntimeError) as error:
        raise SettingsError(
            f"{said}: the Prefect server does not give it ({type(error).__name__}); check "
            "PREFECT_API_URL"
        ) from error
    if not hasattr(block, "get_boto3_session"):
        raise SettingsError(f"{said}: {slug} holds no AWS credentials; name one that does")
    return block.get_boto3_session(), block.aws_client_parameters.endpoint_url
