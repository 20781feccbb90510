# %% [markdown]
# # Figure 5: the ways of conditioning
# One model, conditioned in several ways. The paper prints only the last step, so that there are
# points and no curves.

# %%
import matplotlib.pyplot as plt

from analysis import catalogue, figures, style
from analysis.files import include, save, study_table
from analysis.table import load

# %% tags=["parameters"]
STUDY = "peebles2023"
WIDTH = "page"  # or icml-column, neurips, cvpr, nature: see analysis.style.WIDTHS

# %%
path = study_table(STUDY)
table = load(path)
print(path)

# %%
with style.theme(WIDTH):
    fig, ax = plt.subplots()
    figures.figure_05(table, ax)
    # Edit from here: the axes are yours.
    ax.set_ylim(bottom=15)
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_05")
fig.set_label(catalogue.FIGURES["figure_05"].caption)
print(include("figure_05", fig))
