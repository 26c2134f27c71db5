"""Shares a batch among workers so that the result does not depend on how many there are.

- `sharding.py`: deals a batch into shards and gathers the results
- `fsdp.py`: weights sharded among workers (FSDP2)
- `reduction.py`: sums and clips gradients
"""
