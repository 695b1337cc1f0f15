"""Buckets: a prefix in S3, or in a server that speaks its language, as a place.

Here belongs all that knows boto3, obstore or a bucket; nothing outside `places` may import it.
"""
