"""Every preset with keys made for it: `hookline send` sends what its provider would, and the running program takes it once.
A delivery of each that was changed on its way is refused. Handshakes are answered, and nothing of them is logged."""
import json
import os
import subprocess
import tempfile

from client import exchange, parse_replies
from servers import HOOKLINE, Hookline, Tap, until

NEEDS = {
    'gemini-dynamic': 'path: /hooks/gemini-dynamic/{token}\n    path_token: tkn\n    audience: URL',
    'google-pubsub': 'audience: URL\n    email: push@example.iam.gserviceaccount.com',
    'assemblyai': 'header: authorization',
    'twilio': 'url: URL', 'square': 'url: URL',
    'meta': 'verify_token: sesame',
}
# their certificates lie on the providers' own hosts; tests/unit/source/test_keys.c has them
CERTIFICATES = ('paypal', 'aws-sns')
# of these the body is not signed, so that another body is taken
FETCHED = ('gemini-dynamic', 'fal', 'google-pubsub', 'plaid')
BARE = ('none', 'token', 'assemblyai', 'luma', 'huggingface', 'microsoft-graph', 'cloudevents', 'google-pubsub')


def cli(*args, code=0):
    p = subprocess.run([HOOKLINE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.returncode == code, (args, p.returncode, p.stderr)
    return p.stdout.decode()


def url_of(h, name):
    return f'http://127.0.0.1:{h.port}/hooks/{name}{"/tkn" if name == "gemini-dynamic" else ""}'


def keys_of(folder, name):
    """(lines of the configuration, options of send)"""
    made = os.path.join(folder, name)
    if name == 'none':
        return '', []
    cli('providers', 'keygen', name, made)
    if os.path.exists(made + '/private.pem'):
        keys = f'jwks: {{ file: {made}/jwks.json }}' if name in FETCHED else f'public_keys: {open(made + "/public").read().strip()}'
        return keys, ['--key', made + '/private.pem']
    return f'secrets: [{{ file: {made}/secret }}]', ['--secret', '@' + made + '/secret']


def all_sources(h, folder):
    names, options, text = [n for n in cli('providers').split() if n not in CERTIFICATES], {}, ''
    for name in names:
        keys, options[name] = keys_of(folder, name)
        more = NEEDS.get(name, '').replace('URL', url_of(h, name))
        text += f'\n  {name}:\n    provider: {name}\n    ' + '\n    '.join(l for l in (keys, more) if l)
    return names, options, text


def every_provider():
    with tempfile.TemporaryDirectory() as folder:
        h = Hookline()
        names, options, text = all_sources(h, folder)
        h.write_config(sources=text)
        try:
            h.start()
            for name in names:
                out = cli('send', '--provider', name, *options[name], url_of(h, name))
                assert out.split()[0] in ('200', '202', '204'), (name, out)
            assert h.status()['log']['last_lsn'] == len(names)
            events = json.loads(h.get('/v1/events?limit=100')[1])
            assert [e['source'] for e in events] == names, events
            changed(h, names, options)
            assert h.status()['log']['last_lsn'] == len(names)
            assert h.stop() == 0
        finally:
            h.clean()


def changed(h, names, options):
    for name in names:
        if name in BARE:
            continue
        curl = cli('send', '--print', '--provider', name, *options[name], url_of(h, name))
        assert curl.startswith('curl -sS -X POST -H '), curl
        data = curl.index("--data-binary '") + len("--data-binary '")
        curl = curl[:data] + curl[data] + '_' + curl[data + 1:]
        curl = curl.replace('curl -sS', 'curl -sS -w "%{http_code}"', 1)
        answers = []

        def judged():  # a key set that may be old is read again before anybody is told that the signature is wrong
            answers.append(subprocess.run(curl, shell=True, stdout=subprocess.PIPE).stdout.decode())
            return 'keys_unavailable' not in answers[-1] or name not in FETCHED
        until('the keys', judged)
        answer = answers[-1]
        assert answer.endswith('401') and 'bad_signature' in answer, (name, answer)


def handshakes():
    with tempfile.TemporaryDirectory() as folder:
        h = Hookline()
        _, _, text = all_sources(h, folder)
        h.write_config(sources=text + '\n  strict: { provider: github, secrets: [x], reject_status: 403 }')

        def ask(line, more=''):
            head = f'{line} HTTP/1.1\r\nHost: a\r\n{more}Connection: close\r\n\r\n'
            return parse_replies(exchange(h.port, head.encode()))[0]
        try:
            h.start()
            status, headers, body = ask('GET /hooks/meta?hub.mode=subscribe&hub.challenge=1158&hub.verify_token=sesame')
            assert (status, body, headers['content-type']) == (200, b'1158', 'text/plain; charset=utf-8')
            assert ask('GET /hooks/meta?hub.challenge=1&hub.verify_token=x')[0] == 401
            assert ask('POST /hooks/microsoft-graph?validationToken=a%20b', 'Content-Length: 0\r\n')[::2] == (200, b'a b')
            assert json.loads(ask('GET /hooks/x?crc_token=abc')[2])['response_token'].startswith('sha256=')
            assert ask('GET /hooks/x?crc_token=%7B%7D')[0] == 401
            status, headers, _ = ask('OPTIONS /hooks/cloudevents', 'WebHook-Request-Origin: a.example\r\n')
            assert (status, headers['webhook-allowed-origin'], headers['allow']) == (200, 'a.example', 'POST')
            assert ask('GET /hooks/github')[0] == 405
            assert ask('OPTIONS /hooks/github')[0] == 405
            status, _, body = ask('POST /hooks/strict', 'Content-Length: 0\r\n')
            assert status == 403 and json.loads(body)['error'] == 'bad_signature'
            assert b'hookline_requests_total{source="strict",code="403"} 1' in h.get('/metrics')[1]
            assert h.status()['log']['last_lsn'] == 0
            assert h.stop() == 0
        finally:
            h.clean()


def without_keys():
    """A source whose keys cannot be had answers 503, says so in /status and /metrics, and is better after a reload."""
    with tempfile.TemporaryDirectory() as folder:
        keys, options = keys_of(folder, 'fal')
        source = '\n  fal: { provider: fal, jwks: { %s } }'
        down = source % 'url: "https://127.0.0.1:9/jwks.json", allow_private: true'
        h = Hookline(sources=down)
        try:
            h.start()
            refused = subprocess.run([HOOKLINE, 'send', '--provider', 'fal', *options, url_of(h, 'fal')],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert refused.returncode == 69 and b'503 {"error":"keys_unavailable"' in refused.stdout, refused
            assert h.status()['keys']['sets']['fal']['state'] != 'ok', h.status()['keys']
            assert b'hookline_keys_up{set="fal"} 0' in h.get('/metrics')[1]
            assert h.status()['sources']['fal']['rejected'] == {'keys_unavailable': 1}
            h.write_config(sources=source % keys[len('jwks: { '):-len(' }')])
            h.reload()
            until('the keys of the file', lambda: h.status()['keys']['sets']['fal']['state'] == 'ok')
            assert cli('send', '--provider', 'fal', *options, url_of(h, 'fal')).startswith('200 ')
            assert h.stop() == 0
        finally:
            h.clean()


def what_check_says():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'c.yaml')

        def warnings(text):
            open(path, 'w').write(text + f'\nlog: {{ dir: {folder}/data }}\n')
            p = subprocess.run([HOOKLINE, 'check', '-c', path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert p.returncode == 0, p.stderr
            return p.stderr.decode()
        gh = 'sources:\n  a: { provider: github, secrets: { env: PATH }, body_bytes: 25MiB }'
        assert warnings(gh) == ''
        assert 'sends up to 26214400' in warnings(gh.replace('25MiB', '1MiB'))
        assert 'a secret stands in the file' in warnings(gh.replace('{ env: PATH }', '[x]'))
        none = 'sources:\n  a: { provider: none }'
        assert 'takes whatever anybody sends' in warnings(none)
        assert warnings(none + '\nlisten: ["127.0.0.1:1", "unix:/tmp/x"]') == ''
        assert 'takes whatever anybody sends' in warnings(none + '\nlisten: ["127.0.0.1:1", "[::]:1"]')
        stripe = 'sources:\n  a: { provider: stripe, secrets: { env: PATH } }'
        assert warnings(stripe) == ''
        assert 'tries again for 72h' in warnings(stripe + '\ndedup: { window: 24h }')
        meta = 'sources:\n  a: { provider: meta, secrets: { env: PATH }, verify_token: { env: PATH }'
        assert 'nothing tells a repeat' in warnings(meta + ' }')
        assert warnings(meta + ', dedup: body }') == ''


def what_is_printed_is_read_again():
    with tempfile.TemporaryDirectory() as folder:
        _, _, text = all_sources(Hookline(), folder)
        path, again = os.path.join(folder, 'c.yaml'), os.path.join(folder, 'd.yaml')
        open(path, 'w').write(f"""log: {{ dir: {folder}/data }}
sources:{text}
  dated: {{ provider: github, secrets: [{{ env: PATH, not_after: 2030-01-01T00:00:00Z }}], status: 202, reject_status: 403 }}
  both: {{ all_of: {{ a: {{ algorithm: token, query: k }}, b: {{ algorithm: hmac-sha1, header: x }} }}, secrets: {{ env: PATH }} }}
""")
        printed = cli('check', '-c', path, '--print')
        assert 'not_after: "2030-01-01T00:00:00.000Z"' in printed
        open(again, 'w').write(printed)
        assert cli('check', '-c', again, '--print') == printed


def the_page():
    docs = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../docs/providers.md')
    assert cli('providers', '--docs') == open(docs).read()
    assert cli('providers', 'gemini').startswith('gemini:\n')
    cli('providers', 'gemmini', code=64)
    cli('providers', 'keygen', 'none', '/nonexistent/x', code=64)
    cli('providers', 'keygen', 'discord', '/nonexistent/x', code=74)


if __name__ == '__main__':
    Tap().run(every_provider, handshakes, without_keys, what_check_says, what_is_printed_is_read_again, the_page)
