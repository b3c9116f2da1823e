"""Names of files and classes, as text that can be printed and drawn."""


def printable(name: object) -> str:
    r"""Return a name as text that every stream takes: what is no UTF-8 or no printable character is escaped.

    File names are bytes on Linux; Python keeps those that are no UTF-8 as lone surrogates, which neither a log file nor
    OpenCV can take.

    Args:
        name: path, class name or other text; other objects by their ``str``.

    Example:
        >>> printable('caf\udce9/two\nlines')
        'caf\\xe9/two\\nlines'
    """
    return ''.join(each if each.isprintable() else _escape(each) for each in str(name))


def _escape(character: str) -> str:
    # A byte that is no UTF-8, as os.fsdecode keeps it.
    if '\udc80' <= character <= '\udcff':
        return f'\\x{ord(character) - 0xDC00:02x}'
    return character.encode('unicode_escape', 'surrogatepass').decode('ascii')
