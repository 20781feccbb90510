# %% [markdown]
# # Figure 12: every metric
# Each metric's correlation with log Gflops, with its 95 % interval.

# %%
import matplotlib.pyplot as plt

from analysis import catalogue, statistics_panels, style
from analysis.files import include, save, study_table
from analysis.table import load

# %% tags=["parameters"]
STUDY = "digits"
WIDTH = "page"  # or icml-column, neurips, cvpr, nature: see analysis.style.WIDTHS

# %%
path = study_table(STUDY)
table = load(path)
print(path)

# %%
with style.theme(WIDTH):
    fig, ax = plt.subplots()
    fig.subplots_adjust(left=0.2, top=0.86)  # for the metrics' names and the legend
    statistics_panels.figure_12(table, ax)
    # Edit from here: the axes are yours.
    ax.set_xlim(-1, 1)
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_12")
fig.set_label(catalogue.FIGURES["figure_12"].caption)
print(include("figure_12", fig))
