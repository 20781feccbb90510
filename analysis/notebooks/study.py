# %% [markdown]
# # The whole study
# From one table to what it says. Set `TABLE` to another study's table to read that one instead.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import comparison, fits, laws, layout, style, tables, words

TABLE = Path(analysis.__file__).parents[1] / "results" / "digits.csv"
paper = tables.published()
table = tables.load(TABLE) if TABLE.exists() else paper
table.attrs["problems"]

# %% [markdown]
# ## The models at the last step

# %%
tables.final(table)

# %% [markdown]
# ## Does the score follow compute?
# Pearson is on log10 Gflops, as the paper's -0.93 is. The interval is BCa over models; `size_low` and `size_high` draw
# whole sizes, because models of one size are not independent.

# %%
fig = plt.figure()
with style.theme():
    layout.overview(table, paper, fig, ("This study", "Published"))

# %%
fits.correlation(table).round(3)

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
print(laws.statement(laws.power_law(table)))
print(laws.statement(laws.power_law(table, floor=True)))

# %% [markdown]
# ## What would it have said of the largest model, before that was trained?

# %%
fits.predict(table, tables.final(table)["model"].iloc[-1]).round(3)

# %%
loo = fits.leave_one_out(table)
loo["error"].abs().groupby(loo["law"]).mean()

# %% [markdown]
# ## Where does the next unit of compute go?

# %%
laws.frontier(table)

# %%
laws.isoflop(table)

# %% [markdown]
# ## Against the published study, and in sentences

# %%
comparison.compare(table, paper)

# %%
missing: list[str] = []
print(
    *comparison.in_words(table, paper),
    *words.statistics(table, missing),
    "Not said:",
    *missing,
    sep="\n",
)
