"""Which cases of the faults fail as yet: an entry goes as soon as its case does not."""

_CASES = """
03-recorded-database
03-recorded-models
04-boolean-check
04-check
04-one-more-unique
05-check
05-convention-index
05-convention-serial
05-exchanged
05-index
05-serial
05-unique-index
06-domain-with-a-number
06-event-that-asks
06-two-at-once
06-view-over-a-missing-table
"""

FAILING = frozenset(_CASES.split())
