"""``op.backfill``: set columns on the rows that lack them.

In one transaction it is one statement. Online it runs in batches: each updates a range of the table and
commits.
"""

MAXIMUM_PASSES = 10
"""A backfill ends after so many passes, even if new rows keep arriving."""
