"""Texts that the tests add to a project of Alembic's own template."""

MODELS = """
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
metadata = sa.MetaData()
"""

REVISION = '''"""Manual."""
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg
revision, down_revision = {revision!r}, {previous!r}
def upgrade():
{upgrade}
def downgrade():
    pass
'''

# Replacements in env.py: they add the plugin and the code of a case.
ENV = {
    "target_metadata = None\n": """
import runpy
target_metadata = runpy.run_path(config.attributes["models"])["metadata"]
options = {"target_metadata": target_metadata}
options["autogenerate_plugins"] = ["alembic.autogenerate.*", "alembic_drift"]
exec(config.attributes["env"])
""",
    # One engine for all commands compiles the queries of reflection once.
    "connectable = ": 'connectable = config.attributes["engine"] or ',
    "        target_metadata=target_metadata,\n": "        **options,\n",
    "connection=connection, target_metadata=target_metadata": "connection=connection, **options",
}

# env.py of a project with revisions that can be repeated after a failure.
IDEMPOTENT = """
from alembic.autogenerate.rewriter import Rewriter
from alembic.operations import ops
rewriter = Rewriter()
@rewriter.rewrites(ops.CreateTableOp)
@rewriter.rewrites(ops.CreateIndexOp)
@rewriter.rewrites(ops.AddColumnOp)
def create(_context, _revision, operation):
    operation.if_not_exists = True
    return operation
@rewriter.rewrites(ops.DropTableOp)
@rewriter.rewrites(ops.DropIndexOp)
@rewriter.rewrites(ops.DropColumnOp)
@rewriter.rewrites(ops.DropConstraintOp)
def drop(_context, _revision, operation):
    operation.if_exists = True
    return operation
@rewriter.rewrites(ops.AddConstraintOp)
def add(_context, _revision, operation):
    drop = ops.DropConstraintOp.from_constraint(operation.to_constraint())
    drop.if_exists = True
    return [drop, operation]
options["process_revision_directives"] = rewriter
"""
