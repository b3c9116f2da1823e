_base_ = ['../_base_/division/sop.py', '../_base_/division/margin_r50.py']
