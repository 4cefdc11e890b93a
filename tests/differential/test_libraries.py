#!/usr/bin/env python3
"""hookline against the providers' own libraries: what they sign it takes, and of everything that is made from that the
two say the same, but for the differences that differences.py lists with their reasons. One that is not listed fails,
and one that is listed and does not occur any more. SEED=N repeats a run; ONLY_LIBRARY=python/stripe looks at one.

The packages come from the registries, in the versions of requirements.txt and package-lock.json, into a folder under
build/ that later runs use again. What cannot be had is skipped, and said.
"""
import base64
import collections
import fnmatch
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
HOME = os.path.join(ROOT, 'build', 'differential')
VENV, NODE = os.path.join(HOME, 'python'), os.path.join(HOME, 'node')
VERIFY = os.path.join(ROOT, os.path.dirname(os.environ.get('HOOKLINE', 'build/release/hookline')),
                      'tests/differential/verify')
URL = 'https://hooks.example.com/hooks/differential'
T0 = 1763158400
HONEST = 40


# --- the packages -----------------------------------------------------------------------------------------------------

def same(a, b):
    try:
        with open(a, 'rb') as f, open(b, 'rb') as g:
            return f.read() == g.read()
    except OSError:
        return False


def run(*command, cwd=HERE):
    try:
        p = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return None if p.returncode == 0 else p.stdout.decode('utf-8', 'replace').strip()[-300:] or 'failed'


def install_python():
    """All at once; where that fails one by one, so that one missing package does not take the others along."""
    wanted, have = os.path.join(HERE, 'requirements.txt'), os.path.join(VENV, 'installed.txt')
    if same(wanted, have):
        return
    why = run(sys.executable, '-m', 'venv', '--clear', VENV)
    pip = [os.path.join(VENV, 'bin/pip'), 'install', '--quiet', '--retries', '1']
    if not why and run(*pip, '-r', wanted):
        with open(wanted) as f:
            why = [w for line in f.read().split() if (w := run(*pip, line))]
    if why:
        print('# python packages:', why, flush=True)
    else:
        shutil.copy(wanted, have)


def install_node():
    wanted, have = os.path.join(HERE, 'package-lock.json'), os.path.join(NODE, 'installed.json')
    if not same(wanted, have):
        os.makedirs(NODE, exist_ok=True)
        for name in ('package.json', 'package-lock.json'):
            shutil.copy(os.path.join(HERE, name), NODE)
        why = run('npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund', cwd=NODE)
        if why:
            print('# node packages:', why, flush=True)
        else:
            shutil.copy(wanted, have)
    shutil.copy(os.path.join(HERE, 'libraries.mjs'), NODE)  # it finds the packages beside it


# --- the three that verify --------------------------------------------------------------------------------------------

class Lines:
    """A program that answers every line with a line."""

    def __init__(self, *command, cwd=ROOT):
        self.process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, questions):
        def write():
            for q in questions:
                self.process.stdin.write(json.dumps(q).encode() + b'\n')
            self.process.stdin.flush()
        writer = threading.Thread(target=write)
        writer.start()
        answers = [json.loads(self.process.stdout.readline() or b'{"error":"it ended"}') for _ in questions]
        writer.join()
        return answers

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def as_framework(d):
    """The headers as libraries see them."""
    out = {}
    for k, v in [('content-type', d.content_type)] + d.headers:
        k, v = k.lower(), v.strip(' \t')
        out[k] = f'{out[k]}, {v}' if k in out else v
    return out


def public(d, secrets):
    return [d.scheme.public(s) if hasattr(d.scheme, 'public') and len(s) == 64 else s for s in secrets]


class Python:
    def __init__(self):
        import libraries
        self.all, self.made, self.libraries = libraries.LIBRARIES, {}, libraries
        libraries.take_over_clock()

    def load(self, name):
        try:
            self.made[name] = self.all[name]()
        except Exception as e:  # whatever it is, the library cannot be had
            return f'{type(e).__name__}: {e}'.split('\n')[0]

    def sign(self, name, d):
        return self.made[name].sign and self.made[name].sign(d.secret, d)[d.scheme.sig_header]

    def one(self, library, d, secret):
        self.libraries.set_clock(d.now_ms)
        try:
            return bool(library.verify(secret, as_framework(d), d.body, d.url))
        except Exception:
            return False

    def verify(self, name, deliveries):
        return [any([self.one(self.made[name], d, s) for s in public(d, d.secrets)]) for d in deliveries]


class Node:
    def __init__(self):
        self.lines = Lines('node', 'libraries.mjs', cwd=NODE)

    def load(self, name):
        return self.lines.ask([{'op': 'load', 'library': name}])[0].get('error')

    def sign(self, name, d):
        q = {'op': 'sign', 'library': name, 'secret': d.secret, 'id': d.ident, 'stamp': d.stamp, 'url': d.url,
             'body': base64.b64encode(d.body).decode()}
        return self.lines.ask([q])[0]['value']

    def verify(self, name, deliveries):
        questions, owner = [], []
        for i, d in enumerate(deliveries):
            for s in public(d, d.secrets):
                questions.append({'op': 'verify', 'library': name, 'secret': s, 'headers': as_framework(d),
                                  'url': d.url, 'body': base64.b64encode(d.body).decode(), 'now_ms': d.now_ms})
                owner.append(i)
        accepted = [False] * len(deliveries)
        for i, a in zip(owner, self.lines.ask(questions)):
            accepted[i] |= a['accepted']
        return accepted


def raw_request(d):
    """Its bytes on the wire."""
    target = d.url.split('example.com', 1)[1]
    lines = [f'POST {target} HTTP/1.1', 'Host: hooks.example.com', f'Content-Type: {d.content_type}']
    lines += [f'{k}{d.colon}{v}' for k, v in d.headers]
    body = d.body
    if d.chunked:
        lines.append('Transfer-Encoding: chunked')
        pieces = [body[i:i + 7] for i in range(0, len(body), 7)]
        body = b''.join(b'%x\r\n%s\r\n' % (len(p), p) for p in pieces) + b'0\r\n\r\n'
    else:
        lines.append(f'Content-Length: {len(body)}')
    return '\r\n'.join(lines + ['', '']).encode('latin-1') + body


class Hookline:
    def __init__(self):
        self.lines = Lines(VERIFY)

    @staticmethod
    def question(row, d):
        config = {'provider': row.preset, row.key: public(d, d.secrets)}
        if 'twilio' in row.preset:
            config['url'] = URL
        return {'config': json.dumps(config), 'now_ms': d.now_ms, 'request': base64.b64encode(raw_request(d)).decode()}

    def verify(self, row, deliveries):
        return self.lines.ask([self.question(row, d) for d in deliveries])

    def built(self, row):
        from mutations import Delivery
        a = self.verify(row, [Delivery(row.scheme, row.secret, row.ident, T0, row.body, URL)])[0]
        if a['verdict'] == 'config' and 'unknown provider' in a['detail']:
            return False
        assert a['verdict'] != 'config', a['detail']
        return True


# --- the comparison ---------------------------------------------------------------------------------------------------

def fresh(row, rng, i):
    """An ordinary delivery, another one each time."""
    from mutations import Delivery
    ident = row.ident and row.ident[:-6] + ''.join(rng.choice('0123456789abcdef') for _ in range(6))
    body = row.body.replace(b'job_1', b'job_%d' % i).replace(b'1234&', b'%d&' % i)
    return Delivery(row.scheme, row.secret, ident, T0 + i, body, URL)


def honest(row, host, rng):
    """Signed by the library, or as the provider's documentation says where it cannot sign."""
    out = []
    for i in range(HONEST):
        d = fresh(row, rng, i)
        value = host.sign(row.name, d) or d.scheme.value(str(d.stamp), [d.item()])
        d.headers = d.scheme.headers(d.ident, str(d.stamp), value)
        assert value == d.scheme.value(str(d.stamp), [d.item()]), f'{row.name} signs in another way than schemes.py'
        out.append(d)
    return out


class Comparison:
    def __init__(self, differences):
        self.differences, self.seen = differences, collections.Counter()
        self.checks, self.failed, self.skipped = 0, 0, 0
        self.accepted = self.mutated = self.libraries = 0

    def check(self, good, name, details=()):
        self.checks += 1
        self.failed += not good
        print(f'{"ok" if good else "not ok"} {self.checks} - {name}', flush=True)
        if not good:
            print('\n'.join(f'# {line}' for line in list(details)[:60]), flush=True)

    def skip(self, name, why):
        self.checks += 1
        self.skipped += 1
        print(f'ok {self.checks} - {name} # SKIP {why}', flush=True)

    def listed(self, library, mutation, direction):
        for row in self.differences:
            if row[1:] == (mutation, direction) and fnmatch.fnmatchcase(library, row[0]):
                self.seen[row, library] += 1
                return True
        return False

    def take(self, row, host, hookline, rng):
        from mutations import mutations
        library = f'{row.where}/{row.name}'
        good = honest(row, host, rng)
        theirs, ours = host.verify(row.name, good), hookline.verify(row, good)
        wrong = [f'{i}: library {t}, hookline {o}' for i, (t, o) in enumerate(zip(theirs, ours))
                 if not t or o['verdict'] != 'ok' or row.scheme.id_header and o['id'] != good[i].ident]
        self.check(not wrong, f'{library}: {len(good)} deliveries that it signs are taken as {row.preset}', wrong)
        self.accepted += len(good) - len(wrong)

        named = [(n, d) for g in (good[0], good[1]) for n, d in mutations(g, rng)]
        theirs = host.verify(row.name, [d for _, d in named])
        ours = hookline.verify(row, [d for _, d in named])
        tally = collections.defaultdict(lambda: [0, 0, 0, set()])  # agree, refuses, accepts, verdicts
        for (name, d), t, o in zip(named, theirs, ours):
            a = o['verdict'] == 'ok'
            tally[name][0 if a == t else 2 if a else 1] += 1
            tally[name][3].add(o['verdict'])
        self.mutated += len(named)
        self.check(*self.judge(library, row, tally, len(named)))
        self.libraries += 1

    def judge(self, library, row, tally, n):
        """A listed difference holds for all cases of its mutation: else one that is not understood would hide in it."""
        from differences import ACCEPTS, REFUSES
        wrong = []
        for name, (agree, refuses, accepts, verdicts) in tally.items():
            for count, direction in ((refuses, REFUSES), (accepts, ACCEPTS)):
                if not count:
                    continue
                if not self.listed(library, name, direction):
                    wrong.append(f'{library}: {name}: {direction} {count} of {agree + refuses + accepts} '
                                 f'({", ".join(sorted(verdicts))}), which is not listed')
                elif agree:
                    wrong.append(f'{library}: {name}: {direction} only {count} of {agree + count}')
        return not wrong, f'{library}: {n} mutations are judged alike', wrong

    def close(self, compared):
        """Every listed difference occurs with every library that it names, of those that were compared."""
        gone = [f'{library}: {row[1]}: {row[2]} is listed and does not occur any more'
                for row in self.differences for library in compared
                if fnmatch.fnmatchcase(library, row[0]) and not self.seen[row, library]]
        self.check(not gone, 'every listed difference occurs', gone)


def flat(differences):
    """One (library, mutation, direction) each."""
    return [(library, mutation, direction) for direction, _, where in differences
            for libraries, names in where.items() for library in libraries.split() for mutation in names]


def compare():
    from differences import DIFFERENCES
    from table import GATE, LIBRARIES
    started, seed = time.monotonic(), int(os.environ.get('SEED', '1'))
    only = os.environ.get('ONLY_LIBRARY', '*')
    hookline, c, hosts, compared = Hookline(), Comparison(flat(DIFFERENCES)), {}, []
    print(f'# seed {seed}')
    for row in LIBRARIES:
        library = f'{row.where}/{row.name}'
        if not fnmatch.fnmatchcase(library, only):
            continue
        try:
            if not hookline.built(row):
                c.skip(library, f'preset {row.preset} is not built')
                continue
            if row.where not in hosts:
                hosts[row.where] = {'python': Python, 'node': Node}[row.where]()
            host = hosts[row.where]
            why = host.load(row.name)
        except (ImportError, OSError) as e:  # nothing to sign with, or no node
            why = str(e)
        if why:
            c.skip(library, f'{"GATE: " if row.name in GATE else ""}{why}')
            continue
        c.take(row, host, hookline, random.Random(f'{seed} {library}'))
        compared.append(library)
    if compared:
        c.close(compared)
    c.check(hookline.lines.close() == 0, 'the verifying program ends well')
    if 'node' in hosts:
        hosts['node'].lines.close()
    print(f'# {c.libraries} libraries, {c.accepted} deliveries accepted, {c.mutated} mutations, {len(c.seen)} listed '
          f'differences, {c.skipped} libraries skipped, {time.monotonic() - started:.0f} s')
    print(f'1..{c.checks}')
    return c.failed > 0


def main():
    if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
        os.makedirs(HOME, exist_ok=True)
        install_python()
        install_node()
        python = os.path.join(VENV, 'bin/python')
        if not os.path.exists(python):
            print('ok 1 - comparison with libraries # SKIP no virtual environment can be made\n1..1')
            return 0
        os.execv(python, [python, os.path.abspath(__file__)])
    return compare()


if __name__ == '__main__':
    sys.exit(main())
