# %% [markdown]
# # Figure 7: samples
# The same noise and labels through every model.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import layout, style
from analysis.samples import load_samples

RESULTS = Path(analysis.__file__).parents[1] / "results"
DATA = RESULTS / "digits_samples.npz"

# %%
# Nothing of this is published, so there is nothing to draw before a study has been trained.
fig = plt.figure()
with style.theme():
    if DATA.exists():
        layout.draw("figure_07", load_samples(DATA), fig)
