/* SPDX-License-Identifier: Apache-2.0 */
/* sim [--seed N] [--images N] [--plant NAME] [--tap]
 *
 * Lives of the log, one after the other, three to a seed. Each is written down; then the crash is
 * tried at every boundary of a write or sync, and recovery is judged on the images that it may
 * leave, and on those that a crash in that recovery may leave. The next life begins with one of the
 * crashes. Then the next seed, until the images are through. Exit 1 at the first violation, with
 * the command that shows it again. */
#include "sim.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIVES 3
#define DEPTH 3
#define HISTORY 15 /* operations that are shown in front of a violation */

static struct {
    uint64_t seed, images, most, lives, points, nested, damaged, gone_on;
    char where[400];
} sim;

struct crash { /* where the next life begins */
    size_t at;
    bool kill, taken;
    struct image base;
    struct record_of_ops ops;
    struct facts facts;
};

static void say_where(const struct walk *w, unsigned depth, const char *what)
{
    char text[160];

    if (sim.where[0])
        return;
    snprintf(
        sim.where, sizeof sim.where,
        "seed %llu, image %llu, life %llu, crash after operation %zu of %zu, depth %u, %s; %zu "
        "not synced; the operation: %s",
        (unsigned long long)sim.seed, (unsigned long long)sim.images, (unsigned long long)sim.lives,
        w->at, w->ops->n, depth, what, w->pending_n,
        w->at ? op_text(&w->ops->v[w->at - 1], text) : "none");
    for (size_t i = w->at > HISTORY ? w->at - HISTORY : 0; i < w->at; i++)
        printf("#   %zu: %s\n", i, op_text(&w->ops->v[i], text));
    for (size_t i = 0; i < w->pending_n; i++)
        printf("#   not synced: %zu: %s%s\n", w->pending[i].op,
               op_text(&w->ops->v[w->pending[i].op], text), w->pending[i].sure ? " (sure)" : "");
}

static bool try_crashes(struct walk *w, struct truth *t, unsigned depth, struct rng *rng);

/* A start on what lies on the disk; with `ops` every crash in that start as well. */
static bool try_start(const struct image *im, struct record_of_ops *ops, const struct facts *f,
                      struct truth *t, unsigned depth, struct rng *rng)
{
    struct walk inner;
    bool good;

    sim.images++;
    sim.nested += depth > 0;
    disk_load(im, ops);
    good = judge_start(f, t);
    if (!good || !ops)
        return good;
    walk_begin(&inner, im, ops, f);
    do
        good = try_crashes(&inner, t, depth + 1, rng);
    while (good && sim.images < sim.most && walk_step(&inner));
    walk_end(&inner);
    return good;
}

static bool try_image(const struct walk *w, unsigned variant, struct truth *t, unsigned depth,
                      struct rng *rng)
{
    struct record_of_ops ops = { .n = 0 };
    bool deep = depth < DEPTH && rng_one_in(rng, depth ? 400 : 250), done = false, good;
    struct image im;

    walk_image(w, variant, rng, &im);
    good = try_start(&im, deep ? &ops : NULL, &w->facts, t, depth, rng);
    if (good && rng_one_in(rng, 10)) {
        good = judge_damage(&im, &w->facts, t, rng, &done);
        sim.images += done;
        sim.damaged += done;
    } else if (good && rng_one_in(rng, 60)) {
        disk_load(&im, NULL);
        good = judge_verify() && judge_going_on(rng_next(rng));
        sim.images++;
        sim.gone_on++;
    }
    if (!good)
        say_where(w, depth,
                  done           ? "with a byte changed"
                  : variant == 0 ? "nothing unsynced"
                  : variant == 1 ? "all unsynced"
                                 : "some unsynced");
    ops_free(&ops);
    image_free(&im);
    return good;
}

/* Killed here, then the power fails in the start that follows. */
static bool try_kill(const struct walk *w, struct truth *t, unsigned depth, struct rng *rng)
{
    struct record_of_ops ops;
    struct image base;
    bool good;

    walk_kill(w, &base, &ops);
    good = try_start(&base, &ops, &w->facts, t, depth, rng);
    if (!good)
        say_where(w, depth, "killed");
    ops_free(&ops);
    image_free(&base);
    return good;
}

static bool try_crashes(struct walk *w, struct truth *t, unsigned depth, struct rng *rng)
{
    bool event = w->at && w->ops->v[w->at - 1].kind == OP_EVENT, good;
    unsigned more = w->pending_n && !event ? rng_below(rng, depth ? 2 : 5) : 0;

    sim.points++;
    good = try_image(w, 0, t, depth, rng) &&
           (!w->pending_n || event || try_image(w, 1, t, depth, rng));
    while (good && more--)
        good = try_image(w, 2 + rng_below(rng, 8), t, depth, rng);
    if (good && depth < DEPTH && rng_one_in(rng, depth ? 400 : 250))
        good = try_kill(w, t, depth, rng);
    return good;
}

static void take_crash(struct crash *c, const struct walk *w, struct rng *rng)
{
    struct image im;

    c->taken = true;
    c->facts = w->facts;
    c->ops = (struct record_of_ops){ .n = 0 };
    if (c->kill) {
        walk_kill(w, &c->base, &c->ops);
        return;
    }
    walk_image(w, 4, rng, &im);
    image_copy(&c->base, &im);
    image_free(&im);
}

static bool try_life(struct life *l, struct truth *t, struct crash *next, struct rng *rng)
{
    struct walk w;
    bool good = life_run(l, t);

    sim.lives++;
    if (!good)
        snprintf(sim.where, sizeof sim.where, "seed %llu, in life %llu itself",
                 (unsigned long long)sim.seed, (unsigned long long)sim.lives);
    *next = (struct crash){ .at = l->ops.carried +
                                  rng_below(rng, (unsigned)(l->ops.n - l->ops.carried) + 1),
                            .kill = rng_one_in(rng, 2) };
    if (rng_one_in(rng, 4) || l->fails)
        next->at = l->ops.n;
    next->kill |= l->fails;
    walk_begin(&w, &l->base, &l->ops, &l->facts);
    while (good && sim.images < sim.most) {
        if (w.at == next->at)
            take_crash(next, &w, rng);
        good = try_crashes(&w, t, 0, rng);
        if (!walk_step(&w))
            break;
    }
    walk_end(&w);
    return good;
}

/* The truth at the crash: what has which LSN, if it is there. */
static void carry_over(struct truth *t, const struct facts *f)
{
    if (f->opened)
        memcpy(t->before, t->after, sizeof t->before);
    for (size_t i = 0; i < t->n; i++)
        t->items[i]->lsn = 0;
    for (uint64_t lsn = 1; lsn < LSNS && t->before[lsn]; lsn++)
        t->before[lsn]->lsn = lsn;
    memcpy(t->after, t->before, sizeof t->after);
}

static void truth_free(struct truth *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->items[i]->body);
        free(t->items[i]);
    }
    free(t->items);
    free(t);
}

static bool try_seed(uint64_t seed)
{
    struct truth *t = xcalloc(1, sizeof *t);
    struct rng rng = { seed };
    struct life l = { .seed = rng_next(&rng) };
    bool good = true;

    sim.seed = seed;
    for (unsigned i = 0; i < LIVES && good; i++) {
        struct crash next;
        l.fails = rng_one_in(&rng, 4);
        good = try_life(&l, t, &next, &rng);
        image_free(&l.base);
        ops_free(&l.ops);
        if (!next.taken)
            break;

        carry_over(t, &next.facts);
        next.facts.opened = false;
        l = (struct life){
            .seed = rng_next(&rng), .base = next.base, .ops = next.ops, .facts = next.facts
        };
    }
    image_free(&l.base);
    ops_free(&l.ops);
    truth_free(t);
    return good;
}

/* True when the images are through without a violation. */
static bool try_images(uint64_t seed, uint64_t images)
{
    sim.images = sim.lives = sim.points = sim.nested = sim.damaged = sim.gone_on = 0;
    sim.most = images;
    for (uint64_t s = seed; sim.images < images; s++)
        if (!try_seed(s))
            return false;
    return true;
}

static int report(uint64_t seed, uint64_t images)
{
    double began = cpu_seconds();
    bool good = try_images(seed, images);
    double s = cpu_seconds() - began;

    printf("# seeds %llu to %llu: %llu images (%llu of crashes in a recovery, %llu with a damaged "
           "byte, %llu gone on) at %llu points of %llu lives in %.1f s of CPU, %.0f a second\n",
           (unsigned long long)seed, (unsigned long long)sim.seed, (unsigned long long)sim.images,
           (unsigned long long)sim.nested, (unsigned long long)sim.damaged,
           (unsigned long long)sim.gone_on, (unsigned long long)sim.points,
           (unsigned long long)sim.lives, s, (double)sim.images / s);
    if (!good)
        printf("# VIOLATION %s\n# at %s\n# again: sim --seed %llu%s%s\n", violation_text, sim.where,
               (unsigned long long)sim.seed, plant ? " --plant " : "",
               plant ? plants[plant].name : "");
    return good ? 0 : 1;
}

/* In a process of its own: what was planted may do anything. */
static int isolated(uint64_t seed, uint64_t images)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        alarm(600);
        status = report(seed, images);
        fflush(stdout);
        _exit(status);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int tap(uint64_t seed, uint64_t images)
{
    int failed = isolated(seed, images) != 0;

    printf("%sok 1 - case 27: recovery on every image that a crash may leave\n",
           failed ? "not " : "");
    for (unsigned i = 1; i < PLANT_COUNT; i++) {
        bool found;
        plant = i;
        found = isolated(seed, 100000) == 1;
        failed |= !found;
        printf("%sok %u - case 27: found when planted: %s\n", found ? "" : "not ", i + 1,
               plants[i].what);
    }
    printf("1..%d\n", PLANT_COUNT);
    return failed;
}

static int usage(void)
{
    fprintf(stderr, "sim [--seed N] [--images N] [--plant NAME] [--tap]\n");
    for (unsigned i = 1; i < PLANT_COUNT; i++)
        fprintf(stderr, "  --plant %-16s %s\n", plants[i].name, plants[i].what);
    return 64;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, images = 20000;
    bool as_tap = false;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--tap")) {
            as_tap = true;
            continue;
        }
        if (i + 1 == argc)
            return usage();
        if (!strcmp(argv[i], "--seed"))
            seed = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--images"))
            images = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--plant"))
            return usage();
        for (unsigned k = 1; !strcmp(argv[i], "--plant") && k < PLANT_COUNT; k++)
            if (!strcmp(argv[i + 1], plants[k].name))
                plant = k;
        i++;
    }
    return as_tap ? tap(seed, images) : report(seed, images);
}
