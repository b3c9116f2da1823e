"""Lay PKU VehicleID out for ``VehicleID``.

    python tools/dataset_converters/prepare_vehicleid.py VehicleID_V1.0.zip data/VehicleID_V1.0

The authors send the archive on request, so nothing is downloaded here. No checksum is known for certain.
"""

from _recipe import OfficialFile, Recipe, main

RECIPE = Recipe(
    dataset='VehicleID',
    page='https://www.pkuml.org/resources/pku-vehicleid.html',
    note='on request',
    files=(OfficialFile('VehicleID_V1.0.zip', folder='VehicleID_V1.0'),),
    target='data/VehicleID_V1.0',
)

if __name__ == '__main__':
    main(RECIPE)
