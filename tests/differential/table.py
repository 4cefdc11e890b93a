"""The libraries that hookline is compared with, one row each."""
import collections

import schemes

SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
TEXT = '8f742231b10e8888abcd99yyyzzz85a5'
SEED = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60'
MSG, GUID = 'msg_2KWPBgLlAfxdpx2AI54pPJ85f4W', '72d3162e-cc78-11e3-81ab-4c9367dc0958'
FORM = b'CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&Body=a+b%26c&Empty='
JSON = b'{"id":"evt_123","type":"job.succeeded","data":{"id":"job_1","n":[1,2,{"k":null}]},"created":1763158400}'

Row = collections.namedtuple('Row', 'where name preset scheme secret ident body key', defaults=('secrets',))
# where it runs, package, preset, how it signs, a secret, an id, a body, where hookline is given the secret
LIBRARIES = [
    Row('python', 'standardwebhooks', 'standard-webhooks', schemes.Standard(), SECRET, MSG, JSON),
    Row('node', 'standardwebhooks', 'gemini', schemes.Standard(), SECRET, MSG, JSON),
    Row('python', 'svix', 'svix', schemes.Svix(), SECRET, MSG, JSON),
    Row('node', 'svix', 'svix', schemes.Svix(), SECRET, MSG, JSON),
    Row('python', 'openai', 'openai', schemes.Standard(), SECRET, 'wh_685c059ae39c8190af8c71ed1022a24d', JSON),
    Row('node', 'openai', 'openai', schemes.Standard(), SECRET, 'wh_685c059ae39c8190af8c71ed1022a24d', JSON),
    Row('node', 'replicate', 'replicate', schemes.Standard(), SECRET, MSG, JSON),
    Row('python', 'stripe', 'stripe', schemes.Stripe(), SECRET, 'evt_123', JSON),
    Row('node', 'stripe', 'stripe', schemes.Stripe(), SECRET, 'evt_123', JSON),
    Row('python', 'gidgethub', 'github', schemes.GitHub(), TEXT, GUID, JSON),
    Row('node', '@octokit/webhooks-methods', 'github', schemes.GitHub(), TEXT, GUID, JSON),
    Row('python', 'slack-sdk', 'slack', schemes.Slack(), TEXT, '', JSON),
    Row('node', '@slack/bolt', 'slack', schemes.Slack(), TEXT, '', JSON),
    Row('python', 'twilio', 'twilio', schemes.Twilio(), TEXT, '', FORM),
    Row('node', 'twilio', 'twilio', schemes.Twilio(), TEXT, '', FORM),
    Row('python', 'discord-interactions', 'discord', schemes.Discord(), SEED, '', JSON, 'public_keys'),
    Row('node', 'discord-interactions', 'discord-interactions', schemes.Discord(), SEED, '', JSON, 'public_keys'),
]

# The libraries that a comparison is not whole without: when one is skipped, the line says so.
GATE = {'standardwebhooks', 'svix', 'stripe', 'openai', 'slack-sdk', 'twilio', 'discord-interactions',
        '@octokit/webhooks-methods'}
