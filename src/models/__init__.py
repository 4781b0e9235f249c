"""The tables of the Nexus proxy and of the voice translation service.

Importing this package registers everything in ``Base.metadata``; it opens no connection.
"""

from models.api_request import ApiRequest
from models.base import Base
from models.conversation_metric import ConversationMetric
from models.hourly_stats import hourly_stats
from models.streaming_chunk import StreamingChunk

__all__ = ["ApiRequest", "Base", "ConversationMetric", "StreamingChunk", "hourly_stats"]
