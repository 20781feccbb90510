# %% [markdown]
# # Figure 2: size, Gflops and score
# The last score of every model by size; the area of a bubble is its Gflops.

# %%
import matplotlib.pyplot as plt

from analysis import catalogue, figures, style
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
    figures.figure_02_left(table, ax)
    # Edit from here: the axes are yours.
    ax.set_ylim(bottom=0)
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_02")
fig.set_label(catalogue.FIGURES["figure_02"].caption)
print(include("figure_02", fig))
