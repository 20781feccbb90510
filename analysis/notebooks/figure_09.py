# %% [markdown]
# # Figure 9: what a training budget buys
# The score over training compute; thick grey is the frontier.

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
    figures.figure_09(table, ax)
    # Edit from here: the axes are yours.
    ax.grid(False)
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_09")
fig.set_label(catalogue.FIGURES["figure_09"].caption)
print(include("figure_09", fig))
