"""What mutations put into requests: values that have confused other programs."""

from __future__ import annotations

from typing import Any

NUMBERS: tuple[bytes, ...] = (
    b"0", b"-0", b"-0.0", b"1", b"-1", b"0.1", b"1e0", b"1E+2", b"1e-400", b"4.9e-324", b"1e38",
    b"3.4028235e38", b"3.4028236e38", b"3.5e38", b"-3.5e38", b"1e39", b"1.8e308", b"1e309",
    b"1e999", b"-1e999", b"1e99999999999", b"NaN", b"-NaN", b"nan", b"Infinity", b"-Infinity",
    b"inf", b"9007199254740993", b"18446744073709551616", b"-9223372036854775809", b"9" * 400,
    b"0." + b"3" * 400, b"00", b"01", b"+1", b".5", b"5.", b"1e", b"0x10", b"1_000", b"--1",
    b"true", b"null", b'"1"', b"[1]", b"{}", b"",
)  # fmt: skip

TOKENS: tuple[bytes, ...] = (
    *NUMBERS, b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"},{", b"} , {", b"}\n,\t{",
    b"]}", b'"}', b"[[", b"{}", b"[]", b"[" * 300, b"[" * 100_000, b"]" * 300, b'{"":' * 500,
    b'{"a":' * 30_000, b"\xff", b"\xfe\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf", b"\x00", b"\x00" * 64, b"\xff" * 64, b"\\ud800", b"\\u0000", b"\\uD83D\\uDE00",
    b"\\x", b"\\u12", b" " * 1000, b"\n" * 1000, b"/**/", b"//", b"#", b"'", b'"records":[',
    b'"records"', b'"records":null,', b'"inputs":[', b'"data":[', b'"distances":true,',
    b'"explain":true,',
    b'"' + b"a" * 300 + b'"', b'"' + b"a" * 70_000 + b'"', "\N{SNOWMAN}".encode(), b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd", b"\xff\xff\xff\xff\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"ARROW1\0\0",
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e38, 3.5e38, -3.5e38, 1e308, float("nan"),
    float("inf"), float("-inf"), 1 << 31, 1 << 63, 1 << 64, 10**400, "", "x", "idle", "records",
    "1", "NaN", "\N{SNOWMAN}", "\x00", "a" * 300, "\U0001f600" * 100, [], {}, [[]], [[[[[]]]]],
    [None], [1, 2, 3], [1] * 300, {"": 0}, {"a": {"b": [1]}}, {"records": []}, "FP32", "BYTES",
    [0], [-1], [0, 0], [1 << 40, 1 << 40], {"binary_data_size": -1}, {"binary_data": True},
)  # fmt: skip

QUERIES: tuple[bytes, ...] = (
    b"on_invalid=report", b"on_invalid=strict", b"on_invalid=", b"on_invalid", b"on_invalid=x",
    b"distances=true", b"distances=false", b"distances=1", b"%00=%ff", b"%", b"a=b&a=c", b";", b"=",
    b"&&&&", b"x=" + b"y" * 5000, b"&".join([b"q=1"] * 50), b"on_invalid=report;distances=true",
    b"explain=true", b"explain=false", b"explain=", b"explain=true&distances=true",
    b"on%5Finvalid=report", b"%FF=%FE", b"%ED%A0%80=1", b"[]=1",
)  # fmt: skip

_HEADERS: dict[bytes, tuple[bytes, ...]] = {
    b"content-type": (
        b"", b"application/json", b"text/plain; charset=utf-8", b"text/plain; charset=utf-16",
        b"application/json; charset", b"application/json;;;=;charset=\xff",
        b"application/vnd.apache.arrow.stream", b"application/octet-stream", b"\xff\xfe",
    ),
    b"content-encoding": (
        b"gzip", b"x-gzip", b"zstd", b"identity", b"br", b"gzip, gzip", b" GZIP ", b"\xff",
    ),
    b"accept": (
        b"*/*", b"application/json", b"application/vnd.apache.arrow.stream",
        b"text/html,\xff;q=0.x",
    ),
    b"content-length": (b"0", b"-1", b"5", b"99999999999999999999999999", b"\xb2", b"x"),
    b"inference-header-content-length": (
        b"0", b"10", b"-5", b"99999999999999999999", b"\xb2", b"1e3",
    ),
    b"x-request-id": (b"a" * 200, b"\xff\x00", b"fine-7"),
    b"traceparent": (
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", b"00-" + b"0" * 32 + b"-0-zz",
    ),
    b"authorization": (b"Basic \xff", b"Bearer"),
    b"x-api-key": (b"\xff" * 50,),
    b"host": (b"\xff",),
    b"expect": (b"100-continue",),
}  # fmt: skip
HEADERS = tuple((name, value) for name, values in _HEADERS.items() for value in values)

PATHS: tuple[str, ...] = (
    "/classify", "/embed", "/classify/", "//classify", "/model", "/models", "/models/x/activate",
    "/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/v2", "/v2/models/toy",
    "/v2/models/x/infer", "/v2/models/toy/infer", "/v2/models/toy/versions/1/infer",
    "/v2/models//infer", "/v2/models/toy/versions//infer", "/v2/health/ready", "/", "", "/\x00",
    "/\ufffd", "/" + "a" * 5000, "/../classify", "/drift",
)  # fmt: skip
