"""The rows of cases 1 to 15: what is refused, with which answer, and what is accepted."""
PATH = '/hooks/open'
MIB = 1 << 20
LIMIT = 1 << 16  # of the source `small`


def post(headers='', body=b'', path=PATH, version='1.1', host='Host: a\r\n'):
    return f'POST {path} HTTP/{version}\r\n{host}{headers}\r\n'.encode('latin-1') + body


def sized(value, body=b'abc', more=''):
    return post(f'Content-Length: {value}\r\n{more}', body)


def coded(value, body=b'3\r\nabc\r\n0\r\n\r\n', more='', **kw):
    return post(f'Transfer-Encoding: {value}\r\n{more}', body, **kw)


def chunks(body, **kw):
    return coded('chunked', body, **kw)


def line(text):
    return post(text + '\r\nContent-Length: 3\r\n', b'abc')


GOOD = sized(4, b'good')
TE = 'Transfer-Encoding: chunked\r\n'
END = b'0\r\n\r\n'
TLS_HELLO = bytes.fromhex('16030100a5010000a10303') + bytes(range(160))
H2_PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

REFUSED = [
    ('case 1: CL then TE', post(f'Content-Length: 5\r\n{TE}', END), 400, 'framing_conflict'),
    ('case 1: TE then CL', post(f'{TE}Content-Length: 5\r\n', END), 400, 'framing_conflict'),
    ('case 1: other letter cases', post('cOnTeNt-LeNgTh: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n', END), 400, 'framing_conflict'),
    ('case 1: with headers between', post(f'{TE}X: y\r\nContent-Length: 5\r\n', END), 400, 'framing_conflict'),
    ('case 1: CL 0', post(f'Content-Length: 0\r\n{TE}', END), 400, 'framing_conflict'),
    ('case 2: two CL, same', sized('3\r\nContent-Length: 3'), 400, 'bad_content_length'),
    ('case 2: two CL, different', sized('3\r\nContent-Length: 50'), 400, 'bad_content_length'),
    ('case 2: two CL, another letter case', sized('3\r\ncontent-length: 3'), 400, 'bad_content_length'),
    ('case 2: a list', sized('3, 3'), 400, 'bad_content_length'),
    ('case 2: a list without blank', sized('3,3'), 400, 'bad_content_length'),
    *[(f'case 3: CL {value!r}', sized(value), 400, 'bad_content_length') for value in (
        '+3', '-1', '0x3', '\v3', '3\v', '3\0', '', '3 3', '3;', '3.0', '3e0', '\xb2', '0' * 19 + '3', '9' * 20)],
    ('case 3: valid, over the limit', sized(MIB + 1), 413, 'body_too_large'),
    ('case 3: 19 digits, over the limit', sized('9' * 19), 413, 'body_too_large'),
    *[(f'case 4: TE {value!r}', coded(value), 400, 'bad_transfer_encoding') for value in (
        'xchunked', 'identity', 'chunked, chunked', 'chunked, gzip', 'identity, chunked', '', '\vchunked', 'chunked\v',
        'chunked;x', ', chunked', '"chunked"', 'chunked\0')],
    ('case 4: unknown coding, final chunked', coded('gzip, chunked'), 501, 'te_unsupported'),
    ('case 4: two lines', coded('chunked\r\nTransfer-Encoding: chunked'), 400, 'bad_transfer_encoding'),
    ('case 4: two lines, one unknown', coded('gzip\r\nTransfer-Encoding: chunked'), 400, 'bad_transfer_encoding'),
    ('case 4: on HTTP/1.0', coded('chunked', version='1.0'), 400, 'bad_transfer_encoding'),
    *[(f'case 5: {name}', line(text), 400, 'bad_header') for name, text in (
        ('space before the colon', 'X : 1'), ('tab before the colon', 'X\t: 1'), ('empty name', ': 1'),
        ('control byte in a name', 'X\x01: 1'), ('DEL in a name', 'X\x7f: 1'), ('8-bit byte in a name', 'X\xe9: 1'),
        ('NUL in a name', 'X\0: 1'), ('NUL in a value', 'X: 1\x002'), ('bare CR in a value', 'X: 1\r2'),
        ('control byte in a value', 'X: \x01'), ('DEL in a value', 'X: \x7f'), ('obs-fold', 'X: 1\r\n 2'),
        ('obs-fold with a tab', 'X: 1\r\n\t2'), ('line without colon', 'nothing'), ('separator in a name', 'X(y): 1'),
        ('CL with a blank before its colon', 'Content-Length : 3'))],
    ('case 5: leading space', post(host=' Host: a\r\n'), 400, 'bad_header'),
    ('case 5: bare CR for the empty line', post('Content-Length: 0\r\n\rX', b''), 400, 'bad_header'),
    ('case 6: behind the request line', GOOD.replace(b'\r\n', b'\n', 1), 400, 'bare_lf'),
    ('case 6: behind a header', GOOD.replace(b'a\r\n', b'a\n', 1), 400, 'bare_lf'),
    ('case 6: behind CL', GOOD.replace(b'4\r\n', b'4\n', 1), 400, 'bare_lf'),
    ('case 6: for the empty line', GOOD.replace(b'\r\n\r\n', b'\r\n\n', 1), 400, 'bare_lf'),
    ('case 6: everywhere', GOOD.replace(b'\r\n', b'\n'), 400, 'bare_lf'),
    ('case 6: behind a chunk size', chunks(b'3\nabc\r\n' + END), 400, 'bare_lf'),
    ('case 6: behind chunk data', chunks(b'3\r\nabc\n' + END), 400, 'bare_lf'),
    ('case 6: behind the last size', chunks(b'3\r\nabc\r\n0\n\r\n'), 400, 'bare_lf'),
    ('case 6: in an extension', chunks(b'3;a\nabc\r\n' + END), 400, 'bare_lf'),
    ('case 6: behind a trailer', chunks(b'0\r\nX: 1\n\r\n'), 400, 'bare_lf'),
    ('case 6: for the last empty line', chunks(b'0\r\n\n'), 400, 'bare_lf'),
    *[(f'case 7: size {size!r}', chunks(size + b'\r\nabc\r\n' + END), 400, 'bad_chunk') for size in (
        b'0x3', b'+3', b'-3', b' 3', b'3 ', b'3\t', b'3_0', b'', b'g', b'0' * 16 + b'3', b'3\x00', b'\xef\xbc\x93')],
    ('case 7: size -0', chunks(b'-0\r\n\r\n'), 400, 'bad_chunk'),
    ('case 7: no CRLF behind the data', chunks(b'3\r\nabc' + END), 400, 'bad_chunk'),
    ('case 7: data longer than its size', chunks(b'3\r\nabcd\r\n' + END), 400, 'bad_chunk'),
    ('case 7: data shorter than its size', chunks(b'8\r\nabc\r\n' + END + GOOD), 400, 'bad_chunk'),
    ('case 7: bare CR behind the size', chunks(b'3\rabc\r\n' + END), 400, 'bad_chunk'),
    ('case 7: bad in the second chunk', chunks(b'3\r\nabc\r\n0x3\r\nabc\r\n' + END), 400, 'bad_chunk'),
    ('case 8: extension over 1 KiB', chunks(b'3;' + b'x' * 1025 + b'\r\nabc\r\n' + END), 400, 'chunk_ext_too_long'),
    ('case 8: extensions over 1 KiB together', chunks((b'1;' + b'x' * 300 + b'\r\na\r\n') * 4 + END), 400, 'chunk_ext_too_long'),
    *[(f'case 8: {name}', chunks(b'3;' + text + b'\r\nabc\r\n' + END), 400, 'bad_chunk') for name, text in (
        ('control byte in an extension', b'a=\x01'), ('NUL in an extension', b'a\x00'), ('CR in an extension', b'a\rb'),
        ('CR LF in a quoted extension', b'a="\r\n"'), ('CR in a quoted extension', b'a="\rb"'),
        ('LF in a quoted extension', b'a="\nb"'), ('DEL in an extension', b'a=\x7f'))],
    ('case 9: trailers over 4 KiB', chunks(b'0\r\nX: ' + b'x' * 4096 + b'\r\n\r\n'), 431, 'headers_too_large'),
    ('case 9: many trailers over 4 KiB', chunks(b'0\r\n' + b'x: y\r\n' * 700 + b'\r\n'), 431, 'headers_too_large'),
    ('case 9: a malformed trailer', chunks(b'0\r\nX : 1\r\n\r\n'), 400, 'bad_header'),
    ('case 9: a folded trailer', chunks(b'0\r\nX: 1\r\n 2\r\n\r\n'), 400, 'bad_header'),
    ('case 10: no Host', post('Content-Length: 0\r\n', host=''), 400, 'bad_host'),
    *[(f'case 10: Host {value!r}', post('Content-Length: 0\r\n', host=f'Host: {value}\r\n'), 400, 'bad_host') for value in (
        'a\r\nHost: a', 'a\r\nhost: b', 'a, b', 'u@a', 'u:p@a', 'a/b', '/', 'a?b', 'a b', '', 'a\\b', 'http://a')],
    ('case 11: HTTP/0.9', b'GET /hooks/open\r\n', 400, 'bad_request_line'),
    *[(f'case 11: {version}', GOOD.replace(b'HTTP/1.1', version.encode()), 505, 'bad_version') for version in (
        'HTTP/1.18446744073709551617', 'HTTP/2.0', 'HTTP/1.2', 'HTTP/0.9', 'HTTP/1.1.1', 'HTTP/1', 'HTTP/-1.1',
        'HTTP/01.1', 'HTTP/ 1.1', 'http/1.1', 'HTCPCP/1.0', 'X')],
    ('case 11: HTTP/2 preface', H2_PREFACE, 505, 'bad_version'),
    ('case 11: HTTP/2 preface and frames', H2_PREFACE + bytes.fromhex('000000040000000000') * 100, 505, 'bad_version'),
    ('case 11: random bytes', bytes((i * 37 + 129) % 256 for i in range(999)), 400, 'bad_request_line'),
    ('case 11: TLS hello', TLS_HELLO, 400, 'bad_request_line'),
    ('case 11: two blanks', GOOD.replace(b' ', b'  ', 1), 400, 'bad_request_line'),
    ('case 11: tab for the blank', GOOD.replace(b' ', b'\t', 1), 400, 'bad_request_line'),
    ('case 11: 8-bit byte in the target', post(path=PATH + '\xe9'), 400, 'bad_request_line'),
    ('case 11: absolute form', post(path='http://a' + PATH), 400, 'bad_request_line'),
    *[(f'case 12: {method} with a body', f'{method} {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(GOOD)}\r\n\r\n'.encode()
       + GOOD, 405, 'method_not_allowed') for method in
      ('GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT', 'PUT', 'PATCH')],
    *[(f'case 12: {method} with chunks', f'{method} {PATH} HTTP/1.1\r\nHost: a\r\n{TE}\r\n{len(GOOD):x}\r\n'.encode()
       + GOOD + b'\r\n' + END, 405, 'method_not_allowed') for method in ('GET', 'HEAD')],
    ('case 12: CONNECT to an authority', f'CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\nContent-Length: {len(GOOD)}\r\n\r\n'.encode()
     + GOOD, 405, 'method_not_allowed'),
    ('case 12: OPTIONS *', f'OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: {len(GOOD)}\r\n\r\n'.encode() + GOOD, 405,
     'method_not_allowed'),
    ('case 12: an unknown path', post(f'Content-Length: {len(GOOD)}\r\n', GOOD, path='/hooks/nothing'), 404, 'not_found'),
    ('case 13: one header over 16 KiB', line('X: ' + 'x' * 16384), 431, 'headers_too_large'),
    ('case 13: headers over 16 KiB', line('\r\n'.join(f'X-{i}: ' + 'x' * 300 for i in range(60))), 431, 'headers_too_large'),
    ('case 13: 4,000 fields', post('a:\r\n' * 4000), 431, 'headers_too_large'),
    ('case 13: 101 fields', post('a:\r\n' * 99 + 'Content-Length: 0\r\n'), 431, 'headers_too_large'),
    ('case 13: target over 8 KiB', post(path='/' + 'x' * 8192), 414, 'target_too_long'),
    ('case 13: endless target', b'POST /' + b'x' * 60000, 414, 'target_too_long'),
    ('case 13: method over 16 bytes', GOOD.replace(b'POST', b'P' * 17), 501, 'method_unknown'),
    ('case 13: endless method', b'P' * 60000, 501, 'method_unknown'),
    ('case 13: unknown method', GOOD.replace(b'POST', b'BREW'), 501, 'method_unknown'),
    ('case 13: endless header name', post()[:-2] + b'x' * 60000, 431, 'headers_too_large'),
    ('case 14: by CL', sized(MIB + 1, b'x' * 3000), 413, 'body_too_large'),
    ('case 14: by chunks', chunks(b'fffff\r\n' + b'x' * 0xfffff + b'\r\n2\r\nxx\r\n' + END), 413, 'body_too_large'),
    ('case 14: by the size of the first chunk', chunks(b'100001\r\nxxx'), 413, 'body_too_large'),
    ('case 14: a chunk size that would overflow', chunks(b'3\r\nabc\r\nffffffffffffffff\r\nxxx'), 413, 'body_too_large'),
    ("case 14: by the source's own limit", post(f'Content-Length: {LIMIT + 1}\r\n', b'x' * 99, path='/hooks/small'), 413,
     'body_too_large'),
    ('case 14: with Expect', sized(MIB + 1, b'', 'Expect: 100-continue\r\n'), 413, 'body_too_large'),
    ('case 15: Expect: foo', sized(3, more='Expect: foo\r\n'), 417, 'expectation_failed'),
    ('case 15: Expect: 100-continue, foo', sized(3, more='Expect: 100-continue, foo\r\n'), 417, 'expectation_failed'),
    ('no length', post(), 411, 'length_required'),
]

ACCEPTED = [  # name, request, the body that must be logged, whether the connection stays
    ('case 4: TE in another letter case', coded('CHUNKED'), b'abc', True),
    ('case 8: extension', chunks(b'3;a=b;c\r\nabc\r\n0;x\r\n\r\n'), b'abc', True),
    ('case 8: quoted extension', chunks(b'3;a="q;\\"\\\\ x"\r\nabc\r\n' + END), b'abc', True),
    ('case 8: extensions of 1 KiB', chunks(b'3' + (b';' + b'x' * 511) * 2 + b'\r\nabc\r\n' + END), b'abc', True),
    ('case 8: leading zeros and letters of both cases', chunks(b'000000000000000a\r\n0123456789\r\n0A\r\n0123456789\r\n' + END),
     b'0123456789' * 2, True),
    ('case 8: all bytes in chunks of 7', chunks(b''.join(b'7\r\n%s\r\n' % bytes(range(i, i + 7)) for i in range(0, 249, 7))
                                               + b'4\r\n\xfc\xfd\xfe\xff\r\n' + END), bytes(range(256)), True),
    ('case 9: trailers of every kind', chunks(b'3\r\nabc\r\n0\r\nContent-Length: 99\r\nHost: b\r\nTransfer-Encoding: gzip\r\n'
                                              b'Connection: close\r\nwebhook-signature: v1,AAAA\r\n\r\n'), b'abc', True),
    ('case 9: trailers of 4 KiB', chunks(b'0\r\nX: ' + b'x' * 4088 + b'\r\n\r\n'), b'', True),
    ('case 10: HTTP/1.0 without Host', post('Content-Length: 3\r\n', b'abc', version='1.0', host=''), b'abc', False),
    ('case 10: HTTP/1.0 that would stay', post('Content-Length: 3\r\nConnection: keep-alive\r\n', b'abc', version='1.0'), b'abc',
     True),
    ('case 10: Host with a port', post('Content-Length: 3\r\n', b'abc', host='Host: [::1]:80\r\n'), b'abc', True),
    ('case 11: Upgrade: h2c is ignored', sized(3, more='Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n'
                                               'HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n'), b'abc', True),
    ('case 14: by CL, exactly the limit', sized(MIB, b'x' * MIB), b'x' * MIB, True),
    ('case 14: by chunks, exactly the limit', chunks(b'80000\r\n%s\r\n' % (b'y' * 0x80000) * 2 + END), b'y' * MIB, True),
    ("case 14: the source's own limit", post(f'Content-Length: {LIMIT}\r\n', b'x' * LIMIT, path='/hooks/small'), b'x' * LIMIT, True),
    ('case 15: Expect: foo to HTTP/1.0', post('Content-Length: 3\r\nExpect: foo\r\n', b'abc', version='1.0'), b'abc', False),
    ('case 15: Expect: 100-continue to HTTP/1.0', post('Content-Length: 3\r\nExpect: 100-continue\r\n', b'abc', version='1.0'),
     b'abc', False),
    ('case 15: Expect with the body at once', sized(3, more='Expect: 100-continue\r\n'), b'abc', True),
    ('Connection: close', sized(3, more='Connection: close\r\n'), b'abc', False),
]
