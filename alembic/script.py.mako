<%
    number = context.get("number") or up_revision
    merged = isinstance(down_revision, tuple)
    written = "op." in (upgrades or "")
%>\
"""${message}.

% if merged:
What: merges revisions ${down_revision | comma,n}; changes nothing itself.
Why: they were written in parallel, and the chain must have one head.
% else:
What: TODO - the tables, columns and indexes that change, and the rows that a backfill changes.
Why: TODO - who needs it. Also say what the downgrade cannot restore.
% endif

Revision ID: ${number}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from nexus_schema.revisions import refuse_data_loss, verify
% if imports:
${imports}
% endif

revision: str = "${number}"
down_revision: str ${"| Sequence[str] " if merged else ""}| None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    """Upgrade to ${number}${"." if merged or written else "; end it with verify(...)."}"""
% if upgrades:
    ${upgrades}
% endif


def downgrade() -> None:
    """Downgrade from ${number}${"." if merged or written else "; begin it with refuse_data_loss(...) where rows or values would be lost."}"""
% if downgrades:
    ${downgrades}
% endif
