# Warm-up: for 5 epochs only what follows the backbone trains. Use: add this file to the _base_ list.
custom_hooks = [dict(type='FreezeBackboneHook', epochs=5)]
# The backbone's parameters have no gradient meanwhile.
find_unused_parameters = True
