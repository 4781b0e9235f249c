"""The rows of a table for a DO block that counts, reads or changes them: all of them, or an error.

FORCE ROW LEVEL SECURITY hides rows from the owner of a table too; what was concluded from the others would
lose what they have. So the server is asked for an error instead, as pg_dump does.
"""

ALL_ROWS_DECLARED = "row_security_before text := current_setting('row_security')"
"""The variable that the others need."""

ALL_ROWS = "PERFORM set_config('row_security', 'off', true);"
"""From here on, a policy that would hide rows is an error."""

ROWS_AS_BEFORE = "PERFORM set_config('row_security', row_security_before, true);"
"""From here on, all is as before."""
