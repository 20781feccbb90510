"""Networks: MODELS, every model by its name; a row answers for itself."""

from __future__ import annotations

from harness.models.diffit_rows import DIFFITS
from harness.models.dit_rows import CONDITIONINGS, DITS
from harness.models.free_sizes import Models, free_name
from harness.models.mdt_rows import MDTS
from harness.models.rows import Counts, Model, Setting
from harness.models.unet_rows import U_NETS
from harness.models.uvit_rows import U_VITS
from harness.models.video_rows import VIDEO_DITS

__all__ = ["CONDITIONINGS", "MODELS", "Counts", "Model", "Setting", "free_name"]

# A table: another family is its file and its rows. DiT of any size is found beside them.
MODELS = Models({**DITS, **U_VITS, **DIFFITS, **MDTS, **U_NETS, **VIDEO_DITS})
