"""${message}.

What: TODO - the tables, columns and indexes that change, and the rows a backfill touches.
Why: TODO - who needs it. Say also what the downgrade cannot bring back.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op
from nexus_schema.revisions import refuse_data_loss, verify
${imports if imports else ""}

revision: str = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    """Upgrade to ${up_revision}; end it with verify(...)."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Downgrade from ${up_revision}; begin it with refuse_data_loss(...) where rows or values would go."""
    ${downgrades if downgrades else "pass"}
