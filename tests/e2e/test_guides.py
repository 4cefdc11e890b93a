"""The guides in docs/: their settings are accepted, their commands do what they say, a rotation refuses nothing, and what
`hookline send` sends is as their JSON Schemas say."""
import base64
import glob
import hashlib
import hmac
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

from client import Connection
from servers import HOOKLINE, ROOT, SECRET, Hookline, Skip, Tap, until

DOCS = os.path.join(ROOT, 'docs')
GUIDES = ('gemini', 'openai', 'replicate')


def blocks(path, *languages):
    """[(language, text)] of the fenced blocks in a page, also of those in lists."""
    found = re.findall(r'^( *)```(\w+)\n(.*?)^\1```$', open(path).read(), re.M | re.S)
    return [(language, textwrap.dedent(text)) for _, language, text in found if language in languages]


def cli(*args):
    return subprocess.run([HOOKLINE, *args], stdout=subprocess.PIPE, check=True).stdout.decode()


def make_files(folder, text):
    """Whatever a configuration names, so that it can be checked."""
    for name in (os.path.join(folder, n) for n in re.findall(r'file: ([^ ,}]+)', text)):
        where = os.path.dirname(name)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        if name.endswith('.json'):
            cli('providers', 'keygen', 'gemini-dynamic', where)
            continue
        os.makedirs(where, exist_ok=True)
        with open(name, 'w') as f:
            f.write(SECRET)


def settings_are_accepted():
    """every configuration in the guides and the README is accepted by `hookline check`, without a warning"""
    pages = [os.path.join(DOCS, g + '.md') for g in (*GUIDES, 'jobs', 'forwarding')] + [os.path.join(ROOT, 'README.md')]
    for page in pages:
        all_of_it = [text for _, text in blocks(page, 'yaml')]
        assert all_of_it, page
        for text in all_of_it:
            with tempfile.TemporaryDirectory() as folder:
                make_files(folder, text)
                with open(os.path.join(folder, 'hookline.yaml'), 'w') as f:
                    f.write(re.sub(r'dir: [^ ]+', f'dir: {folder}/data, allow_volatile: true', text))
                env = dict(os.environ, **{name: SECRET for name in re.findall(r'env: (\w+)', text)})
                p = subprocess.run([HOOKLINE, 'check', '-c', 'hookline.yaml'], cwd=folder, env=env, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
                warned = [l for l in p.stderr.decode().split('\n') if l]
                if 'jwks: { file' in text:  # the one for trying has keys of its own and no JWT
                    warned = [l for l in warned if 'audience is missing' not in l]
                assert p.returncode == 0 and not warned, (page, text, p.stderr)


def links_lead_somewhere():
    """links between the pages lead to a page and to a heading that is there"""
    for page in [*glob.glob(DOCS + '/*.md'), *glob.glob(ROOT + '/*.md')]:
        for target in re.findall(r'\]\(([^)\s]+)\)', open(page).read()):
            if ':' in target:
                continue
            path, _, heading = target.partition('#')
            there = os.path.join(os.path.dirname(page), path) if path else page
            assert os.path.exists(there), (page, target)
            headings = [re.sub(r'[^\w -]', '', h).strip().lower().replace(' ', '-')
                        for h in re.findall(r'^#+ (.*)$', open(there).read(), re.M)] if heading else []
            assert not heading or heading in headings, (page, target, headings)


class Reader(Hookline):
    """Somebody who follows a guide, block after block, in a folder of his own and with ports that are free."""

    def write(self, text):
        text = text.replace('127.0.0.1:8080', f'127.0.0.1:{self.port}')
        text = re.sub(r'(dir: \./hookline-data) }', r'\1, allow_volatile: true }', text)
        with open(self.config, 'w') as f:
            f.write(text + f'\nadmin: {{ listen: 127.0.0.1:{self.admin} }}\nshutdown: {{ delay: 0s }}\n')

    def run(self, text):
        loaded = self.status()['config']['loaded_at'] if self.p else None
        here = text.replace('127.0.0.1:8080', f'127.0.0.1:{self.port}')
        here = here.replace('hookline tail', f'hookline tail --admin http://127.0.0.1:{self.admin}')
        if self.p:
            here = here.replace('"$(pidof hookline)"', str(self.p.pid))
        env = dict(os.environ, PATH=os.path.dirname(HOOKLINE) + ':' + os.environ['PATH'])
        p = subprocess.run(['sh', '-e', '-c', here], cwd=self.dir, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert p.returncode == 0, (text, p.stdout.decode(), self.text('log') if self.p else '')
        if 'kill -HUP' in text:
            until('the reload', lambda: self.reloaded(loaded))
        return p.stdout.decode()

    def reloaded(self, before):
        s = self.status()
        assert s['config']['reload_ok'], self.text('log')
        return s['config']['loaded_at'] != before and all(k['state'] == 'ok' for k in s.get('keys', {}).get('sets', {}).values())


def follow(guide):
    h, sent, refused, printed = Reader(), 0, 0, ''
    try:
        for language, text in blocks(os.path.join(DOCS, guide + '.md'), 'yaml', 'sh'):
            if language == 'yaml':
                h.write(text)
            elif text.startswith('hookline serve'):
                h.start()
            else:
                printed += h.run(text)
                no = len(re.findall(r'^! hookline send', text, re.M))
                sent, refused = sent + len(re.findall(r'^(?:! )?hookline send', text, re.M)) - no, refused + no
        s = h.status()
        assert sent >= 4 and s['log']['last_lsn'] == sent, (sent, s)
        assert sum(n for source in s['sources'].values() for n in source['rejected'].values()) == refused, s
        assert h.stop() == 0
        return printed
    finally:
        h.clean()


def gemini_page():
    """docs/gemini.md, followed literally: static, rotation, dynamic"""
    printed = follow('gemini')
    assert '"error_code"' in printed and 'batch-1' in printed, printed


def openai_page():
    """docs/openai.md, followed literally"""
    assert 'response.completed' in follow('openai')


def replicate_page():
    """docs/replicate.md, followed literally"""
    assert 'failed' in follow('replicate')


def python_blocks_compile():
    """the Python in the guides is Python"""
    for guide in (*GUIDES, 'consuming'):
        found = blocks(os.path.join(DOCS, guide + '.md'), 'python')
        assert found, guide
        for _, text in found:
            compile(text, guide, 'exec')


class Provider:
    """Sends distinct deliveries over some connections, signed by whichever secrets `now` says; counts every answer."""

    def __init__(self, port, secrets, connections=4):
        self.port, self.now, self.stopping = port, [secrets], False
        self.acked, self.refused, self.answered = [], [], [0] * connections
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(connections)]
        for t in self.threads:
            t.start()

    def work(self, number):
        c, n = Connection(self.port), 0
        while not self.stopping:
            n += 1
            secrets = random.choice(self.now)
            try:
                answer = c.ask(delivery(f'msg_{number}_{n}', secrets))
            except OSError as e:
                answer = (str(e), {}, b'')
            if answer and answer[0] == 200:
                self.acked.append(f'msg_{number}_{n}')
            else:
                self.refused.append((number, n, len(secrets), answer))
            self.answered[number] = n
            if not answer or answer[0] != 200 or answer[1].get('connection') == 'close':
                c.close()
                c = Connection(self.port)
            time.sleep(0.002)
        c.close()

    def some_more(self, count=40):
        """Some of each connection, so that what was signed before this call is answered too."""
        goal = [n + count for n in self.answered]
        until('more deliveries', lambda: all(n >= g for n, g in zip(self.answered, goal)))
        assert not self.refused, self.refused[:3]

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join()


def delivery(ident, secrets):
    body = json.dumps({'type': 'batch.succeeded', 'data': {'id': ident}}).encode()
    stamp = int(time.time())
    signed = f'{ident}.{stamp}.'.encode() + body
    macs = ' '.join('v1,' + base64.b64encode(hmac.new(base64.b64decode(s[6:]), signed, hashlib.sha256).digest()).decode()
                    for s in secrets)
    return (f'POST /hooks/gemini HTTP/1.1\r\nHost: a\r\nwebhook-id: {ident}\r\nwebhook-timestamp: {stamp}\r\n'
            f'webhook-signature: {macs}\r\nContent-Length: {len(body)}\r\n\r\n').encode() + body


def rotation():
    """a rotation under load refuses nothing and loses nothing: old, both, new; the old secret is refused afterwards"""
    h, provider = Hookline(), None
    paths = [os.path.join(h.dir, name) for name in ('old', 'new')]
    for path in paths:
        cli('providers', 'keygen', 'gemini', path)
    old, new = (open(path + '/secret').read().strip() for path in paths)

    def settings(*wanted):
        files = ', '.join(f'{{ file: {path}/secret }}' for path in wanted)
        h.write_config(sources=f'\n  gemini: {{ provider: gemini, secrets: [{files}] }}')

    def reload(*wanted):
        before = h.status()['config']['loaded_at']
        settings(*wanted)
        h.reload()
        until('the reload', lambda: h.status()['config']['loaded_at'] != before)
        assert h.status()['config']['reload_ok'], h.text('log')
        provider.some_more()

    settings(paths[0])
    try:
        h.start()
        provider = Provider(h.port, [old])
        provider.some_more()
        provider.now = [[old, new], [new, old]]  # rotated at the provider: it signs by both for a day
        provider.some_more()
        reload(paths[1], paths[0])
        provider.now = [[old], [new], [old, new], [new, old]]  # whatever it does now is right
        provider.some_more()
        reload(paths[1], paths[0])
        provider.now = [[new]]  # the day is over
        provider.some_more()
        reload(paths[1])
        provider.stop()
        assert not provider.refused, provider.refused[:3]
        logged = [e['id'] for e in all_events(h)]
        assert sorted(logged) == sorted(provider.acked), (len(logged), len(provider.acked))
        assert h.status()['sources']['gemini']['rejected'] == {}
        c = Connection(h.port)
        assert c.ask(delivery('msg_late', [old]))[0] == 401
        c.close()
        print(f'# {len(logged)} deliveries, none refused', flush=True)
        assert h.stop() == 0
    finally:
        if provider:
            provider.stop()
        h.clean()


def all_events(h):
    out, after = [], 0
    while True:
        _, text, answer = h.get(f'/v1/events?after={after}&limit=500')
        page = json.loads(text)
        if not page:
            return out
        out += page
        after = answer.headers['Hookline-Next']


SCHEMAS = {'gemini': 'gemini-event', 'gemini-dynamic': 'gemini-event', 'openai': 'openai-event',
           'replicate': 'replicate-prediction'}
# What a body may not be: the change of a good one, for a type.
WRONG = {
    'gemini-event': (('batch.failed', ('data', 'error_message'), 7), ('batch.failed', ('data', 'error_code'), []),
                     ('batch.succeeded', ('data', 'id'), 7), ('batch.succeeded', ('data', 'id'), None),
                     ('video.generated', ('data',), None), ('interaction.completed', ('type',), None),
                     ('interaction.completed', ('timestamp',), None), ('batch.succeeded', ('data', 'output_file_uri'), {})),
    'openai-event': (('response.completed', ('object',), 'response'), ('response.completed', ('created_at',), '1'),
                     ('batch.failed', ('data', 'id'), None), ('batch.failed', ('data',), None), ('batch.failed', ('id',), None)),
    'replicate-prediction': (('succeeded', ('id',), None), ('succeeded', ('status',), None), ('failed', ('status',), 3)),
}


def body_of(provider, keys, kind):
    words = shlex.split(cli('send', '--print', '--provider', provider, *keys, '--type', kind, 'http://127.0.0.1/'))
    return json.loads(words[words.index('--data-binary') + 1])


def changed(body, path, value):
    body = json.loads(json.dumps(body))
    at = body
    for name in path[:-1]:
        at = at[name]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return body


def validator():
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        sys.path.append('/usr/lib/python3/dist-packages')  # Debian's packages serve Debian's own interpreter
        try:
            from jsonschema import Draft202012Validator
        except ImportError:
            raise Skip('the Python module jsonschema is not installed') from None
    return Draft202012Validator


def schemas():
    """what `hookline send` sends is as the JSON Schemas say, for every type; what is wrong is not"""
    validate = validator()
    checks = {}
    for name in set(SCHEMAS.values()):
        with open(f'{DOCS}/schemas/{name}.json') as f:
            schema = json.load(f)
        validate.check_schema(schema)
        checks[name] = validate(schema)
    with tempfile.TemporaryDirectory() as folder:
        cli('providers', 'keygen', 'gemini-dynamic', folder + '/k')
        for provider, name in SCHEMAS.items():
            keys = ['--key', folder + '/k/private.pem'] if provider == 'gemini-dynamic' else ['--secret', SECRET]
            known = checks[name].schema['properties']
            for kind in known['type' if 'type' in known else 'status']['examples'] + ['some.new']:
                errors = [e.message for e in checks[name].iter_errors(body_of(provider, keys, kind))]
                assert not errors, (provider, kind, errors)
            for kind, path, value in WRONG[name]:
                wrong = changed(body_of(provider, keys, kind), path, value)
                assert not checks[name].is_valid(wrong), (name, kind, path, value)
    assert checks['gemini-event'].is_valid({'type': 'ping'})  # without data: nobody has written down what a ping is


if __name__ == '__main__':
    Tap().run(settings_are_accepted, links_lead_somewhere, python_blocks_compile, gemini_page, openai_page, replicate_page,
              rotation, schemas)
