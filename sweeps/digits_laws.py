"""How should compute be spent on the embedded digits? Runs of equal compute, by size.

Four budgets of training operations, five widths at each, within a factor of four of the best size,
two seeds: `harness isoflop` made the steps. Depth and head are fixed, so that the widths are one
family, and the loss is that of images which no run was trained on. A run serves all budgets that
it reaches: the learning rate is constant, and the average over weights as long as a tenth of the
steps taken (docs/laws.md). The recipe was found on another seed. Two runs at four times the largest
budget were forecast before they were trained.
"""

from harness.spec import Protocol, Run, Sweep, Validation

# Steps that spend 5e10, 1e11, 2e11 and 4e11 operations at a batch of 64.
STEPS = {
    "digit-DiT-w8-d2-h8/2": (3308, 6616),
    "digit-DiT-w16-d2-h8/2": (1003, 2006, 4013, 8026),
    "digit-DiT-w24-d2-h8/2": (480, 960, 1920, 3840),
    "digit-DiT-w32-d2-h8/2": (281, 561, 1123, 2246),
    "digit-DiT-w48-d2-h8/2": (130, 260, 520, 1039),
    "digit-DiT-w64-d2-h8/2": (298, 597),
}
# The same of 1.6e12, held out: results/forecasts was written before these were trained.
FORECAST = {"digit-DiT-w48-d2-h8/2": (4157,), "digit-DiT-w96-d2-h8/2": (1083,)}


def run(model: str, seed: int) -> Run:
    return Run(
        model=model,
        data="digits8-split",
        objective="flow",
        batch_size=64,
        lr=6e-3,
        label_dropout=0.0,  # nothing here is guided
        ema="power-0.1",
        precision="fp32",
        seed=seed,
    )


SWEEP = Sweep(
    name="digits_laws",
    trained={
        **{run(model, seed): steps for seed in (0, 1) for model, steps in STEPS.items()},
        **{run(model, 0): STEPS.get(model, ()) + steps for model, steps in FORECAST.items()},
    },
    protocols=(
        Validation(name="val16k", points=16_384),
        Protocol(
            name="digits1k",
            images=1000,
            sampler="heun",
            sampling_steps=10,
            guidance_channels=1,
            decoder="identity",
            features="digits-cnn-1",
            reference="digits",
            labels="balanced",
        ),
    ),
)
