"""Compare finished runs: quality against bytes and latency."""
