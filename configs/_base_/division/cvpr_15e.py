# Slices over 15 epochs: joined from epoch 80 of 200 and fine-tuned from 190 (CVPR release), in proportion.
custom_hooks = [dict(type='DivisionHook', divide_until=6, fine_tune_from=14, interval=2)]
