# %% [markdown]
# # Figure 7: samples
# The same noise and labels through every model, pixel for pixel.

# %%
import matplotlib.pyplot as plt

from analysis import layout, style
from analysis.files import include, save, study_table
from analysis.samples import check_samples, load_samples
from analysis.table import load

# %% tags=["parameters"]
STUDY = "digits"
WIDTH = "page"  # or icml-column, neurips, cvpr, nature: see analysis.style.WIDTHS

# %%
path = study_table(STUDY)
samples = check_samples(load_samples(path.with_name(f"{STUDY}_samples.npz")), load(path))
print(path)

# %%
with style.theme(WIDTH):
    fig = plt.figure()
    layout.draw("figure_07", samples, fig)
    # Edit from here: the axes are yours.
    fig.axes[0].set_xlabel("Class")
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_07")
print(include("figure_07", fig))
