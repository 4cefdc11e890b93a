/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding. Pure; whatever is read is checked before it is believed. */
#include "format.h"

#include "crc32c.h"

#define BATCH_MAGIC 0x31424c48u /* "HLB1" */
static const char segment_magic[8] = "HOOKWAL1";

static void put16(uint8_t *p, size_t v)
{
    uint16_t le = htole16((uint16_t)v);

    memcpy(p, &le, sizeof le);
}

static size_t get16(const uint8_t *p)
{
    uint16_t le;

    memcpy(&le, p, sizeof le);
    return le16toh(le);
}

static uint32_t seeded(uint64_t salt, uint64_t position, const uint8_t *p, size_t n)
{
    uint8_t seed[16];

    format_put64(seed, salt);
    format_put64(seed + 8, position);
    return crc32c(crc32c(0, seed, sizeof seed), p, n);
}

/* 0 magic, 8 format, 12 lowest reader, 16 log id, 32 number, 40 salt, 48 bytes, 56 writer, 88
 * flags, 92 CRC */
void format_put_segment(uint8_t out[SEGMENT_HEADER], const struct segment_header *h)
{
    memset(out, 0, SEGMENT_HEADER);
    memcpy(out, segment_magic, 8);
    format_put32(out + 8, h->format);
    format_put32(out + 12, h->min_reader);
    memcpy(out + 16, h->log_id, 16);
    format_put64(out + 32, h->number);
    format_put64(out + 40, h->salt);
    format_put64(out + 48, h->bytes);
    memcpy(out + 56, h->writer, sizeof h->writer);
    format_put32(out + 88, h->flags);
    format_put32(out + 92, crc32c(0, out, 92));
}

int format_get_segment(const uint8_t in[SEGMENT_HEADER], struct segment_header *h)
{
    if (memcmp(in, segment_magic, 8) || format_get32(in + 92) != crc32c(0, in, 92))
        return 1;
    h->format = format_get32(in + 8);
    h->min_reader = format_get32(in + 12);
    memcpy(h->log_id, in + 16, 16);
    h->number = format_get64(in + 32);
    h->salt = format_get64(in + 40);
    h->bytes = format_get64(in + 48);
    memcpy(h->writer, in + 56, sizeof h->writer);
    h->writer[sizeof h->writer - 1] = '\0';
    h->flags = format_get32(in + 88);
    return h->min_reader > FORMAT_VERSION ? 2 : 0;
}

/* 0 magic, 4 CRC of what follows, 8 first LSN, 16 count, 20 length, 24 durable, 32 position, 40
 * number */
void format_put_batch(uint8_t out[BATCH_HEADER], const struct batch_header *h, uint64_t salt)
{
    format_put32(out, BATCH_MAGIC);
    format_put64(out + 8, h->first_lsn);
    format_put32(out + 16, h->count);
    format_put32(out + 20, h->length);
    format_put64(out + 24, h->durable_lsn);
    format_put64(out + 32, h->position);
    format_put64(out + 40, h->flags);
    format_put32(out + 4, seeded(salt, h->position, out + 8, BATCH_HEADER - 8));
}

bool format_get_batch(const uint8_t in[BATCH_HEADER], struct batch_header *h, uint64_t salt,
                      uint64_t position)
{
    if (format_get32(in) != BATCH_MAGIC || format_get64(in + 32) != position ||
        format_get32(in + 4) != seeded(salt, position, in + 8, BATCH_HEADER - 8))
        return false;
    h->first_lsn = format_get64(in + 8);
    h->count = format_get32(in + 16);
    h->length = format_get32(in + 20);
    h->durable_lsn = format_get64(in + 24);
    h->position = position;
    h->flags = format_get64(in + 40);
    return true;
}

uint32_t format_chain(uint32_t chain, const uint8_t batch[BATCH_HEADER])
{
    return crc32c(chain, batch, BATCH_HEADER);
}

static size_t plain_bytes(const struct record *rec)
{
    return RECORD_HEADER + rec->source.n + rec->id.n + rec->type.n + rec->subject.n +
           rec->content_type.n + rec->headers.n + rec->body.n;
}

size_t format_record_bytes(const struct record *rec)
{
    return format_align(plain_bytes(rec));
}

static uint8_t *put_span(uint8_t *p, struct span s)
{
    if (s.n)
        memcpy(p, s.p, s.n);
    return p + s.n;
}

/* 0 length, 4 CRC of what follows, 8 LSN, 16 time, 24 kind, 26 source, 28 id, 30 type, 32 subject,
 * 34 content type (lengths), 36 headers, 40 body (lengths), 44 zero */
void format_put_record(uint8_t *out, const struct record *rec, uint64_t salt, uint64_t position)
{
    size_t n = plain_bytes(rec);
    uint8_t *p = out + RECORD_HEADER;

    format_put32(out, (uint32_t)n);
    format_put64(out + 8, rec->lsn);
    format_put64(out + 16, (uint64_t)rec->time_ms);
    put16(out + 24, rec->kind);
    put16(out + 26, rec->source.n);
    put16(out + 28, rec->id.n);
    put16(out + 30, rec->type.n);
    put16(out + 32, rec->subject.n);
    put16(out + 34, rec->content_type.n);
    format_put32(out + 36, (uint32_t)rec->headers.n);
    format_put32(out + 40, (uint32_t)rec->body.n);
    format_put32(out + 44, 0);
    p = put_span(p, rec->source);
    p = put_span(p, rec->id);
    p = put_span(p, rec->type);
    p = put_span(p, rec->subject);
    p = put_span(p, rec->content_type);
    p = put_span(p, rec->headers);
    p = put_span(p, rec->body);
    memset(p, 0, format_align(n) - n);
    format_put32(out + 4, seeded(salt, position, out + 8, n - 8));
}

static struct span get_span(const uint8_t **p, size_t n)
{
    struct span s = { (const char *)*p, n };

    *p += n;
    return s;
}

size_t format_get_record(const uint8_t *in, size_t n, struct record *rec, uint64_t salt,
                         uint64_t position)
{
    const uint8_t *p = in + RECORD_HEADER;
    size_t length, sum;

    if (n < RECORD_HEADER)
        return 0;
    length = format_get32(in);
    sum = RECORD_HEADER + get16(in + 26) + get16(in + 28) + get16(in + 30) + get16(in + 32) +
          get16(in + 34) + (size_t)format_get32(in + 36) + format_get32(in + 40);
    if (length != sum || format_align(length) > n ||
        format_get32(in + 4) != seeded(salt, position, in + 8, length - 8))
        return 0;
    rec->lsn = format_get64(in + 8);
    rec->time_ms = (int64_t)format_get64(in + 16);
    rec->kind = (enum record_kind)get16(in + 24);
    rec->source = get_span(&p, get16(in + 26));
    rec->id = get_span(&p, get16(in + 28));
    rec->type = get_span(&p, get16(in + 30));
    rec->subject = get_span(&p, get16(in + 32));
    rec->content_type = get_span(&p, get16(in + 34));
    rec->headers = get_span(&p, format_get32(in + 36));
    rec->body = get_span(&p, format_get32(in + 40));
    rec->replay = SPAN_NONE;
    rec->transformed = false;
    return format_align(length);
}

uint64_t format_last_lsn(const struct record *rec)
{
    return rec->kind == RECORD_LOST && rec->body.n >= 8
               ? MAX(rec->lsn, format_get64((const uint8_t *)rec->body.p))
               : rec->lsn;
}

uint64_t format_lsns(const struct record *rec)
{
    return rec->kind == RECORD_MARKER ? 0 : format_last_lsn(rec) - rec->lsn + 1;
}

void format_put_marker(uint8_t body[MARKER_BODY], const struct marker *m)
{
    format_put64(body, m->kind);
    format_put64(body + 8, m->number);
    format_put64(body + 16, m->last_lsn);
    format_put64(body + 24, m->end);
    format_put64(body + 32, m->chain);
}

bool format_get_marker(struct span body, struct marker *m)
{
    const uint8_t *p = (const uint8_t *)body.p;

    if (body.n != MARKER_BODY)
        return false;
    *m = (struct marker){ .kind = (enum marker_kind)format_get64(p),
                          .number = format_get64(p + 8),
                          .last_lsn = format_get64(p + 16),
                          .end = format_get64(p + 24),
                          .chain = (uint32_t)format_get64(p + 32) };
    return true;
}
