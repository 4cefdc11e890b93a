"""/v1/rejected: the operator learns why a delivery was refused, the sender learns nothing, and no secret or signature is shown."""
import base64
import hashlib
import hmac
import json
import os
import time

from client import Connection, KEY, exchange, parse_replies, signed
from servers import SECRET, Hookline, Tap

OTHER = base64.b64encode(b'another key of ours, not in use').decode()
SOURCES = f"""
  demo: {{ provider: gemini, secrets: ["{SECRET}", "whsec_{OTHER}"] }}
  quiet: {{ provider: github, secrets: [quiet-secret] }}
  key: {{ provider: token, secrets: [open-sesame-for-the-tests] }}
  query: {{ signature: {{ algorithm: token, query: key }}, secrets: [open-sesame-for-the-tests] }}
  path: {{ provider: github, secrets: [x], path: "/hooks/path/{{token}}", path_token: the-token-of-the-path }}
  dated: {{ provider: github, secrets: [{{ env: HOME, not_after: 2001-01-01T00:00:00Z }}], reject_status: 403 }}
  strange: {{ provider: gitlab, secrets: [whsec_{OTHER}] }}"""


def rejected(h, query=''):
    status, body = h.get('/v1/rejected' + query)[:2]
    assert status == 200, (status, body)
    return json.loads(body)['rejected']


def plain(path, headers='', body=b'{}'):
    return f'POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n'.encode() + body


def refuse(h, data, status=401):
    """Sends it: outside it is a bad signature, and nothing more. Returns what is known inside."""
    got, _, body = parse_replies(exchange(h.port, data))[0]
    assert (got, json.loads(body)['error']) == (status, 'bad_signature'), (got, body)
    assert json.loads(body).keys() == {'error', 'detail'}, body
    r = rejected(h, '?limit=1')[0]
    assert r.keys() == {'time', 'request', 'source', 'status', 'reason', 'detail', 'remote'}, r
    assert r['status'] == status and r['remote'] == '127.0.0.1', r
    return r


def whole(ident='msg_1', **more):
    return signed(ident, b'{"a":1}', close=True, **more)


def with_signature(text):
    head, body = whole().split(b'\r\n\r\n', 1)
    return b'\r\n'.join(b'webhook-signature: ' + text if l.startswith(b'webhook-signature') else l
                        for l in head.split(b'\r\n')) + b'\r\n\r\n' + body


def without_signature():
    head, body = whole().split(b'\r\n\r\n', 1)
    return b'\r\n'.join(l for l in head.split(b'\r\n') if not l.startswith(b'webhook-signature')) + b'\r\n\r\n' + body


def started():
    return Hookline(sources=SOURCES).start()


def true_reasons():
    h = started()
    now = int(time.time())
    try:
        r = refuse(h, without_signature())
        assert (r['source'], r['reason']) == ('demo', 'unsigned') and 'webhook-signature missing' in r['detail'], r
        assert 'no secret or key was tried' in r['detail'] and "webhook-id 'msg_1'" in r['detail'], r
        r = refuse(h, whole(key=b'wrong'))
        assert r['reason'] == 'bad_signature' and 'secrets tried: 1, 2' in r['detail'], r
        r = refuse(h, whole(stamp=now - 1000))
        off = [p for p in r['detail'].split('; ') if 'signed time' in p][0]
        assert r['reason'] == 'stale' and off.endswith('s behind our clock') and 1000 <= float(off.split()[4]) < 1100, r
        assert f"webhook-timestamp '{now - 1000}'" in r['detail'], r
        r = refuse(h, whole(stamp=now + 1000))
        assert r['reason'] == 'future' and 's ahead of our clock' in r['detail'], r
        r = refuse(h, with_signature(b'v1,tooshort'))
        assert r['reason'] == 'malformed' and 'length and encoding' in r['detail'], r
        r = refuse(h, whole().replace(b'webhook-id: ', b'webhook-id: first\r\nwebhook-id: ', 1))
        assert r['reason'] == 'malformed' and "webhook-id more than once, first 'first'" in r['detail'], r
        r = refuse(h, plain('/hooks/path/wrong'))
        assert r['source'] == 'path' and 'the token in the path is another one' in r['detail'], r
        late = hmac.new(os.environ['HOME'].encode(), b'{}', hashlib.sha256).hexdigest()
        r = refuse(h, plain('/hooks/dated', f'X-Hub-Signature-256: sha256={late}\r\n'), 403)
        assert r['reason'] == 'expired' and 'not_after' in r['detail'], r
        assert h.status()['log']['last_lsn'] == 0
    finally:
        h.clean()


def nothing_is_given_away():
    """Whatever is sent, of what proves something there are four characters."""
    h = started()
    token, mac = 'open-sesame-for-the-tests', base64.b64encode(hmac.new(b'wrong', b'', hashlib.sha256).digest()).decode()
    right = hmac.new(KEY, b'msg_1.1000.{"a":1}', hashlib.sha256).digest()
    try:
        r = refuse(h, with_signature(b'v1,' + mac.encode() + b' v1,' + mac.encode()))
        assert f'v1,{mac[:4]}...(44) v1,{mac[:4]}...(44)' in r['detail'], r
        refuse(h, whole(stamp=1000))  # genuine but for its age
        r = refuse(h, plain('/hooks/key', f'Authorization: Bearer {token}x\r\n'))
        assert "authorization 'Bearer open...(26)'" in r['detail'], r
        r = refuse(h, plain('/hooks/key', f'Authorization: {token}\r\n'))
        assert "'open...(25)'" in r['detail'], r
        r = refuse(h, plain('/hooks/key', 'Authorization: Bearer abcdefg\r\n'))
        assert "'Bearer a...(7)'" in r['detail'], r
        r = refuse(h, plain(f'/hooks/query?key={token}x'))
        assert "query key 'open...(26)'" in r['detail'], r
        refuse(h, plain('/hooks/strange', f'X-Gitlab-Token: {token}\r\nCookie: {token}\r\nX-Gitlab-Event: Push Hook\r\n'))
        refuse(h, plain('/hooks/path/the-token-of-the-path', f'X-Hub-Signature-256: sha256={right.hex()}\r\n'))
        refuse(h, plain('/hooks/path/the-token-of-the-pat'))
        shown = h.get('/v1/rejected')[1].decode()
        for hidden in (token, token[:5], mac[:5], SECRET[6:], OTHER, 'the-token', base64.b64encode(right).decode()[:5], right.hex()[:5],
                       'quiet-secret'):
            assert hidden not in shown, (hidden, shown)
    finally:
        h.clean()


def what_strangers_write():
    """Neither quotes nor control characters nor much of anything get through."""
    h = started()
    try:
        r = refuse(h, plain('/hooks/demo', 'webhook-id: a\'; secrets tried: 9; "\xff\t\\' + 'y' * 5000 + '\r\n'))
        assert "webhook-id 'a?; secrets tried: 9;" in r['detail'] and "yyy...'" in r['detail'] and len(r['detail']) < 600, r
        assert h.get('/v1/rejected?limit=0')[0] == 400
        assert h.get('/v1/rejected?limit=x')[0] == 400
        assert rejected(h, '?source=nobody') == []
    finally:
        h.clean()


def a_flood_hides_nothing():
    h = started()
    try:
        first = refuse(h, plain('/hooks/quiet'))
        c, kept = Connection(h.port), signed('msg', b'{}', key=b'wrong')
        for _ in range(10):
            c.send(kept * 30)
            for _ in range(30):
                assert c.reply()[0] == 401
        c.close()
        last = refuse(h, whole('msg_last', key=b'wrong'))
        flood = rejected(h, '?source=demo&limit=1000')
        assert len(flood) == 64 and flood[0] == last, (len(flood), flood[0])
        assert [r['time'] for r in flood] == sorted((r['time'] for r in flood), reverse=True)
        assert rejected(h, '?source=quiet') == [first]
        assert rejected(h)[-1] == first and len(rejected(h)) == 65 and len(rejected(h, '?limit=7')) == 7
        h.reload()
        assert rejected(h, '?source=quiet') == [first]
        assert h.status()['sources']['demo']['rejected'] == {'bad_signature': 301}
    finally:
        h.clean()


if __name__ == '__main__':
    Tap().run(true_reasons, nothing_is_given_away, what_strangers_write, a_flood_hides_nothing)
