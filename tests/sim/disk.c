/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of the log in memory, in place of src/wal/io.c. Each change is written down in the
 * order in which it happened; a sync with the place where it began, because what is written while
 * it runs is not covered by it. Only one thread runs at a time (sched.c): that is the lock. */
#include "sim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "wal/io.h"

#define FDS 256
#define FIRST_FD 100000 /* none of the kernel's */

bool disk_recovering;
static struct {
    struct image now;
    struct record_of_ops *ops;
    int fds[FDS]; /* file, FOLDER, or -1: free */
    bool nameless[FDS];
    unsigned fail_in;
    bool sync_failed, set_aside; /* the last change of a name was that of a trimmed segment */
} disk;

/* --- images
 * ------------------------------------------------------------------------------------ */

void image_fit(struct image *im, int file)
{
    while (file >= 0 && im->files_n <= (size_t)file) {
        if (im->files_n == im->files_cap) {
            im->files_cap = im->files_cap ? 2 * im->files_cap : 64;
            im->files = xrealloc(im->files, im->files_cap * sizeof *im->files);
        }
        im->files[im->files_n++] = (struct file){ .n = 0 };
    }
}

static void image_names(struct image *to, const struct image *from)
{
    *to = (struct image){ .names_n = from->names_n, .names_cap = from->names_n + 8 };
    to->names = xmalloc(to->names_cap * sizeof *to->names);
    if (from->names_n)
        memcpy(to->names, from->names, from->names_n * sizeof *to->names);
}

void image_borrow(struct image *to, const struct image *from)
{
    image_names(to, from);
    to->files_n = from->files_n;
    to->files_cap = from->files_n + 16;
    to->files = xmalloc(to->files_cap * sizeof *to->files);
    if (from->files_n)
        memcpy(to->files, from->files, from->files_n * sizeof *to->files);
    for (size_t i = 0; i < to->files_n; i++)
        to->files[i].own = false;
}

/* A file of our own with room for n bytes. */
static void own(struct file *f, size_t n)
{
    size_t cap = f->cap;

    if (f->own && n <= f->cap)
        return;
    while (cap < n)
        cap = cap ? 2 * cap : 4096;
    if (f->own) {
        f->p = xrealloc(f->p, cap);
    } else {
        uint8_t *p = xmalloc(cap ? cap : 1);
        if (f->n)
            memcpy(p, f->p, f->n);
        f->p = p;
    }
    f->cap = cap;
    f->own = true;
}

void image_copy(struct image *to, const struct image *from)
{
    image_borrow(to, from);
    for (size_t i = 0; i < to->files_n; i++)
        own(&to->files[i], to->files[i].n);
}

void image_free(struct image *im)
{
    for (size_t i = 0; i < im->files_n; i++)
        if (im->files[i].own)
            free(im->files[i].p);
    free(im->files);
    free(im->names);
    *im = (struct image){ .files_n = 0 };
}

void image_write(struct image *im, int file, uint64_t off, const uint8_t *p, size_t n)
{
    struct file *f;

    image_fit(im, file);
    f = &im->files[file];
    own(f, MAX((size_t)off + n, f->n));
    if (off > f->n)
        memset(f->p + f->n, 0, (size_t)off - f->n);
    memcpy(f->p + off, p, n);
    f->n = MAX(f->n, (size_t)off + n);
}

static struct name *name_find(struct image *im, const char *s)
{
    for (size_t i = 0; i < im->names_n; i++)
        if (!strcmp(im->names[i].s, s))
            return &im->names[i];
    return NULL;
}

static void name_set(struct image *im, const char *s, int file)
{
    struct name *n = name_find(im, s);

    if (!n) {
        if (im->names_n == im->names_cap) {
            im->names_cap = im->names_cap ? 2 * im->names_cap : 32;
            im->names = xrealloc(im->names, im->names_cap * sizeof *im->names);
        }
        n = &im->names[im->names_n++];
        snprintf(n->s, sizeof n->s, "%s", s);
    }
    n->file = file;
}

static void name_drop(struct image *im, const char *s)
{
    struct name *n = name_find(im, s);

    if (n)
        *n = im->names[--im->names_n];
}

void image_apply(struct image *im, const struct op *o)
{
    image_fit(im, o->file);
    switch (o->kind) {
    case OP_WRITE:
        image_write(im, o->file, o->off, o->data, o->n);
        break;
    case OP_TRUNCATE:
        own(&im->files[o->file], 1);
        im->files[o->file].n = 0;
        break;
    case OP_RENAME:
        name_drop(im, o->from);
        name_set(im, o->to, o->file);
        break;
    case OP_CREATE:
        name_set(im, o->to, o->file);
        break;
    case OP_UNLINK:
        name_drop(im, o->from);
        break;
    case OP_SYNC:
    case OP_EVENT:
        break;
    }
}

/* --- what was done
 * ----------------------------------------------------------------------------- */

void op_free(struct op *o)
{
    free(o->data);
}

void ops_free(struct record_of_ops *r)
{
    for (size_t i = 0; i < r->n; i++)
        op_free(&r->v[i]);
    free(r->v);
    *r = (struct record_of_ops){ .n = 0 };
}

struct op *ops_add(struct record_of_ops *r, const struct op *o)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 256;
        r->v = xrealloc(r->v, r->cap * sizeof *r->v);
    }
    r->v[r->n] = *o;
    return &r->v[r->n++];
}

const char *op_text(const struct op *o, char out[160])
{
    static const char *const kinds[] = { "write",  "truncate", "create", "rename",
                                         "unlink", "sync",     "event" };
    static const char *const events[] = { "promised",   "opened",        "cursor made",
                                          "cursor set", "cursor synced", "dead letters" };

    if (o->kind == OP_EVENT)
        snprintf(out, 160, "%s: sink %u LSN %llu", events[o->event], o->sink,
                 (unsigned long long)o->lsn);
    else
        snprintf(out, 160, "%s file %d %s%s%s off %llu bytes %zu%s", kinds[o->kind], o->file,
                 o->from, o->from[0] ? " to " : "", o->to, (unsigned long long)o->off, o->n,
                 o->lost_at != SIZE_MAX ? " (its sync failed)" : "");
    return out;
}

static void note(const struct op *o)
{
    struct op copy = *o;

    if (!disk.ops)
        return;
    copy.lost_at = SIZE_MAX;
    if (o->kind == OP_WRITE && o->n) {
        copy.data = xmalloc(o->n);
        memcpy(copy.data, o->data, o->n);
    }
    ops_add(disk.ops, &copy);
}

/* Does it, and writes it down. */
static void act(const struct op *o)
{
    image_apply(&disk.now, o);
    note(o);
    disk.set_aside = o->kind == OP_RENAME && !strcmp(o->to, "spare.tmp");
}

void disk_load(const struct image *base, struct record_of_ops *ops)
{
    image_free(&disk.now);
    image_borrow(&disk.now, base);
    disk.ops = ops;
    disk.fail_in = 0;
    disk.sync_failed = false;
    for (size_t i = 0; i < FDS; i++)
        disk.fds[i] = -1;
    for (size_t i = 0; ops && i < ops->n; i++)
        image_apply(&disk.now, &ops->v[i]);
    if (ops)
        ops->carried = ops->n;
}

void disk_event(enum event event, unsigned sink, uint64_t lsn)
{
    note(&(struct op){ .kind = OP_EVENT, .event = event, .sink = sink, .lsn = lsn });
}

void disk_fail_sync(unsigned nth)
{
    disk.fail_in = nth;
}

bool disk_sync_failed(void)
{
    return disk.sync_failed;
}

/* --- in place of io.c
 * -------------------------------------------------------------------------- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int fd_for(int file)
{
    for (int i = 0; i < FDS; i++)
        if (disk.fds[i] == -1) {
            disk.fds[i] = file;
            disk.nameless[i] = false;
            return FIRST_FD + i;
        }
    errno = EMFILE;
    return -1;
}

static int file_of(int fd)
{
    return disk.fds[fd - FIRST_FD];
}

static int new_file(void)
{
    image_fit(&disk.now, (int)disk.now.files_n);
    return (int)disk.now.files_n - 1;
}

int io_open(const char *path, int flags, mode_t mode UNUSED)
{
    struct op o = { .kind = OP_CREATE };
    struct name *n;
    int fd;

    sched_yield_here();
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        fd = fd_for(new_file());
        disk.nameless[fd - FIRST_FD] = true;
        return fd;
    }
    if (flags & O_DIRECTORY)
        return fd_for(FOLDER);
    snprintf(o.to, sizeof o.to, "%s", last_part(path));
    n = name_find(&disk.now, o.to);
    if (n && (flags & O_TRUNC) && disk.now.files[n->file].n)
        act(&(struct op){ .kind = OP_TRUNCATE, .file = n->file });
    if (n)
        return fd_for(n->file);
    if (!(flags & O_CREAT)) {
        errno = ENOENT;
        return -1;
    }
    o.file = new_file();
    act(&o);
    return fd_for(o.file);
}

int io_close(int fd)
{
    disk.fds[fd - FIRST_FD] = -1;
    return 0;
}

ssize_t io_pread(int fd, void *p, size_t n, uint64_t off)
{
    const struct file *f = &disk.now.files[file_of(fd)];
    size_t got = off >= f->n ? 0 : MIN(n, f->n - (size_t)off);

    if (got)
        memcpy(p, f->p + off, got);
    return (ssize_t)got;
}

ssize_t io_pwrite(int fd, const void *p, size_t n, uint64_t off)
{
    struct op o = { .kind = OP_WRITE, .off = off, .n = n, .data = (uint8_t *)(uintptr_t)p };

    sched_yield_here();
    o.file = file_of(fd);
    image_apply(&disk.now, &o);
    if (!disk.nameless[fd - FIRST_FD])
        note(&o);
    sched_yield_here();
    return (ssize_t)n;
}

/* What of it comes to the disk before the next sync is open, as for every write. */
int io_start_write(int fd UNUSED, uint64_t off UNUSED, uint64_t n UNUSED)
{
    return 0;
}

static const char *name_of_file(int file)
{
    for (size_t i = 0; i < disk.now.names_n; i++)
        if (disk.now.names[i].file == file)
            return disk.now.names[i].s;
    return "";
}

/* The pages are clean now, as far as the system knows; the bytes never came to the disk. */
static int sync_fails(int file)
{
    for (size_t i = 0; disk.ops && i < disk.ops->n; i++) {
        struct op *o = &disk.ops->v[i];
        if (o->kind == OP_WRITE && o->file == file)
            o->lost_at = MIN(o->lost_at, disk.ops->n);
    }
    disk.sync_failed = true;
    errno = EIO;
    return -1;
}

/* Plants: what these syncs would have to do is not done, and nobody is told. */
static bool sync_is_planted(int file)
{
    const char *name = file == FOLDER ? "" : name_of_file(file);
    size_t n = strlen(name);

    switch (plant) {
    case PLANT_NO_SYNC:
        return n > 4 && !strcmp(name + n - 4, ".wal");
    case PLANT_NO_FOLDER_SYNC:
        return file == FOLDER;
    case PLANT_RENAME_FIRST:
        return n > 4 && !strcmp(name + n - 4, ".tmp");
    case PLANT_DEAD_UNSYNCED:
        return n > 5 && !strcmp(name + n - 5, ".dead");
    case PLANT_RECYCLE_UNSYNCED:
        return file == FOLDER && disk.set_aside;
    case PLANT_TAIL_UNSYNCED:
        return disk_recovering && n > 4 && !strcmp(name + n - 4, ".wal");
    default:
        return false;
    }
}

static size_t before_last_write(int file)
{
    size_t i = disk.ops->n;

    while (i > 0 && (disk.ops->v[i - 1].kind != OP_WRITE || disk.ops->v[i - 1].file != file))
        i--;
    return i ? i - 1 : 0;
}

static int sync_fd(int fd)
{
    struct op o = { .kind = OP_SYNC, .file = file_of(fd), .began = disk.ops ? disk.ops->n : 0 };

    for (int i = 0; i < 3; i++)
        sched_yield_here();
    if (plant == PLANT_EARLY_ANSWER && disk.ops && o.file != FOLDER)
        o.began = before_last_write(o.file);
    if (disk.fail_in && o.file != FOLDER && --disk.fail_in == 0) {
        sync_fails(o.file);
        if (plant != PLANT_SYNC_AGAIN)
            return -1;
        o.began = disk.ops->n; /* and this time it returns 0 */
    }
    if (!sync_is_planted(o.file))
        note(&o);
    sched_yield_here();
    return 0;
}

int io_fdatasync(int fd)
{
    return sync_fd(fd);
}

int io_fsync(int fd)
{
    return sync_fd(fd);
}

int io_rename(const char *from, const char *to)
{
    struct op o = { .kind = OP_RENAME };
    struct name *n;

    sched_yield_here();
    snprintf(o.from, sizeof o.from, "%s", last_part(from));
    snprintf(o.to, sizeof o.to, "%s", last_part(to));
    n = name_find(&disk.now, o.from);
    if (!n) {
        errno = ENOENT;
        return -1;
    }
    o.file = n->file;
    act(&o);
    sched_yield_here();
    if (plant == PLANT_RENAME_FIRST && disk.ops)
        note(&(struct op){ .kind = OP_SYNC, .file = o.file, .began = disk.ops->n });
    return 0;
}

int io_unlink(const char *path)
{
    struct op o = { .kind = OP_UNLINK };
    const struct name *n;

    sched_yield_here();
    snprintf(o.from, sizeof o.from, "%s", last_part(path));
    n = name_find(&disk.now, o.from);
    if (!n) {
        errno = ENOENT;
        return -1;
    }
    o.file = n->file;
    act(&o);
    sched_yield_here();
    return 0;
}

int io_mkdir(const char *path UNUSED, mode_t mode UNUSED)
{
    errno = EEXIST;
    return -1;
}

int io_lock(int fd UNUSED)
{
    return 0;
}

int io_size(int fd, uint64_t *size)
{
    *size = disk.now.files[file_of(fd)].n;
    return 0;
}

int io_reserve(int fd UNUSED, uint64_t n UNUSED)
{
    return 0;
}

/* Every write may be torn or lost before its sync, whichever way it goes. */
int io_direct(int fd UNUSED, bool on UNUSED)
{
    return 0;
}

int io_statvfs(const char *path UNUSED, struct statvfs *out)
{
    *out = (struct statvfs){ .f_bavail = 1 << 30, .f_frsize = 4096 };
    return 0;
}

int io_fs_type(const char *path UNUSED, long *magic)
{
    *magic = 0xef53;
    return 0;
}

/* Files of the log that are mapped have their full size: they are never moved again. */
void *io_map(int fd, size_t n)
{
    struct file *f = &disk.now.files[file_of(fd)];

    if (f->n < n) {
        errno = EINVAL;
        return NULL;
    }
    own(f, n);
    return f->p;
}

int io_unmap(void *p UNUSED, size_t n UNUSED)
{
    return 0;
}

int io_drop_pages(void *p UNUSED, size_t n UNUSED)
{
    return 0;
}

void io_forget(int fd UNUSED, uint64_t off UNUSED, uint64_t n UNUSED)
{
}

int io_list(const char *path UNUSED, char ***names, size_t *n)
{
    *n = disk.now.names_n;
    *names = *n ? xmalloc(*n * sizeof **names) : NULL;
    for (size_t i = 0; i < *n; i++)
        (*names)[i] = xstrdup(disk.now.names[i].s);
    return 0;
}
