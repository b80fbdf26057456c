"""For PYTHONPATH: an interpreter as where torch is not installed. Zygotes of ranks import it otherwise, for seconds."""

import sys

sys.modules["torch"] = None  # type: ignore[assignment]
