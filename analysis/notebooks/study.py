# %% [markdown]
# # The whole study
# From one table to what it says.

# %%
import matplotlib.pyplot as plt

from analysis import comparison, comparison_text, fits, laws, layout, prediction, sentences, style
from analysis.correlation import correlation
from analysis.files import study_table
from analysis.grid import final
from analysis.table import load, published

# %% tags=["parameters"]
STUDY = "digits"
WIDTH = "page"  # or icml-column, neurips, cvpr, nature: see analysis.style.WIDTHS

# %%
path = study_table(STUDY)
paper, table = published(), load(path)
print(path, *table.attrs["problems"], sep="\n")

# %% [markdown]
# ## The models at the last step

# %%
final(table).round(4)

# %% [markdown]
# ## Does the score follow compute?
# Pearson is on log10 Gflops, as the paper's -0.93 is. The interval is Fisher's z over models.

# %%
with style.theme(WIDTH):
    layout.overview(table, paper, plt.figure(), ("This study", "Published"))
    plt.show()

# %%
correlation(table).round(3)

# %% [markdown]
# ## By how much?
# One exponent in Gflops, exponents by patch, and the law in parameters and tokens.

# %%
fits.slopes_by_patch(table).round(3)

# %%
fits.exponents(table).round(3)

# %% [markdown]
# A floor is fitted only to see whether the points determine one.

# %%
laws.power_law(table).round(3)

# %%
laws.power_law(table, floor=True).round(3)

# %% [markdown]
# ## What would it have said of the largest model, before that was trained?

# %%
prediction.predict(table, final(table)["model"].iloc[-1]).round(3)

# %%
prediction.leave_one_out(table).groupby("law")[["prediction", "truth"]].apply(prediction.mean_error)

# %% [markdown]
# ## Where does the next unit of compute go?

# %%
laws.frontier(table)

# %% [markdown]
# ## Against the published study, and in sentences

# %%
comparison.compare(table, paper)

# %%
missing: list[str] = []
print(
    *comparison_text.comparison_sentences(table, paper),
    *sentences.findings(table, missing),
    "Missing:",
    *missing,
    sep="\n",
)
