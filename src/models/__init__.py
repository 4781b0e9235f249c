"""The tables of the Nexus proxy and of the voice translation service.

Importing this package registers everything in ``Base.metadata``; it opens no connection. Its name is
``nexus_schema.models``. In the repository it can also be imported as ``models``, which is the same package:
there is one ``Base``, whichever name imports it.
"""

import sys

if __name__ == "models":
    import nexus_schema.models as _package

    # Makes models.… the same modules as nexus_schema.models.…
    for _name, _module in list(sys.modules.items()):
        if _name == _package.__name__ or _name.startswith(f"{_package.__name__}."):
            sys.modules[_name.removeprefix("nexus_schema.")] = _module

from .api_request import ApiRequest
from .base import Base
from .conversation_metric import ConversationMetric
from .hourly_stats import hourly_stats
from .streaming_chunk import StreamingChunk

__all__ = ["ApiRequest", "Base", "ConversationMetric", "StreamingChunk", "hourly_stats"]
