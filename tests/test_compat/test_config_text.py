import pytest
from mmengine.config import Config
from yapf.yapflib import yapf_api

from mmdml.compat.config_text import lay_out_texts_once


def laid_out(monkeypatch, config: Config) -> tuple[str, int]:
    """Text of a config, and how often yapf laid out code for it."""
    calls = []
    layout = yapf_api.FormatTree

    def counted(*args, **kwargs):
        calls.append(args)
        return layout(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(yapf_api, 'FormatTree', counted)
        return config.pretty_text, len(calls)


def test_a_text_is_laid_out_once_and_is_that_of_yapf(monkeypatch):
    config = Config(dict(model=dict(neck=dict(embed_dim=128), unseen='by any other test'), lr=1e-3))
    monkeypatch.setattr(yapf_api, 'FormatCode', getattr(yapf_api.FormatCode, '__wrapped__', yapf_api.FormatCode))
    of_yapf, calls = laid_out(monkeypatch, config)
    assert calls == 1
    lay_out_texts_once()
    lay_out_texts_once()
    assert laid_out(monkeypatch, config) == (of_yapf, 1)
    assert laid_out(monkeypatch, config) == (of_yapf, 0)


@pytest.mark.parametrize('change', [dict(lr=1e-2), {'model.neck.embed_dim': 64}])
def test_a_changed_config_has_a_text_of_its_own(monkeypatch, change):
    config = Config(dict(model=dict(neck=dict(embed_dim=128)), lr=1e-3))
    lay_out_texts_once()
    before, _ = laid_out(monkeypatch, config)
    config.merge_from_dict(change)
    after, _ = laid_out(monkeypatch, config)
    assert after != before and Config.fromstring(after, '.py').to_dict() == config.to_dict()
