"""``mmdml export``: a model as a file that other engines run."""

from typing import Any

import click

from mmdml.cli.options import debug_option, quiet_loading
from mmdml.utils.progress import bytes_as_text

_EXAMPLE = """\b
Example:
  mmdml export mine.py:epoch_10.pth --out model.onnx
  mmdml embed photos --model model.onnx --out embeddings
"""


@click.command(epilog=_EXAMPLE)
@click.argument('model')
@click.option('--out', required=True, help='File to write: .onnx, .pt2 (torch.export) or .xml (OpenVINO).')
@click.option(
    '--image-size',
    type=click.IntRange(1),
    metavar='SIDE',
    help='Side of pictures that no step of the pipeline resizes.',
)
@click.option('--json', 'as_json', is_flag=True, help='Print the report as JSON.')
@debug_option
def export(**options: Any) -> None:
    """Write MODEL as a file that needs no training code, and compare its embeddings with the model's.

    The graph takes pictures of the model's size as bytes, (batch, height, width, channels), red first, and returns rows
    of length 1: the normalization of pixels and of embeddings is inside, and the learners of a divided embedding are
    merged. Decoding, resizing and cropping stay outside. They are described in the file, and 'mmdml embed' and the
    inferencers follow that description.

    Nothing is written unless every compared embedding has a cosine above 0.9999 to the model's.
    """
    from mmdml.cli.errors import run_command

    run_command(lambda: _export(options))


def _export(options: dict[str, Any]) -> None:
    import json
    import logging
    import warnings
    from dataclasses import asdict

    from mmdml.apis.torch_embedder import TorchEmbedder
    from mmdml.export import export_embedder, preparation_of
    from mmdml.utils.files import prepare_output

    quiet_loading()
    if not options['debug']:
        # What the exporters of torch say about themselves.
        warnings.simplefilter('ignore')
        logging.getLogger('torch').setLevel(logging.ERROR)
    prepare_output(options['out'], ('.onnx', '.pt2', '.xml'))
    embedder = TorchEmbedder(options['model'], device='cpu')
    side = options['image_size']
    preparation = preparation_of(embedder.transforms, None if side is None else (side, side))
    click.echo('Exporting and comparing with torch takes up to a minute ...', err=True)
    report = export_embedder(embedder.model, preparation, options['out'], options['model'], embedder.model_hash)
    if options['as_json']:
        click.echo(
            json.dumps(dict(asdict(report), input=preparation.as_dict(), dimensions=embedder.dimensions), indent=2)
        )
        return
    shape = ', '.join(map(str, preparation.shape))
    click.echo(f'{report.path}: {bytes_as_text(report.size)}, {embedder.dimensions} dimensions')
    click.echo(f'input: images (batch, {shape}) uint8{"" if preparation.gray else ", red first"}')
    steps = '; '.join(f'{name} {_words(options)}' for name, options in preparation.steps) or 'nothing'
    click.echo(f'before it: {steps}')
    click.echo(f'check: {report.compared} embeddings, lowest cosine to torch {report.lowest_cosine:.7f}')
    for size, torch_ms, file_ms in report.latency:
        click.echo(f'batch of {size:2d}: torch {torch_ms:.1f} ms, file {file_ms:.1f} ms, {torch_ms / file_ms:.1f} x')


def _words(options: dict[str, Any]) -> str:
    return ', '.join(f'{name}={value}' for name, value in options.items())
