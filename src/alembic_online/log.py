"""The log of the plugin."""

import logging

log = logging.getLogger("alembic.online")
"""Below Alembic's own, which stock templates switch on; they switch off those of others."""
