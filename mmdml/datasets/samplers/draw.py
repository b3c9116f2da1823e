"""A data-set index that remembers how often its image was drawn before in the same epoch."""


class Draw(int):
    """The index of an image that the epoch has already used: behaves as the int, and asks for another augmentation.

    A data set that seeds its augmentation from (seed, epoch, index) would return the same picture again; with
    ``repeat`` in the seed it does not.

    Args:
        index: data-set index.
        repeat: how many times this epoch drew the image before, 1 or more.
    """

    repeat: int

    def __new__(cls, index: int, repeat: int) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.repeat = int(repeat)
        return draw

    def __reduce__(self) -> tuple:
        # int's own pickling calls Draw(index) without the repeat; worker processes receive indices by pickle.
        return Draw, (int(self), self.repeat)

    def __repr__(self) -> str:
        return f'Draw({int(self)}, repeat={self.repeat})'
