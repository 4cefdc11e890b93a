/* SPDX-License-Identifier: Apache-2.0 */
/* A segment of any content through the decoders, the scan and the judgement of a tail. Whatever is
 * handed out lies within the batch that was read, a scan ends, and its memory is bounded by the
 * file. The first byte says whether the checksums are made right first: nothing behind one would be
 * reached by chance. */
#include <sys/mman.h>
#include <unistd.h>

#include "crc32c.h"
#include "fuzz.h"
#include "wal/mend.h"

#define SALT 0x0123456789abcdefu
#define MOST (1u << 20)

static uint32_t seeded(uint64_t position, const uint8_t *p, size_t n)
{
    uint8_t seed[16];

    format_put64(seed, SALT);
    format_put64(seed + 8, position);
    return crc32c(crc32c(0, seed, sizeof seed), p, n);
}

static void mend_records(uint8_t *p, size_t n, uint64_t position)
{
    size_t length;

    for (size_t at = 0; n - at >= RECORD_HEADER; at += format_align(length)) {
        length = format_get32(p + at);
        if (length < RECORD_HEADER || format_align(length) > n - at)
            return;
        format_put32(p + at + 4, seeded(position + at, p + at + 8, length - 8));
    }
}

static void mend(uint8_t *p, size_t n)
{
    size_t length;

    for (size_t at = 0; n - at >= BATCH_HEADER; at += format_align(BATCH_HEADER + length)) {
        length = format_get32(p + at + 20);
        if (length > n - at - BATCH_HEADER)
            return;
        memcpy(p + at, "HLB1", 4);
        format_put64(p + at + 32, SEGMENT_HEADER + at);
        format_put32(p + at + 4, seeded(SEGMENT_HEADER + at, p + at + 8, BATCH_HEADER - 8));
        mend_records(p + at + BATCH_HEADER, length, SEGMENT_HEADER + at + BATCH_HEADER);
        if (format_align(BATCH_HEADER + length) > n - at)
            return;
    }
}

static void lies_within(const struct scan *sc, struct span s)
{
    const char *buf = (const char *)sc->buf;

    must(s.p >= buf && s.n <= sc->batch.length && s.p + s.n <= buf + sc->batch.length);
}

static void walk(struct segment *s)
{
    struct err e = ERR_INIT;
    struct record rec;
    struct marker m;
    struct scan sc;
    uint64_t before = SEGMENT_HEADER;

    scan_init(&sc, s->fd, s, SEGMENT_HEADER);
    while (scan_batch(&sc, &e) == SCAN_BATCH) {
        must(sc.pos > before && sc.pos <= s->bytes);
        before = sc.pos;
        while (scan_record(&sc, &rec)) {
            lies_within(&sc, rec.source);
            lies_within(&sc, rec.headers);
            lies_within(&sc, rec.body);
            (void)format_get_marker(rec.body, &m);
        }
    }
    sc.pos = SEGMENT_HEADER;
    while (scan_resync(&sc, &e) == SCAN_BATCH)
        sc.pos += 8;
    must(sc.cap <= MAX(s->bytes, MOST));
    scan_free(&sc);
}

static void judge(struct segment *s)
{
    struct err e = ERR_INIT;
    struct marker m;
    struct tail t;
    uint64_t torn;
    bool begun;

    must(!tail_begun(s, &begun, &torn, &e) && !tail_read(s, &t, &e));
    must(t.end >= SEGMENT_HEADER && t.end <= s->bytes);
    must(!tail_split(s, &t, &m, &e) && m.end <= t.end);
}

/* What a repair would patch lies within the segment. */
static void look(const struct segment *s, uint64_t end)
{
    struct mend m = { .dir = ".",
                      .head = { .number = 1, .salt = SALT, .bytes = s->bytes },
                      .first_lsn = 1,
                      .last_lsn = 9,
                      .end = end };
    struct err e = ERR_INIT;

    if (!mend_look(&m, s->fd, &e))
        for (size_t i = 0; i < m.n; i++)
            must(m.v[i].bytes && m.v[i].off + m.v[i].bytes <= m.head.bytes);
    mend_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct segment s = { .number = 1, .salt = SALT, .fd = memfd_create("segment", MFD_CLOEXEC) };
    struct segment_header h;
    uint8_t *copy;

    if (n < 1 || n > MOST)
        goto out;
    copy = (uint8_t *)fuzz_copy(data + 1, n - 1);
    if (n > SEGMENT_HEADER)
        (void)format_get_segment(copy, &h);
    if (data[0] & 1)
        mend(copy, n - 1);
    s.bytes = SEGMENT_HEADER + n - 1;
    must(s.fd >= 0 && pwrite(s.fd, copy, n - 1, SEGMENT_HEADER) == (ssize_t)(n - 1));
    free(copy);
    walk(&s);
    judge(&s);
    look(&s, 0);
    look(&s, s.bytes & ~UINT64_C(7));
out:
    close(s.fd);
    return 0;
}
