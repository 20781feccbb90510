"""Is the length of a tube a further patch size? DiT on moving digits, sizes by tube lengths.

Three sizes by tubes of 1, 2 and 4 frames, of 4 × 4 pixels each, are trained with one recipe and one
seed on clips of 8 frames. Each is scored by 1,000 clips: by how they move (fid), by their frames
alone (frame_fid), and by the law of motion (motion_error, speed_distance). See docs/video.md.
"""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="video_digits",
    runs=grid(
        Run,
        model=[
            f"digit-video-DiT-{size}/{tube}x4" for size in ("S", "B", "L") for tube in (4, 2, 1)
        ],
        data="moving-digits",
        batch_size=32,
        lr=3e-3,
        label_dropout=0.0,  # nothing here is guided
        ema_decay=0.99,
        precision="fp32",
    ),
    steps=(400, 800),
    protocols=(
        Protocol(
            name="clips1k",
            images=1000,
            sampler="dpm-solver++",
            sampling_steps=10,
            guidance_channels=1,
            decoder="identity",
            features="moving-digits-1",
            reference="moving-digits",
            labels="balanced",
        ),
    ),
)
