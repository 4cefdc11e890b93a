/* SPDX-License-Identifier: Apache-2.0 */
/* The file `id` under repair. One flipped bit is found by the checksum. Where more is gone the
 * segments still say which log this is; the key of the deduplication hashes is lost with the file,
 * and with it what the sidecars know of ids that came. */
#include <stdio.h>
#include <string.h>

#include "crc32c.h"
#include "crypto.h"
#include "repair.h"

#define ID_BYTES 44
#define SEARCHED 1024 /* bytes of a file in which each bit is tried */

static bool put_right(uint8_t *b, size_t n)
{
    for (size_t bit = 0; n <= SEARCHED && bit < n * 8; bit++) {
        b[bit / 8] = (uint8_t)(b[bit / 8] ^ 1u << bit % 8);
        if (identity_is_right(b, n))
            return true;
        b[bit / 8] = (uint8_t)(b[bit / 8] ^ 1u << bit % 8);
    }
    return false;
}

/* The log that the segments are of; *ours tells that one of them is of a log that rp->w names.
 * False: none can say. */
static bool ask_segments(struct repair *rp, char *const *names, size_t n, uint8_t id[16],
                         bool *ours)
{
    struct err ignored = ERR_INIT;
    struct segment_header h;
    bool found = false;

    *ours = false;
    for (size_t i = 0; i < n; i++) {
        if (!file_is_numbered(names[i], ".wal", NULL) ||
            segment_head(rp->w->dir, names[i], &h, &ignored))
            continue;
        *ours |= identity_is_ours(rp->w, h.log_id);
        found = true;
        memcpy(id, h.log_id, 16);
    }
    return found;
}

static int write_new(struct repair *rp, const uint8_t id[16], char *const *names, size_t n,
                     struct err *e)
{
    uint8_t b[ID_BYTES] = "HOOKLID1";
    char kept[64];

    for (size_t i = 0; i < n; i++)
        if (file_is_numbered(names[i], ".idx", NULL)) {
            if (quarantine_move(rp->w->dir, names[i], names[i], kept, e))
                return -1;
            repair_say(rp, "its hashes were made with a key that is lost", names[i], kept);
        }
    memcpy(b + 8, id, 16);
    crypto_random(b + 24, 16);
    format_put32(b + 40, crc32c(0, b, 40));
    repair_say(rp, "made anew from the segments; ids that came before are not known any more", "id",
               "");
    return file_replace(rp->w->dir, "id", b, sizeof b, e);
}

static int make_id(struct repair *rp, uint8_t *b, size_t n, char *const *names, size_t names_n,
                   struct err *e)
{
    char kept[64];
    uint8_t id[16];
    bool ours, bit = b && put_right(b, n);

    if (!bit && !ask_segments(rp, names, names_n, id, &ours))
        return err_set(e, b ? EXIT_DAMAGED : EXIT_IO,
                       b ? "wal: %s/id is damaged, and no segment can say what it was"
                         : "no log in %s",
                       rp->w->dir);
    rp->did = true;
    if (b && quarantine_move(rp->w->dir, "id", "id", kept, e))
        return -1;
    if (b)
        repair_say(rp, "it was damaged", "id", kept);
    return bit ? file_replace(rp->w->dir, "id", b, n, e) : write_new(rp, id, names, names_n, e);
}

int identity_repair(struct repair *rp, struct err *e)
{
    char **names = NULL, *text = NULL;
    size_t names_n = 0, n;
    uint8_t *b, id[16];
    bool ours, right;
    int rc = file_slurp(rp->w->dir, "id", &text, &n, e);

    if (rc < 0)
        return -1;
    b = (uint8_t *)text;
    right = b && identity_is_right(b, n);
    if ((b && identity_refuse_newer(rp->w->dir, b, n, e)) || (right && identity_load(rp->w, e))) {
        free(text);
        return -1;
    }
    rc = 0;
    if (io_list(rp->w->dir, &names, &names_n))
        rc = err_errno(e, EXIT_IO, "wal: list folder %s", rp->w->dir);
    else if (!right)
        rc = make_id(rp, b, n, names, names_n, e);
    else if (ask_segments(rp, names, names_n, id, &ours) && !ours)
        rc = err_set(e, EXIT_DAMAGED,
                     "wal: no segment in %s is of the log that the file id names; remove id, and "
                     "the log of the segments is repaired",
                     rp->w->dir);
    file_names_free(names, names_n);
    free(text);
    return rc ? -1 : right ? 0 : identity_load(rp->w, e);
}
