# %% [markdown]
# # Figure 13: training loss
# Every point is a local line through a tenth of its curve.

# %%
import matplotlib.pyplot as plt

from analysis import catalogue, loss, style
from analysis.files import include, save, study_table
from analysis.log import load_log

# %% tags=["parameters"]
STUDY = "digits"
WIDTH = "page"  # or icml-column, neurips, cvpr, nature: see analysis.style.WIDTHS

# %%
path = study_table(f"{STUDY}_log")
log = load_log(path)
print(path)

# %%
with style.theme(WIDTH):
    fig, ax = plt.subplots()
    loss.figure_13(log, ax, size="XL")
    # Edit from here: the axes are yours.
    ax.set_ylabel("Training loss (noise)")
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_13")
fig.set_label(catalogue.FIGURES["figure_13"].caption)
print(include("figure_13", fig))
