#!/usr/bin/env python3
"""No secret in anything that hookline put out. While the end-to-end tests run, servers.py and client.py keep here what every hookline of
theirs printed, the answers of its admin listener and of its intake, core files, and the secrets of every configuration it was given.
Bodies of events are not ours to judge: some providers put what they share with us into them, and they are delivered as they came.
At the end tests/run starts this file, which looks for each of the secrets in all of it, after it has found one that it plants.

HOOKLINE_OUTPUTS names the folder; without it nothing is kept."""
import base64
import binascii
import glob
import os
import re
import shutil
import sys

FOLDER = os.environ.get('HOOKLINE_OUTPUTS')
SHORTEST = 8  # shorter ones stand in the middle of other words
KEYS = r'secrets?|token|read_token|path_token|verify_token|password|redis_password|sasl\.password|ssl\.key\.password'
VALUE = re.compile(rf'(?<![\w.])(?:{KEYS})\s*:\s*(\[[^\]]*\]|{{[^}}]*}}|"[^"]*"|[^\s,}}\]]+)')
INSIDE = re.compile(r'(?:(file|env)\s*:\s*)?(?:"([^"]*)"|([^\s,\[\]{}"]+))')
shapes = set()


def add(name, data):
    with open(os.path.join(FOLDER, name), 'ab') as f:
        f.write(data + b'\n')


def keep_event_free(path, data):
    """An answer of the admin listener."""
    if not path.startswith(('/v1/events', '/v1/jobs')):
        keep_answer(path.encode() + b' ' + data)


def keep_answer(data):
    """One of each shape: ten thousand like it say nothing more."""
    if FOLDER and (shape := re.sub(rb'[0-9a-f-]{36}|\d+', b'', data)) not in shapes:
        shapes.add(shape)
        add(f'answers-{os.getpid()}', data)


def keep_files(folder):
    """What the processes of a folder printed, and whether one of them left a core file."""
    if FOLDER:
        for path in glob.glob(os.path.join(folder, 'log*')) + glob.glob(os.path.join(folder, 'core*')):
            if os.path.isfile(path):
                shutil.copyfile(path, os.path.join(FOLDER, f'{os.path.basename(folder)}-{os.path.basename(path)}'))


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except (OSError, UnicodeDecodeError):
        return ''


def secrets_of(config, env):
    """Those of a configuration, by the keys under which they stand, and the private keys that it names."""
    text, out = read(config), set()
    for value in VALUE.findall(text):
        for kind, quoted, plain in INSIDE.findall(value):
            word = quoted or plain
            if word.endswith(':'):
                continue  # the key of another setting
            out.add(read(word).strip() if kind == 'file' else env.get(word, '') if kind == 'env' else word)
    for path in re.findall(r'"?(/[^\s",\]]+\.key)\b', text):
        out |= {line for line in read(path).split('\n') if not line.startswith('-----')}
    return {s for s in out if s and '\n' not in s}


def keep_secrets(config, env=None):
    if FOLDER:
        for secret in secrets_of(config, env or os.environ):
            add('secrets', secret.encode())


def forms(secret):
    """As it is written, and the bytes of the key where they are text or not."""
    yield secret
    if secret.startswith(b'whsec_'):
        yield secret[6:]
        try:
            yield base64.b64decode(secret[6:], validate=True)
        except binascii.Error:
            pass


def find(folder):
    """(secrets looked for, those too short, outputs, what was found where)."""
    with open(os.path.join(folder, 'secrets'), 'rb') as f:
        known = set(f.read().split(b'\n')) - {b''}
    wanted = {s: [f for f in forms(s) if len(f) >= SHORTEST] for s in known if len(s) >= SHORTEST}
    found, outputs = [], [n for n in os.listdir(folder) if n != 'secrets']
    for name in outputs:
        with open(os.path.join(folder, name), 'rb') as f:
            data = f.read()
        found += [(name, s.decode(), data[max(0, data.find(w) - 100):data.find(w) + 100]) for s, ws in wanted.items() for w in ws if w in data]
    return wanted, len(known) - len(wanted), outputs, found


def plant(folder, secret):
    """Whether it is found among bytes that are no text, as in a core file."""
    with open(os.path.join(folder, 'planted'), 'wb') as f:
        f.write(os.urandom(1000) + secret + os.urandom(1000))
    found = any(name == 'planted' and s == secret.decode() for name, s, _ in find(folder)[3])
    os.unlink(os.path.join(folder, 'planted'))
    return found


def main():
    folder = FOLDER
    wanted, short, outputs, found = find(folder)
    size = sum(os.path.getsize(os.path.join(folder, n)) for n in outputs)
    for name, secret, around in found:
        print(f'# {secret} in {name}: {around!r}')
    print(f'{"not " if found else ""}ok 1 - no secret of {len(wanted)} stands in {len(outputs)} outputs of {size >> 10} KiB ({short} are too short to look for)')
    missed = [secret for secret in sorted(wanted)[:3] if not plant(folder, secret)]
    print(f'{"not " if missed or not wanted or not outputs else ""}ok 2 - one that is planted in an output is found')
    print('1..2')
    return bool(found or missed or not wanted)


if __name__ == '__main__':
    sys.exit(main())
