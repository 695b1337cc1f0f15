"""The flows, and the command line over them.

`tasks` know no Prefect, so what reads a block of credentials is handed to them here.
"""

from flows.aws_block import session_of
from tasks import s3_client

s3_client.session_of_block = session_of
