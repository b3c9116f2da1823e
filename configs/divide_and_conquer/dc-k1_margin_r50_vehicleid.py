_base_ = ['../_base_/division/vehicleid.py', '../_base_/division/margin_r50.py']
