# %% [markdown]
# # Figure 9: training compute
# Gflops · batch · steps · 3: which model makes the most of a budget.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import laws, layout, style
from analysis.table import TableError, load, published

RESULTS = Path(analysis.__file__).parents[1] / "results"
TABLE = RESULTS / "digits.csv"
table = load(TABLE) if TABLE.exists() else published()

# %%
# Panels that the table does not allow are left out, with the reason.
fig = plt.figure()
with style.theme():
    try:
        print(*layout.draw("figure_09", table, fig), sep="\n")
    except TableError as reason:
        print(reason)

# %%
laws.frontier(table)
