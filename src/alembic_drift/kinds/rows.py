"""For a DO block that counts, reads or changes the rows of a table: it sees all rows, or raises an error.

FORCE ROW LEVEL SECURITY hides rows even from the owner of a table. A block that does not see them would
lose their values. With row_security off, as in pg_dump, the server raises an error instead.
"""

ALL_ROWS_DECLARED = "row_security_before text := current_setting('row_security')"
"""Declares the variable that :data:`ROWS_AS_BEFORE` needs."""

ALL_ROWS = "PERFORM set_config('row_security', 'off', true);"
"""From here on, a policy that would hide rows is an error."""

ROWS_AS_BEFORE = "PERFORM set_config('row_security', row_security_before, true);"
"""Restores the setting."""
