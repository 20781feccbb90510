# %% [markdown]
# # Figure 8: the score follows Gflops
# Every model at the last step that most have reached, with Pearson on log Gflops.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import layout, style
from analysis.correlation import correlation
from analysis.table import TableError, load, published

RESULTS = Path(analysis.__file__).parents[1] / "results"
TABLE = RESULTS / "digits.csv"
table = load(TABLE) if TABLE.exists() else published()

# %%
# Panels that the table does not allow are left out, with the reason.
fig = plt.figure()
with style.theme():
    try:
        print(*layout.draw("figure_08", table, fig), sep="\n")
    except TableError as reason:
        print(reason)

# %%
correlation(table).round(3)
