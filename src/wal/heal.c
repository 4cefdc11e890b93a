/* SPDX-License-Identifier: Apache-2.0 */
/* Damage that is met while the log runs: by a reader in front of a sink, by one of the clients, or
 * by the scrub. Helper thread.
 *
 * It is set aside as a repair does it (mend.h) where `log.on_damage` says so, and always where
 * every sink has what is lost with it. Else the segment stays as it is and the sink that needs it
 * stops there. The active segment is sealed first: only its writer may touch it. Readers hold the
 * old file until they ask again, and then find the new one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mend.h"

#define KEPT_MOST 100

void heal_suspect(struct wal *w, uint64_t number)
{
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n; i++)
        if (w->segs[i]->number == number && !w->segs[i]->suspect) {
            w->segs[i]->suspect = true;
            pthread_cond_signal(&w->helper_wake);
        }
    pthread_mutex_unlock(&w->lock);
}

/* The latest are named in /status, all are counted. Under lock, or before anybody else looks. */
static void remember(struct wal *w, const struct loss *l, const char *name)
{
    struct kept k = { l->segment, l->offset, l->bytes, l->first_lsn, l->last_lsn, "" };

    snprintf(k.name, sizeof k.name, "%s", name);
    if (w->kept_n == KEPT_MOST)
        memmove(w->kept, w->kept + 1, --w->kept_n * sizeof *w->kept);
    w->kept = xrealloc(w->kept, (w->kept_n + 1) * sizeof *w->kept);
    w->kept[w->kept_n++] = k;
    w->kept_all++;
    w->lost_all += l->first_lsn ? l->last_lsn - l->first_lsn + 1 : 0;
}

int heal_load(struct wal *w, struct err *e)
{
    char **names;
    struct loss l;
    size_t n;

    if (io_list(w->dir, &names, &n))
        return err_errno(e, EXIT_IO, "wal: list folder %s", w->dir);
    for (size_t i = 0; i < n; i++)
        if (quarantine_read(w->dir, names[i], &l))
            remember(w, &l, names[i]);
    file_names_free(names, n);
    return 0;
}

struct heal {
    struct wal *wal;
    struct segment seg; /* a copy */
    uint64_t delivered_lsn;
};

static void tell(void *arg, const struct loss *l, const char *kept)
{
    struct heal *h = arg;

    quarantine_log(l, kept, h->delivered_lsn);
    pthread_mutex_lock(&h->wal->lock);
    remember(h->wal, l, kept);
    pthread_mutex_unlock(&h->wal->lock);
}

static void on_roll(struct msg *m UNUSED, void *self)
{
    struct wal *w = self;

    w->roll = true;
    atomic_store(&w->roll_posted, false);
}

static void ask_for_roll(struct wal *w)
{
    if (atomic_exchange(&w->roll_posted, true))
        return;
    w->roll_msg.deliver = on_roll;
    inbox_post(&w->in, &w->roll_msg);
}

/* The next segment to look at; *before is the one it follows. */
static bool take_suspect(struct wal *w, struct heal *h, struct marker *before)
{
    bool found = false, roll = false, quarantine = w->cfg.on_damage == DAMAGE_QUARANTINE;
    uint64_t lowest;

    pthread_mutex_lock(&w->lock);
    h->delivered_lsn = cursor_lowest(w, &lowest) ? lowest : 0;
    for (size_t i = 0; i < w->segs_n && !found; i++) {
        struct segment *s = w->segs[i];
        if (!s->suspect || (s->waits_for_lsn > h->delivered_lsn && !quarantine))
            continue;
        roll |= !s->sealed && quarantine;
        if (!s->sealed || !s->has_sidecar) /* whose keys are forgotten with what is lost */
            continue;
        found = true;
        s->suspect = false;
        h->seg = *s;
        *before = (struct marker){ MARKER_OPENING, s->number - 1, s->first_lsn - 1,
                                   i ? w->segs[i - 1]->end : SEGMENT_HEADER,
                                   i ? w->segs[i - 1]->chain : 0 };
    }
    pthread_mutex_unlock(&w->lock);
    if (roll)
        ask_for_roll(w);
    return found;
}

/* What the header must be, from the file, what can be put right of it, or the batches. */
static int know_head(struct heal *h, int fd, struct mend *m, struct err *e)
{
    uint8_t raw[SEGMENT_HEADER];
    struct segment_header *head = &m->head;

    file_read_what_goes(fd, "header", raw, sizeof raw, 0);
    m->head_bad = format_get_segment(raw, head) != 0;
    if (!m->head_bad || (guess_segment(raw, head) && head->number == h->seg.number))
        return 0;
    *head = (struct segment_header){ .format = FORMAT_VERSION,
                                     .min_reader = 1,
                                     .number = h->seg.number,
                                     .salt = h->seg.salt,
                                     .bytes = h->seg.bytes,
                                     .flags = SEGMENT_RECYCLED };
    memcpy(head->log_id, h->wal->log_id, sizeof head->log_id);
    snprintf(head->writer, sizeof head->writer, "hookline %s", HOOKLINE_VERSION);
    if (head->salt)
        return 0;
    return guess_salt(fd, &h->seg, h->seg.first_lsn, &head->salt, e);
}

/* The highest LSN that is lost; where none is, the segment's last. */
static uint64_t last_lost(const struct mend *m)
{
    uint64_t last = 0;

    for (size_t i = 0; i < m->n; i++)
        if (m->v[i].kind == PATCH_LOST)
            last = MAX(last, m->v[i].last_lsn);
    return last ? last : m->last_lsn;
}

/* The file has changed, or it was only the mapping that did not give what the disk has. */
static void settle(struct wal *w, const struct mend *m)
{
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n; i++) {
        struct segment *s = w->segs[i];
        if (s->number != m->head.number)
            continue;
        s->damaged = s->scrub_told = s->suspect = false;
        s->waits_for_lsn = 0;
        s->salt = m->head.salt;
        s->bytes = m->head.bytes;
        s->mended |= m->n > 0;
        if (s->map)
            wal_release(s->map);
        s->map = NULL;
    }
    pthread_mutex_unlock(&w->lock);
}

static void leave(struct wal *w, uint64_t number, uint64_t lsn)
{
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->segs_n; i++)
        if (w->segs[i]->number == number) {
            w->segs[i]->damaged = w->segs[i]->suspect = true;
            w->segs[i]->waits_for_lsn = lsn;
        }
    pthread_mutex_unlock(&w->lock);
}

static int heal_file(struct heal *h, int fd, struct mend *m, struct err *e)
{
    struct wal *w = h->wal;

    if (know_head(h, fd, m, e))
        return err_set(e, EXIT_DAMAGED, "nothing in it can be read");
    if (mend_look(m, fd, e))
        return -1;
    if (m->n && w->cfg.on_damage == DAMAGE_REFUSE && last_lost(m) > h->delivered_lsn) {
        leave(w, h->seg.number, last_lost(m));
        return 0;
    }
    if (m->n && (mend_write(m, fd, e) || quarantine_forget(w, m, h->delivered_lsn, e)))
        return -1;
    settle(w, m);
    return 0;
}

void heal_some(struct wal *w)
{
    struct heal h = { .wal = w };
    struct err e = ERR_INIT;
    struct marker before;
    struct mend m;
    char *path;
    int fd;

    if (!take_suspect(w, &h, &before))
        return;
    m = (struct mend){ .dir = w->dir,
                       .first_lsn = h.seg.first_lsn,
                       .end = h.seg.end,
                       .last_lsn = h.seg.last_lsn,
                       .opening = h.seg.number == 1 ? NULL : &before,
                       .tell = tell,
                       .arg = &h };
    path = segment_path(w, h.seg.number);
    fd = io_open(path, O_RDONLY, 0);
    if (fd < 0 && errno != ENOENT) /* nothing is known of what is in it */
        err_errno(&e, EXIT_IO, "wal: open %s", path);
    if (e.text[0] || heal_file(&h, fd, &m, &e)) {
        log_error("a damaged segment could not be mended", KU("number", h.seg.number),
                  KS("reason", e.text));
        leave(w, h.seg.number, UINT64_MAX);
    }
    if (fd >= 0)
        io_close(fd);
    mend_free(&m);
    free(path);
}
