"""What the tests put into a project of Alembic's own template."""

MODELS = """
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
metadata = sa.MetaData()
"""

REVISION = '''"""By hand."""
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg
revision, down_revision = {revision!r}, {previous!r}
def upgrade():
{upgrade}
def downgrade():
    pass
'''

# What the tests put into env.py: the plugin, and in some cases what they are about.
ENV = {
    "target_metadata = None\n": """
import runpy
target_metadata = runpy.run_path(config.attributes["models"])["metadata"]
options = {"target_metadata": target_metadata}
options["autogenerate_plugins"] = ["alembic.autogenerate.*", "alembic_drift"]
exec(config.attributes["env"])
""",
    # SQLAlchemy compiles the queries of reflection once, not in each command.
    "connectable = ": 'connectable = config.attributes["engine"] or ',
    "        target_metadata=target_metadata,\n": "        **options,\n",
    "connection=connection, target_metadata=target_metadata": "connection=connection, **options",
}

# What a project does that wants revisions that can run again after a failure.
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
