"""The log of the plugin."""

import logging

log = logging.getLogger("alembic.online")
"""A child of Alembic's own logger: stock templates enable that one and disable others."""
