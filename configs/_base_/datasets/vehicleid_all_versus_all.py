# PKU VehicleID with every test image searching all others, as the releases of D&C score it; not to be compared with
# figures of the protocol with one gallery image a vehicle.
_base_ = './vehicleid.py'

val_evaluator = dict(metrics=('Recall@K', 'MAP@R', 'RP'), protocol=dict(type='AllVersusAll'))
test_evaluator = dict(metrics=('Recall@K', 'MAP@R', 'RP'), protocol=dict(protocol=dict(type='AllVersusAll')))
