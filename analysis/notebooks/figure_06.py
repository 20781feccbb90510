# %% [markdown]
# # Figure 6: the score over training
# Each panel holds one thing fixed: the patch size above, the model size below.

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
        print(*layout.draw("figure_06", table, fig), sep="\n")
    except TableError as reason:
        print(reason)
