# Slices over 10 epochs in the two stages of the CVPR paper: divided, then fine-tuned on all images at once.
custom_hooks = [dict(type='DivisionHook', divide_until=8, fine_tune_from=8, interval=2)]
