# %% [markdown]
# # Figure 5: the four conditionings
# The score over training steps for each way of telling the network the time step and the label.

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
        print(*layout.draw("figure_05", table, fig), sep="\n")
    except TableError as reason:
        print(reason)
