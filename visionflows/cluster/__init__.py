"""Scoring on a Ray cluster: our shards, records and books; Ray's placement and life of workers.

visionflows score s3://inbox --model pets --store s3://lab/store --on ray://head:10001
"""
