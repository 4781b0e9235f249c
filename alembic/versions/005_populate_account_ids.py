"""The account that pays for a request.

What: column account_id of api_requests, filled from the domain where it is null; one partial index.
Why: limits are per account, and dashboards sum the tokens of one account over the last hours. Requests of a
domain without an account stay NULL. Another deployment can give its own mapping: -x account_domains=FILE or
ACCOUNT_DOMAINS_FILE. The downgrade is refused while a request has another account than its domain's.

Revision ID: 005
Revises: 004
Create Date: 2026-11-22
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op

from alembic_online import backfill
from nexus_schema.legacy import drop_served_indexes
from nexus_schema.options import Options
from nexus_schema.revisions import refuse_data_loss, verify

revision: str = "005"
down_revision: str | None = "004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

DOMAINS = {
    "claude-1": ["claude-1.msldev.io", "localhost:3000", "localhost:3001"],
    "claude-2": ["claude-prividium.msldev.io", "claude-ai-nexus.msldev.io", "claude-2.msldev.io"],
    "claude-3": ["claude-kluster.msldev.io", "claude-reviews.msldev.io", "claude-3.msldev.io"],
    "claude-4": ["claude-tanssi.msldev.io", "claude-datahaven.msldev.io", "claude-4.msldev.io"],
    "claude-5": ["claude-moonbeam.msldev.io", "claude-5.msldev.io"],
}
ACCOUNT_OF = {domain: account for account, domains in DOMAINS.items() for domain in domains}


def account_of_domain() -> Mapping[str, str]:
    """Return the account of each domain: the operator's mapping, or the built-in one."""
    given = Options.current().account_domains
    return ACCOUNT_OF if given is None else given


def account_id_column() -> "sa.Column[object]":
    """Return a new column object."""
    return sa.Column("account_id", sa.String(255), comment="Account that pays for the request")


def upgrade() -> None:
    """Add the column, fill it, then build the index."""
    op.add_column("api_requests", account_id_column(), if_not_exists=True)
    mapping = account_of_domain()
    if mapping:
        requests = sa.table("api_requests", sa.column("domain", sa.String), sa.column("account_id"))
        known = sa.values(
            sa.column("domain", sa.String), sa.column("account_id", sa.String), name="known"
        ).data(list(mapping.items()))
        backfill(
            sa.update(requests)
            .values(account_id=known.c.account_id)
            .where(requests.c.account_id.is_(None), requests.c.domain == known.c.domain),
            what="requests given the account of their domain",
        )
    op.create_index(
        "idx_requests_account_timestamp",
        "api_requests",
        ["account_id", sa.text("timestamp DESC")],
        postgresql_where=sa.text("account_id IS NOT NULL"),
        if_not_exists=True,
    )
    drop_served_indexes(revision)
    # Sampling all columns would mostly unpack JSON.
    op.execute("ANALYZE api_requests (account_id, domain, timestamp)")
    verify("api_requests", columns=[account_id_column()], indexes=["idx_requests_account_timestamp"])


def downgrade() -> None:
    """Drop the column unless it contains an account that the upgrade would not restore."""
    known = ", ".join(
        ["(NULL, NULL)"]
        + [f"({_literal(domain)}, {_literal(account)})" for domain, account in account_of_domain().items()]
    )
    refuse_data_loss(
        "api_requests",
        "requests with another account than that of their domain",
        f"FROM api_requests LEFT JOIN (VALUES {known}) AS known (domain, account) USING (domain)"
        " WHERE account_id IS NOT NULL AND account_id IS DISTINCT FROM account",
    )
    op.drop_column("api_requests", "account_id", if_exists=True)


def _literal(value: str) -> str:
    # A colon before a word would be read as a parameter.
    return "'" + value.replace("'", "''").replace(":", r"\:") + "'"
