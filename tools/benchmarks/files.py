"""What the servers of a benchmark serve: the same files for all, made from a fixed seed."""

import gzip
import itertools
import os
import random
import zlib

# All files are of one date, so that one If-Modified-Since is right for all of them at every server.
MTIME = 1767225600
LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"

SMALL = "/app.js"
LARGE, LARGE_BYTES = "/big.bin", 1_000_000

# The mixture: paths of each size, and the share of each kind of request.
SMALL_PATHS, BIG_PATHS, BIG_BYTES = 9500, 500, 50_000
SHARES = {"304": 0.60, "small": 0.35, "big": 0.05}
REQUESTS = 40_000  # of a list, which is asked from its beginning again


class Site:
    """A directory for cloudia and one for its peers: `texts` has what each path is before compression."""

    def __init__(self, folder):
        self.data, self.peers, self.texts = folder / "data", folder / "site", {}
        for place in (self.data, self.peers):
            place.mkdir(parents=True)

    def add(self, path, text, packed=None, shared=False):
        """`packed` is a gzip'd copy for the peers; cloudia makes its own, unless it is `shared`."""
        self.texts[path] = text
        for place in (self.data, self.peers):
            write(place / path[1:], text)
            if packed and (shared or place == self.peers):
                write(place / (path[1:] + ".gz"), packed)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    # nginx and h2o date the compressed copy, cloudia the file.
    os.utime(path, (MTIME, MTIME))


def pack(text, level=9):
    return gzip.compress(text, level, mtime=0)


def small(folder):
    """One file: about 2 KB of JavaScript that deflate brings to 600 bytes."""
    site = Site(folder)
    text = script(random.Random(1), 31)
    site.add(SMALL, text, pack(text))
    return site


def large(folder):
    """One file that nothing compresses."""
    site = Site(folder)
    site.add(LARGE, random.Random(2).randbytes(LARGE_BYTES))
    return site


def mixed(folder, share=1.0):
    """Thousands of files, most of them small, some of 50 KB when compressed; cloudia takes the peers' compressed copies."""
    site, dice = Site(folder), random.Random(3)
    for number in range(int(SMALL_PATHS * share)):
        text = script(dice, dice.randrange(10, 70))
        site.add(f"/s{number % 100:02}/{number}.js", text, pack(text), shared=True)
    for number in range(int(BIG_PATHS * share)):
        # Random hexadecimal digits: deflate finds half a byte in each, and hardly more.
        text = dice.randbytes(int(BIG_BYTES * 0.88)).hex().encode()
        site.add(f"/b/{number}.js", text, pack(text, 1), shared=True)
    return site


def script(dice, lines):
    """JavaScript that deflate brings to some 20 bytes a line."""
    words = "price quote volume change ticker render update cache poll timer chart open close".split()
    text = ['"use strict";\n']
    for _ in range(lines):
        a, b, c = dice.sample(words, 3)
        factor = dice.randrange(10**5, 10**8) / 1000
        text.append(f"function {a}{b.title()}(now) {{ return now.{c} * {factor} + {a}; }}\n")
    return "".join(text).encode()


def many(folder, count):
    """So many files of 10 kB with a compressed copy beside each: all different, made quickly.

    Compressed are only some texts. Each file is one of them behind a line of its own, which its copy holds stored; a checksum
    of both is made from that of the line.
    """
    dice, texts = random.Random(4), []
    for _ in range(97):
        text = b"".join(
            b'var hq_str_s_sz%06d="name%d,%.2f,%d";\n' % (dice.randrange(10**6), dice.randrange(500), dice.random() * 90, dice.randrange(10**6))
            for _ in range(225)
        )
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        texts.append((text, packer.compress(text) + packer.flush()))
    for number, (text, stream) in zip(range(count), itertools.cycle(texts)):
        line = b"// %09d\n" % number
        stored = b"\x00" + len(line).to_bytes(2, "little") + (len(line) ^ 0xFFFF).to_bytes(2, "little") + line
        check = zlib.crc32(text, zlib.crc32(line)).to_bytes(4, "little")
        size = (len(line) + len(text)).to_bytes(4, "little")
        path = folder / f"d{number % 317:03}" / f"f{number}.js"
        if number < 317:
            path.parent.mkdir(parents=True)
        for place, content in (
            (path, line + text),
            (path.with_name(path.name + ".gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + stored + stream + check + size),
        ):
            place.write_bytes(content)
    # What is asked for is old enough to have a Last-Modified.
    for made in (path, path.with_name(path.name + ".gz")):
        os.utime(made, (MTIME, MTIME))
    return path, line + text


def requests(site, seed=5, count=REQUESTS):
    """A list of what is asked for: kinds by their shares, paths by Zipf's law, the n-th as often as 1/n."""
    dice = random.Random(seed)
    paths = {"small": [p for p in site.texts if p.startswith("/s")], "big": [p for p in site.texts if p.startswith("/b")]}
    weights = {kind: list(itertools.accumulate(1 / (rank + 1) for rank in range(len(paths[kind])))) for kind in paths}
    for kind in paths:
        dice.shuffle(paths[kind])
    asked = []
    for kind in dice.choices(list(SHARES), list(SHARES.values()), k=count):
        group = "small" if kind == "304" else kind
        path = dice.choices(paths[group], cum_weights=weights[group])[0]
        asked.append((path, {"If-Modified-Since": LAST_MODIFIED} if kind == "304" else {}))
    return asked


def write_requests(path, asked):
    """A request a line, as tools/crowd and requests.lua read them: the path, then its header lines, parted by tabs."""
    lines = ("\t".join([target, *(f"{key}: {value}" for key, value in fields.items())]) for target, fields in asked)
    path.write_text("\n".join(lines) + "\n")
