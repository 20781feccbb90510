# %% [markdown]
# # Figure 8: the score follows Gflops
# Every model at the last step that most have reached, with the least-squares line.

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
    figures.figure_08(table, ax)
    # Edit from here: the axes are yours.
    ax.set_title(ax.get_title(loc="left"), loc="left", color="black")
    plt.show()

# %%
# PDF, PNG, SVG and the drawn numbers, and what to paste into a paper.
with style.theme(WIDTH):
    save(fig, "figure_08")
fig.set_label(catalogue.FIGURES["figure_08"].caption)
print(include("figure_08", fig))
