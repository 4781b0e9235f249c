"""``op.backfill``: set columns on the rows that lack them.

In one transaction it is one statement. Online it is many, each over a range of the table and committed by
itself.
"""

MAXIMUM_PASSES = 10
"""Where rows keep coming, it ends all the same."""
