"""tools/embed-page makes one page of its parts and a policy that lets nothing else run, and refuses what would not be that."""
import base64
import hashlib
import pathlib
import re
import subprocess
import sys

import pytest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "embed-page"
PAGE = '<!doctype html>\n<style></style>\n<p>é</p>\n<script type="module"></script>\n'


def embed(folder, page=PAGE, style="p { color: red; }\n", scripts=("const a = 1;\n", "let b = a;\n")):
    """The tool's result, and the C file that it made."""
    names = ["page.html", "style.css", *(f"{n}.js" for n in range(len(scripts)))]
    for name, text in zip(names, (page, style, *scripts)):
        (folder / name).write_text(text, encoding="utf-8")
    made = folder / "page.c"
    result = subprocess.run([sys.executable, TOOL, made, *(folder / name for name in names)], capture_output=True, text=True,
                            timeout=30)
    return result, made.read_text() if made.exists() else None


def bytes_of(made):
    return bytes(map(int, re.findall(r"(\d+),", made)))


def test_the_parts_are_in_the_page_as_they_are_and_in_their_order(tmp_path):
    result, made = embed(tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    page = bytes_of(made).decode()
    assert re.search(r"<style>\s*p \{ color: red; \}\s*</style>", page)
    assert re.search(r'<script type="module">\s*const a = 1;\s*let b = a;\s*</script>', page)
    assert "<p>é</p>" in page


def test_the_policy_has_the_hash_of_what_stands_between_the_tags(tmp_path):
    _, made = embed(tmp_path)
    page = bytes_of(made)
    for tag in (b"style", b"script"):
        text = re.search(rb"<%s[^>]*>(.*)</%s>" % (tag, tag), page, re.DOTALL)[1]
        assert f"{tag.decode()}-src 'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" in made
    assert "default-src 'none'" in made


@pytest.mark.parametrize(("parts", "reason"), [
    ({"page": PAGE.replace("<style></style>", "")}, "the page needs one empty <style></style>"),
    ({"page": PAGE + PAGE}, "the page needs one empty <style></style>"),
    ({"scripts": ["const a = '</script>';\n"]}, "</script> stands in what goes into it"),
    ({"style": "p { content: '</style>'; }\n"}, "</style> stands in what goes into it"),
    ({"scripts": ["// " + 150 * 1024 * "x"]}, "153600 is the limit"),
])
def test_what_would_be_no_such_page_is_refused(tmp_path, parts, reason):
    result, made = embed(tmp_path, **parts)
    assert result.returncode == 1
    assert reason in result.stderr
    assert made is None
