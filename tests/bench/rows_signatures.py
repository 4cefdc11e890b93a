"""Rows about checking signatures."""
from lab import ROUNDS, SECONDS, against, settle, tool


def keyset(row):
    ours, base = [], []
    for _ in range(ROUNDS):
        settle()
        r = tool('keyset', '-t', SECONDS)
        ours.append(r['ours_us'])
        base.append(r['bare_us'])
    return against(row, ours, base)


def check(row):
    ours, base = [], []
    for _ in range(ROUNDS):
        settle()
        r = tool('check')
        ours.append(r['whole_ns'])
        base.append(r['digest_ns'])
    return against(row, ours, base)


ROWS = [
    {'id': 'check', 'name': 'HMAC-SHA256, the whole plan of a webhook of 600 B', 'unit': 'ns', 'better': 'lower', 'gate': 2.5,
     'target': 1.8, 'run': check},
    {'id': 'keyset', 'name': 'Ed25519, a set of three keys, the last right', 'unit': 'us', 'better': 'lower', 'gate': 3.3,
     'target': 3.1, 'run': keyset},
]
