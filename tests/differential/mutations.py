"""Deliveries, honest and not. Every mutation has a name; the table of differences speaks of these names, so each does
one thing to every library it fits. Nothing here knows what a library or hookline thinks of it.
"""
import base64
import copy
import hashlib
import json
import urllib.parse

ALPHABET = {
    'hex': '0123456789abcdef',
    'base64': 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/',
}
PRINTABLE = [chr(c) for c in range(0x21, 0x7f)]


class Delivery:
    """A request, and all that went into it. `secrets` is what both verifiers are given; `secret` signed it."""

    def __init__(self, scheme, secret, ident, stamp, body, url):
        self.scheme, self.secret, self.url = scheme, secret, url
        self.secrets = [secret]
        self.ident, self.stamp, self.body = ident, stamp, body
        self.now_ms = stamp * 1000
        self.content_type = scheme.content_type
        self.chunked = False
        self.colon = ': '
        self.headers = []

    def copy(self, **changes):
        d = copy.copy(self)
        d.headers, d.secrets = list(self.headers), list(self.secrets)
        for k, v in changes.items():
            setattr(d, k, v)
        return d

    def item(self, **other):
        """A signature as it stands in the header; of other parts than the request's where they are given."""
        return self.scheme.item(self.mac(**other))

    def mac(self, secret=None, ident=None, stamp=None, body=None):
        return self.scheme.mac(
            secret or self.secret, self.ident if ident is None else ident,
            str(self.stamp if stamp is None else stamp), self.body if body is None else body, self.url)

    def with_items(self, *items):
        return self.with_value(self.scheme.value(str(self.stamp), list(items)))

    def with_value(self, value):
        return self.with_header(self.scheme.sig_header, value)

    def with_header(self, name, *values):
        """The header once for each value, where it stood (at the end where it did not)."""
        d = self.copy()
        at = next((i for i, h in enumerate(d.headers) if h[0].lower() == name), len(d.headers))
        d.headers = [h for h in d.headers if h[0].lower() != name]
        d.headers[at:at] = [(name, v) for v in values]
        return d

    def header(self, name):
        return next(v for k, v in self.headers if k.lower() == name)

    def signed(self, stamp=None, stamp_signed=None, **parts):
        """Made anew from other parts and signed; stamp is the text that is shown."""
        d = self.copy(**parts)
        shown = str(d.stamp) if stamp is None else stamp
        item = d.item(stamp=shown if stamp_signed is None else stamp_signed)
        d.headers = d.scheme.headers(d.ident, shown, d.scheme.value(shown, [item]))
        return d


def flip(data, rng):
    bit = rng.randrange(len(data) * 8)
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def replaced(text, at, by):
    return text[:at] + by + text[at + 1:]


# --- the body ---------------------------------------------------------------------------------------------------------

def bodies(d, rng):
    """Of another body than was signed."""
    yield 'body: appended newline', d.copy(body=d.body + b'\n')
    yield 'body: appended NUL', d.copy(body=d.body + b'\0')
    yield 'body: blank in front', d.copy(body=b' ' + d.body)
    yield 'body: byte order mark in front', d.copy(body=b'\xef\xbb\xbf' + d.body)
    yield 'body: last byte missing', d.copy(body=d.body[:-1])
    yield 'body: first byte missing', d.copy(body=d.body[1:])
    yield 'body: nothing left', d.copy(body=b'')
    yield 'body: twice', d.copy(body=d.body + d.body)
    yield 'body: letters in the other case', d.copy(body=d.body.swapcase())
    if d.body.startswith(b'{'):
        yield 'body: written anew', d.copy(body=json.dumps(json.loads(d.body), indent=1).encode())
    for _ in range(40):
        yield 'body: a bit', d.copy(body=flip(d.body, rng))
    for _ in range(20):
        at = rng.randrange(len(d.body) + 1)
        yield 'body: a byte more', d.copy(body=d.body[:at] + bytes([rng.randrange(256)]) + d.body[at:])
    for _ in range(20):
        at = rng.randrange(len(d.body) - 1)
        swapped = d.body[:at] + d.body[at + 1:at + 2] + d.body[at:at + 1] + d.body[at + 2:]
        if swapped != d.body:
            yield 'body: two bytes exchanged', d.copy(body=swapped)


def signed_bodies(d, rng):
    """Bodies that a provider may well send."""
    yield 'signed: empty body', d.signed(body=b'')
    yield 'signed: one byte', d.signed(body=b'0')
    yield 'signed: text beyond ASCII', d.signed(body='{"a":"żółć 雪 \U0001f600"}'.encode())
    yield 'signed: no JSON', d.signed(body=b'a=1&b=%20')
    yield 'signed: lines ended by CRLF', d.signed(body=b'{"a":1,\r\n"b":2}\r\n')
    yield 'signed: NUL in the body', d.signed(body=b'{"a":"\0"}')
    yield 'signed: 100 kB', d.signed(body=b'{"a":"' + b'x' * 100000 + b'"}')
    yield 'signed: body in chunks', d.signed(chunked=True)
    yield 'signed: broken UTF-8', d.signed(body=b'{"a":"\xff\xfe"}')
    yield 'signed: a lone surrogate', d.signed(body=b'{"a":"\xed\xa0\x80"}')
    yield 'signed: byte order mark', d.signed(body=b'\xef\xbb\xbf{"a":1}')
    if 'form' in d.content_type:
        yield from forms_of_fields(d, rng)
        return
    for _ in range(10):
        yield 'signed: random text', d.signed(body=bytes(rng.randrange(1, 128) for _ in range(rng.randrange(1, 300))))


def forms_of_fields(d, rng):
    """Where the fields are signed and the URL, or the URL with the digest of a JSON body in it."""
    text = 'abcXYZ019 _-.~+&=%;/\xe9\u0142\u96ea'
    for _ in range(20):
        pairs = [(''.join(rng.choice(text) for _ in range(rng.randrange(1, 6))),
                  ''.join(rng.choice(text) for _ in range(rng.randrange(8)))) for _ in range(rng.randrange(1, 12))]
        yield 'signed: random fields', d.signed(body=urllib.parse.urlencode(pairs).encode())
    yield 'signed: a field twice', d.signed(body=b'B=2&A=2&A=1&A=2')
    yield 'signed: fields that differ in case', d.signed(body=b'b=1&B=2&a=3&A=4')
    yield 'signed: a field without equals sign', d.signed(body=b'A=1&B')
    yield 'signed: empty fields', d.signed(body=b'&A=1&&B=2&')
    yield 'signed: a broken escape', d.signed(body=b'A=%zz&B=%')
    yield 'signed: a semicolon between fields', d.signed(body=b'A=1;B=2')
    yield 'signed: an escaped NUL', d.signed(body=b'A=%00')
    yield 'signed: a query in the URL', d.signed(url=d.url + '?foo=1&bar=2')
    yield 'signed: an escaped query in the URL', d.signed(url=d.url + '?foo=a%20b&bar=%2f')
    yield 'url: another query', d.signed(url=d.url + '?foo=1').copy(url=d.url + '?foo=2')
    yield 'url: a query too many', d.signed().copy(url=d.url + '?foo=1')
    yield 'url: the query missing', d.signed(url=d.url + '?foo=1').copy(url=d.url)
    yield 'fields: a name moved into a value', d.signed(body=b'AB=C').copy(body=b'A=BC')
    yield 'fields: another order', d.signed(body=b'A=1&B=2').copy(body=b'B=2&A=1')
    body = b'{"a":1}'
    digest = hashlib.sha256(body).hexdigest()
    js = dict(body=body, content_type='application/json')
    good = d.signed(url=f'{d.url}?bodySHA256={digest}', **js)
    yield 'signed: JSON by its digest', good
    yield 'signed: JSON by its digest, other queries around', d.signed(url=f'{d.url}?a=1&bodySHA256={digest}&b=2', **js)
    yield 'digest: another body', good.copy(body=b'{"a":2}')
    yield 'digest: no body', good.copy(body=b'')
    yield 'digest: of another body', d.signed(url=f'{d.url}?bodySHA256={"0" * 64}', **js)
    yield 'digest: changed in the URL', good.copy(
        body=b'{"a":2}', url=f'{d.url}?bodySHA256={hashlib.sha256(b"{}").hexdigest()}')
    yield 'digest: twice, the right one first', d.signed(
        url=f'{d.url}?bodySHA256={digest}&bodySHA256={"0" * 64}', **js)
    yield 'digest: twice, the right one last', d.signed(
        url=f'{d.url}?bodySHA256={"0" * 64}&bodySHA256={digest}', **js)
    yield 'digest: in capitals', d.signed(url=f'{d.url}?bodySHA256={digest.upper()}', **js)
    yield 'digest: empty', d.signed(url=f'{d.url}?bodySHA256=', **js)
    yield 'digest: a body of separators', good.copy(body=b'&')
    yield 'digest: a body of separators, said to be a form', good.copy(body=b'&&', content_type=d.content_type)
    yield 'digest: another body, said to be a form', good.copy(body=b'{"a":2}', content_type=d.content_type)
    empty = d.signed(body=b'')
    yield 'fields: none signed, some sent', empty.copy(body=b'A=1')
    yield 'fields: none signed, JSON sent', empty.copy(body=b'{"a":1}', content_type='application/json')
    yield 'fields: none signed, text sent', empty.copy(body=b'text', content_type='text/plain')


# --- the id -----------------------------------------------------------------------------------------------------------

def ids(d, rng):
    name = d.scheme.id_header
    if not name:
        return
    d = d.with_header(name, d.ident)
    yield 'id: missing', d.with_header(name)
    yield 'id: empty', d.with_header(name, '')
    yield 'id: twice, the same', d.with_header(name, d.ident, d.ident)
    yield 'id: twice, another behind', d.with_header(name, d.ident, 'other')
    yield 'id: twice, another in front', d.with_header(name, 'other', d.ident)
    yield 'id: blanks around', d.with_header(name, f' \t{d.ident}\t ')
    yield 'id: in capitals', d.with_header(name, d.ident.upper())
    yield 'id: name with an underscore', d.with_header(name).with_header(name.replace('-', '_'), d.ident)
    for _ in range(15):
        at = rng.randrange(len(d.ident))
        by = rng.choice([c for c in PRINTABLE if c != d.ident[at]])
        yield 'id: a byte', d.with_header(name, replaced(d.ident, at, by))
    if d.scheme.message('a', 'b', b'', '') == d.scheme.message('c', 'b', b'', ''):
        return
    yield 'signed: empty id', d.signed(ident='')
    yield 'signed: one letter as id', d.signed(ident='x')
    yield 'signed: 800 letters as id', d.signed(ident='x' * 800)
    yield 'signed: 3000 letters as id', d.signed(ident='x' * 3000)
    yield 'signed: id with a blank', d.signed(ident='msg one')
    yield 'signed: id with a comma', d.signed(ident='msg,one')
    yield 'signed: id with a dot', d.signed(ident='msg.one')
    yield 'signed: id beyond ASCII', d.signed(ident='msg\xc3\xbc')
    # the same signed bytes, cut at other dots
    cut = d.signed(ident=f'msg.{d.stamp}', body=b'{}')
    moved = cut.copy(ident='msg', body=f'{d.stamp}.{{}}'.encode())
    moved.headers = d.scheme.headers('msg', str(d.stamp), cut.header(d.scheme.sig_header))
    yield 'id: a dot moved into the body', moved


# --- the time ---------------------------------------------------------------------------------------------------------

AGES = {
    '5 minutes old': 300, '5 minutes and a second old': 301, '4 minutes old': 240, 'an hour old': 3600,
    'a year old': 31536000, 'a minute ahead': -60, '5 minutes ahead': -300, '5 minutes and a second ahead': -301,
    'an hour ahead': -3600, 'a year ahead': -31536000,
}


def shown_times(stamp):
    """Texts that some parser takes for the number."""
    t = str(stamp)
    return {
        'with a plus': '+' + t, 'with a zero in front': '0' + t, 'with ten zeros in front': '0' * 10 + t,
        'with a dot and zero': t + '.0', 'with half a second': t + '.5', 'with letters behind': t + 'x',
        'with an underscore': t[:4] + '_' + t[4:], 'as a float': f'{t[0]}.{t[1:]}e9', 'in hex': hex(stamp),
        'with a blank inside': t[:5] + ' ' + t[5:], 'with a blank and letters behind': t + ' x',
        'with digits beyond ASCII': t[:-1] + '\xb2', 'with a comma': t + ',0',
    }


def times(d, rng):
    s = d.scheme
    name = s.time_header
    for what, age in AGES.items():
        yield f'time: {what}', d.copy(now_ms=d.now_ms + age * 1000)
    yield 'time: 5 minutes and 900 ms old', d.copy(now_ms=d.now_ms + 300900)
    yield 'time: 4 minutes, 59 seconds and 100 ms ahead', d.copy(now_ms=d.now_ms - 299100)
    if not name and s.sig_header != 'stripe-signature':
        return
    for what, text in shown_times(d.stamp).items():
        yield f'time {what}, as signed', d.signed(stamp=text)
        yield f'time {what}, the number is signed', d.signed(stamp=text, stamp_signed=str(d.stamp))
    yield 'time in milliseconds', d.signed(stamp=str(d.stamp * 1000))
    yield 'time in ISO 8601', d.signed(stamp='2025-11-14T22:13:20Z')
    yield 'time below zero', d.signed(stamp=f'-{d.stamp}')
    for text in ('0', '-1', 'now', 'NaN', 'inf', '1e400', '9' * 19, '9' * 20, '9' * 400, 'null'):
        yield f'time is {text[:20]}', d.signed(stamp=text)
    yield 'time is empty, as signed', d.signed(stamp='')
    for _ in range(15):
        t = str(d.stamp)
        at = rng.randrange(len(t) - 2, len(t))
        by = rng.choice([c for c in '0123456789' if c != t[at]])
        yield 'time: a digit', time_shown(d, replaced(t, at, by))
    if not name:
        yield from stripe_times(d)
        return
    yield 'time: missing', d.with_header(name)
    yield 'time: empty', d.with_header(name, '')
    yield 'time: twice, the same', d.with_header(name, str(d.stamp), str(d.stamp))
    yield 'time: twice, a newer behind', d.with_header(name, str(d.stamp), str(d.stamp + 1))
    yield 'time: blanks around', d.with_header(name, f'\t {d.stamp} \t')
    yield 'time: name with an underscore', d.with_header(name).with_header(name.replace('-', '_'), str(d.stamp))
    old = d.signed(stamp=str(d.stamp - 3600))
    yield 'time: an old delivery, renewed', old.with_header(name, str(d.stamp))
    yield 'time: an old delivery, a new time in front', old.with_header(name, str(d.stamp), str(d.stamp - 3600))
    yield 'time: an old delivery, a new time behind', old.with_header(name, str(d.stamp - 3600), str(d.stamp))


def time_shown(d, text):
    """Another time than was signed."""
    if d.scheme.time_header:
        return d.with_header(d.scheme.time_header, text)
    return d.with_value(d.scheme.value(text, [d.item()]))


def stripe_times(d):
    t, v1 = f't={d.stamp}', d.item()
    old = f't={d.stamp - 3600}'
    old_v1 = d.item(stamp=d.stamp - 3600)
    yield 'time: missing', d.with_value(v1)
    yield 'time: empty', d.with_value(f't=,{v1}')
    yield 'time: behind the signature', d.with_value(f'{v1},{t}')
    yield 'time: twice, the same', d.with_value(f'{t},{t},{v1}')
    yield 'time: twice, another first', d.with_value(f't=1,{t},{v1}')
    yield 'time: twice, another last', d.with_value(f'{t},{v1},t=1')
    yield 'time: an old delivery, renewed', d.with_value(f'{t},{old_v1}')
    yield 'time: an old delivery, a new time in front', d.with_value(f'{t},{old},{old_v1}')
    yield 'time: an old delivery, a new time behind', d.with_value(f'{old},{old_v1},{t}')
    yield 'time: name in capitals', d.with_value(f'T={d.stamp},{v1}')
    yield 'time: a blank in front of its name', d.with_value(f'x=1, {t},{v1}')
    yield 'time: a blank behind its name', d.with_value(f't ={d.stamp},{v1}')
    yield 'time: a blank before its value', d.with_value(f't= {d.stamp},{v1}')
    yield 'time: a second equals sign', d.with_value(f't={d.stamp}=0,{v1}')
    yield 'signature: a second equals sign', d.with_value(f'{t},{v1}=')
    yield 'signature: a blank behind its scheme', d.with_value(f'{t},v1 ={v1[3:]}')
    yield 'signature: a blank before its value', d.with_value(f'{t},v1= {v1[3:]}')
    yield 'signature: an item without equals sign', d.with_value(f'{t},{v1},x')
    yield 'signature: v0 beside ours', d.with_value(f'{t},{v1},v0={"0" * 64}')
    yield 'signature: v0 alone', d.with_value(f'{t},v0={v1[3:]}')


# --- the signature ----------------------------------------------------------------------------------------------------

def signatures(d, rng):
    s = d.scheme
    right, mac = d.item(), d.mac()
    text, wrong = s.encode(mac), s.item(flip(mac, rng))
    name = s.sig_header
    yield 'signature: missing', d.with_header(name)
    yield 'signature: empty header', d.with_value('')
    yield 'signature: empty', d.with_items(s.prefix)
    yield 'signature: twice, the same header', d.with_header(name, d.header(name), d.header(name))
    other = d.with_items(wrong).header(name)
    yield 'signature: twice, a wrong header behind', d.with_header(name, d.header(name), other)
    yield 'signature: twice, a wrong header in front', d.with_header(name, other, d.header(name))
    yield 'signature: name with an underscore', d.with_header(name).with_header(name.replace('-', '_'), d.header(name))
    yield 'signature: blanks around', d.with_value(f' \t{d.header(name)}\t ')
    yield 'signature: of another secret', d.with_items(d.item(secret=another(d)))
    yield 'signature: of another body', d.with_items(d.item(body=b'{}'))
    yield 'signature: of the body alone, where more is signed', d.with_items(s.item(bare_mac(d)))
    yield 'signature: cut by a byte', d.with_items(s.item(mac[:-1]))
    yield 'signature: cut to half', d.with_items(s.item(mac[:len(mac) // 2]))
    yield 'signature: a byte', d.with_items(s.item(mac[:1]))
    yield 'signature: a zero byte behind', d.with_items(s.item(mac + b'\0'))
    yield 'signature: all zeros', d.with_items(s.item(bytes(len(mac))))
    yield 'signature: its last character missing', d.with_items(right[:-1])
    yield 'signature: a character behind', d.with_items(right + '0')
    yield 'signature: a dot behind', d.with_items(right + '.')
    yield 'signature: a byte beyond ASCII behind', d.with_items(right + '\xe9')
    yield 'signature: a blank inside', d.with_items(s.prefix + text[:10] + ' ' + text[10:])
    yield 'signature: a tab inside', d.with_items(s.prefix + text[:10] + '\t' + text[10:])
    yield 'signature: a dash inside', d.with_items(s.prefix + text[:10] + '-' + text[10:])
    yield 'signature: in quotes', d.with_items(f'{s.prefix}"{text}"')
    for _ in range(60):
        yield 'signature: a bit', d.with_items(s.item(flip(mac, rng)))
    last = len(text.rstrip('=')) - (s.encoding == 'base64')  # the last of base64 holds bits that say nothing
    for _ in range(60):
        at = rng.randrange(last)
        by = rng.choice([c for c in ALPHABET[s.encoding] if c != text[at]])
        yield 'signature: a character', d.with_items(s.prefix + replaced(text, at, by))
    for _ in range(10):
        at = rng.randrange(last - 1)
        if text[at] != text[at + 1]:
            yield 'signature: two characters exchanged', d.with_items(
                s.prefix + text[:at] + text[at + 1] + text[at] + text[at + 2:])
    yield from (hexes if s.encoding == 'hex' else base64s)(d, text)
    if s.prefix:
        yield from prefixes(d, text, right)
    if s.separator:
        yield from lists(d, right, wrong, rng)
    else:
        yield 'list: right and right with a comma', d.with_value(f'{right},{right}')
        yield 'list: wrong and right with a comma', d.with_value(f'{wrong},{right}')
        yield 'list: right and wrong with a comma', d.with_value(f'{right},{wrong}')
        yield 'list: right and wrong with a blank', d.with_value(f'{right} {wrong}')


def another(d):
    """A secret of the same form."""
    if d.scheme.decoded_secret:
        return 'whsec_' + base64.b64encode(b'somebody else, not the sender').decode()
    return hashlib.sha256(b'another').hexdigest()


def bare_mac(d):
    s = d.scheme
    if s.time_header is None and s.separator is None:  # nothing else is signed
        return d.mac(body=d.body + b' ')
    bare = copy.copy(s)
    bare.message = lambda ident, stamp, body, url: body
    return bare.mac(d.secret, d.ident, str(d.stamp), d.body, d.url)


def hexes(d, text):
    s = d.scheme
    if text.upper() != text:
        yield 'hex: capitals', d.with_items(s.prefix + text.upper())
    mixed = ''.join(c.upper() if i % 2 else c for i, c in enumerate(text))
    if mixed not in (text, text.upper()):
        yield 'hex: capitals and small letters', d.with_items(s.prefix + mixed)
    yield 'hex: 0x in front', d.with_items(s.prefix + '0x' + text)
    yield 'hex: base64 instead', d.with_items(s.prefix + base64.b64encode(bytes.fromhex(text)).decode())
    yield 'hex: colons between bytes', d.with_items(s.prefix + ':'.join(text[i:i + 2] for i in range(0, len(text), 2)))
    yield 'hex: blanks between bytes', d.with_items(s.prefix + ' '.join(text[i:i + 2] for i in range(0, len(text), 2)))
    yield 'hex: a letter that is none', d.with_items(s.prefix + replaced(text, 7, 'g'))
    yield 'hex: twice in a row', d.with_items(s.prefix + text + text)


def base64s(d, text):
    s, bare = d.scheme, text.rstrip('=')
    letters = ALPHABET['base64']
    loose = bare[:-1] + letters[letters.index(bare[-1]) ^ 1] + '='
    url = text.replace('+', '-').replace('/', '_')
    yield 'base64: no padding', d.with_items(s.prefix + bare)
    yield 'base64: padding twice', d.with_items(s.prefix + text + '=')
    yield 'base64: padding four times', d.with_items(s.prefix + text + '====')
    yield 'base64: loose bits in the tail', d.with_items(s.prefix + loose)
    if url != text:
        yield 'base64: the alphabet for URLs', d.with_items(s.prefix + url)
    yield 'base64: text behind the padding', d.with_items(s.prefix + text + 'AAAA')
    yield 'base64: hex instead', d.with_items(s.prefix + base64.b64decode(text).hex())
    yield 'base64: twice encoded', d.with_items(s.prefix + base64.b64encode(text.encode()).decode())
    yield 'base64: capitals and small letters exchanged', d.with_items(s.prefix + text.swapcase())
    yield 'base64: an asterisk inside', d.with_items(s.prefix + text[:8] + '*' + text[8:])
    yield 'base64: percent-encoded padding', d.with_items(s.prefix + text.replace('=', '%3D'))


def prefixes(d, text, right):
    p = d.scheme.prefix
    mark = p[-1]
    version = p[:-1]
    yield 'prefix: none', d.with_items(text)
    yield 'prefix: only its mark', d.with_items(mark + text)
    yield 'prefix: without its mark', d.with_items(version + text)
    yield 'prefix: in capitals', d.with_items(p.upper() + text)
    yield 'prefix: another mark', d.with_items(version + (',' if mark == '=' else '=') + text)
    yield 'prefix: a colon as mark', d.with_items(version + ':' + text)
    yield 'prefix: mark twice', d.with_items(p + mark + text)
    yield 'prefix: twice', d.with_items(p + right)
    yield 'prefix: a blank behind', d.with_items(p + ' ' + text)
    yield 'prefix: a blank before its mark', d.with_items(version + ' ' + mark + text)
    yield 'prefix: the next version', d.with_items('v2' + mark + text)
    yield 'prefix: the version before', d.with_items('v' + mark + text)
    yield 'prefix: v1a', d.with_items('v1a' + mark + text)
    yield 'prefix: sha1', d.with_items('sha1' + mark + text)
    yield 'prefix: a longer version', d.with_items(version + '0' + mark + text)
    yield 'prefix: no version, a blank before the mark', d.with_items(' ' + mark + text)
    yield 'prefix: letters in front', d.with_items('x' + right)


def lists(d, right, wrong, rng):
    s = d.scheme
    sep = s.separator
    other = ',' if sep == ' ' else ' '
    yield 'list: right first', d.with_items(right, wrong)
    yield 'list: right last', d.with_items(wrong, right)
    yield 'list: right in the middle', d.with_items(wrong, right, wrong)
    yield 'list: right twice', d.with_items(right, right)
    yield 'list: two wrong', d.with_items(wrong, s.item(bytes(32)))
    yield 'list: right behind 14 wrong', d.with_items(*[wrong] * 14, right)
    yield 'list: right behind 15 wrong', d.with_items(*[wrong] * 15, right)
    yield 'list: right behind 16 wrong', d.with_items(*[wrong] * 16, right)
    yield 'list: right before 16 wrong', d.with_items(right, *[wrong] * 16)
    yield 'list: right behind 60 wrong', d.with_items(*[wrong] * 60, right)
    yield 'list: right behind 40 of another version', d.with_items(*['v9' + wrong[2:]] * 40, right)
    yield 'list: another version in front', d.with_items('v2' + wrong[2:], right)
    yield 'list: another version behind', d.with_items(right, 'v2' + wrong[2:])
    yield 'list: v1a in front', d.with_items('v1a' + s.prefix[-1] + base64.b64encode(bytes(64)).decode(), right)
    yield 'list: a broken item of our version in front', d.with_items(s.prefix + '!', right)
    yield 'list: a short item of our version in front', d.with_items(s.prefix + 'AAAA', right)
    yield 'list: an empty item of our version in front', d.with_items(s.prefix, right)
    yield 'list: a word in front', d.with_items('word', right)
    yield 'list: a word behind', d.with_items(right, 'word')
    yield 'list: separators twice', d.with_items(wrong, '', right)
    yield 'list: a separator in front', d.with_items('', right)
    yield 'list: a separator behind', d.with_items(right, '')
    yield 'list: the other separator', d.with_value(s.value(str(d.stamp), [wrong + other + right]))
    yield 'list: comma and blank', d.with_value(s.value(str(d.stamp), [wrong + ', ' + right]))
    yield 'list: a tab as separator', d.with_value(s.value(str(d.stamp), [wrong + '\t' + right]))
    yield 'list: a semicolon as separator', d.with_value(s.value(str(d.stamp), [wrong + ';' + right]))
    yield 'list: an item with another field behind', d.with_items(right + s.prefix[-1] + 'x')
    for _ in range(20):
        items = [s.item(flip(d.mac(), rng)) for _ in range(rng.randrange(1, 10))]
        yield 'list: some wrong', d.with_items(*items)
        items.insert(rng.randrange(len(items) + 1), right)
        yield 'list: right among wrong', d.with_items(*items)


# --- the rest ---------------------------------------------------------------------------------------------------------

def forms(d, rng):
    """The same delivery, written in another way."""
    yield 'headers: names in capitals', d.copy(headers=[(k.upper(), v) for k, v in d.headers])
    yield 'headers: names in title case', d.copy(headers=[(k.title(), v) for k, v in d.headers])
    yield 'headers: backwards', d.copy(headers=d.headers[::-1])
    yield 'headers: no blank behind the colon', d.copy(colon=':')
    yield 'headers: tabs behind the colon', d.copy(colon=':\t\t')
    yield 'headers: forty others', d.copy(headers=[(f'x-other-{i}', 'v') for i in range(40)] + d.headers)
    yield 'headers: other authentication beside', d.copy(headers=d.headers + [('authorization', 'Bearer x')])
    yield 'body in chunks', d.copy(chunked=True)
    for _ in range(5):
        headers = d.headers + [(f'x-{rng.randrange(1000)}', 'v') for _ in range(5)]
        rng.shuffle(headers)
        yield 'headers: shuffled', d.copy(headers=headers)


def secrets(d, rng):
    """Signed with one secret, verified with others."""
    s = d.secret
    yield 'secret: another', d.copy(secrets=[another(d)])
    yield 'secret: rotated, the new one first', d.copy(secrets=[another(d), s])
    yield 'secret: rotated, the old one first', d.copy(secrets=[s, another(d)])
    yield 'secret: empty', d.copy(secrets=[''])
    yield 'secret: its last character missing', d.copy(secrets=[s[:-1]])
    if d.scheme.decoded_secret:
        bare = s.removeprefix('whsec_')
        yield 'secret: without whsec_', d.copy(secrets=[bare])
        yield 'secret: whsec_ alone', d.copy(secrets=['whsec_'])
        yield 'secret: whsec_ twice', d.copy(secrets=['whsec_' + s])
        yield 'secret: WHSEC_', d.copy(secrets=['WHSEC_' + bare])
        yield 'secret: with an asterisk inside', d.copy(secrets=[s[:10] + '*' + s[10:]])
        yield 'secret: a blank in front', d.copy(secrets=[' ' + s])
        yield 'secret: signed with its text', d.with_items(d.scheme.item(text_mac(d)))
        key = b'a key of 20 bytes ..'
        padded = 'whsec_' + base64.b64encode(key).decode()
        yield 'secret: with padding', d.signed(secret=padded, secrets=[padded])
        yield 'secret: its padding missing', d.signed(secret=padded, secrets=[padded.rstrip('=')])
        urls = 'whsec_' + base64.b64encode(b'\xfb\xff' * 15).decode()
        yield 'secret: the alphabet for URLs', d.signed(
            secret=urls, secrets=[urls.replace('+', '-').replace('/', '_')])
    elif d.scheme.sig_header != 'x-signature-ed25519':
        yield 'secret: without its first byte', d.copy(secrets=[s[1:]])
        yield 'secret: in capitals', d.copy(secrets=[s.upper()])
        yield 'secret: a blank behind', d.copy(secrets=[s + ' '])
        for name, text in (('a blank', ' '), ('beyond ASCII', 'żółć-雪'), ('200 letters', 'k' * 200),
                           ('a letter', 'k')):
            yield f'signed: secret is {name}', d.signed(secret=text, secrets=[text])


def text_mac(d):
    bare = copy.copy(d.scheme)
    bare.key = lambda secret: secret.encode()
    return bare.mac(d.secret, d.ident, str(d.stamp), d.body, d.url)


ALL = (bodies, signed_bodies, ids, times, signatures, forms, secrets)


def mutations(d, rng):
    for group in ALL:
        yield from group(d, rng)
