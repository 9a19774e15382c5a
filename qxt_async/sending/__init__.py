"""Sending: one batch with its attempts, many batches, batching, retries, the rate limit."""
