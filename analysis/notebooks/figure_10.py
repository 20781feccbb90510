# %% [markdown]
# # Figure 10: what a sampling budget buys
# Protocols that differ in sampling steps alone, of several models: `harness run sampling_compute`
# makes such a study.

# %%
import matplotlib.pyplot as plt

from analysis import catalogue, figures, style
from analysis.files import include, save, study_table
from analysis.table import load

# %% tags=["parameters"]
STUDY = "sampling_compute"
WIDTH = "page"  # or icml-column, neurips, cvpr, nature: see analysis.style.WIDTHS

# %%
path = study_table(STUDY)
table = load(path)
print(path)

# %%
with style.theme(WIDTH):
    fig, ax = plt.subplots()
    figures.figure_10(table, ax)
    # Edit from here: the axes are yours.
    ax.grid(False)
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_10")
fig.set_label(catalogue.FIGURES["figure_10"].caption)
print(include("figure_10", fig))
