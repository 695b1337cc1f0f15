"""Prefixes in S3, or in a server with its API, as storage locations.

Only this package knows boto3, obstore or buckets.
"""
