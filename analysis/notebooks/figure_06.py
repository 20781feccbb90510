# %% [markdown]
# # Figure 6: the score over training
# One panel by size; `patch=2` draws one by patch.

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
    figures.figure_06(table, ax, size="XL")
    # Edit from here: the axes are yours.
    ax.set_title("The largest models", loc="left")
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_06")
fig.set_label(catalogue.FIGURES["figure_06"].caption)
print(include("figure_06", fig))
