"""Where hookline and a library may differ, and why. Each entry holds for all cases of its mutation, and must occur:
when a library or hookline changes its mind, the test fails until this table says so.

What hookline accepts and a library refuses comes first: each of these is signed with the secret, byte for byte as it
arrived, or is the same signature written in another way.
"""
import base64

REFUSES, ACCEPTS = 'hookline refuses', 'hookline accepts'

# Python before 3.13 does not look at it.
BEHIND_PADDING = ['signature: a character behind', 'base64: text behind the padding']
PASSED_OVER = BEHIND_PADDING if base64.b64decode('QQ==QQ==') == b'A' else []

# direction, reason, libraries to mutations
DIFFERENCES = [
    (ACCEPTS,
     'The signature is over bytes; the library makes text of them first, which these do not survive.',
     {
         'node/@octokit/webhooks-methods node/@slack/bolt */openai node/replicate python/slack-sdk '
         '*/standardwebhooks */stripe */svix': [
             'signed: broken UTF-8', 'signed: a lone surrogate',
         ],
         'node/stripe': [
             'signed: byte order mark',
         ],
     }),
    (ACCEPTS,
     'The header is there and signed; without an id the delivery is not told from repeats, as with providers '
     'that send none.',
     {
         'node/openai node/replicate */standardwebhooks */svix': [
             'signed: empty id',
         ],
     }),
    (ACCEPTS,
     "The signature is over the header's bytes; frameworks hand it over as Latin-1 and the library signs it as "
     'UTF-8.',
     {
         '*/openai node/replicate */standardwebhooks */svix': [
             'signed: id beyond ASCII',
         ],
     }),
    (ACCEPTS,
     "A time in whole seconds is compared with whole seconds; the library's clock has fractions.",
     {
         'python/slack-sdk python/standardwebhooks python/stripe python/svix': [
             'time: 5 minutes and 900 ms old',
         ],
     }),
    (ACCEPTS,
     "The header's own text is signed; the library signs the number that it read.",
     {
         '*/standardwebhooks */stripe */svix': [
             'time with a zero in front, as signed',
         ],
     }),
    (ACCEPTS,
     'A proxy may have doubled the line: the same text again decides nothing. The library is handed both, '
     'joined by a comma.',
     {
         'node/@octokit/webhooks-methods node/@slack/bolt */discord-interactions python/gidgethub '
         'python/slack-sdk python/standardwebhooks python/svix */twilio': [
             'signature: twice, the same header',
         ],
     }),
    (ACCEPTS,
     'Items that are none of ours are passed over; the library gives up at them.',
     {
         'python/standardwebhooks python/svix': [
             'list: a word in front', 'list: separators twice',
         ],
         'python/standardwebhooks python/stripe python/svix': [
             'list: comma and blank',
         ],
     }),
    (ACCEPTS,
     'The prefix may be left out in the configuration; the library then takes the text itself as the key.',
     {
         '*/openai': [
             'secret: without whsec_',
         ],
     }),
    (ACCEPTS,
     'The padding may be left out in the configuration; the library wants it.',
     {
         'python/openai': [
             'secret: its padding missing',
         ],
     }),
    (ACCEPTS,
     'The library wants a body before it looks at the signature; this one is signed.',
     {
         'node/@octokit/webhooks-methods node/replicate': [
             'signed: empty body',
         ],
     }),
    (ACCEPTS,
     "Blanks around an item are taken off; the library takes them as part of the scheme's name.",
     {
         '*/stripe': [
             'time: a blank in front of its name',
         ],
         'node/stripe': [
             'list: comma and blank',
         ],
     }),
    (ACCEPTS,
     'The same digest in other letters; the library compares texts.',
     {
         'node/@octokit/webhooks-methods node/@slack/bolt python/gidgethub python/slack-sdk */stripe': [
             'hex: capitals', 'hex: capitals and small letters',
         ],
     }),
    (ACCEPTS,
     "Of two times the first counts, is signed and is checked, as in Stripe's library for Python; this one "
     'takes the last.',
     {
         'node/stripe': [
             'time: twice, another last',
         ],
     }),
    (ACCEPTS,
     'An empty signature matches nothing; the library fails at it before it comes to the right one.',
     {
         'node/stripe': [
             'list: an empty item of our version in front',
         ],
     }),
    (ACCEPTS,
     'The same digest in other letters, and the URL that holds it is signed; the library compares texts.',
     {
         '*/twilio': [
             'digest: in capitals',
         ],
     }),
    (REFUSES,
     'The dot separates the signed parts: with one in the id the same signature would fit another id and body. '
     'Providers send none.',
     {
         '*/openai node/replicate */standardwebhooks */svix': [
             'signed: id with a dot',
         ],
     }),
    (REFUSES,
     "The header's own text must be digits and is what is signed; the library reads a number out of it and "
     'signs that.',
     {
         '*/standardwebhooks */stripe */svix': [
             'time with a plus, the number is signed', 'time with a zero in front, the number is signed',
             'time with ten zeros in front, the number is signed',
         ],
         '*/standardwebhooks node/stripe */svix': [
             'time with a dot and zero, the number is signed', 'time with half a second, the number is signed',
         ],
         'python/standardwebhooks python/stripe python/svix': [
             'time with an underscore, the number is signed',
         ],
         'python/standardwebhooks python/svix': [
             'time as a float, the number is signed',
         ],
         'node/standardwebhooks node/stripe node/svix': [
             'time with letters behind, the number is signed',
             'time with a blank and letters behind, the number is signed',
         ],
         'node/standardwebhooks node/svix': [
             'time with a comma, the number is signed',
         ],
     }),
    (REFUSES,
     'The library decodes base64 leniently: other characters are passed over, as is what stands behind the '
     'padding, and loose bits; hookline wants the one text of a digest.',
     {
         'node/openai python/standardwebhooks python/svix': [
             'signature: a dot behind', 'signature: a tab inside', 'signature: in quotes', 'base64: padding twice',
             'base64: padding four times', 'base64: loose bits in the tail', 'base64: an asterisk inside',
         ],
         'python/standardwebhooks python/svix': [
             'signature: a dash inside', *PASSED_OVER,
         ],
         'node/openai': [
             *BEHIND_PADDING,
             'signature: its last character missing', 'signature: a byte beyond ASCII behind',
             'base64: the alphabet for URLs',
         ],
     }),
    (REFUSES,
     'At most sixteen signatures of our version are looked at, so that a sender cannot make us work; more are '
     'malformed.',
     {
         '*/openai node/replicate */standardwebhooks */stripe */svix': [
             'list: right behind 16 wrong', 'list: right before 16 wrong', 'list: right behind 60 wrong',
         ],
     }),
    (REFUSES,
     'The secret is a configuration error here: it cannot be what the provider handed out. The library makes '
     'some key of it.',
     {
         '*/openai python/standardwebhooks python/svix': [
             'secret: with an asterisk inside',
         ],
         'node/openai': [
             'secret: the alphabet for URLs',
         ],
         'node/replicate': [
             'secret: whsec_ twice', 'secret: WHSEC_', 'secret: a blank in front',
         ],
     }),
    (REFUSES,
     "A header that decides may come once (the signature's again with the same text); the library reads the "
     'joined texts as far as it understands them.',
     {
         'node/standardwebhooks node/svix': [
             'time: twice, the same', 'time: twice, a newer behind',
         ],
         'node/openai node/replicate node/standardwebhooks */stripe node/svix': [
             'signature: twice, a wrong header behind',
         ],
         '*/openai node/replicate node/standardwebhooks */stripe node/svix': [
             'signature: twice, a wrong header in front',
         ],
     }),
    (REFUSES,
     'The library takes what it knows of an item and drops the rest; hookline reads the whole item.',
     {
         'node/openai node/replicate node/standardwebhooks */stripe node/svix': [
             'list: an item with another field behind',
         ],
         '*/stripe': [
             'time: a blank before its value', 'time: a second equals sign', 'signature: a second equals sign',
         ],
     }),
    (REFUSES,
     'Digits only; the library takes all that its language reads as a number.',
     {
         '*/openai python/slack-sdk': [
             'time with a plus, as signed', 'time with ten zeros in front, as signed',
         ],
         'python/openai python/slack-sdk': [
             'time with an underscore, as signed',
         ],
         'node/openai': [
             'time with a dot and zero, as signed', 'time with half a second, as signed',
             'time with letters behind, as signed', 'time with a blank and letters behind, as signed',
             'time with a comma, as signed',
         ],
     }),
    (REFUSES,
     'The library takes a bare signature without its version, base64 without its padding, and blanks of any '
     'kind; hookline takes what the provider sends.',
     {
         '*/openai': [
             'prefix: none', 'prefix: a blank behind',
         ],
         'python/openai': [
             'list: a tab as separator',
         ],
         'node/openai': [
             'base64: no padding', 'prefix: only its mark', 'prefix: mark twice', 'prefix: a blank before its mark',
             'prefix: no version, a blank before the mark',
         ],
     }),
    (REFUSES,
     'The library does not look at the time at all; hookline takes digits, no older and no newer than the '
     'tolerance.',
     {
         '*/discord-interactions node/replicate': [
             'time: 5 minutes and a second old', 'time: an hour old', 'time: a year old',
             'time: 5 minutes and a second ahead', 'time: an hour ahead', 'time: a year ahead',
             'time with a plus, as signed', 'time with ten zeros in front, as signed',
             'time with a dot and zero, as signed', 'time with half a second, as signed',
             'time with letters behind, as signed', 'time with an underscore, as signed',
             'time as a float, as signed', 'time in hex, as signed', 'time with a blank inside, as signed',
             'time with a blank and letters behind, as signed', 'time with a comma, as signed',
             'time in milliseconds', 'time in ISO 8601', 'time below zero', 'time is 0', 'time is -1', 'time is now',
             'time is NaN', 'time is inf', 'time is 1e400', 'time is 9999999999999999999',
             'time is 99999999999999999999', 'time is null',
         ],
         'python/discord-interactions': [
             'time is empty, as signed',
         ],
     }),
    (REFUSES,
     'The library takes a signature of any version, or of none; hookline only that of the version it knows.',
     {
         'node/replicate': [
             'prefix: only its mark', 'prefix: in capitals', 'prefix: a blank before its mark',
             'prefix: the next version', 'prefix: the version before', 'prefix: v1a', 'prefix: sha1',
             'prefix: a longer version', 'prefix: no version, a blank before the mark', 'prefix: letters in front',
         ],
     }),
    (REFUSES,
     'The library does not look for times ahead of the clock; hookline allows the same five minutes there.',
     {
         'node/@slack/bolt */stripe': [
             'time: 5 minutes and a second ahead', 'time: an hour ahead', 'time: a year ahead',
             'time in milliseconds',
         ],
         'node/@slack/bolt python/stripe': [
             'time is 9999999999999999999', 'time is 99999999999999999999',
         ],
     }),
    (REFUSES,
     'Another body than was signed; the library takes a byte order mark off before it looks.',
     {
         'node/stripe': [
             'body: byte order mark in front',
         ],
     }),
    (REFUSES,
     'The library compares the time as JavaScript does, where what is no number is never too old; hookline '
     'takes digits.',
     {
         'node/@slack/bolt node/stripe': [
             'time is NaN',
         ],
         'node/@slack/bolt': [
             'time with a plus, as signed', 'time with ten zeros in front, as signed',
             'time with a dot and zero, as signed', 'time with half a second, as signed',
             'time with letters behind, as signed', 'time with an underscore, as signed',
             'time as a float, as signed', 'time in hex, as signed', 'time with a blank inside, as signed',
             'time with a blank and letters behind, as signed', 'time with a comma, as signed', 'time in ISO 8601',
             'time is now', 'time is inf', 'time is 1e400', 'time is null',
         ],
     }),
    (REFUSES,
     "Of two times the first counts, is signed and is checked, as in Stripe's library for Python; this one "
     'takes the last.',
     {
         'node/stripe': [
             'time: twice, another first',
         ],
     }),
    (REFUSES,
     'The library does not read the id. hookline tells repeats by it, so there may be one.',
     {
         'node/@octokit/webhooks-methods python/gidgethub': [
             'id: twice, the same', 'id: twice, another behind', 'id: twice, another in front',
         ],
     }),
    (REFUSES,
     'A secret of blanks is guessed at once: a configuration error, as an empty one.',
     {
         'node/@octokit/webhooks-methods node/@slack/bolt python/gidgethub */twilio': [
             'signed: secret is a blank',
         ],
     }),
    (REFUSES,
     "A field that cannot be decoded, or with a NUL, is no field of Twilio's; the library takes the escape as "
     'text.',
     {
         '*/twilio': [
             'signed: a broken escape', 'signed: an escaped NUL',
         ],
     }),
    (REFUSES,
     'Bytes that are no UTF-8: the library for Node signs U+FFFD instead of them, that for Python and hookline '
     'do not.',
     {
         'node/twilio': [
             'signed: broken UTF-8', 'signed: a lone surrogate',
         ],
     }),
    (REFUSES,
     'The library decodes hexadecimal leniently; hookline wants the one text of a signature, but for capitals.',
     {
         'python/discord-interactions': [
             'signature: a blank inside', 'signature: a tab inside', 'hex: blanks between bytes',
         ],
     }),
]
