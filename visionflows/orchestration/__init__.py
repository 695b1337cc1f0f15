"""What knows Prefect and is neither flow nor task: logs, artifacts, events, blocks, progress.

Here belongs how a run shows itself to Prefect; what it does lies in the rooms below. They know no
Prefect, so what reads a block of credentials is handed to them here.
"""

from visionflows.orchestration.blocks import session_of
from visionflows.storage.s3 import client

client.session_of_block = session_of
