"""Write the table of published files into docs/weights.md: python docs/refresh_weights.py."""

from pathlib import Path

from hrformer_mmpose.checkpoint import download, published

PAGE = Path(__file__).with_name('weights.md')
BEGIN = '<!-- python docs/refresh_weights.py writes the table. -->\n'
END = '\n## Files of the authors'


def table() -> str:
    """Return the table in Markdown."""
    lines = ['| checkpoint | AP / AP50 / AP75 / AR / AR50 | SHA-256 | file |', '|---|---|---|---|']
    for name, file in published.FILES.items():
        results = ' / '.join(f'{100 * x:.1f}' for x in file.results) or 'ImageNet backbone'
        digits = download.name_hash(file.path)
        lines.append(
            f'| `{published.SCHEME}{name}` | {results} | {digits}... | '
            f'[{file.path.rsplit("/", 1)[-1]}]({file.address}) |'
        )
    return '\n'.join(lines) + '\n'


def refreshed(text: str) -> str:
    """Return the page with the current table."""
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + '\n' + table() + END + rest.partition(END)[2]


if __name__ == '__main__':
    PAGE.write_text(refreshed(PAGE.read_text(encoding='utf-8')), encoding='utf-8')
