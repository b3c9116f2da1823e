_base_ = ['../_base_/division/cars.py', '../_base_/division/margin_r50.py']
