# %% [markdown]
# # Figure 10: sampling compute
# Does a small model with more sampling steps catch up with a large one?

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import layout, style
from analysis.table import TableError, load, published

RESULTS = Path(analysis.__file__).parents[1] / "results"
TABLE = RESULTS / "digits.csv"
table = load(TABLE) if TABLE.exists() else published()

# %%
# Panels that the table does not allow are left out, with the reason.
fig = plt.figure()
with style.theme():
    try:
        print(*layout.draw("figure_10", table, fig), sep="\n")
    except TableError as reason:
        print(reason)
