"""S3 credentials from a block on the Prefect server; needs the package prefect-aws.

Region and endpoint of the block override those of the environment.
"""

import functools
from typing import Any

import httpx

from visionflows.errors import SettingsError


@functools.lru_cache
def load_session(name: str) -> tuple[Any, str | None]:
    """A boto3 session with the block's credentials, and its endpoint or None.

    `lab` is an AWS Credentials block; `minio-credentials/lab` names one of MinIO's.
    Raises SettingsError if prefect-aws, the block or its server is missing.
    """
    setting = f"VISIONFLOWS_S3_BLOCK={name}"
    try:
        import prefect_aws  # noqa: F401 (registers its block types)
    except ImportError as error:
        raise SettingsError(
            f"{setting}: needs prefect-aws; pip install 'visionflows[aws]', or unset it"
        ) from error
    from prefect.blocks.core import Block

    slug = name if "/" in name else f"aws-credentials/{name}"
    try:
        # Block.load accepts _sync without declaring it; the blocks of prefect-aws have no types.
        block: Any = Block.load(slug, _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        raise SettingsError(
            f"{setting}: no block {slug} on the Prefect server; list them with `prefect block ls`"
        ) from error
    except (httpx.HTTPError, RuntimeError) as error:
        raise SettingsError(
            f"{setting}: the Prefect server did not send it ({type(error).__name__}); check "
            "PREFECT_API_URL"
        ) from error
    if not hasattr(block, "get_boto3_session"):
        raise SettingsError(f"{setting}: {slug} has no AWS credentials; name a block that has")
    return block.get_boto3_session(), block.aws_client_parameters.endpoint_url
