# Slices over 10 epochs: joined from epoch 80 of 200 and fine-tuned from 190 (CVPR release), in proportion.
custom_hooks = [dict(type='DivisionHook', divide_until=4, fine_tune_from=9, interval=2)]
