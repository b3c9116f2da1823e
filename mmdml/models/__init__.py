"""Everything that computes embeddings and losses."""

from .backbones import *  # noqa: F401, F403
from .distillations import *  # noqa: F401, F403
from .embedders import *  # noqa: F401, F403
from .generators import *  # noqa: F401, F403
from .heads import *  # noqa: F401, F403
from .losses import *  # noqa: F401, F403
from .memories import *  # noqa: F401, F403
from .miners import *  # noqa: F401, F403
from .necks import *  # noqa: F401, F403
from .poolings import *  # noqa: F401, F403
from .spaces import *  # noqa: F401, F403
from .targets import *  # noqa: F401, F403
