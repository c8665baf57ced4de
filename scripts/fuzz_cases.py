"""Requests that no honest client sends, each of which follows from a seed and its number."""

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

KINDS = {
    "mutated picture": 40,
    "bomb": 6,
    "json": 18,
    "multipart": 8,
    "headers": 10,
    "paths": 8,
    "cut": 6,
    "slow": 1,
    "inference protocol": 3,
}
"""With their weights."""
TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "NPY": "application/x-npy",
}
ODD_TEXTS = (
    *(
        "",
        "\x00",
        "../../../etc/passwd",
        "%s%n",
        "\ud800",
        "🐶" * 50,
        "a" * 5000,
        "NaN",
        "null",
        "<script>alert(1)</script>",
    ),
    *("s3://bucket/key", "s3://", "file:///etc/passwd", "http://127.0.0.1:1/x", "data:image/png;base64,", "data:,"),
)
DEEPEST = 20_000
"""Brackets of nested JSON: more than a recursive reader bears."""


@dataclass(frozen=True)
class Case:
    """A request as bytes, and how it is sent."""

    kind: str
    raw: bytes
    is_whole: bool = True
    """Whether it is right by HTTP, so that it must be answered."""
    pieces: Sequence[tuple[float, int]] = field(default=())
    """Seconds to wait, and then so many bytes more; what is left is never sent. Empty: all at once."""


def make_case(seed: int, number: int) -> Case:
    """The same for the same seed and number."""
    draws = random.Random(f"{seed} {number}")
    kind = draws.choices(list(KINDS), list(KINDS.values()))[0]
    return MAKERS[kind](draws)


def http(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    told = {"host": "127.0.0.1", "content-length": str(len(body)), "connection": "close"}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return head.encode("utf-8", "surrogateescape") + b"\r\n" + body


# Pictures


def picture(draws: random.Random) -> tuple[str, bytes]:
    """A format and an honest picture of it, of any mode."""
    kind = draws.choice(list(TYPES))
    size = (draws.randint(1, 80), draws.randint(1, 80))
    values = np.random.default_rng(draws.getrandbits(32))
    buffer = io.BytesIO()
    if kind == "NPY":
        dtype = draws.choice(["uint8", "uint16", "int16", "float32", "float64", "bool", "complex64"])
        shapes = (size, (*size, 1), (*size, 3), (*size, 4), (*size, 4), (*size, 2, 2), (size[0],), ())
        shape = draws.choice(shapes)
        np.save(buffer, (values.random(shape) * 255).astype(dtype))
        return kind, buffer.getvalue()
    modes = {"JPEG": ("RGB", "L", "CMYK"), "WEBP": ("RGB", "RGBA"), "BMP": ("RGB", "L", "1")}
    mode = draws.choice(modes.get(kind, ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")))
    if mode == "I;16":
        image = Image.fromarray(values.integers(0, 65536, size[::-1], np.uint16))
    else:
        image = Image.fromarray(values.integers(0, 256, (*size[::-1], 3), np.uint8)).convert(mode)
    more: dict[str, object] = {}
    if kind == "TIFF":
        more["compression"] = draws.choice(["raw", "tiff_lzw", "tiff_deflate", "packbits"])
        if mode == "LA":
            image = image.convert("L")
    if kind in ("TIFF", "WEBP") and draws.random() < 0.2:
        more |= {"save_all": True, "append_images": [image.copy() for _ in range(draws.randint(1, 20))]}
    if kind in ("JPEG", "PNG") and draws.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = draws.choice([1, 3, 6, 8])
        more["exif"] = exif
    image.save(buffer, kind, **more)
    return kind, buffer.getvalue()


def mutate(draws: random.Random, content: bytes) -> bytes:
    """Bits turned, bytes cut, repeated, moved, or replaced by telling numbers."""
    data = bytearray(content)
    for _ in range(draws.choice([1, 1, 2, 5, 20])):
        if not data:
            break
        way, at = draws.randrange(7), draws.randrange(len(data))
        length = draws.randint(1, max(1, min(64, len(data) - at)))
        if way == 0:
            data[at] ^= 1 << draws.randrange(8)
        elif way == 1:
            del data[at:]
        elif way == 2:
            del data[at : at + length]
        elif way == 3:
            data[at:at] = data[at : at + length] * draws.randint(1, 50)
        elif way == 4:
            telling = draws.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xd8\xff"]
            )
            data[at : at + len(telling)] = telling
        elif way == 5:
            other = draws.randrange(len(data))
            data[at : at + length] = data[other : other + length]
        else:
            data[at : at + length] = draws.randbytes(length)
    return bytes(data)


def mutated(draws: random.Random) -> Case:
    kind, content = picture(draws)
    told = (
        TYPES[kind] if draws.random() < 0.7 else draws.choice([*TYPES.values(), "application/octet-stream", "text/x"])
    )
    if draws.random() < 0.1:
        content = draws.randbytes(draws.randint(0, 300))
    elif draws.random() < 0.9:
        content = mutate(draws, content)
    path = "/explain" if draws.random() < 0.05 else "/invocations"
    return Case("mutated picture", http("POST", path, content, content_type=told))


def bomb(draws: random.Random) -> Case:
    kind, content = draws.choice(BOMBS)(draws)
    return Case("bomb", http("POST", "/invocations", content, content_type=kind))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


def huge_png(draws: random.Random) -> tuple[str, bytes]:
    """A header of very many pixels, and few bytes that unpack to many."""
    width, height = draws.choice(
        [(60_000, 60_000), (7000, 7000), (2**31 - 1, 2**31 - 1), (1, 2**30), (0, 5), (40_000, 1200)]
    )
    rows = zlib.compress(b"\0" * draws.choice([10, 100_000, 30_000_000]), 9)
    return "image/png", png(width, height, chunk(b"IDAT", rows))


def text_bomb(draws: random.Random) -> tuple[str, bytes]:
    """Texts and profiles that unpack to some hundred megabytes."""
    packed = zlib.compress(b"a" * draws.choice([2_000_000, 70_000_000, 300_000_000]), 9)
    name = draws.choice([b"zTXt", b"iCCP"])
    found = chunk(name, b"Comment\0\0" + packed) * draws.choice([1, 3])
    return "image/png", png(8, 8, found, chunk(b"IDAT", zlib.compress(b"\0" * 200)))


def many_frames(draws: random.Random) -> tuple[str, bytes]:
    frames = [Image.new("L", (8, 8), draws.randrange(256)) for _ in range(draws.choice([50, 2000]))]
    buffer = io.BytesIO()
    kind = draws.choice(["TIFF", "GIF", "WEBP"])
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return {"TIFF": "image/tiff", "GIF": "image/png", "WEBP": "image/webp"}[kind], buffer.getvalue()


def huge_header(draws: random.Random) -> tuple[str, bytes]:
    """Formats whose header alone says how many pixels there are."""
    width, height = draws.choice([(65_000, 65_000), (60_000, 1000), (1, 65_000)])
    which = draws.randrange(3)
    if which == 0:
        head = struct.pack("<IiiHHIIiiII", 40, width, draws.choice([height, -height]), 1, 24, 0, 0, 0, 0, 0, 0)
        return "image/bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head + b"\0" * 100
    if which == 1:
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({width}, {height}, 3), }}".ljust(117) + "\n"
        return "application/x-npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"\0" * 99
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return "image/jpeg", bytes(data)


def pickled_array(draws: random.Random) -> tuple[str, bytes]:
    """An array of objects, which only pickle would read."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": draws.random()}, print], dtype=object), allow_pickle=True)
    return "application/x-npy", buffer.getvalue()


BOMBS: tuple[Callable[[random.Random], tuple[str, bytes]], ...] = (
    huge_png,
    text_bomb,
    many_frames,
    huge_header,
    pickled_array,
)

# Bodies


def value(draws: random.Random, depth: int = 0) -> object:
    """Anything that JSON can say."""
    way = draws.randrange(9 if depth < 3 else 6)
    if way == 0:
        return draws.choice([None, True, False, 0, -1, 1e308, 2**70, 0.1])
    if way <= 2:
        return draws.choice(ODD_TEXTS)
    if way <= 5:
        kind, content = picture(draws)
        text = base64.b64encode(mutate(draws, content) if draws.random() < 0.5 else content).decode()
        return draws.choice([text, f"data:{TYPES[kind]};base64,{text}", text[:-1], text + "=", text.replace("A", "\n")])
    if way <= 7:
        return [value(draws, depth + 1) for _ in range(draws.randrange(5))]
    names = ("image", "images", "id", "label", "comment", *ODD_TEXTS[:4])
    return {draws.choice(names): value(draws, depth + 1) for _ in range(draws.randrange(4))}


def json_body(draws: random.Random) -> Case:
    names = ("image", "images", "id", "label", "comment", "x")
    told: object = {draws.choice(names): value(draws) for _ in range(draws.randint(0, 3))}
    if draws.random() < 0.1:
        told = {"images": [value(draws, 3) for _ in range(draws.choice([100, 1000]))]}
    body = json.dumps(told).encode()
    if draws.random() < 0.25:
        body = mutate(draws, body)
    if draws.random() < 0.05:
        body = b'{"image":' + b"[" * DEEPEST + b"]" * draws.choice([0, DEEPEST]) + b"}"
    path = draws.choice(["/invocations", "/invocations", "/feedback", "/explain"])
    kind = draws.choice(
        ["application/json"] * 4 + ["application/json; charset=utf-16", "APPLICATION/JSON;x", "text/json"]
    )
    accept = draws.choice(["*/*", "application/json", "text/csv", "image/png", "text/csv;q=x, */*;q=nan", "\xff"])
    return Case("json", http("POST", path, body, content_type=kind, accept=accept))


def multipart(draws: random.Random) -> Case:
    mark = draws.choice(["x", "-" * 70, "a b", 'q"q', ""])
    parts = []
    for _ in range(draws.choice([0, 1, 2, 3, 500])):
        _, content = picture(draws)
        name = draws.choice(["image", "file", "", "a" * 3000, '"'])
        head = f'content-disposition: form-data; name="{name}"; filename="{draws.choice(["a.jpg", "../a", ""])}"\r\n'
        parts.append(f"--{mark}\r\n{head}\r\n".encode() + content + b"\r\n")
    body = b"".join(parts) + f"--{mark}--\r\n".encode()
    if draws.random() < 0.5:
        body = mutate(draws, body)
    told = draws.choice(
        [f"multipart/form-data; boundary={mark}", "multipart/form-data", f'multipart/form-data; boundary="{mark}"']
    )
    return Case("multipart", http("POST", "/invocations", body, content_type=told))


def inference(draws: random.Random) -> Case:
    """The Open Inference Protocol's infer."""
    _, content = picture(draws)
    tensor = {"name": draws.choice(["image", "x"]), "datatype": draws.choice(["BYTES", "FP32", "UINT8", ""])}
    tensor |= {"shape": draws.choice([[1], [2], [-1], [], [2**60], "x"])}
    tensor |= {"data": draws.choice([[base64.b64encode(content).decode()], [], [1], [value(draws)], None])}
    told: dict[str, object] = {
        "inputs": draws.choice([[tensor], [tensor, tensor], [], {}, None]),
        "id": draws.choice(ODD_TEXTS),
    }
    body, headers = json.dumps(told).encode(), {"content_type": "application/json"}
    if draws.random() < 0.5:
        length = draws.choice([len(body), 0, len(body) + 5, -1, 10**9])
        body += struct.pack("<I", draws.choice([len(content), 0, 2**32 - 1])) + content
        headers |= {"inference_header_content_length": str(length), "content_type": "application/octet-stream"}
    name = draws.choice([*["tiny"] * 6, "other", "%00", "a" * 500])
    version = draws.choice(["", "", "/versions/1", "/versions/x"])
    return Case("inference protocol", http("POST", f"/v2/models/{name}{version}/infer", body, **headers))


# HTTP itself


def odd_headers(draws: random.Random) -> Case:
    _, content = picture(draws)
    way = draws.randrange(9)
    line = b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    if way == 0:
        length = draws.choice(["-1", "x", "1e3", "99999999999999999999", "", "+5", "0x10"])
        return Case("headers", line + f"content-length: {length}\r\n\r\n".encode() + content, is_whole=False)
    if way == 1:
        return Case("headers", line + b"content-length: 5\r\ncontent-length: 6\r\n\r\n" + content, is_whole=False)
    if way == 2:
        size = draws.choice([b"5", b"zz", b"ffffffffffffffff", b"-1", b""])
        body = size + b"\r\nabcde\r\n" + draws.choice([b"0\r\n\r\n", b"", b"5\r\n"])
        return Case("headers", line + b"transfer-encoding: chunked\r\n\r\n" + body, is_whole=False)
    if way == 3:
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:10], content[10:]) if part)
        head = b"content-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n"
        return Case("headers", line + head + body + b"0\r\n\r\n")
    if way == 4:
        return Case(
            "headers", line + b"x-a: " + b"a" * draws.choice([1000, 70_000, 500_000]) + b"\r\n\r\n", is_whole=False
        )
    if way == 5:
        return Case("headers", line + b"x-a: b\r\n" * draws.choice([200, 20_000]) + b"\r\n", is_whole=False)
    if way == 6:
        return Case("headers", draws.randbytes(draws.randint(1, 400)), is_whole=False)
    if way == 7:
        name = draws.choice(
            ["x_request_id", "x_amzn_sagemaker_inference_id", "accept", "content_type", "authorization"]
        )
        odd = draws.choice(["a" * 8000, "\udcff\udcfe", "\t", '"', "Bearer ", "a;b=c;;", "*/*;q=0", "é\udc80"])
        return Case(
            "headers", http("POST", "/invocations", content, **{"content_type": "image/png", name: odd}), is_whole=False
        )
    head = line + b"expect: 100-continue\r\ncontent-type: image/png\r\n"
    return Case("headers", head + b"content-length: %d\r\n\r\n" % len(content) + content)


def paths(draws: random.Random) -> Case:
    method = draws.choice(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW", "get"])
    known = (
        "/ping",
        "/model",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/v2",
        "/v2/health/ready",
        "/execution-parameters",
    )
    known += ("/", "/page.js", "/invocations", "/explain", "/feedback", "/v2/models/tiny", "/v2/models/tiny/ready")
    odd = (
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%00",
        "//ping",
        "/ping/",
        "/" + "a" * 6000,
        "/%ff%fe",
        "/é",
        "*",
    )
    path = draws.choice(known) if draws.random() < 0.6 else draws.choice(odd)
    if draws.random() < 0.2:
        path += draws.choice(["?", "?a=" + "b" * 3000, "?%", "#x"])
    body = draws.choice([b"", b"x", draws.randbytes(200)])
    return Case("paths", http(method, path, body), is_whole=path.isascii() and path != "*" and method.isupper())


def cut(draws: random.Random) -> Case:
    """A body that ends before its length says so, by a connection that is closed."""
    _, content = picture(draws)
    raw = http("POST", "/invocations", content, content_type="image/png")
    return Case("cut", raw, is_whole=False, pieces=[(0.0, draws.randrange(1, len(raw)))])


def slow(draws: random.Random) -> Case:
    """Bytes that come one after the other, for some seconds, and not always to the end."""
    _, content = picture(draws)
    raw = http("POST", "/invocations", content, content_type="image/png")
    count = draws.randint(5, 40)
    ends = draws.random() < 0.5
    step = max(1, len(raw) // count) if ends else 1
    pieces = [(draws.random() * 0.1, step) for _ in range(count)]
    return Case("slow", raw, is_whole=False, pieces=[*pieces, (0.0, len(raw))] if ends else pieces)


MAKERS: dict[str, Callable[[random.Random], Case]] = {
    "mutated picture": mutated,
    "bomb": bomb,
    "json": json_body,
    "multipart": multipart,
    "headers": odd_headers,
    "paths": paths,
    "cut": cut,
    "slow": slow,
    "inference protocol": inference,
}
