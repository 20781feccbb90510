# %% [markdown]
# # Figure 6: the score over training
# Each panel holds one thing fixed: the patch size above, the model size below.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import analysis
from analysis import layout, style
from analysis import table as tables

RESULTS = Path(analysis.__file__).parents[1] / "results"
TABLE = RESULTS / "digits.csv"
table = tables.load(TABLE) if TABLE.exists() else tables.published()

# %%
# What cannot be drawn from this table is said, and the rest drawn.
fig = plt.figure()
with style.theme():
    try:
        print(*layout.draw("figure_06", table, fig), sep="\n")
    except ValueError as reason:
        print(reason)
