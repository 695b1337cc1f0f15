"""What knows Prefect and is neither flow nor task: logs, artifacts, events, blocks, progress."""

from visionflows.orchestration.blocks import load_session
from visionflows.storage.s3 import client

client.session_of_block = load_session  # storage does not import Prefect
